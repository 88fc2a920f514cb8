//! Servers and clients of other people: nginx, Redis, and gRPC for Python.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tokio::net::TcpStream;

use crate::{Process, tools, wait};

/// A server that listens on a port of its own.
pub struct Server {
    /// Its process.
    pub process: Process,
    /// Where it listens.
    pub addr: SocketAddr,
}

/// A port that was free a moment ago, for servers that cannot choose one themselves and tell.
pub fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port")
}

impl Server {
    async fn spawn(name: &str, command: &mut Command, dir: &Path, addr: SocketAddr) -> Self {
        let mut process = Process::spawn(name, command, dir);
        wait::eventually(&format!("{name} listens on {addr}"), wait::DEADLINE, || {
            process.assert_running();
            async move { TcpStream::connect(addr).await.ok().map(drop) }
        })
        .await;
        Self { process, addr }
    }

    /// nginx that answers every path with `body`, and has `large` bytes at `/large`.
    pub async fn nginx(dir: &Path, body: &str, large: usize) -> Self {
        let (addr, root) = (free_port(), dir.join("nginx"));
        std::fs::create_dir(&root).expect("a folder");
        std::fs::write(root.join("large"), vec![b'L'; large]).expect("a file");
        let config = format!(
            "daemon off; master_process off; pid {root}/pid; error_log stderr;\nevents {{}}\nhttp {{ access_log off; \
             client_body_temp_path {root}/t1; proxy_temp_path {root}/t2; fastcgi_temp_path {root}/t3; \
             uwsgi_temp_path {root}/t4; scgi_temp_path {root}/t5;\nserver {{ listen {addr}; root {root}; \
             location / {{ return 200 \"{body}\"; }} location = /large {{ }} }} }}\n",
            root = root.display(),
        );
        let file = root.join("nginx.conf");
        std::fs::write(&file, config).expect("a file");
        // The user directive is not given: without a master process nginx keeps the user that started it.
        let mut command = Command::new(tools::find("nginx").expect("nginx"));
        command.arg("-c").arg(file).arg("-p").arg(&root).args(["-e", "stderr"]);
        Self::spawn("nginx", &mut command, dir, addr).await
    }

    /// A Redis server without persistence.
    pub async fn redis(dir: &Path) -> Self {
        let addr = free_port();
        let mut command = Command::new(tools::find("redis-server").expect("redis-server"));
        command.args(["--port", &addr.port().to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
        command.arg("--dir").arg(dir);
        Self::spawn("redis", &mut command, dir, addr).await
    }

    /// The gRPC server of `e2e/peers/grpc_peer.py`.
    pub async fn grpc(dir: &Path) -> Self {
        Self::grpc_named(dir, "grpc-server").await
    }

    /// The same, which says this name in the head of every answer.
    pub async fn grpc_named(dir: &Path, name: &str) -> Self {
        let addr = free_port();
        let mut command = Command::new("python3");
        command.arg(grpc_script()).args(["serve", &addr.to_string(), name]);
        Self::spawn(name, &mut command, dir, addr).await
    }

    /// A health server (grpc.health.v1) of the same script: `file` has a line `SERVICE NUMBER` for each service that it knows, `-` for
    /// itself.
    pub async fn grpc_health(dir: &Path, file: &Path) -> Self {
        let addr = free_port();
        let mut command = Command::new("python3");
        command.arg(grpc_script()).args(["health", &addr.to_string()]).arg(file);
        Self::spawn("grpc-health", &mut command, dir, addr).await
    }
}

/// The script that is both ends of the gRPC test.
pub fn grpc_script() -> PathBuf {
    tools::repository().join("tests/e2e/peers/grpc_peer.py")
}

/// Runs a client program to its end, and gives what it printed.
pub async fn run(program: &str, args: &[&str]) -> Output {
    let mut command = Command::new(tools::find(program).unwrap_or_else(|| program.into()));
    command.args(args);
    let name = program.to_owned();
    tokio::task::spawn_blocking(move || command.output().unwrap_or_else(|error| panic!("{name}: {error}")))
        .await
        .expect("no panic")
}

/// [`run`] for a client that must succeed; gives its standard output.
pub async fn run_ok(program: &str, args: &[&str]) -> String {
    let output = run(program, args).await;
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {}\n{error}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}
