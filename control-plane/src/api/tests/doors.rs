//! Who may call what, and what the audit log says of it.

use super::*;
use crate::api::roles::LEAST;
use crate::model::Role;
use crate::model::audit::Verifier;

impl Api {
    /// A user's bearer token.
    async fn user(&self, name: &str, role: Role) -> String {
        let (status, body) = self.call(Method::POST, "/v1/users", json!({"name": name, "role": role.as_str()})).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        body["token"].as_str().unwrap().to_owned()
    }

    async fn as_user(&self, token: &str, method: Method, path: &str, body: &str) -> (StatusCode, Value) {
        let bearer = format!("Bearer {token}");
        let request = Request::builder().method(method).uri(path).header("authorization", bearer);
        self.send(request.body(Body::from(body.to_owned())).unwrap()).await
    }

    fn audit(&self) -> Vec<crate::model::audit::Entry> {
        let page = self.parts.store.audit(None, 1_000).unwrap();
        let mut verifier = Verifier::default();
        page.entries.iter().for_each(|entry| verifier.next(entry).unwrap());
        verifier.finish(Some(&page.head)).unwrap();
        page.entries
    }
}

fn example(path: &str) -> String {
    path.replace("{kind}", "svc")
        .replace("{namespace}", "a")
        .replace("{name}", "b")
        .replace("{revision}", "9")
        .replace("{id}", "0123456789abcdef")
}

#[tokio::test]
async fn every_route_takes_its_least_role_and_more_and_says_what_a_lesser_one_lacks() {
    let api = Api::open();
    let mut tokens = Vec::new();
    for role in Role::ALL {
        tokens.push((role, api.user(&format!("a-{role}"), role).await));
    }
    for (method, path, least) in LEAST {
        for (role, token) in &tokens {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let (status, body) = api.as_user(token, method, &example(path), "").await;
            let case = format!("{path} as {role}: {status} {body}");
            assert_ne!(status, StatusCode::UNAUTHORIZED, "{case}");
            assert_eq!(status == StatusCode::FORBIDDEN, role < least, "{case}");
            if status == StatusCode::FORBIDDEN {
                assert!(
                    body["error"]["message"].as_str().unwrap().contains(&format!("needs the role {least}")),
                    "{case}"
                );
            }
        }
    }
}

#[tokio::test]
async fn every_route_of_the_document_has_its_role() {
    let api = Api::open();
    let (_, document) = api.get("/openapi.json").await;
    let mut routes = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        routes.extend(item.as_object().unwrap().keys().map(|method| (method.to_uppercase(), path.clone())));
    }
    let mut known: Vec<_> = LEAST.iter().map(|(method, path, _)| ((*method).to_owned(), (*path).to_owned())).collect();
    routes.sort();
    known.sort();
    assert_eq!(known, routes);
    assert_eq!(crate::api::roles::least(&Method::GET, "/v1/forgotten"), Role::Admin, "what nobody thought of");
}

#[tokio::test]
async fn a_viewer_does_not_see_what_is_in_secrets() {
    let api = Api::open();
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {a: hunter2}\n";
    assert_eq!(api.apply(secret).await.0, StatusCode::OK);
    let (viewer, operator) = (api.user("v", Role::Viewer).await, api.user("o", Role::Operator).await);
    for path in ["/v1/objects/secret", "/v1/objects/secret/default/s"] {
        let (status, body) = api.as_user(&viewer, Method::GET, path, "").await;
        assert_eq!(status, StatusCode::OK);
        assert!(!body.to_string().contains("aHVudGVyMg") && !body.to_string().contains("hunter2"), "{body}");
        let reveal = format!("{path}?reveal=true");
        assert_eq!(api.as_user(&viewer, Method::GET, &reveal, "").await.0, StatusCode::FORBIDDEN);
        let (status, body) = api.as_user(&operator, Method::GET, &reveal, "").await;
        assert!(status == StatusCode::OK && body.to_string().contains("aHVudGVyMg"), "{body}");
    }
}

