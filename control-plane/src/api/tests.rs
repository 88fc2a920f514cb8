use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{Method, Request};
use leno_runtime::drain;
use leno_runtime::metrics::Registry as Metrics;
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tower::ServiceExt;

use super::*;
use crate::ca;
use crate::model::{Name, Workload};

struct Api {
    router: Router,
    parts: Parts,
    bearer: String,
    _dir: tempfile::TempDir,
}

impl Api {
    fn open() -> Self {
        Self::with(&[])
    }

    /// With workloads that an earlier life of the control plane has left.
    fn with(workloads: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        for name in workloads {
            store.put_workload(&workload(name)).unwrap();
        }
        let metrics = Metrics::new();
        let root = ca::open(&store, dir.path(), "cluster.local", &None, OffsetDateTime::now_utc()).unwrap();
        let authority = CertificateAuthority::new(store.clone(), root, Duration::from_secs(3600), &metrics);
        let tls = ServerIdentity::new(authority.clone(), &[], None).unwrap();
        let registry = Registry::restore(store.clone(), Duration::from_secs(60));
        let sessions = Sessions::new(registry.clone());
        let token = AdminToken::open(&store).unwrap();
        let bearer = String::from_utf8(store.blob("admin-token").unwrap().unwrap()).unwrap();
        let federation = Federation::new("cluster.local", Default::default(), metrics);
        let parts = Parts {
            store,
            authority,
            tls,
            federation,
            refresh_hint: Duration::from_secs(300),
            registry,
            sessions,
            token: Arc::new(token),
            trail: Trail::new().0,
            observed: Default::default(),
            questions: Default::default(),
            problems: None,
        };
        Self { router: router(parts.clone()), parts, bearer, _dir: dir }
    }

    async fn send(&self, request: Request<Body>) -> (StatusCode, Value) {
        let answer = self.router.clone().oneshot(request).await.unwrap();
        let status = answer.status();
        // It goes on for as long as it is read.
        if answer.headers().get("content-type").is_some_and(|kind| kind == "application/x-ndjson") {
            return (status, Value::Null);
        }
        let bytes = to_bytes(answer.into_body(), usize::MAX).await.unwrap();
        (status, serde_json::from_slice(&bytes).unwrap_or_else(|_| panic!("{status} {bytes:?}")))
    }

    async fn call(&self, method: Method, path: &str, body: Value) -> (StatusCode, Value) {
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        let bearer = format!("Bearer {}", self.bearer);
        let request = Request::builder().method(method).uri(path).header("authorization", bearer);
        self.send(request.body(body).unwrap()).await
    }

    async fn get(&self, path: &str) -> (StatusCode, Value) {
        self.call(Method::GET, path, Value::Null).await
    }

    async fn apply(&self, text: &str) -> (StatusCode, Value) {
        self.call(Method::POST, "/v1/apply", files(text)).await
    }
}

fn workload(name: &str) -> Workload {
    Workload {
        name: Name::new("default", name),
        labels: [("app".to_owned(), "web".to_owned())].into(),
        address: "127.0.0.1".parse().unwrap(),
        mesh_port: Some(15008),
        identity: Some("spiffe://cluster.local/ns/default/sa/web".into()),
        ports: [("http".to_owned(), 8080)].into(),
        healthy: true,
        more_addresses: vec![],
        any_port: false,
        lineage: None,
    }
}

fn files(text: &str) -> Value {
    json!({"files": [{"name": "x.yaml", "content": text}]})
}

