//! One unchanged app after the other: first directly between two namespaces, so that what the app itself can do is known, then
//! through intercepting sidecars on both sides, by every way that a client may name its server.

use std::net::IpAddr;
use std::path::Path;
use std::process::Command;

use leno_tests::netns::{Namespace, NetMesh, listens, output, succeeded};
use leno_tests::{Process, require_netns, tools};

use super::{databases, servers};

/// Where a client runs.
pub struct Client(pub Namespace);

impl Client {
    /// Runs a program that must succeed; gives its standard output without the line's end.
    pub async fn run(&self, program: &str, args: &[&str]) -> String {
        let mut command = self.0.command(tools::find(program).unwrap_or_else(|| program.into()));
        command.args(args);
        succeeded(&format!("{program} {args:?}"), output(command).await).trim_end().to_owned()
    }

    /// Runs a script of `peers/`.
    pub async fn python(&self, script: &str, args: &[&str]) -> String {
        let script = script_of(script);
        self.run("python3", &[&[script.as_str()], args].concat()).await
    }
}

/// The path of a script of `peers/`.
pub fn script_of(name: &str) -> String {
    tools::repository().join("tests/e2e/peers").join(name).display().to_string()
}

/// `host` with `port`, as URLs and most programs want it.
pub fn authority(host: &str, port: u16) -> String {
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V6(v6)) => format!("[{v6}]:{port}"),
        _ => format!("{host}:{port}"),
    }
}

/// A server of other people's and what its client does with it.
pub trait App {
    /// The service that it is in the mesh.
    const NAME: &str;
    /// Where it listens, on every address.
    const PORT: u16;

    /// The server, ready to be started in `host`; `dir` is a new folder for its files.
    fn server(host: &Namespace, dir: &Path) -> Command;

    /// Uses everything that matters of the server at `host`, which is a name or an address. Panics when something is wrong.
    async fn exercise(client: &Client, host: &str);
}

/// Tries the app directly, then through the mesh, and looks at the wire.
async fn works_through_the_mesh<A: App>() {
    let mut mesh = NetMesh::without_plane();
    let (server_host, client_host) = (mesh.host("server"), mesh.host("client"));
    let dir = mesh.dir().join(A::NAME);
    std::fs::create_dir(&dir).unwrap();
    let mut server = Process::spawn(A::NAME, &mut A::server(&server_host, &dir), mesh.dir());
    listens(&server_host, A::PORT, &mut server).await;
    let client = Client(client_host.clone());
    let addresses = server_host.addresses().map(|addr| addr.to_string());
    for addr in &addresses {
        A::exercise(&client, addr).await;
    }

    // Before the first sidecar, so that every connection is seen from its beginning.
    let capture = mesh.capture().await;
    mesh.start_plane().await;
    let server_sidecar = mesh.sidecar(&server_host, A::NAME).await.start().await;
    let client_sidecar = mesh.sidecar(&client_host, "client").await.start().await;
    mesh.connected(2).await;
    let [v4, v6] = addresses;
    let names = [A::NAME.to_owned(), v4, v6, format!("{}.mesh", A::NAME)];
    for name in &names {
        A::exercise(&client, name).await;
    }

    let packets = capture.stop().await;
    let summary = packets.summary();
    assert_eq!(summary.wrong, Vec::<String>::new(), "something else than TLS 1.3 was on the wire");
    // Each way of naming the server, and the two streams to the control plane.
    assert!(summary.connections > names.len(), "too little was captured: {summary:?}");
    for sidecar in [server_sidecar, client_sidecar] {
        assert!(!sidecar.log().contains("panicked"), "{}", sidecar.log());
    }
    server.assert_running();
    // In good order, since some servers leave shared memory behind otherwise.
    server.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx_is_reached_by_curl() {
    require_netns!("nginx", "curl", "tcpdump");
    works_through_the_mesh::<servers::Nginx>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgresql_is_reached_by_psql() {
    require_netns!("psql", "tcpdump");
    if databases::postgresql("postgres").is_none() {
        return tools::skip("PostgreSQL is not installed");
    }
    works_through_the_mesh::<databases::PostgreSql>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_which_speaks_first_is_reached_by_its_client() {
    require_netns!("mariadbd", "mariadb", "mariadb-install-db", "tcpdump");
    works_through_the_mesh::<databases::MariaDb>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_is_reached_by_redis_cli() {
    require_netns!("redis-server", "redis-cli", "tcpdump");
    works_through_the_mesh::<databases::Redis>().await;
}

/// Ends the test as skipped unless Python has the module.
macro_rules! require_python {
    ($module:literal) => {
        if !tools::python_has($module) {
            return tools::skip(concat!("the Python module ", $module, " is not installed"));
        }
    };
}

#[tokio::test(flavor = "multi_thread")]
async fn an_smtp_server_which_speaks_first_is_reached() {
    require_netns!("python3", "tcpdump");
    require_python!("aiosmtpd");
    works_through_the_mesh::<servers::Mail>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_server_is_reached() {
    require_netns!("python3", "tcpdump");
    require_python!("websockets");
    works_through_the_mesh::<servers::Chat>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grpc_server_is_reached_with_every_kind_of_call() {
    require_netns!("python3", "tcpdump");
    require_python!("grpc");
    works_through_the_mesh::<servers::Greeter>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn iperf3_moves_bulk_both_ways_over_several_connections() {
    require_netns!("iperf3", "tcpdump");
    works_through_the_mesh::<servers::Iperf>().await;
}
