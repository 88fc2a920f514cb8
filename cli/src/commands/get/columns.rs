//! Which columns a kind has in a table.

use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::output::Table;
use crate::spans::span;

/// A table of objects, all of one kind.
pub fn table(objects: &[Value], with_namespace: bool) -> Table {
    let kind = objects.first().map(|o| text(o, "/kind")).unwrap_or_default();
    let columns = columns(&kind);
    let mut headings: Vec<&str> = if with_namespace { vec!["NAMESPACE", "NAME"] } else { vec!["NAME"] };
    headings.extend(columns.iter().map(|(heading, _)| heading));
    // The age is known of objects that say when they were made.
    let with_age = objects.iter().any(|o| o.pointer("/metadata/creationTimestamp").is_some());
    headings.extend(with_age.then_some("AGE"));
    let mut table = Table::new(&headings);
    let now = OffsetDateTime::now_utc();
    for object in objects {
        let mut cells = Vec::new();
        if with_namespace {
            cells.push(text(object, "/metadata/namespace"));
        }
        cells.push(text(object, "/metadata/name"));
        cells.extend(columns.iter().map(|(_, cell)| cell(object)));
        cells.extend(with_age.then(|| age(object, now)));
        table.row(cells);
    }
    table
}

type Cell = fn(&Value) -> String;

fn columns(kind: &str) -> &'static [(&'static str, Cell)] {
    match kind {
        "Service" => &[("PORTS", ports), ("SELECTOR", |o| pairs(o.pointer("/spec/selector"), "="))],
        "Workload" => &[
            ("SOURCE", source),
            ("STATE", |o| text(o, "/status/state")),
            ("ADDRESS", |o| text(o, "/spec/address")),
            ("PORTS", |o| pairs(o.pointer("/spec/ports"), ":")),
            ("LABELS", |o| pairs(o.pointer("/metadata/labels"), "=")),
        ],
        "HTTPRoute" | "GRPCRoute" | "TLSRoute" => {
            &[("HOSTNAMES", hostnames), ("PARENTS", parents), ("BACKENDS", backends), ("STATUS", route_status)]
        }
        "TCPRoute" => &[("PARENTS", parents), ("BACKENDS", backends), ("STATUS", route_status)],
        "TrafficPolicy" | "AuthorizationPolicy" | "BackendTLSPolicy" => {
            &[("TARGETS", targets), ("STATUS", policy_status)]
        }
        "JwtProvider" => &[("ISSUER", |o| text(o, "/spec/issuer")), ("KEYS", key_source)],
        "FederatedTrustDomain" => &[
            ("ENDPOINT", |o| text(o, "/spec/bundleEndpointURL")),
            ("PROFILE", |o| text(o, "/spec/bundleEndpointProfile/type")),
        ],
        "GatewayClass" => &[("CONTROLLER", |o| text(o, "/spec/controllerName")), ("STATUS", conditions)],
        "Gateway" => &[
            ("CLASS", |o| text(o, "/spec/gatewayClassName")),
            ("LISTENERS", listeners),
            ("ADDRESSES", addresses),
            ("STATUS", conditions),
        ],
        "ListenerSet" => {
            &[("PARENT", |o| reference(&o["spec"]["parentRef"])), ("LISTENERS", listeners), ("STATUS", conditions)]
        }
        "Secret" => &[("TYPE", |o| text(o, "/type")), ("ENTRIES", entries)],
        "ConfigMap" => &[("ENTRIES", entries)],
        "ReferenceGrant" => &[("FROM", grant_from), ("TO", grant_to)],
        _ => &[],
    }
}

fn text(object: &Value, pointer: &str) -> String {
    plain(object.pointer(pointer).unwrap_or(&Value::Null))
}