fn with(mut body: Value, more: Value) -> Value {
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

fn service(name: &str, port: u16) -> String {
    format!("apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{ports: [{{port: {port}}}]}}\n---\n")
}

#[tokio::test]
async fn nothing_but_the_document_is_answered_without_the_token() {
    let api = Api::open();
    for authorization in [None, Some("Bearer wrong"), Some("Basic abc"), Some("Bearer "), Some("Bearer")] {
        for (method, path) in
            [(Method::GET, "/v1/status"), (Method::POST, "/v1/apply"), (Method::DELETE, "/v1/objects/svc/default/a")]
        {
            let mut request = Request::builder().method(method).uri(path);
            if let Some(value) = authorization {
                request = request.header("authorization", value);
            }
            let (status, body) = api.send(request.body(Body::empty()).unwrap()).await;
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{path}");
            assert_eq!(body["error"]["code"], "Unauthorized");
            assert!(body["error"]["hint"].as_str().unwrap().contains("admin.yaml"));
        }
    }
    let (status, _) = api.send(Request::get("/openapi.json").body(Body::empty()).unwrap()).await;
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test]
async fn every_route_is_in_the_document_and_every_path_of_the_document_is_a_route() {
    let api = Api::open();
    let (_, document) = api.get("/openapi.json").await;
    let mut found = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            found.push(format!("{} {path}", method.to_uppercase()));
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            let path = path
                .replace("{kind}", "svc")
                .replace("{namespace}", "a")
                .replace("{name}", "b")
                .replace("{revision}", "9")
                .replace("{id}", "0123456789abcdef");
            let (status, body) = api.call(method, &path, Value::Null).await;
            assert_ne!(status, StatusCode::METHOD_NOT_ALLOWED, "{path}");
            assert_ne!(body["error"]["message"], "there is no such path", "{path}");
        }
    }
    found.sort();
    assert_eq!(
        found,
        [
            "DELETE /v1/ca/rotation",
            "DELETE /v1/objects/{kind}/{namespace}/{name}",
            "GET /v1/audit",
            "GET /v1/ca",
            "GET /v1/ca/bundle",
            "GET /v1/edges",
            "GET /v1/history",
            "GET /v1/objects/{kind}",
            "GET /v1/objects/{kind}/{namespace}/{name}",
            "GET /v1/requests",
            "GET /v1/revocations",
            "GET /v1/status",
            "GET /v1/tap",
            "GET /v1/tokens",
            "GET /v1/traffic",
            "GET /v1/users",
            "POST /v1/apply",
            "POST /v1/ca/rotation",
            "POST /v1/ca/rotation/advance",
            "POST /v1/delete",
            "POST /v1/revocations",
            "POST /v1/revocations/{id}/undo",
            "POST /v1/rollback/{revision}",
            "POST /v1/tokens",
            "POST /v1/users",
            "POST /v1/users/{name}/revoke",
            "POST /v1/validate",
        ]
    );
    let references = document.to_string();
    for part in references.split("#/components/schemas/").skip(1) {
        let name = part.split('"').next().unwrap();
        assert!(document["components"]["schemas"].get(name).is_some(), "{name} is referred to and not described");
    }
}

