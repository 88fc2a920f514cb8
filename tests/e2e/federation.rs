//! Two meshes, each with a control plane and an authority of its own, that trust each other by exchanging bundles.

use std::time::Duration;

use http::Method;
use leno_tests::mesh::{Trio, service};
use leno_tests::{HttpApp, Load, Mesh, Sidecar, wait};
use serde_json::Value;

const EAST: &str = "east.example";
const WEST: &str = "west.example";

/// A mesh that serves its bundle and wants to be asked again every second.
async fn mesh(domain: &str) -> Mesh {
    let args = ["--trust-domain", domain, "--federation-addr", "127.0.0.1:0", "--federation-refresh-hint", "1s"];
    Mesh::start_with(&args).await
}

/// What `leno` prints, which has to succeed.
async fn leno(mesh: &Mesh, args: &[&str]) -> String {
    let out = mesh.leno(args).await;
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// What `leno check` finds.
async fn findings(mesh: &Mesh) -> String {
    String::from_utf8(mesh.leno(&["check", "-o", "json"]).await.stdout).unwrap()
}

/// What `leno ca bundle` of a mesh says.
async fn bundle(of: &Mesh) -> String {
    leno(of, &["ca", "bundle"]).await
}

/// The object by which somebody trusts this mesh from now on.
async fn trusted(domain: &str, of: &Mesh) -> String {
    let bundle: Value = serde_json::from_str(&bundle(of).await).unwrap();
    format!(
        "apiVersion: leno.dev/v1alpha1\nkind: FederatedTrustDomain\nmetadata: {{name: {domain}}}\nspec:\n  \
         bundleEndpointURL: https://{}/\n  \
         bundleEndpointProfile: {{type: https_spiffe, endpointSPIFFEID: spiffe://{domain}/ns/leno-system/sa/control-plane}}\n  \
         trustDomainBundle: '{bundle}'\n---\n",
        of.control_plane.federation()
    )
}

/// A workload of the other mesh as this one has to know it.
fn far(domain: &str, sidecar: &Sidecar) -> String {
    let port = sidecar.mesh().port();
    format!(
        "apiVersion: leno.dev/v1alpha1\nkind: Workload\nmetadata: {{name: far-web, namespace: default, labels: {{app: far}}}}\n\
         spec: {{address: 127.0.0.1, meshPort: {port}, identity: 'spiffe://{domain}/ns/default/sa/web', ports: {{http: 80}}}}\n---\n"
    ) + &service("far", "app: far", 80, "http")
}

fn allow(domain: &str) -> String {
    format!(
        "apiVersion: leno.dev/v1alpha1\nkind: AuthorizationPolicy\nmetadata: {{name: neighbours, namespace: default}}\nspec:\n  \
         targetRefs: [{{group: \"\", kind: Service, name: web}}]\n  action: ALLOW\n  \
         rules: [{{from: [{{trustDomains: [{domain}]}}]}}, {{from: [{{namespaces: [default]}}]}}]\n---\n"
    )
}

struct Neighbours {
    east: Mesh,
    west: Mesh,
    frontend: Sidecar,
    web: Sidecar,
    app: HttpApp,
}

impl Neighbours {
    /// `frontend` in the east knows of `web` in the west. Nobody trusts anybody yet.
    async fn start() -> Self {
        let (east, west) = (mesh(EAST).await, mesh(WEST).await);
        let app = HttpApp::start("web").await;
        west.apply(&service("web", "app: web", 80, "http")).await;
        let web = west.sidecar("web", "web").await.port("http", app.addr()).start().await;
        let frontend = east.sidecar("frontend", "frontend").await.start().await;
        east.apply(&far(WEST, &web)).await;
        Self { east, west, frontend, web, app }
    }

    async fn federate(&self) {
        self.east.apply(&trusted(WEST, &self.west).await).await;
        self.west.apply(&trusted(EAST, &self.east).await).await;
    }

    async fn call(&self) -> (u16, Option<String>) {
        match self.frontend.get("http://far/").await {
            Ok(reply) => (reply.status, reply.reason().map(str::to_owned)),
            Err(_) => (0, None),
        }
    }

    async fn answered(&self, what: &str) {
        wait::eventually(what, wait::DEADLINE, async || (self.call().await.0 == 200).then_some(())).await;
    }

    async fn refused_by(&self, reason: &str) {
        wait::eventually(reason, wait::DEADLINE, async || {
            (self.call().await.1.as_deref() == Some(reason)).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn workloads_of_two_meshes_reach_each_other_when_both_trust_and_the_called_one_allows_it() {
    let both = Neighbours::start().await;
    both.refused_by("tls_failed").await;
    both.east.apply(&trusted(WEST, &both.west).await).await;
    // The east would call now, but the west does not know who it is, and says why at its side.
    wait::eventually("the west refuses a handshake", wait::DEADLINE, async || {
        assert_ne!(both.call().await.0, 200);
        let metrics = both.web.metrics().await;
        (metrics.sum("leno_tls_handshake_failures_total", &[("reason", "certificate_untrusted")]) > 0.0).then_some(())
    })
    .await;
    both.west.apply(&trusted(EAST, &both.east).await).await;
    both.refused_by("denied").await;
    assert_eq!(both.app.count(), 0, "nothing came as far as the app");
    both.west.apply(&allow(EAST)).await;
    both.answered("who is named is let in").await;
    // Its own callers never notice.
    leno(&both.west, &["policy", "test", "--from", "web", "--to", "web", "--path", "/"]).await;
    let id = format!("spiffe://{EAST}/ns/default/sa/frontend");
    leno(&both.west, &["policy", "test", "--from", &id, "--to", "web", "--path", "/"]).await;
    // What is taken back holds at once, for open connections, too.
    leno(&both.west, &["delete", "FederatedTrustDomain", EAST]).await;
    wait::eventually("the trust is gone", wait::DEADLINE, async || (both.call().await.0 != 200).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_of_either_mesh_is_followed_by_the_other_and_no_request_fails() {
    let both = Neighbours::start().await;
    both.federate().await;
    both.west.apply(&allow(EAST)).await;
    both.answered("the meshes are federated").await;
    let load = Load::new(both.frontend.http_proxy(), "http://far/").clients(4).pause(Duration::from_millis(5)).start();
    for mesh in [&both.west, &both.east] {
        leno(mesh, &["ca", "rotate", "--timeout", "60s"]).await;
    }
    load.more(200).await;
    load.stop().await.assert_no_failure();
    // A connection that is made now shows what the rotation has left.
    let fresh = both.east.sidecar("second", "frontend").await.start().await;
    both.east.reachable(&fresh, "http://far/").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_fetched_outlives_the_other_control_plane_and_restarts_of_our_own() {
    let mut both = Neighbours::start().await;
    both.federate().await;
    both.west.apply(&allow(EAST)).await;
    both.answered("the meshes are federated").await;
    leno(&both.west, &["ca", "rotate", "--timeout", "60s"]).await;
    both.frontend.saved().await;
    both.west.control_plane.kill();
    both.east.control_plane.kill();
    both.frontend.kill();
    both.frontend.start_again().await;
    both.answered("a sidecar that starts alone knows its neighbours").await;
    both.east.control_plane.start_again().await;
    both.east.connected(1).await;
    both.frontend.kill();
    both.frontend.start_again().await;
    both.answered("the object holds the root of before, and what was fetched since is newer").await;
    // That it is not fetched any more is said.
    wait::eventually("check names it", wait::DEADLINE, async || {
        let found = findings(&both.east).await;
        (found.contains("federation_unreachable") && found.contains(WEST)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bundle_is_told_to_who_asks_and_only_the_right_endpoint_is_believed() {
    let both = Neighbours::start().await;
    both.federate().await;
    both.west.apply(&allow(EAST)).await;
    both.answered("the meshes are federated").await;
    // Somebody else at the same address: the east's own endpoint has another identity and other roots.
    let other = trusted(WEST, &both.west)
        .await
        .replace(&both.west.control_plane.federation().to_string(), &both.east.control_plane.federation().to_string());
    both.east.apply(&other).await;
    wait::eventually("the endpoint is not believed", wait::DEADLINE, async || {
        findings(&both.east).await.contains("federation_unreachable").then_some(())
    })
    .await;
    both.answered("what is written in the object holds").await;
    let bundle: Value = serde_json::from_str(&bundle(&both.west).await).unwrap();
    assert_eq!(bundle["spiffe_refresh_hint"], 1);
    assert_eq!(bundle["keys"][0]["use"], "x509-svid");
    let metrics = both.east.control_plane.metrics().await;
    assert!(metrics.sum("leno_federation_fetches_total", &[("trust_domain", WEST), ("result", "failed")]) >= 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_identity_is_no_caller_of_the_same_name_of_ours() {
    let both = Neighbours::start().await;
    both.federate().await;
    // The west lets its own frontend in, and every workload of its own namespace.
    let own = "apiVersion: leno.dev/v1alpha1\nkind: AuthorizationPolicy\nmetadata: {name: own, namespace: default}\nspec:\n  \
               targetRefs: [{group: \"\", kind: Service, name: web}]\n  action: ALLOW\n  \
               rules: [{from: [{serviceAccounts: [frontend]}]}, {from: [{namespaces: [default]}]}, {to: [{methods: [GET]}]}]\n";
    both.west.apply(own).await;
    both.refused_by("denied").await;
    assert_eq!(both.app.count(), 0);
    let api = both.east.control_plane.api();
    let (status, _) = api.call(Method::GET, "/v1/ca/bundle", None).await.unwrap();
    assert_eq!(status, 200);
    drop(both.web);
}

#[tokio::test(flavor = "multi_thread")]
async fn sidecars_with_ed25519_keys_and_with_ecdsa_keys_serve_each_other_through_renewals() {
    let mesh = Mesh::start_with(&["--leaf-ttl", "10s"]).await;
    let trio = Trio::start(&mesh).await;
    let ed = mesh.sidecar("third", "third").await.args(&["--leaf-key", "ed25519"]).start().await;
    mesh.reachable(&ed, "http://web/").await;
    let load = Load::new(ed.http_proxy(), "http://web/").clients(2).pause(Duration::from_millis(5)).start();
    wait::eventually("a leaf is renewed twice", wait::DEADLINE * 2, async || {
        (ed.metrics().await.sum("leno_certificate_renewals_total", &[("result", "ok")]) >= 2.0).then_some(())
    })
    .await;
    load.stop().await.assert_no_failure();
    let saved = std::fs::read_to_string(ed.state_dir().join("identity/identity.json")).unwrap();
    let saved: Value = serde_json::from_str(&saved).unwrap();
    // PKCS#8, PEM: that of a P-256 key has 241 bytes.
    assert!(saved["key"].as_str().unwrap().len() < 200, "the key on disk is one of Ed25519");
    drop(trio);
}
