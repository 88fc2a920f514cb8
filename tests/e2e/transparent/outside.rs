//! What is not in the mesh: servers outside, callers from outside, and the sidecar's own ports.

use std::net::SocketAddr;
use std::time::Duration;

use leno_tests::netns::{Greeted, Greeter, Intercepting, Namespace, NetMesh, greeting, output, resolve};
use leno_tests::wait::eventually;
use leno_tests::{HttpApp, Process, client, netns, require_netns, tools};

/// Where the greeters listen.
const PORT: u16 = 4321;
/// Where HTTP is spoken.
const HTTP: u16 = 8080;
/// How long a change of policy may take until it is in force.
const SOON: Duration = Duration::from_secs(20);

/// A client and a server in the mesh, and a host that is not in it.
struct Parts {
    client_sidecar: Intercepting,
    server_sidecar: Intercepting,
    client: Namespace,
    server: Namespace,
    outside: Namespace,
    _greeters: [Greeter; 2],
    _https: [HttpApp; 2],
    mesh: NetMesh,
}

async fn start() -> Parts {
    let mut mesh = NetMesh::start().await;
    let [client, server, outside] = ["client", "server", "outside"].map(|name| mesh.host(name));
    let greeters = [(&server, "inside"), (&outside, "outside")].map(|(host, name)| Greeter::start(host, PORT, name));
    let https = [(&server, "inside"), (&outside, "outside")].map(|(host, name)| http(host, name));
    let server_sidecar = mesh.sidecar(&server, "server").await.start().await;
    let client_sidecar = mesh.sidecar(&client, "client").await.start().await;
    mesh.connected(2).await;
    Parts { client_sidecar, server_sidecar, client, server, outside, _greeters: greeters, _https: https, mesh }
}

fn http(host: &Namespace, name: &str) -> HttpApp {
    HttpApp::on(netns::listen(host, SocketAddr::new(host.v4().into(), HTTP)), name)
}

fn at(host: &Namespace, port: u16) -> SocketAddr {
    SocketAddr::new(host.v4().into(), port)
}

fn at_v6(host: &Namespace, port: u16) -> SocketAddr {
    SocketAddr::new(host.v6().into(), port)
}

impl Parts {
    /// Sets the policy of the namespace.
    async fn policy(&self, fields: &str) {
        let policy = format!(
            "apiVersion: leno.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {{name: all, namespace: default}}\n\
             spec: {{targetRefs: [{{kind: Namespace, name: default}}], {fields}}}\n"
        );
        self.mesh.apply(&policy).await;
    }

    /// Waits until the greeting at `addr`, as `from` sees it, is `expected`.
    async fn until_greeting(&self, from: &Namespace, addr: SocketAddr, expected: Option<&str>) {
        eventually(&format!("{expected:?} at {addr}"), SOON, async || {
            (greeting(from, addr).await.as_deref() == expected).then_some(())
        })
        .await;
    }

    /// Connections that the client's sidecar has passed to what is not in the mesh.
    async fn passed(&self) -> f64 {
        self.client_sidecar.metrics().await.sum("leno_egress_connections_total", &[("verdict", "allowed")])
    }

