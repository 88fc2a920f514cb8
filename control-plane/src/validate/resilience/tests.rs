use crate::config::parse;
use crate::validate::testing::refuses;
use crate::validate::{Checked, batch};

const GOOD: &str = "apiVersion: leno.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: web}
spec:
  targetRefs: [{group: '', kind: Service, name: web}]
  retry:
    attempts: 3
    codes: [502, 503]
    on: [connect-failure, unavailable]
    nonIdempotent: true
    perTryTimeout: 1s
    backoff: 5ms
    maxBackoff: 1s
    maxRetryAfter: 2s
  hedge: {delay: 50ms}
  faults: [{percent: 10, headers: [{name: x, value: y}], delay: 1s, abort: {status: 500, grpcStatus: 13}}]
  rateLimits: [{name: a, requests: 10, per: 1m, burst: 5, by: Caller}]
  circuitBreaker: {maxConnections: 1, maxPendingRequests: 2, maxRequests: 3, maxRetries: 4}
  adaptiveConcurrency: {minRequests: 1, maxRequests: 10, tolerancePercent: 150}
  portLevelMtls: {8080: PERMISSIVE}
  mtls: STRICT
";

fn check(text: &str) -> Checked {
    let parsed = parse("x.yaml", text.as_bytes());
    assert!(parsed.problems.is_empty(), "{:?}", parsed.problems);
    batch(parsed.objects)
}

#[test]
fn a_policy_with_everything_is_taken() {
    let checked = check(GOOD);
    assert_eq!((checked.valid.len(), checked.problems), (1, Vec::new()));
}

#[test]
fn what_is_wrong_is_refused_with_line_field_and_reason() {
    let cases: &[(&str, &str, u32, &str, &str)] = &[
        ("attempts: 3", "attempts: 11", 7, "spec.retry.attempts", "0 to 10"),
        ("502, 503", "200", 8, "spec.retry.codes[0]", "400 to 599"),
        ("502, 503", "503, 503", 8, "spec.retry.codes[1]", "twice"),
        ("unavailable", "unavailble", 9, "spec.retry.on[1]", "did you mean unavailable?"),
        ("unavailable", "connect-failure", 9, "spec.retry.on[1]", "twice"),
        ("perTryTimeout: 1s", "perTryTimeout: 0s", 11, "spec.retry.perTryTimeout", "out of range"),
        ("delay: 50ms", "delay: soon", 15, "spec.hedge.delay", "no duration"),
        ("percent: 10", "percent: 101", 16, "spec.faults[0].percent", "0 to 100"),
        ("value: y", "value: y, type: Prefix", 16, "spec.faults[0].headers[0].type", "RegularExpression"),
        ("delay: 1s, abort: {status: 500, grpcStatus: 13}", "percent: 1", 16, "spec.faults[0]", "delays or aborts"),
        ("status: 500", "status: 99", 16, "spec.faults[0].abort.status", "200 to 599"),
        ("grpcStatus: 13", "grpcStatus: 17", 16, "spec.faults[0].abort.grpcStatus", "1 to 16"),
        ("per: 1m", "per: 1500ms", 17, "spec.rateLimits[0].per", "whole seconds"),
        ("by: Caller", "by: IP", 17, "spec.rateLimits[0].by", "Everyone"),
        ("requests: 10", "requests: 0", 17, "spec.rateLimits[0].requests", "1 to"),
        ("maxRequests: 3", "maxRequests: 0", 18, "spec.circuitBreaker.maxRequests", "1 to"),
        ("minRequests: 1", "minRequests: 11", 19, "spec.adaptiveConcurrency.minRequests", "more than maxRequests"),
        ("tolerancePercent: 150", "tolerancePercent: 100", 19, "spec.adaptiveConcurrency.tolerancePercent", "110 to"),
        ("{8080: PERM", "{0: PERM", 20, "spec.portLevelMtls.0", "no port"),
        ("8080: PERMISSIVE", "8080: OFF", 20, "spec.portLevelMtls.8080", "STRICT or PERMISSIVE"),
        ("8080: PERMISSIVE", "", 20, "spec.portLevelMtls", "no port is named"),
        ("mtls: STRICT", "mtls: strict", 21, "spec.mtls", "STRICT or PERMISSIVE"),
        ("name: web}]", "name: web, sectionName: a}]", 5, "spec.targetRefs[0].sectionName", "no named rules"),
        (
            "{group: '', kind: Service, name: web}",
            "{group: gateway.networking.k8s.io, kind: HTTPRoute, name: web}",
            18,
            "spec.circuitBreaker",
            "not for a route",
        ),
        (
            "{group: '', kind: Service, name: web}",
            "{group: gateway.networking.k8s.io, kind: TCPRoute, name: web}",
            5,
            "spec.targetRefs[0]",
            "not supported",
        ),
    ];
    for (from, to, line, field, part) in cases {
        let text = GOOD.replacen(from, to, 1).replacen(
            "percent: 10, headers: [{name: x, value: y}], percent: 1",
            "percent: 10",
            1,
        );
        refuses(&text, *line, field, part);
    }
}

#[test]
fn grpc_conditions_without_consent_are_a_warning() {
    let checked = check(&GOOD.replace("    nonIdempotent: true\n", ""));
    assert_eq!(checked.valid.len(), 1);
    assert!(checked.problems.iter().any(|p| p.field == "spec.retry.on" && p.message.contains("POSTs")));
}
