//! What is applied for Gateways is taken, judged and shown in `status`, by the real control plane and command line.

use std::net::SocketAddr;

use leno_certs::{Identity, Key, SpiffeId, TrustBundle, csr};
use leno_proto::Registration;
use leno_proto::resource::Resource;
use leno_proto::v1::Gateway;
use leno_tests::light::{self, Light, Stream, Token};
use leno_tests::{Mesh, wait};
use prost::Message;
use serde_json::Value;

const EDGE: &str = "apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: default}
spec:
  gatewayClassName: leno
  listeners:
  - {name: http, port: 80, protocol: HTTP}
  - {name: https, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: edge-cert}]}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web, namespace: default}
spec:
  parentRefs: [{name: edge}]
  rules: [{backendRefs: [{name: web, port: 80}]}]
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec: {selector: {app: web}, ports: [{port: 80}]}
---
";

/// A Secret `edge-cert` and its key as it stands there, in base64.
fn certificate() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(vec!["edge.example.com".to_owned()]).unwrap();
    let encode = |pem: String| base64::Engine::encode(&base64::engine::general_purpose::STANDARD, pem);
    let (chain, key) = (encode(made.cert.pem()), encode(made.signing_key.serialize_pem()));
    let yaml = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: edge-cert, namespace: default}}\ntype: kubernetes.io/tls\n\
         data: {{tls.crt: {chain}, tls.key: {key}}}\n---\n"
    );
    (yaml, key)
}

async fn show(mesh: &Mesh, kind: &str, name: &str) -> Value {
    let output = mesh.leno(&["get", kind, name, "-o", "yaml"]).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_yaml_ng::from_slice(&output.stdout).unwrap()
}

/// The conditions of part of a status as `Accepted=True/Accepted`.
fn conditions(owner: &Value) -> Vec<String> {
    let list = owner["conditions"].as_array().unwrap_or_else(|| panic!("no conditions in {owner}"));
    let text = |condition: &Value, field: &str| condition[field].as_str().unwrap_or_default().to_owned();
    list.iter().map(|c| format!("{}={}/{}", text(c, "type"), text(c, "status"), text(c, "reason"))).collect()
}

fn condition<'a>(owner: &'a Value, kind: &str) -> &'a Value {
    owner["conditions"].as_array().unwrap().iter().find(|c| c["type"] == kind).unwrap()
}

fn registration(name: &str, namespace: &str) -> Registration {
    Registration::local(name, namespace, name, 1)
}

/// A sidecar of any namespace that carries no traffic.
async fn join(mesh: &Mesh, namespace: &str, account: &str) -> Light {
    let token = mesh.control_plane.api().token(namespace, account, 600).await.unwrap();
    let id = SpiffeId::new("cluster.local", namespace, account).unwrap();
    let key = Key::generate().unwrap();
    let request = csr::create(&key, &id).unwrap();
    let xds: SocketAddr = mesh.control_plane.xds();
    let signed = light::join_raw(xds, Token::parse(&token).unwrap().root_hash, &token, request).await.unwrap();
    let bundle = TrustBundle::new(signed.trust_domain, signed.roots);
    Light::with(xds, Identity::new(signed.chain, key).unwrap(), bundle)
}

async fn subscribed(mesh: &Mesh, namespace: &str, account: &str) -> Stream {
    let stream = join(mesh, namespace, account).await.stream(&registration(account, namespace)).await.unwrap();
    stream.subscribe(Gateway::TYPE_URL, &["default/edge"]).await.unwrap();
    stream
}