    /// Connections that the client's sidecar has refused, since they led to what is not in the mesh.
    async fn refused(&self) -> f64 {
        self.client_sidecar.metrics().await.sum("leno_egress_connections_total", &[("verdict", "denied")])
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_outside_the_mesh_is_reached_in_plaintext_and_counted_apart() {
    require_netns!("tcpdump");
    let parts = start().await;
    let capture = parts.mesh.capture().await;
    for addr in [at(&parts.outside, PORT), at_v6(&parts.outside, PORT)] {
        assert_eq!(greeting(&parts.client, addr).await.as_deref(), Some("outside"), "{addr}");
    }
    let packets = capture.stop().await;
    assert!(packets.contains("an echo, please"), "a server that knows no TLS was not spoken to in plaintext");
    assert_eq!(parts.passed().await, 2.0);
    // What is in the mesh is not counted there.
    for addr in [at(&parts.server, PORT), at_v6(&parts.server, PORT)] {
        assert_eq!(greeting(&parts.client, addr).await.as_deref(), Some("inside"), "{addr}");
    }
    assert_eq!(parts.passed().await, 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_are_not_of_the_mesh_come_from_the_original_resolver() {
    require_netns!("dnsmasq");
    let parts = start().await;
    let bridge = parts.mesh.network.bridge();
    let mut dnsmasq = bridge.command(tools::find("dnsmasq").unwrap());
    dnsmasq.args(["--no-daemon", "--no-hosts", "--no-resolv", "--log-queries", "--conf-file=/dev/null"]);
    for addr in parts.outside.addresses() {
        dnsmasq.arg(format!("--address=/legacy.test/{addr}"));
    }
    let mut dnsmasq = Process::spawn("dnsmasq", &mut dnsmasq, parts.mesh.dir());
    netns::listens(bridge, 53, &mut dnsmasq).await;
    assert_eq!(resolve(&parts.client, 4, "legacy.test").await, [parts.outside.addresses()[0]]);
    assert_eq!(resolve(&parts.client, 6, "legacy.test").await, [parts.outside.addresses()[1]]);
    assert!(resolve(&parts.client, 4, "nobody.test").await.is_empty());

    // A service's name needs no resolver: the same stable address each time, with and without it.
    let names = ["server", "server.default", "server.default.svc.cluster.local", "server.mesh"];
    let with = resolve(&parts.client, 4, "server").await;
    assert_eq!(with.len(), 1);
    dnsmasq.kill();
    for (family, prefix) in [(4, "240.240."), (6, "fd6c:656e:6f00:")] {
        for name in names {
            let found = resolve(&parts.client, family, name).await;
            assert!(matches!(found[..], [addr] if addr.to_string().starts_with(prefix)), "{name}: {found:?}");
            assert!(family == 6 || found == with, "{name}: {found:?}, not {with:?}");
        }
    }
    assert!(!dnsmasq.log().contains("] server"), "a name of the mesh was asked for outside\n{}", dnsmasq.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn with_registry_only_what_is_not_in_the_mesh_is_refused_with_a_reason() {
    require_netns!("curl");
    let parts = start().await;
    assert_eq!(greeting(&parts.client, at(&parts.outside, PORT)).await.as_deref(), Some("outside"));
    parts.policy("egress: REGISTRY_ONLY").await;
    parts.until_greeting(&parts.client, at(&parts.outside, PORT), None).await;
    let before = parts.refused().await;
    assert_eq!(greeting(&parts.client, at_v6(&parts.outside, PORT)).await, None);
    assert_eq!(parts.refused().await, before + 1.0);

    // HTTP has a place for the reason; the log has the rest.
    let mut curl = parts.client.command("curl");
    curl.args(["-s", "--max-time", "20", "-D", "-", &format!("http://{}/", at(&parts.outside, HTTP))]);
    let told = String::from_utf8_lossy(&output(curl).await.stdout).to_lowercase();
    assert!(told.contains("leno-reason: egress_denied"), "{told}");
    let log = parts.client_sidecar.log();
    let named = |line: &&str| line.contains("egress_denied") && line.contains(&at(&parts.outside, PORT).to_string());
    assert!(log.lines().any(|line| named(&line)), "{log}");

    // The mesh itself goes on, by name and by address.
    assert_eq!(greeting(&parts.client, at(&parts.server, PORT)).await.as_deref(), Some("inside"));
    parts.policy("egress: ALLOW").await;
    parts.until_greeting(&parts.client, at(&parts.outside, PORT), Some("outside")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn plaintext_from_outside_the_mesh_is_refused_until_the_namespace_is_permissive() {
    require_netns!();
    let parts = start().await;
    let doors = [at(&parts.server, PORT), at_v6(&parts.server, PORT)];
    for addr in doors {
        assert_eq!(greeting(&parts.outside, addr).await, None, "{addr} is open to plaintext");
    }
    parts.policy("mtls: PERMISSIVE").await;
    for addr in doors {
        parts.until_greeting(&parts.outside, addr, Some("inside")).await;
    }
    // Who is in the mesh still comes by the mesh port.
    assert_eq!(greeting(&parts.client, doors[0]).await.as_deref(), Some("inside"));
    // Who would be shut out is seen before the door is closed.
    for address in parts.outside.addresses() {
        eventually(&format!("{address} is named"), SOON, async || {
            let found = parts.mesh.leno(&["check"]).await;
            let text = String::from_utf8_lossy(&found.stdout).into_owned();
            text.contains(&format!("{address} sends plaintext to port {PORT}")).then_some(())
        })
        .await;
    }
    parts.policy("mtls: STRICT").await;
    for addr in doors {
        parts.until_greeting(&parts.outside, addr, None).await;
    }
    assert_eq!(greeting(&parts.client, doors[0]).await.as_deref(), Some("inside"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_says_of_each_port_whether_plaintext_is_let_in_and_closing_it_ends_what_is_open() {
    require_netns!();
    let parts = start().await;
    let (greeter, web) = (at(&parts.server, PORT), at(&parts.server, HTTP));
    let modes = async |modes: &str| {
        let objects = format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: server, namespace: default}}\nspec:\n  selector: {{app: server}}\n  \
             ports: [{{name: http, port: {HTTP}}}]\n---\napiVersion: leno.dev/v1alpha1\nkind: TrafficPolicy\n\
             metadata: {{name: server, namespace: default}}\nspec:\n  targetRefs: [{{group: \"\", kind: Service, name: server}}]\n  {modes}\n"
        );
        parts.mesh.apply(&objects).await;
    };
    let get = async || client::get_over(netns::connect(&parts.outside, web).await?, "/").await;
    let closed = async || get().await.is_err().then_some(());

    // One port of an app is open, and its others are not.
    modes(&format!("portLevelMtls: {{{PORT}: PERMISSIVE}}")).await;
    parts.until_greeting(&parts.outside, greeter, Some("inside")).await;
    assert!(get().await.is_err(), "a port that nobody opened is open");
    // What is said of a port goes before what is said of the service, and that before the namespace.
    parts.policy("mtls: PERMISSIVE").await;
    eventually("the namespace is open", SOON, async || get().await.ok()).await;
    modes(&format!("mtls: STRICT\n  portLevelMtls: {{{PORT}: PERMISSIVE}}")).await;
    eventually("the service is closed", SOON, closed).await;
    let mut open = Greeted::open(&parts.outside, greeter).await.unwrap();
    assert_eq!(open.greeting, "inside");
    modes("mtls: STRICT").await;
    parts.until_greeting(&parts.outside, greeter, None).await;
    // What came in while the door was open does not stay when it is closed.
    assert!(open.echo("still here?").await.is_err(), "the connection in plaintext goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_control_plane_known_destinations_go_on_and_others_follow_the_egress_policy() {
    require_netns!();
    let mut parts = start().await;
    let (inside, outside) = (at(&parts.server, PORT), at(&parts.outside, PORT));
    assert_eq!(greeting(&parts.client, inside).await.as_deref(), Some("inside"));
    parts.mesh.kill_plane();
    for _ in 0..3 {
        assert_eq!(greeting(&parts.client, inside).await.as_deref(), Some("inside"));
    }
    // Nobody can say any more whether it is in the mesh.
    assert_eq!(greeting(&parts.client, outside).await.as_deref(), Some("outside"));
    parts.mesh.start_plane().await;
    parts.mesh.connected(2).await;
    parts.policy("egress: REGISTRY_ONLY").await;
    parts.until_greeting(&parts.client, outside, None).await;
    parts.mesh.kill_plane();
    assert_eq!(greeting(&parts.client, at_v6(&parts.outside, PORT)).await, None);
    assert_eq!(greeting(&parts.client, inside).await.as_deref(), Some("inside"));
}

/// The ports on which an intercepting sidecar listens for its own host.
const INNER_PORTS: [u16; 4] = [15000, 15001, 15006, 15053];

#[tokio::test(flavor = "multi_thread")]
async fn no_connection_goes_in_a_circle() {
    require_netns!();
    let mut parts = start().await;
    // The first connections have what they need by now.
    assert_eq!(greeting(&parts.client, at(&parts.server, PORT)).await.as_deref(), Some("inside"));
    let before = parts.client_sidecar.process().descriptors();
    for port in INNER_PORTS {
        for addr in [at(&parts.client, port), at_v6(&parts.client, port)] {
            assert_eq!(greeting(&parts.client, addr).await, None, "{addr} says something");
        }
        // From other hosts, by way of a sidecar and without one.
        for from in [&parts.server, &parts.outside] {
            assert_eq!(greeting(from, at(&parts.client, port)).await, None, "{port} says something");
        }
    }
    // What is sent to the inbound port by hand was not on its way to anything.
    let inbound = SocketAddr::from(([127, 0, 0, 1], 15006));
    assert_eq!(greeting(&parts.client, inbound).await, None);
    eventually("the sidecar lets go of what it refused", SOON, async || {
        (parts.client_sidecar.process().descriptors() <= before + 2).then_some(())
    })
    .await;
    // It has not run hot, and still works.
    parts.client_sidecar.process().assert_running();
    assert_eq!(greeting(&parts.client, at(&parts.server, PORT)).await.as_deref(), Some("inside"));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_port_of_the_sidecar_is_a_way_in_from_outside() {
    require_netns!();
    let parts = start().await;
    let target = format!("http://{}/", at(&parts.server, HTTP));
    // From outside the mesh, and by way of a sidecar of it: the capture ports do not say where a connection would go, the
    // proxy port does not take a stranger's word, and nobody else asks the admin port.
    for from in [&parts.outside, &parts.client] {
        for port in [&INNER_PORTS[..], &[15008, 15020]].concat() {
            for path in [target.as_str(), "http://admin/metrics"] {
                let Ok(stream) = netns::connect(from, at(&parts.server, port)).await else { continue };
                let request = client::request(http::Method::GET, path, &[], "");
                let answer = async { client::ProxyConnection::over(stream).await?.send(request).await };
                let answer = tokio::time::timeout(SOON, answer).await.expect("an answer or an end");
                let served = matches!(&answer, Ok(reply) if reply.status < 400);
                assert!(!served, "port {port} answers {} with {answer:?}", from.name());
            }
        }
    }
    // The app itself is still where it was, for its own host only.
    let loopback = SocketAddr::from(([127, 0, 0, 1], PORT));
    assert_eq!(Greeted::open(&parts.server, loopback).await.unwrap().greeting, "inside");
    assert!(!parts.server_sidecar.log().contains("panicked"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_in_plaintext_counts_for_the_rate_limit_of_the_service() {
    require_netns!();
    let parts = start().await;
    parts.policy("mtls: PERMISSIVE").await;
    let get = async || {
        let stream = netns::connect(&parts.outside, at(&parts.server, HTTP)).await?;
        client::get_over(stream, "/").await
    };
    eventually("plaintext is let in", SOON, async || get().await.ok()).await;
    let limited = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: server, namespace: default}}\nspec:\n  selector: {{app: server}}\n  \
         ports: [{{name: http, port: {HTTP}}}]\n---\napiVersion: leno.dev/v1alpha1\nkind: TrafficPolicy\n\
         metadata: {{name: server, namespace: default}}\nspec:\n  targetRefs: [{{group: \"\", kind: Service, name: server}}]\n  \
         rateLimits: [{{requests: 2, per: 1h, by: Caller}}]\n"
    );
    parts.mesh.apply(&limited).await;
    for _ in 0..2 {
        assert_eq!(get().await.unwrap().status, 200);
    }
    assert!(get().await.is_err(), "the third is broken off");
    let metrics = parts.server_sidecar.metrics().await;
    assert_eq!(metrics.sum("leno_failures_total", &[("reason", "rate_limited"), ("direction", "inbound")]), 1.0);
    // Who comes through the mesh has a limit of his own.
    let stream = netns::connect(&parts.client, at(&parts.server, HTTP)).await.unwrap();
    assert_eq!(client::get_over(stream, "/").await.unwrap().status, 200);
}
