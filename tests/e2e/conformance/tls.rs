//! TLSRoutes of a Service: the server name that a client's TLS names picks the backends, and the TLS goes on to them as it is.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use leno_tests::{Mesh, Sidecar, client, wait};
use serde_json::Value;
use tokio::io::AsyncReadExt;

use crate::ingress::support::{Ca, Tls, tls_greeter, within};

struct Stage {
    mesh: Mesh,
    tls: Tls,
    client: Sidecar,
    _servers: Vec<Sidecar>,
}

fn service(name: &str, selector: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: default}}\nspec:\n  selector: {{{selector}}}\n  \
         ports: [{{name: https, port: 443, targetPort: https}}]\n---\n"
    )
}

fn route(name: &str, hostname: &str, backends: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: TLSRoute\nmetadata: {{name: {name}, namespace: default}}\nspec:\n  \
         parentRefs: [{{group: \"\", kind: Service, name: shop, sectionName: https}}]\n  hostnames: [{hostname}]\n  \
         rules: [{{backendRefs: [{backends}]}}]\n---\n"
    )
}

impl Stage {
    /// The Service `shop` has the apps `one` and `two`, each behind a sidecar and with a Service of its own.
    async fn start() -> Self {
        let (mesh, ca) = (Mesh::start().await, Ca::new());
        let pair = ca.pair(&["a.example.com", "*.b.example.com", "c.example.com"]);
        mesh.apply(&(service("shop", "shop: yes") + &service("one", "app: one") + &service("two", "app: two"))).await;
        let mut servers = Vec::new();
        for name in ["one", "two"] {
            let app: SocketAddr = tls_greeter(name, &pair).await;
            let sidecar = mesh.sidecar(name, name).await.label("shop", "yes").port("https", app);
            servers.push(sidecar.start().await);
        }
        let client = mesh.sidecar("client", "client").await.upstream("shop:443").start().await;
        mesh.connected(3).await;
        let stage = Self { tls: Tls::new(&ca), mesh, client, _servers: servers };
        wait::eventually("the apps are reached", wait::DEADLINE, || async { stage.says("c.example.com").await.ok() })
            .await;
        stage
    }

    /// Who answers a client that asks for a server.
    async fn says(&self, name: &str) -> anyhow::Result<String> {
        let mut stream = self.tls.connect(self.client.upstream("shop:443"), name).await?;
        let mut text = String::new();
        within(stream.read_to_string(&mut text)).await?;
        anyhow::ensure!(!text.is_empty(), "nobody answered");
        Ok(text)
    }

    async fn counted(&self, name: &str, n: usize) -> BTreeMap<String, usize> {
        let mut counted = BTreeMap::new();
        for _ in 0..n {
            *counted.entry(self.says(name).await.unwrap()).or_default() += 1;
        }
        counted
    }

    async fn accepted(&self, kind: &str, name: &str) -> String {
        let output = self.mesh.leno(&["get", kind, name, "-o", "json"]).await;
        let object: Value = serde_json::from_slice(&output.stdout).unwrap();
        let condition = &object["status"]["parents"][0]["conditions"][0];
        format!("{}/{}", condition["status"].as_str().unwrap(), condition["reason"].as_str().unwrap())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_to_a_service_goes_where_its_server_name_says_and_is_not_ended() {
    let stage = Stage::start().await;
    let yaml = route("a", "a.example.com", "{name: one, port: 443}")
        + &route("b", "'*.b.example.com'", "{name: two, port: 443}")
        + &route("c", "c.example.com", "{name: one, port: 443, weight: 1}, {name: two, port: 443, weight: 1}");
    stage.mesh.apply(&yaml).await;
    assert_eq!(stage.accepted("tlsroute", "a").await, "True/Accepted");
    // The handshake is with the app: the client trusts its authority alone.
    assert_eq!(stage.counted("a.example.com", 10).await, BTreeMap::from([("one".to_owned(), 10)]));
    assert_eq!(stage.counted("x.b.example.com", 10).await, BTreeMap::from([("two".to_owned(), 10)]));
    let shared = stage.counted("c.example.com", 100).await;
    assert!(shared.values().all(|n| (25..=75).contains(n)) && shared.len() == 2, "{shared:?}");
    let refused = stage.says("other.example.com").await.unwrap_err();
    assert!(format!("{refused:#}").contains("UnrecognisedName"), "{refused:#}");
    // What is no TLS has no route; HTTP is told so.
    let plain = client::get(stage.client.upstream("shop:443"), "http://shop/").await.unwrap();
    assert_eq!((plain.status, plain.reason()), (404, Some("no_route")));

    // A TCPRoute on the port is less specific and has no say, until the others are gone.
    let tcp = route("t", "none", "{name: two, port: 443}").replace("TLSRoute", "TCPRoute");
    let tcp =
        tcp.replace("networking.k8s.io/v1\n", "networking.k8s.io/v1alpha2\n").replace("  hostnames: [none]\n", "");
    stage.mesh.apply(&tcp).await;
    assert_eq!(stage.accepted("tcproute", "t").await, "False/Conflicted");
    assert_eq!(stage.counted("a.example.com", 5).await, BTreeMap::from([("one".to_owned(), 5)]));
    for name in ["a", "b", "c"] {
        let gone = stage.mesh.leno(&["delete", "tlsroute", name, "--wait"]).await;
        assert!(gone.status.success(), "{}", String::from_utf8_lossy(&gone.stderr));
    }
    assert_eq!(stage.counted("a.example.com", 5).await, BTreeMap::from([("two".to_owned(), 5)]));
    assert_eq!(stage.accepted("tcproute", "t").await, "True/Accepted");
}
