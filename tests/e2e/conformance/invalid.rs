//! Routes of which a part cannot be in force: they are taken, the rest of them holds, and the status says what does not.

use serde_json::Value;

use super::{Stage, route};

/// The conditions of a route's one parent, as `Accepted=True/Accepted`.
async fn conditions(stage: &Stage, kind: &str, name: &str) -> Vec<String> {
    let output = stage.mesh.leno(&["get", kind, name, "-o", "json"]).await;
    let object: Value = serde_json::from_slice(&output.stdout).unwrap();
    let list = object["status"]["parents"][0]["conditions"].as_array().unwrap().clone();
    let text = |condition: &Value, field: &str| condition[field].as_str().unwrap().to_owned();
    list.iter().map(|c| format!("{}={}/{}", text(c, "type"), text(c, "status"), text(c, "reason"))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_with_a_filter_that_nobody_knows_is_answered_with_an_error_and_the_others_hold() {
    let unknown = "{type: ExtensionRef, extensionRef: {group: example.com, kind: Widget, name: a}}";
    let rules = format!(
        "  - matches: [{{path: {{type: PathPrefix, value: /}}}}]\n    backendRefs: [{{name: echo-v1, port: 80}}]\n  \
         - matches: [{{path: {{type: PathPrefix, value: /bad}}}}]\n    filters: [{unknown}]\n    \
         backendRefs: [{{name: echo-v2, port: 80}}]\n"
    );
    let stage = Stage::start(&route("HTTPRoute", "partly", "name: echo, port: 80", &rules)).await;
    assert_eq!(stage.get("http://echo/good", &[]).await.text(), "echo-v1");
    stage.v1.forget();
    let refused = stage.get("http://echo/bad", &[]).await;
    assert_eq!((refused.status, refused.reason()), (500, Some("invalid_backend")));
    assert_eq!(stage.v1.count(), 0, "no other rule takes its requests");
    assert_eq!(
        conditions(&stage, "httproute", "partly").await,
        ["Accepted=True/Accepted", "ResolvedRefs=True/ResolvedRefs", "PartiallyInvalid=True/UnsupportedValue"]
    );
    let wholly = format!("  - filters: [{unknown}]\n    backendRefs: [{{name: echo-v2, port: 80}}]\n");
    stage.mesh.apply(&route("HTTPRoute", "partly", "name: echo, port: 80", &wholly)).await;
    assert_eq!(conditions(&stage, "httproute", "partly").await[0], "Accepted=False/UnsupportedValue");
    assert_eq!(stage.get("http://echo/good", &[]).await.status, 500);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_policies_that_say_a_field_differently_the_older_holds_whatever_its_name() {
    let stage = Stage::start("").await;
    let policy = |name: &str, year: u32, status: u16| {
        format!(
            "apiVersion: leno.dev/v1alpha1\nkind: TrafficPolicy\n\
             metadata: {{name: {name}, namespace: default, creationTimestamp: '{year}-01-01T00:00:00Z'}}\nspec:\n  \
             targetRefs: [{{group: \"\", kind: Service, name: echo}}]\n  faults:\n  - abort: {{status: {status}}}\n---\n"
        )
    };
    let accepted = async |name: &str| {
        let output = stage.mesh.leno(&["get", "trafficpolicy", name, "-o", "json"]).await;
        let object: Value = serde_json::from_slice(&output.stdout).unwrap();
        let condition = &object["status"]["ancestors"][0]["conditions"][0];
        format!("{}/{}", condition["status"].as_str().unwrap(), condition["reason"].as_str().unwrap())
    };
    stage.mesh.apply(&(policy("a", 2025, 418) + &policy("b", 2024, 410))).await;
    assert_eq!(stage.get("http://echo/", &[]).await.status, 410);
    assert_eq!((accepted("a").await.as_str(), accepted("b").await.as_str()), ("False/Conflicted", "True/Accepted"));
    assert!(stage.mesh.leno(&["delete", "trafficpolicy", "b", "--wait"]).await.status.success());
    assert_eq!(stage.get("http://echo/", &[]).await.status, 418);
    assert_eq!(accepted("a").await, "True/Accepted");
}