#[tokio::test]
async fn a_user_is_a_name_a_role_and_a_time_and_is_good_until_it_is_revoked() {
    let api = Api::open();
    for body in [
        json!({"name": "admin", "role": "viewer"}),
        json!({"name": "A B", "role": "viewer"}),
        json!({"name": "a", "role": "root"}),
        json!({"name": "a", "role": "viewer", "ttlSeconds": 0}),
        json!({"name": "a", "role": "viewer", "ttlSeconds": u64::MAX}),
        json!({"name": "a"}),
    ] {
        assert_eq!(api.call(Method::POST, "/v1/users", body.clone()).await.0, StatusCode::BAD_REQUEST, "{body}");
    }
    let token = api.user("eve", Role::Viewer).await;
    let again = api.call(Method::POST, "/v1/users", json!({"name": "eve", "role": "viewer"})).await;
    assert_eq!((again.0, &again.1["error"]["code"]), (StatusCode::CONFLICT, &json!("Conflict")));
    let secret = token.rsplit('.').next().unwrap();
    let (_, list) = api.get("/v1/users").await;
    assert_eq!((&list["users"][0]["name"], &list["users"][0]["by"]), (&json!("eve"), &json!("admin")));
    assert!(!list.to_string().contains(secret));
    let status = || async { api.as_user(&token, Method::GET, "/v1/status", "").await.0 };
    assert_eq!(status().await, StatusCode::OK);
    let forged = token.replace(secret, &"A".repeat(43));
    assert_eq!(api.as_user(&forged, Method::GET, "/v1/status", "").await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(api.call(Method::POST, "/v1/users/eve/revoke", json!({"reason": "left"})).await.0, StatusCode::OK);
    assert_eq!(status().await, StatusCode::UNAUTHORIZED);
    assert_eq!(api.call(Method::POST, "/v1/users/eve/revoke", Value::Null).await.0, StatusCode::NOT_FOUND);
    let log = serde_json::to_string(&api.audit()).unwrap();
    assert!(log.contains("user eve with the role viewer") && log.contains("left") && !log.contains(secret), "{log}");
}

#[tokio::test]
async fn every_write_is_an_entry_with_who_and_what_and_a_read_is_none() {
    let api = Api::open();
    let operator = api.user("olga", Role::Operator).await;
    let body = files(&service("a", 80)).to_string();
    assert_eq!(api.as_user(&operator, Method::POST, "/v1/apply", &body).await.0, StatusCode::OK);
    assert_eq!(api.as_user(&operator, Method::POST, "/v1/apply", &body).await.0, StatusCode::OK, "nothing changed");
    api.apply(&service("a", 81)).await;
    api.call(Method::POST, "/v1/rollback/1", json!({})).await;
    api.call(Method::DELETE, "/v1/objects/svc/default/a", Value::Null).await;
    api.call(Method::POST, "/v1/tokens", json!({"serviceAccount": "web"})).await;
    let dry = with(files(&service("b", 80)), json!({"dryRun": true}));
    api.call(Method::POST, "/v1/apply", dry).await;
    let identity = json!({"identity": "default/web", "reason": "stolen\u{1b}[2J", "timeoutSeconds": 0});
    let (status, revoked) = api.call(Method::POST, "/v1/revocations", identity).await;
    assert_eq!(status, StatusCode::OK, "{revoked}");
    let undo = format!("/v1/revocations/{}/undo", revoked["revocation"]["id"].as_str().unwrap());
    assert_eq!(api.call(Method::POST, &undo, json!({"timeoutSeconds": 0})).await.0, StatusCode::OK);
    api.get("/v1/audit").await;
    let entries = api.audit();
    let said: Vec<_> =
        entries.iter().map(|e| (e.actor.as_str(), e.role.as_str(), e.action.as_str(), e.revision)).collect();
    assert_eq!(
        said,
        [
            ("admin", "admin", "user.create", 0),
            ("olga", "operator", "apply", 1),
            ("admin", "admin", "apply", 2),
            ("admin", "admin", "rollback", 3),
            ("admin", "admin", "delete", 4),
            ("admin", "admin", "token.create", 0),
            ("admin", "admin", "revoke", 5),
            ("admin", "admin", "revoke.undo", 6),
        ]
    );
    assert_eq!(entries[1].what, ["Service/default/a created"]);
    assert!(entries.iter().all(|entry| entry.result == "done"));
    assert!(entries[6].detail.contains("stolen\\u{1b}[2J"), "{}", entries[6].detail);
}

#[tokio::test]
async fn a_name_takes_who_holds_it_or_held_it_and_names_who_was_only_renamed() {
    use leno_certs::{Lineage, SpiffeId};
    use leno_proto::Registration;

    let api = Api::open();
    let lineage = |n: u8| Some(Lineage { instance: [n; 8], origin: [0; 4] });
    let id = SpiffeId::new("cluster.local", "default", "web").unwrap();
    let register = |name: &str, n: u8| {
        let said = Registration::local(name, "default", "web", 15008);
        api.parts.registry.register(&said, &id, lineage(n)).unwrap()
    };
    api.parts.store.put_workload(&Workload { lineage: lineage(1), ..workload("web-1") }).unwrap();
    let _renamed = register("web-2", 1);
    let call = || api.call(Method::POST, "/v1/revocations", json!({"workload": "default/web-1", "timeoutSeconds": 0}));
    let (_, alone) = call().await;
    assert_eq!((&alone["revocation"]["sidecars"], &alone["renamed"]), (&json!(1), &json!([])), "{alone}");
    assert!(api.parts.store.revocations().borrow().refuse("x", lineage(1).as_ref()));
    let (_, again) = call().await;
    assert_eq!((&again["revision"], &again["revocation"]["id"]), (&Value::Null, &alone["revocation"]["id"]));
    let undo = format!("/v1/revocations/{}/undo", alone["revocation"]["id"].as_str().unwrap());
    api.call(Method::POST, &undo, json!({"timeoutSeconds": 0})).await;

    let _new = register("web-1", 2);
    let (_, held) = call().await;
    assert_eq!((&held["revocation"]["sidecars"], &held["renamed"]), (&json!(1), &json!(["default/web-2"])), "{held}");
    let revocations = api.parts.store.revocations().borrow().clone();
    assert!(revocations.refuse("x", lineage(2).as_ref()) && !revocations.refuse("x", lineage(1).as_ref()));

    let _old = api.parts.registry.register(&Registration::local("old", "default", "web", 1), &id, None).unwrap();
    let body = json!({"workload": "default/old", "timeoutSeconds": 0});
    let (status, said) = api.call(Method::POST, "/v1/revocations", body).await;
    assert!(status == StatusCode::CONFLICT && said["error"]["hint"].as_str().unwrap().contains("identity"), "{said}");
    for body in
        [json!({}), json!({"workload": "web-1"}), json!({"workload": "a/b", "identity": "a/b"}), json!({"x": 1})]
    {
        assert_eq!(api.call(Method::POST, "/v1/revocations", body).await.0, StatusCode::BAD_REQUEST);
    }
}