async fn until(mesh: &Mesh, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    wait::eventually(what, wait::DEADLINE, || async {
        let found = show(mesh, "gateway", "edge").await;
        holds(&found["status"]).then_some(found)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_is_programmed_when_a_sidecar_has_acknowledged_it_and_not_before() {
    let mesh = Mesh::start().await;
    let (secret, _) = certificate();
    mesh.apply(&(EDGE.to_owned() + &secret)).await;
    let first = show(&mesh, "gateway", "edge").await;
    assert_eq!(conditions(&first["status"])[..2], ["Accepted=True/Accepted", "Programmed=False/Pending"]);
    assert_eq!(first["status"]["listeners"][0]["attachedRoutes"], 1);
    assert_eq!(
        (&first["metadata"]["generation"], &condition(&first["status"], "Accepted")["observedGeneration"]),
        (&1.into(), &1.into())
    );

    let mut stream = subscribed(&mesh, "default", "edge").await;
    let sent = stream.next().await.unwrap();
    let sent_gateway = Gateway::decode(sent.resources[0].resource.as_ref().unwrap().value.as_slice()).unwrap();
    assert_eq!(sent_gateway.listeners.len(), 2);
    assert_eq!(sent_gateway.listeners[1].certificates.len(), 1);
    let waiting = show(&mesh, "gateway", "edge").await;
    assert_eq!(conditions(&waiting["status"])[1], "Programmed=False/Pending", "it was sent, and not acknowledged");
    stream.ack(&sent).await.unwrap();
    let there = until(&mesh, "programmed", |status| conditions(status)[1] == "Programmed=True/Programmed").await;
    assert_eq!(there["status"]["addresses"][0]["value"], "127.0.0.1");
    let since = |object: &Value, kind: &str| condition(&object["status"], kind)["lastTransitionTime"].clone();
    assert_eq!(since(&there, "Accepted"), since(&first, "Accepted"), "its time stays while its status does");
    let table = String::from_utf8(mesh.leno(&["get", "gateways"]).await.stdout).unwrap();
    assert!(table.contains("http:80 1") && table.contains("Programmed"), "{table}");

    // A change is programmed anew, and a sidecar that refuses it does not serve it.
    let changed = EDGE.replace("port: 80, protocol", "port: 8080, protocol");
    let api = mesh.control_plane.api();
    assert_eq!(api.apply(&changed).await.unwrap().0, 200);
    let pending = until(&mesh, "pending again", |status| conditions(status)[1] == "Programmed=False/Pending").await;
    assert_eq!(
        (&pending["metadata"]["generation"], &condition(&pending["status"], "Accepted")["observedGeneration"]),
        (&2.into(), &2.into())
    );
    let sent = stream.next().await.unwrap();
    stream.nack(&sent, "no").await.unwrap();
    wait::eventually("the NACK is known", wait::DEADLINE, || async {
        api.get("/v1/status").await.unwrap().to_string().contains("\"reason\":\"no\"").then_some(())
    })
    .await;
    assert_eq!(conditions(&show(&mesh, "gateway", "edge").await["status"])[1], "Programmed=False/Pending");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_and_its_keys_are_sent_to_sidecars_of_its_own_namespace_alone() {
    let mesh = Mesh::start().await;
    mesh.apply(&(EDGE.to_owned() + &certificate().0)).await;
    let mut stranger = subscribed(&mesh, "shop", "edge").await;
    let answer = stranger.next().await.unwrap();
    assert_eq!(
        (answer.resources.len(), answer.removed_resources.as_slice()),
        (0, ["default/edge".to_owned()].as_slice())
    );
    stranger.ack(&answer).await.unwrap();
    let mut own = subscribed(&mesh, "default", "edge").await;
    assert_eq!(own.next().await.unwrap().resources.len(), 1);
    assert_eq!(conditions(&show(&mesh, "gateway", "edge").await["status"])[1], "Programmed=False/Pending");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_a_secret_is_shown_to_who_asks_for_it_and_nowhere_else() {
    let mesh = Mesh::start().await;
    let (yaml, key) = certificate();
    mesh.apply(&(EDGE.to_owned() + &yaml)).await;
    let plain = String::from_utf8(mesh.leno(&["get", "secret", "edge-cert", "-o", "yaml"]).await.stdout).unwrap();
    assert!(plain.contains("tls.key: (hidden)") && !plain.contains(&key), "{plain}");
    let list = String::from_utf8(mesh.leno(&["get", "secrets", "-o", "json"]).await.stdout).unwrap();
    assert!(list.contains("(hidden)") && !list.contains(&key), "{list}");
    let shown = mesh.leno(&["get", "secret", "edge-cert", "-o", "yaml", "--show-secrets"]).await;
    assert!(String::from_utf8(shown.stdout).unwrap().contains(&key));

    // A bad change of it is told without the value.
    let bad = yaml.replace(&key, "\"hunter2!\"");
    let told = mesh.apply_output(&bad).await;
    let told = String::from_utf8_lossy(&[told.stdout, told.stderr].concat()).into_owned();
    assert!(told.contains("data.tls.key") && !told.contains("hunter2"), "{told}");

    let api = mesh.control_plane.api();
    for path in ["/v1/history", "/v1/status", "/v1/objects/gateway", "/v1/objects/secret"] {
        assert!(!api.get(path).await.unwrap().to_string().contains(&key), "{path}");
    }
    let dump = leno_tests::client::get_direct(mesh.control_plane.admin(), "/config_dump").await.unwrap();
    assert_eq!(dump.status, 200);
    let log = mesh.control_plane.log();
    for text in [&dump.text(), &log] {
        assert!(!text.contains(&key) && !text.contains("hunter2"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_that_a_user_writes_is_ignored() {
    let mesh = Mesh::start().await;
    let lie = "status: {conditions: [{type: Accepted, status: 'False', reason: Lie, message: ''}]}\n";
    let gateway = EDGE.split("---").next().unwrap();
    mesh.apply(&(gateway.to_owned() + lie)).await;
    let shown = show(&mesh, "gateway", "edge").await;
    assert_eq!(conditions(&shown["status"])[0], "Accepted=True/Accepted");
    // What is shown can be applied again, and is no change.
    let file = mesh.dir().join("again.yaml");
    std::fs::write(&file, serde_yaml_ng::to_string(&shown).unwrap()).unwrap();
    let output = mesh.leno(&["apply", "-f", file.to_str().unwrap()]).await;
    assert!(String::from_utf8_lossy(&output.stdout).contains("unchanged"), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn since_when_a_condition_holds_outlives_the_control_plane_and_not_the_object() {
    let mut mesh = Mesh::start().await;
    let class = "apiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {name: leno}\n\
                 spec: {controllerName: leno.dev/gateway-controller}\n---\n";
    mesh.apply(&(EDGE.to_owned() + class)).await;
    async fn since(mesh: &Mesh) -> [Value; 3] {
        let [gateway, class, route] = [
            show(mesh, "gateway", "edge").await["status"].take(),
            show(mesh, "gatewayclass", "leno").await["status"].take(),
            show(mesh, "httproute", "web").await["status"]["parents"][0].take(),
        ];
        [gateway, class, route].map(|owner| condition(&owner, "Accepted")["lastTransitionTime"].clone())
    }
    let first = since(&mesh).await;
    // Times are whole seconds: later ones can be told apart from these.
    let second = std::time::SystemTime::now() + std::time::Duration::from_secs(1);
    mesh.control_plane.stop().await;
    wait::eventually("the next second", wait::DEADLINE, || async {
        (std::time::SystemTime::now() > second).then_some(())
    })
    .await;
    mesh.control_plane.start_again().await;
    assert_eq!(since(&mesh).await, first);
    // A change that leaves the status as it is is none of a condition.
    mesh.apply(&EDGE.replace("port: 80, protocol", "port: 8080, protocol")).await;
    assert_eq!(since(&mesh).await, first);
    mesh.leno(&["delete", "gateway", "edge"]).await;
    mesh.apply(EDGE).await;
    let then = since(&mesh).await;
    assert!(then[0].as_str() > first[0].as_str(), "another Gateway of that name began later: {then:?} {first:?}");
    assert_eq!(then[1], first[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_class_says_which_versions_and_features_are_supported() {
    let mesh = Mesh::start().await;
    let class = |text: &str, more: &str| {
        format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {{name: leno}}\n\
             spec: {{controllerName: leno.dev/gateway-controller, description: {text}{more}}}\n---\n"
        )
    };
    mesh.apply(&class("old", "")).await;
    let first = show(&mesh, "gatewayclass", "leno").await;
    assert_eq!(conditions(&first["status"]), ["Accepted=True/Accepted", "SupportedVersion=True/SupportedVersion"]);
    let features: Vec<&str> =
        first["status"]["supportedFeatures"].as_array().unwrap().iter().map(|f| f["name"].as_str().unwrap()).collect();
    assert!(features.is_sorted() && features.contains(&"HTTPRoute") && features.contains(&"Gateway"), "{features:?}");
    assert!(!features.contains(&"HTTPRouteExternalAuth"), "what is refused is not there: {features:?}");
    mesh.apply(&class("new", "")).await;
    let second = show(&mesh, "gatewayclass", "leno").await;
    for kind in ["Accepted", "SupportedVersion"] {
        assert_eq!(condition(&second["status"], kind)["observedGeneration"], 2, "{kind}");
    }
    mesh.apply(&class("new", ", parametersRef: {group: a, kind: B, name: c}")).await;
    let refused = show(&mesh, "gatewayclass", "leno").await;
    assert_eq!(conditions(&refused["status"])[0], "Accepted=False/InvalidParameters");
}