#[tokio::test]
async fn every_error_has_the_one_shape() {
    let api = Api::open();
    let cases = [
        (Method::GET, "/nowhere", Value::Null, 404),
        (Method::PUT, "/v1/apply", Value::Null, 405),
        (Method::POST, "/v1/apply", json!({"file": []}), 400),
        (Method::POST, "/v1/apply", json!({"files": [{"name": "a"}]}), 400),
        (Method::POST, "/v1/apply", json!([]), 400),
        (Method::GET, "/v1/history?limit=x", Value::Null, 400),
        (Method::GET, "/v1/objects/udproute", Value::Null, 404),
        (Method::GET, "/v1/objects/svc/default/nope", Value::Null, 404),
        (Method::GET, "/v1/objects/svc/default/%ff", Value::Null, 400),
        (Method::DELETE, "/v1/objects/svc/default/nope", Value::Null, 404),
        (Method::POST, "/v1/rollback/7", json!({}), 404),
        (Method::POST, "/v1/rollback/x", json!({}), 400),
        (Method::POST, "/v1/tokens", json!({"serviceAccount": "A B"}), 400),
        (Method::POST, "/v1/tokens", json!({"serviceAccount": "web", "ttlSeconds": 0}), 400),
    ];
    for (method, path, body, expected) in cases {
        let (status, answer) = api.call(method, path, body.clone()).await;
        assert_eq!(status.as_u16(), expected, "{path} {body} {answer}");
        assert!(!answer["error"]["message"].as_str().unwrap().is_empty() && answer["error"]["code"].is_string());
        assert!(answer["error"]["hint"].is_string());
    }
    let large = json!({"files": [{"name": "a", "content": "x".repeat(MOST_BODY)}]});
    assert_eq!(api.call(Method::POST, "/v1/apply", large).await.0, StatusCode::PAYLOAD_TOO_LARGE);
    let many = json!({"files": vec![json!({"name": "a", "content": ""}); 2001]});
    assert_eq!(api.call(Method::POST, "/v1/apply", many).await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn good_objects_are_applied_and_bad_ones_named() {
    let api = Api::open();
    let (status, body) = api.apply(&(service("a", 80) + &service("b", 0) + "x: [")).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(body["revision"], 1);
    assert_eq!(body["changes"], json!([{"action": "created", "kind": "Service", "namespace": "default", "name": "a"}]));
    let problems = body["problems"].as_array().unwrap();
    assert_eq!(problems.len(), 2);
    assert!(
        problems.iter().any(|p| {
            p["file"] == "x.yaml"
                && p["line"] == 9
                && p["object"] == "Service default/b"
                && p["field"] == "spec.ports[0].port"
                && p["severity"] == "error"
        }),
        "{problems:#?}"
    );
    assert_eq!(body["wait"], Value::Null);
    let (status, body) = api.apply(&service("a", 80)).await;
    assert_eq!(
        (status, &body["revision"], &body["changes"][0]["action"]),
        (StatusCode::OK, &json!(1), &json!("unchanged"))
    );
    let dry = with(files(&service("a", 81)), json!({"dryRun": true, "wait": true}));
    let (status, body) = api.call(Method::POST, "/v1/apply", dry).await;
    assert_eq!(
        (status, &body["revision"], &body["changes"][0]["action"]),
        (StatusCode::OK, &json!(1), &json!("configured"))
    );
    assert_eq!(api.get("/v1/objects/svc/default/a").await.1["spec"]["ports"][0]["port"], 80);
}

#[tokio::test]
async fn a_check_changes_nothing_and_warns_of_what_is_missing() {
    let api = Api::open();
    let route = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: r}\nspec:\n  parentRefs: [{kind: Service, name: a}]\n  rules: [{backendRefs: [{name: b, port: 80}]}]\n";
    let (status, body) = api.call(Method::POST, "/v1/validate", files(&(service("a", 80) + route))).await;
    assert_eq!((status, &body["objects"]), (StatusCode::OK, &json!(2)));
    assert_eq!(body["problems"].as_array().unwrap().len(), 1);
    assert_eq!(body["problems"][0]["severity"], "warning");
    assert_eq!(api.get("/v1/status").await.1["controlPlane"]["revision"], 0);
}

#[tokio::test]
async fn objects_are_listed_read_and_deleted_by_any_of_their_kinds_words() {
    let api = Api::open();
    api.apply(&(service("a", 80) + &service("b", 80).replace("{name: b}", "{name: b, namespace: shop}"))).await;
    for word in ["Service", "services", "svc", "SVC"] {
        let (_, body) = api.get(&format!("/v1/objects/{word}")).await;
        assert_eq!(body["items"].as_array().unwrap().len(), 2);
    }
    let (_, body) = api.get("/v1/objects/svc?namespace=shop").await;
    assert_eq!(body["items"][0]["metadata"]["name"], "b");
    let (status, body) =
        api.call(Method::DELETE, "/v1/objects/svc/default/a?wait=true&timeoutSeconds=5", Value::Null).await;
    assert_eq!((status, &body["changes"][0]["action"]), (StatusCode::OK, &json!("deleted")));
    assert_eq!(body["wait"], json!({"concerned": 0, "acked": 0, "nacked": [], "missing": []}));
    let gone = service("b", 80).replace("{name: b}", "{name: b, namespace: shop}") + &service("never", 1);
    let (status, body) = api.call(Method::POST, "/v1/delete", files(&gone)).await;
    assert_eq!((status, body["changes"].as_array().unwrap().len()), (StatusCode::UNPROCESSABLE_ENTITY, 1));
    assert!(body["problems"][0]["message"].as_str().unwrap().contains("is not there"));
    assert_eq!(api.get("/v1/objects/svc").await.1["items"], json!([]));
}

#[tokio::test]
async fn the_history_is_numbered_and_can_be_gone_back_in() {
    let api = Api::open();
    api.apply(&service("a", 80)).await;
    api.apply(&service("a", 81)).await;
    let (status, body) = api.call(Method::POST, "/v1/rollback/1", json!({"wait": true, "timeoutSeconds": 1})).await;
    assert_eq!((status, &body["revision"]), (StatusCode::OK, &json!(3)));
    let (_, body) = api.get("/v1/history?limit=2").await;
    assert_eq!(body["revisions"].as_array().unwrap().len(), 2);
    assert_eq!((&body["revisions"][0]["revision"], &body["revisions"][0]["actor"]), (&json!(3), &json!("admin")));
    assert_eq!(body["revisions"][0]["message"], "rollback to revision 1");
    assert_eq!(body["revisions"][1]["changes"][0]["action"], "configured");
    assert!(body["revisions"][0]["time"].as_str().unwrap().ends_with('Z'));
}

#[tokio::test]
async fn registered_and_static_workloads_are_listed_together() {
    let api = Api::with(&["web-1"]);
    api.apply("apiVersion: leno.dev/v1alpha1\nkind: Workload\nmetadata: {name: db}\nspec: {address: 10.0.0.1, ports: {tcp: 5432}}").await;
    let (_, body) = api.get("/v1/objects/workloads?namespace=default").await;
    assert_eq!(body["items"][0]["metadata"]["name"], "db");
    assert_eq!(body["items"][0]["status"], json!({"source": "static"}));
    let web = &body["items"][1];
    assert_eq!(web["spec"], json!({"address": "127.0.0.1", "ports": {"http": 8080}, "serviceAccount": "web"}));
    assert_eq!(web["status"]["identity"], "spiffe://cluster.local/ns/default/sa/web");
    assert_eq!((&web["status"]["connected"], &web["status"]["source"]), (&json!(false), &json!("sidecar")));
    assert_eq!(&api.get("/v1/objects/wl/default/web-1").await.1, web);
    let (status, body) = api.call(Method::DELETE, "/v1/objects/wl/default/web-1", Value::Null).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert!(body["error"]["message"].as_str().unwrap().contains("registered by its sidecar"));
    let (_, body) = api.get("/v1/objects/wl?namespace=shop").await;
    assert_eq!(body["items"], json!([]));
}

#[tokio::test]
async fn a_wait_that_runs_out_says_who_is_missing() {
    let api = Api::with(&["web-1"]);
    let call = with(files(&service("a", 80)), json!({"wait": true, "timeoutSeconds": 0}));
    let (status, body) = api.call(Method::POST, "/v1/apply", call).await;
    assert_eq!(status, StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(body["wait"], json!({"concerned": 1, "acked": 0, "nacked": [], "missing": ["default/web-1"]}));
    assert_eq!(body["revision"], 1);
}

#[tokio::test]
async fn the_status_names_the_mesh_and_a_token_is_bound_to_an_identity() {
    let api = Api::with(&["web-1"]);
    let (_, body) = api.get("/v1/status").await;
    assert_eq!(body["controlPlane"]["trustDomain"], "cluster.local");
    assert_eq!(body["controlPlane"]["rootHash"].as_str().unwrap().len(), 64);
    assert_eq!(
        (&body["sidecars"][0]["workload"], &body["sidecars"][0]["connected"]),
        (&json!("default/web-1"), &json!(false))
    );
    let (status, token) =
        api.call(Method::POST, "/v1/tokens", json!({"serviceAccount": "web", "ttlSeconds": 60})).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(token["identity"], "spiffe://cluster.local/ns/default/sa/web");
    let parts: Vec<&str> = token["token"].as_str().unwrap().split('.').collect();
    assert_eq!((parts[0], parts[1].len(), parts[3]), ("leno1", 16, body["controlPlane"]["rootHash"].as_str().unwrap()));
}

/// Sends text over TLS and reads until the server closes.
async fn speak(address: std::net::SocketAddr, roots: &str, text: &str) -> std::io::Result<String> {
    let config = leno_certs::tls::pem_client(roots, &[b"http/1.1"]).unwrap();
    let stream = tokio::net::TcpStream::connect(address).await?;
    let name = rustls::pki_types::ServerName::try_from("127.0.0.1").unwrap();
    let mut stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    stream.write_all(text.as_bytes()).await?;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[tokio::test]
async fn the_port_speaks_tls_survives_garbage_and_drains() {
    let api = Api::open();
    let roots = api.parts.authority.trust_bundle().to_pem();
    let listener = leno_runtime::listen::tcp("127.0.0.1:0", "--api-addr", false).unwrap();
    let address = listener.local_addr().unwrap();
    let (drain, watch) = drain::channel();
    let serving = tokio::spawn(serve(listener, api.parts.clone(), watch.clone()));
    let half_open = tokio::net::TcpStream::connect(address).await.unwrap();
    for garbage in [&b"\x00\xff\x16\x03\x01garbage"[..], b"GET / HTTP/1.1\r\n\r\n", &[0x16; 4096]] {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let _ = stream.write_all(garbage).await;
    }
    let status = format!(
        "GET /v1/status HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {}\r\nconnection: close\r\n\r\n",
        api.bearer
    );
    let answer = speak(address, &roots, &status).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let answer = speak(address, &roots, "GET / HTTP/9\r\n\r\n").await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400") || answer.is_empty(), "{answer}");
    // A kept-alive connection without a request ends when the server drains.
    let config = leno_certs::tls::pem_client(&roots, &[b"http/1.1"]).unwrap();
    let name = rustls::pki_types::ServerName::try_from("127.0.0.1").unwrap();
    let idle = tokio::net::TcpStream::connect(address).await.unwrap();
    let mut idle = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, idle).await.unwrap();
    idle.write_all(b"GET /nowhere HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut first = [0; 12];
    idle.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 404");
    drop((half_open, watch));
    assert!(drain.drain(Duration::from_secs(10)).await);
    serving.await.unwrap();
    let mut rest = Vec::new();
    idle.read_to_end(&mut rest).await.unwrap();
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

mod doors;
