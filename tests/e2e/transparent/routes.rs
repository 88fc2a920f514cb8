//! Routes are for apps that know nothing of them, too, and need no Service object.

use std::net::SocketAddr;

use leno_tests::netns::{self, Namespace, NetMesh, resolve_one};
use leno_tests::wait::{DEADLINE, eventually};
use leno_tests::{HttpApp, client, require_netns};
use tokio::io::AsyncReadExt;

use crate::ingress::support::{Ca, Tls, tls_greeter_on, within};

const PORT: u16 = 8080;
const REQUESTS: usize = 100;

fn app(host: &Namespace, name: &str) -> HttpApp {
    HttpApp::on(netns::listen(host, SocketAddr::from(([0, 0, 0, 0], PORT))), name)
}

/// The route of the service `web`, to itself and to `web-v2`.
fn split(v1: u32, v2: u32) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: web, namespace: default}}\nspec:\n  \
         parentRefs: [{{kind: Service, group: \"\", name: web}}]\n  rules:\n  - backendRefs:\n    \
         - {{name: web, port: {PORT}, weight: {v1}}}\n    - {{name: web-v2, port: {PORT}, weight: {v2}}}\n"
    )
}

/// How many of many requests, each on a connection of its own, the second version answers.
async fn by_v2(caller: &Namespace, web: SocketAddr) -> usize {
    let mut count = 0;
    for _ in 0..REQUESTS {
        let stream = netns::connect(caller, web).await.unwrap();
        let reply = client::get_over(stream, "/").await.unwrap();
        assert_eq!(reply.status, 200, "{reply:?}");
        count += usize::from(reply.text() == "v2");
    }
    count
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_moves_the_traffic_of_apps_that_know_nothing_of_it() {
    require_netns!();
    let mut mesh = NetMesh::start().await;
    let [caller, v1, v2] = ["caller", "v1", "v2"].map(|name| mesh.host(name));
    let _apps = [app(&v1, "v1"), app(&v2, "v2")];
    let _sidecars = [
        mesh.sidecar(&v1, "web").await.start().await,
        mesh.sidecar(&v2, "web-v2").await.start().await,
        mesh.sidecar(&caller, "caller").await.start().await,
    ];
    mesh.connected(3).await;
    let web = SocketAddr::new(resolve_one(&caller, 4, "web").await, PORT);
    eventually("web is reached", DEADLINE, async || {
        let stream = netns::connect(&caller, web).await.ok()?;
        (client::get_over(stream, "/").await.ok()?.status == 200).then_some(())
    })
    .await;
    assert_eq!(by_v2(&caller, web).await, 0);
    mesh.apply(&split(50, 50)).await;
    let half = by_v2(&caller, web).await;
    assert!((25..=75).contains(&half), "{half} of {REQUESTS}");
    mesh.apply(&split(0, 100)).await;
    assert_eq!(by_v2(&caller, web).await, REQUESTS);

    // Whoever asks for a workload by its address gets that one.
    let stream = netns::connect(&caller, SocketAddr::new(v1.v4().into(), PORT)).await.unwrap();
    assert_eq!(client::get_over(stream, "/").await.unwrap().text(), "v1");
}

const FILTERS: &str = "apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web, namespace: default}
spec:
  parentRefs: [{kind: Service, group: \"\", name: web}]
  rules:
  - matches: [{path: {type: PathPrefix, value: /old}}]
    filters: [{type: RequestRedirect, requestRedirect: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}}}]
  - matches: [{path: {type: PathPrefix, value: /away}}]
    filters: [{type: RequestRedirect, requestRedirect: {hostname: example.org, statusCode: 301}}]
  - matches: [{path: {type: PathPrefix, value: /a}}]
    filters:
    - {type: URLRewrite, urlRewrite: {hostname: other.example.org, path: {type: ReplacePrefixMatch, replacePrefixMatch: /b}}}
    - {type: RequestMirror, requestMirror: {backendRef: {name: web-v2, port: 8080}}}
    backendRefs: [{name: web, port: 8080}]
";

/// What the proxy port does with them, `conformance` tries.
#[tokio::test(flavor = "multi_thread")]
async fn filters_hold_for_the_connections_of_apps_that_know_nothing_of_them() {
    require_netns!();
    let mut mesh = NetMesh::start().await;
    let [caller, v1, v2] = ["caller", "v1", "v2"].map(|name| mesh.host(name));
    let [real, copy] = [app(&v1, "v1"), app(&v2, "v2")];
    let _sidecars = [
        mesh.sidecar(&v1, "web").await.start().await,
        mesh.sidecar(&v2, "web-v2").await.start().await,
        mesh.sidecar(&caller, "caller").await.start().await,
    ];
    mesh.connected(3).await;
    let web = SocketAddr::new(resolve_one(&caller, 4, "web").await, PORT);
    let get = async |path: &str| {
        let stream = netns::connect(&caller, web).await.ok()?;
        client::get_over(stream, path).await.ok()
    };
    eventually("web is reached", DEADLINE, async || (get("/").await?.status == 200).then_some(())).await;
    mesh.apply(FILTERS).await;
    real.forget();
    for (path, status, location) in [
        ("/old/c%2Fd?q=1", 302, format!("http://{web}/new/c%2Fd?q=1")),
        ("/away", 301, format!("http://example.org:{PORT}/away")),
    ] {
        let reply = get(path).await.unwrap();
        assert_eq!((reply.status, reply.headers["location"].to_str().unwrap()), (status, location.as_str()));
    }
    assert_eq!(real.count(), 0);
    assert_eq!(get("/a/c%2Fd?q=1").await.unwrap().text(), "v1");
    let seen = real.seen().remove(0);
    assert_eq!((seen.host.as_str(), seen.path.as_str()), ("other.example.org", "/b/c%2Fd?q=1"));
    eventually("the mirror has it", DEADLINE, async || (copy.count() == 1).then_some(())).await;
    assert_eq!(copy.seen().remove(0).path, "/b/c%2Fd?q=1");
}

/// GEP-1294; with a Gateway `ingress::opaque` tries it, through a port of the sidecar's own `conformance::tls`.
#[tokio::test(flavor = "multi_thread")]
async fn tls_of_apps_that_know_nothing_of_the_mesh_goes_where_its_server_name_says() {
    require_netns!();
    let mut mesh = NetMesh::start().await;
    let [caller, one, two] = ["caller", "one", "two"].map(|name| mesh.host(name));
    let ca = Ca::new();
    let pair = ca.pair(&["a.example.com", "b.example.com"]);
    for (host, name) in [(&one, "one"), (&two, "two")] {
        tls_greeter_on(netns::listen(host, SocketAddr::from(([0, 0, 0, 0], 443))), name, &pair);
    }
    let _sidecars = [
        mesh.sidecar(&one, "shop").await.start().await,
        mesh.sidecar(&two, "other").await.start().await,
        mesh.sidecar(&caller, "caller").await.start().await,
    ];
    mesh.connected(3).await;
    let shop = SocketAddr::new(resolve_one(&caller, 4, "shop").await, 443);
    let tls = Tls::new(&ca);
    let says = async |name: &str| {
        let mut stream = tls.over(netns::connect(&caller, shop).await?, name).await?;
        let mut text = String::new();
        within(stream.read_to_string(&mut text)).await?;
        anyhow::Ok(text)
    };
    eventually("shop is reached", DEADLINE, async || (says("b.example.com").await.ok()? == "one").then_some(())).await;
    let route = "apiVersion: gateway.networking.k8s.io/v1\nkind: TLSRoute\nmetadata: {name: shop, namespace: default}\nspec:\n  \
                 parentRefs: [{kind: Service, group: \"\", name: shop, port: 443}]\n  hostnames: [b.example.com]\n  \
                 rules: [{backendRefs: [{name: other, port: 443}]}]\n";
    mesh.apply(route).await;
    for _ in 0..5 {
        assert_eq!(says("b.example.com").await.unwrap(), "two");
    }
    let refused = says("a.example.com").await.unwrap_err();
    assert!(format!("{refused:#}").contains("UnrecognisedName"), "{refused:#}");
}