/// Where a JwtProvider's keys come from.
fn key_source(object: &Value) -> String {
    let from = |name: &str| text(object, &format!("/spec/jwks/{name}"));
    match (from("url"), from("configMap")) {
        (url, _) if !url.is_empty() => url,
        (_, map) if !map.is_empty() => format!("ConfigMap {map}"),
        _ => "inline".to_owned(),
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn list<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn pairs(map: Option<&Value>, between: &str) -> String {
    let map = map.and_then(Value::as_object);
    let texts: Vec<String> = map.into_iter().flatten().map(|(k, v)| format!("{k}{between}{}", plain(v))).collect();
    texts.join(",")
}

/// `80→http`, what a caller asks for and what it becomes at the workload.
fn ports(object: &Value) -> String {
    let port = |p: &Value| match (plain(&p["port"]), plain(&p["targetPort"])) {
        (port, target) if target.is_empty() || target == port => port,
        (port, target) => format!("{port}→{target}"),
    };
    list(object, "/spec/ports").iter().map(port).collect::<Vec<_>>().join(",")
}

fn source(object: &Value) -> String {
    match text(object, "/status/source") {
        source if source.is_empty() => "static".to_owned(),
        source => source,
    }
}

fn hostnames(object: &Value) -> String {
    match list(object, "/spec/hostnames") {
        [] => "*".to_owned(),
        names => names.iter().map(plain).collect::<Vec<_>>().join(","),
    }
}

/// `web:80`, with the namespace when it is another one.
fn reference(reference: &Value) -> String {
    let mut out = plain(&reference["name"]);
    if let Some(namespace) = reference["namespace"].as_str() {
        out = format!("{namespace}/{out}");
    }
    if !reference["port"].is_null() {
        out = format!("{out}:{}", plain(&reference["port"]));
    }
    out
}

fn parents(object: &Value) -> String {
    list(object, "/spec/parentRefs").iter().map(reference).collect::<Vec<_>>().join(",")
}

/// Each rule's backends with their shares: `web-v1:80 90%, web-v2:80 10%`.
fn backends(object: &Value) -> String {
    let rule = |rule: &Value| {
        let backends = list(rule, "/backendRefs");
        let weight = |b: &Value| b["weight"].as_u64().unwrap_or(1);
        let total: u64 = backends.iter().map(weight).sum();
        let one = |b: &Value| match backends.len() {
            1 => reference(b),
            _ => format!("{} {}%", reference(b), (weight(b) * 100).checked_div(total).unwrap_or(0)),
        };
        backends.iter().map(one).collect::<Vec<_>>().join(", ")
    };
    list(object, "/spec/rules").iter().map(rule).collect::<Vec<_>>().join("; ")
}

/// `Programmed`, or what does not hold and why: `Accepted=ListenersNotValid`.
fn judgement<'a>(lists: impl Iterator<Item = &'a Value>) -> String {
    let mut bad: Vec<String> = Vec::new();
    let mut good = String::new();
    for condition in lists.flat_map(|owner| list(owner, "/conditions")) {
        let (kind, reason) = (plain(&condition["type"]), plain(&condition["reason"]));
        match plain(&condition["status"]).as_str() {
            "True" if good.is_empty() || kind == "Programmed" => good = kind,
            "True" => {}
            _ if bad.iter().any(|other| *other == format!("{kind}={reason}")) => {}
            _ => bad.push(format!("{kind}={reason}")),
        }
    }
    if bad.is_empty() { good } else { bad.join(",") }
}

fn conditions(object: &Value) -> String {
    judgement(object.get("status").into_iter())
}

fn route_status(object: &Value) -> String {
    judgement(list(object, "/status/parents").iter())
}

fn policy_status(object: &Value) -> String {
    judgement(list(object, "/status/ancestors").iter())
}

/// `https:443 2`: name, port and how many routes are attached.
fn listeners(object: &Value) -> String {
    let attached = |name: &Value| {
        let status = list(object, "/status/listeners").iter().find(|status| status["name"] == *name);
        status.map(|status| format!(" {}", plain(&status["attachedRoutes"]))).unwrap_or_default()
    };
    let one = |l: &Value| format!("{}:{}{}", plain(&l["name"]), plain(&l["port"]), attached(&l["name"]));
    list(object, "/spec/listeners").iter().map(one).collect::<Vec<_>>().join(", ")
}

fn addresses(object: &Value) -> String {
    list(object, "/status/addresses").iter().map(|a| plain(&a["value"])).collect::<Vec<_>>().join(",")
}

fn entries(object: &Value) -> String {
    let names = object.pointer("/data").and_then(Value::as_object);
    names.into_iter().flatten().map(|(name, _)| name.clone()).collect::<Vec<_>>().join(",")
}

fn targets(object: &Value) -> String {
    let target = |t: &Value| format!("{}/{}", plain(&t["kind"]), plain(&t["name"]));
    list(object, "/spec/targetRefs").iter().map(target).collect::<Vec<_>>().join(",")
}

fn grant_from(object: &Value) -> String {
    let from = |f: &Value| format!("{} in {}", plain(&f["kind"]), plain(&f["namespace"]));
    list(object, "/spec/from").iter().map(from).collect::<Vec<_>>().join(", ")
}

fn grant_to(object: &Value) -> String {
    let to = |t: &Value| match plain(&t["name"]) {
        name if name.is_empty() => plain(&t["kind"]),
        name => format!("{} {name}", plain(&t["kind"])),
    };
    list(object, "/spec/to").iter().map(to).collect::<Vec<_>>().join(", ")
}

fn age(object: &Value, now: OffsetDateTime) -> String {
    OffsetDateTime::parse(&text(object, "/metadata/creationTimestamp"), &Rfc3339)
        .map(|created| span((now - created).whole_seconds()))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn line(object: Value) -> String {
        table(&[object], false).lines()[1].clone()
    }

    #[test]
    fn a_route_shows_its_shares() {
        let route = json!({"kind": "HTTPRoute", "metadata": {"name": "web"}, "spec": {
            "parentRefs": [{"kind": "Service", "name": "web", "port": 80}],
            "rules": [{"backendRefs": [{"name": "web-v1", "port": 80, "weight": 90}, {"name": "web-v2", "port": 80, "weight": 10}]}],
        }});
        assert_eq!(line(route.clone()), "web    *           web:80    web-v1:80 90%, web-v2:80 10%   -");
        let condition =
            |kind: &str, status: &str, reason: &str| json!({"type": kind, "status": status, "reason": reason});
        let mut judged = route;
        judged["status"] = json!({"parents": [
            {"conditions": [condition("Accepted", "True", "Accepted"), condition("ResolvedRefs", "True", "ResolvedRefs")]},
            {"conditions": [condition("Accepted", "True", "Accepted"), condition("ResolvedRefs", "False", "BackendNotFound")]},
        ]});
        assert!(line(judged.clone()).ends_with("   ResolvedRefs=BackendNotFound"), "{}", line(judged.clone()));
        judged["status"]["parents"][1]["conditions"][1] = condition("ResolvedRefs", "True", "ResolvedRefs");
        assert!(line(judged.clone()).ends_with("   Accepted"), "{}", line(judged));
    }

    #[test]
    fn a_service_shows_ports_and_selector_and_a_workload_where_it_came_from() {
        let service = json!({"kind": "Service", "metadata": {"name": "web"},
            "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}, {"port": 9, "targetPort": 9}]}});
        assert_eq!(line(service), "web    80→http,9   app=web");
        let workload = json!({"kind": "Workload", "metadata": {"name": "old", "labels": {"app": "old"}},
            "spec": {"address": "10.0.0.1", "ports": {"http": 80}}});
        assert_eq!(line(workload), "old    static   -       10.0.0.1   http:80   app=old");
    }

    #[test]
    fn an_age_is_shown_where_it_is_known() {
        let service =
            json!({"kind": "Service", "metadata": {"name": "web", "creationTimestamp": "1970-01-01T00:00:00Z"}});
        let lines = table(&[service], false).lines();
        assert!(lines[0].ends_with("AGE") && lines[1].ends_with('d'), "{lines:?}");
    }

    #[test]
    fn a_misshapen_or_unknown_object_is_shown_as_far_as_it_goes() {
        assert_eq!(
            line(json!({"kind": "HTTPRoute", "spec": {"rules": [{"backendRefs": [{"weight": 0}, 5]}]}}))
                .split(' ')
                .next(),
            Some("-")
        );
        assert_eq!(line(json!({"kind": "Widget", "metadata": {"name": "w"}})), "w");
    }
}
