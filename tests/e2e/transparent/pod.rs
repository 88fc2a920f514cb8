//! A pod, played by processes that share a network namespace: the rules come from an init container, and the sidecar has no
//! privilege from its first moment.

use std::net::SocketAddr;

use leno_tests::netns::{self, Greeter, Namespace, NetMesh, greeting, output, resolve_one, succeeded};
use leno_tests::wait::{DEADLINE, eventually};
use leno_tests::{Behaviour, HttpApp, binaries, client, require_netns};

const HTTP: u16 = 8080;
const TCP: u16 = 9090;
/// Where kubelet asks.
const HEALTH: u16 = 15020;

const PROBES: &str = r#"{"web/readiness": {"httpGet": {"path": "/healthz", "port": 8080}},
  "store/liveness": {"tcpSocket": {"port": 9090}}, "store/startup": {"tcpSocket": {"port": 9091}}}"#;

/// The status of GET `path` as `from` gets it of `host`.
async fn status(from: &Namespace, host: &Namespace, port: u16, path: &str) -> Option<u16> {
    let stream = netns::connect(from, SocketAddr::new(host.v4().into(), port)).await.ok()?;
    Some(client::get_over(stream, path).await.ok()?.status)
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_of_a_pod_share_a_sidecar_without_privileges_and_kubelet_still_asks() {
    require_netns!("setpriv");
    let mut mesh = NetMesh::start().await;
    let [pod, caller, kubelet] = ["pod", "caller", "kubelet"].map(|name| mesh.host(name));
    let listener = netns::listen(&pod, SocketAddr::from(([0, 0, 0, 0], HTTP)));
    let web = HttpApp::on(listener, "web-in-a-pod");
    let _store = Greeter::start(&pod, TCP, "store-in-a-pod");

    let mut init = pod.command(binaries::proxy());
    init.arg("intercept");
    succeeded("leno-proxy intercept", output(init).await);
    let sidecar = mesh.sidecar(&pod, "shop").await.args(&["--probes", PROBES]).unprivileged();
    let mut sidecar = sidecar.start().await;
    assert_unprivileged(sidecar.process().pid());
    let _caller_sidecar = mesh.sidecar(&caller, "caller").await.start().await;
    mesh.connected(2).await;

    // Both containers are reached, by the pod's name and by its address.
    let shop = resolve_one(&caller, 4, "shop").await;
    for addr in [shop, pod.v4().into()] {
        eventually(&format!("the store is reached at {addr}"), DEADLINE, async || {
            (greeting(&caller, SocketAddr::new(addr, TCP)).await.as_deref() == Some("store-in-a-pod")).then_some(())
        })
        .await;
        let stream = netns::connect(&caller, SocketAddr::new(addr, HTTP)).await.unwrap();
        assert_eq!(client::get_over(stream, "/").await.unwrap().text(), "web-in-a-pod");
    }
    // One container reaches the other as before, and the pod's own address is no detour.
    for addr in [SocketAddr::from(([127, 0, 0, 1], TCP)), SocketAddr::new(pod.v4().into(), TCP)] {
        assert_eq!(greeting(&pod, addr).await.as_deref(), Some("store-in-a-pod"), "{addr}");
    }

    // Kubelet is outside the mesh: refused at the app, answered at the health port.
    assert_eq!(status(&kubelet, &pod, HTTP, "/healthz").await, None);
    assert_eq!(greeting(&kubelet, SocketAddr::new(pod.v4().into(), TCP)).await, None);
    let probe = async |path: &str| status(&kubelet, &pod, HEALTH, path).await;
    web.forget();
    assert_eq!(probe("/probe/web/readiness").await, Some(200));
    assert_eq!(web.seen().last().map(|seen| seen.path.clone()).as_deref(), Some("/healthz"));
    assert_eq!(probe("/probe/store/liveness").await, Some(200));
    assert_eq!(probe("/probe/store/startup").await, Some(503));
    assert_eq!(probe("/probe/nobody/liveness").await, Some(404));
    web.set(Behaviour::Status(500));
    assert_eq!(probe("/probe/web/readiness").await, Some(503));
}

/// Every thread of `pid` has another user than root, no capability, and no way to any.
fn assert_unprivileged(pid: u32) {
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let status = std::fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().skip(1).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(field("Uid:"), ["15008"; 4]);
        for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
            assert_eq!(field(set), ["0000000000000000"], "{set}");
        }
        assert_eq!(field("NoNewPrivs:"), ["1"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_that_made_its_own_rules_has_no_privilege_left() {
    require_netns!();
    let mut mesh = NetMesh::start().await;
    let host = mesh.host("host");
    let mut sidecar = mesh.sidecar(&host, "web").await.start().await;
    assert_unprivileged(sidecar.process().pid());
}
