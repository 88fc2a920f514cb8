//! What is wrong with objects: what their status says, and Services behind which nobody is.

use std::collections::BTreeMap;

use serde_json::Value;

use super::findings::{Finding, Severity};

/// Conditions that do not hold, of a route's parents, a policy's ancestors, a Gateway or its listeners.
pub(super) fn judged(object: &Value) -> Vec<Finding> {
    let status = &object["status"];
    let list = |field: &str| status[field].as_array().cloned().unwrap_or_default();
    let of_parts = ["parents", "ancestors", "listeners"].into_iter().flat_map(list);
    let mut findings: Vec<Finding> = Vec::new();
    for owner in of_parts.chain([status.clone()]) {
        for condition in owner["conditions"].as_array().into_iter().flatten() {
            findings.extend(broken(object, condition).filter(|finding| !findings.contains(finding)));
        }
    }
    findings
}

fn broken(object: &Value, condition: &Value) -> Option<Finding> {
    let text = |field: &str| condition[field].as_str().unwrap_or_default();
    // These are good when they are false.
    let inverted = matches!(text("type"), "Conflicted" | "OverlappingTLSConfig" | "PartiallyInvalid");
    let good = if inverted { "False" } else { "True" };
    if text("status") == good {
        return None;
    }
    let what =
        format!("{}: {} is {} ({}): {}", name(object), text("type"), text("status"), text("reason"), text("message"));
    let (kind, namespace, object_name) =
        (plain(&object["kind"]), plain(&object["metadata"]["namespace"]), plain(&object["metadata"]["name"]));
    let mend = format!("correct it, and see `leno get {} {object_name} -n {namespace} -o yaml`", kind.to_lowercase());
    Some(Finding::new(Severity::Error, "not_accepted", what, mend))
}

/// Services whose selector nobody has, or of whose workloads none is well.
pub(super) fn services(services: &[Value], workloads: &[Value]) -> Vec<Finding> {
    services
        .iter()
        .filter_map(|service| {
            let selector = labels(&service["spec"]["selector"]);
            if selector.is_empty() {
                return None;
            }
            let namespace = &service["metadata"]["namespace"];
            let selected = |workload: &&Value| {
                let has = labels(&workload["metadata"]["labels"]);
                workload["metadata"]["namespace"] == *namespace
                    && selector.iter().all(|(key, value)| has.get(key) == Some(value))
            };
            let all: Vec<&Value> = workloads.iter().filter(selected).collect();
            let well = all.iter().filter(|workload| workload["status"]["state"] != "unhealthy").count();
            let said = selector.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",");
            if all.is_empty() {
                let what = format!("{} selects nobody: no workload has {said}", name(service));
                let mend =
                    "start a sidecar with these labels, or correct the selector; `leno get workloads -A` has what runs";
                return Some(Finding::new(Severity::Warning, "no_endpoints", what, mend));
            }
            (well == 0).then(|| {
                let what = format!("{}: all {} workloads fail their health check", name(service), all.len());
                Finding::new(
                    Severity::Error,
                    "endpoints_down",
                    what,
                    "see the apps' logs; with none that is well, all get requests",
                )
            })
        })
        .collect()
}

fn labels(value: &Value) -> BTreeMap<String, String> {
    value.as_object().into_iter().flatten().map(|(key, value)| (key.clone(), plain(value))).collect()
}

fn plain(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn name(object: &Value) -> String {
    let metadata = &object["metadata"];
    format!("{} {}/{}", plain(&object["kind"]), plain(&metadata["namespace"]), plain(&metadata["name"]))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_condition_that_does_not_hold_is_found_once_and_one_that_is_good_when_false_is_not() {
        let condition =
            |kind: &str, status: &str| json!({"type": kind, "status": status, "reason": "Why", "message": "because"});
        let route = |conditions: Value| {
            json!({"kind": "HTTPRoute", "metadata": {"namespace": "default", "name": "web"},
            "status": {"parents": [{"conditions": conditions.clone()}, {"conditions": conditions}]}})
        };
        assert_eq!(judged(&route(json!([condition("Accepted", "True"), condition("Conflicted", "False")]))), []);
        let found = judged(&route(json!([condition("Accepted", "True"), condition("ResolvedRefs", "False")])));
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].what, "HTTPRoute default/web: ResolvedRefs is False (Why): because");
        assert!(found[0].mend.contains("leno get httproute web -n default"));
    }

    #[test]
    fn a_service_without_workloads_or_without_one_that_is_well_is_found() {
        let service = json!({"kind": "Service", "metadata": {"namespace": "default", "name": "web"}, "spec": {"selector": {"app": "web"}}});
        let workload = |namespace: &str, state: &str| json!({"metadata": {"namespace": namespace, "labels": {"app": "web", "x": "y"}}, "status": {"state": state}});
        let code = |workloads: &[Value]| {
            services(std::slice::from_ref(&service), workloads).first().map(|f| (f.code, f.severity))
        };
        assert_eq!(code(&[]), Some(("no_endpoints", Severity::Warning)));
        assert_eq!(code(&[workload("shop", "ready")]), Some(("no_endpoints", Severity::Warning)));
        assert_eq!(code(&[workload("default", "unhealthy")]), Some(("endpoints_down", Severity::Error)));
        assert_eq!(code(&[workload("default", "unhealthy"), workload("default", "ready")]), None);
        assert!(services(&[json!({"kind": "Service", "metadata": {}, "spec": {}})], &[]).is_empty());
    }
}
