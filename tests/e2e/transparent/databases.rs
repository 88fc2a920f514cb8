//! Databases. Each runs as a user of its own, as it insists.

use std::path::{Path, PathBuf};
use std::process::Command;

use leno_tests::netns::{Namespace, succeeded};
use leno_tests::tools;

use super::apps::{App, Client};

/// A program of the PostgreSQL server, which Debian keeps beside those of other versions and out of PATH.
pub fn postgresql(program: &str) -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let found = versions.map(|version| version.path().join("bin").join(program)).find(|file| file.is_file());
    found.or_else(|| tools::find(program))
}

/// The number of the user `name`.
fn uid(name: &str) -> u32 {
    let output = Command::new("id").args(["-u", name]).output().unwrap();
    succeeded(&format!("id -u {name}"), output).trim().parse().unwrap()
}

/// A folder `data` in `dir` that belongs to `uid`.
fn data_dir(dir: &Path, uid: u32) -> PathBuf {
    let data = dir.join("data");
    std::fs::create_dir(&data).unwrap();
    std::os::unix::fs::chown(&data, Some(uid), Some(uid)).unwrap();
    data
}

fn run(mut command: Command) {
    succeeded(&format!("{command:?}"), command.output().unwrap());
}

/// PostgreSQL, whose client asks for encryption first and goes on without.
pub struct PostgreSql;

impl App for PostgreSql {
    const NAME: &str = "postgres";
    const PORT: u16 = 5432;

    fn server(host: &Namespace, dir: &Path) -> Command {
        let uid = uid("postgres");
        let data = data_dir(dir, uid);
        let mut init = host.command_as(uid, postgresql("initdb").unwrap());
        init.args(["--username=postgres", "--auth=trust", "--no-sync", "--pgdata"]).arg(&data).current_dir("/");
        run(init);
        std::fs::write(data.join("pg_hba.conf"), "host all all all trust\n").unwrap();
        let mut command = host.command_as(uid, postgresql("postgres").unwrap());
        command.arg("-D").arg(&data).current_dir("/");
        for setting in ["listen_addresses=*", "port=5432", "unix_socket_directories=", "fsync=off"] {
            command.args(["-c", setting]);
        }
        command
    }

    async fn exercise(client: &Client, host: &str) {
        let psql = |sql: &'static str| async move {
            let target = ["-h", host, "-U", "postgres", "-d", "postgres", "-qAt", "-v", "ON_ERROR_STOP=1"];
            client.run("psql", &[&target[..], &["-c", sql]].concat()).await
        };
        psql("create table if not exists t (n int); truncate t; insert into t select generate_series(1, 1000)").await;
        assert_eq!(psql("select count(*), sum(n) from t").await, "1000|500500");
        assert_eq!(psql("select repeat('x', 4194304)").await.len(), 4 << 20);
        assert_eq!(psql("select n from generate_series(1, 100000) n").await.lines().count(), 100_000);
        // The server pushes: a notification without a question.
        assert!(psql("listen c; notify c, 'over the mesh'").await.contains("over the mesh"));
    }
}

/// MariaDB, which speaks first.
pub struct MariaDb;

impl App for MariaDb {
    const NAME: &str = "mariadb";
    const PORT: u16 = 3306;

    fn server(host: &Namespace, dir: &Path) -> Command {
        let uid = uid("mysql");
        let data = data_dir(dir, uid);
        let mut init = host.command(tools::find("mariadb-install-db").unwrap());
        init.args(["--no-defaults", "--skip-test-db", "--skip-name-resolve", "--user=mysql"]);
        init.arg(format!("--datadir={}", data.display()));
        run(init);
        let user = dir.join("user.sql");
        std::fs::write(&user, "create user app@'%' identified by 'secret';\ngrant all on *.* to app@'%';\n").unwrap();
        let mut command = host.command_as(uid, tools::find("mariadbd").unwrap());
        command.args(["--no-defaults", "--port=3306", "--bind-address=*", "--skip-name-resolve"]);
        command.args(["--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=16M"]);
        for (option, file) in
            [("datadir", data.clone()), ("socket", data.join("s")), ("pid-file", data.join("pid")), ("init-file", user)]
        {
            command.arg(format!("--{option}={}", file.display()));
        }
        command
    }

    async fn exercise(client: &Client, host: &str) {
        let sql = |sql: &'static str| async move {
            let target = ["--no-defaults", "-h", host, "-u", "app", "-psecret", "--connect-timeout=20", "-NB"];
            client.run("mariadb", &[&target[..], &["-e", sql]].concat()).await
        };
        sql("create database if not exists d; create or replace table d.t (n int); \
             insert into d.t select seq from d.seq_1_to_1000")
        .await;
        assert_eq!(sql("select count(*), sum(n) from d.t").await, "1000\t500500");
        assert_eq!(sql("select repeat('x', 4194304)").await.len(), 4 << 20);
        assert_eq!(sql("select seq from d.seq_1_to_100000").await.lines().count(), 100_000);
    }
}

/// Redis.
pub struct Redis;

impl App for Redis {
    const NAME: &str = "redis";
    const PORT: u16 = 6379;

    fn server(host: &Namespace, dir: &Path) -> Command {
        let mut command = host.command("redis-server");
        command.args(["--port", "6379", "--bind", "*", "-::*", "--protected-mode", "no", "--save", ""]);
        command.args(["--appendonly", "no", "--dir"]).arg(dir);
        command
    }

    async fn exercise(client: &Client, host: &str) {
        let cli = |args: &'static [&'static str]| async move {
            client.run("redis-cli", &[&["-h", host], args].concat()).await
        };
        assert_eq!(cli(&["PING"]).await, "PONG");
        assert_eq!(cli(&["FLUSHALL"]).await, "OK");
        assert_eq!(cli(&["SET", "key", "netns-redis-value"]).await, "OK");
        assert_eq!(cli(&["GET", "key"]).await, "netns-redis-value");
        assert_eq!(cli(&["-r", "500", "INCR", "counter"]).await.lines().last(), Some("500"));
        assert_eq!(cli(&["SETRANGE", "large", "4194303", "x"]).await, "4194304");
        assert_eq!(cli(&["GET", "large"]).await.len(), 4 << 20);
    }
}
