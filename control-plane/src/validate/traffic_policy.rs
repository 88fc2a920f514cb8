//! `leno.dev/v1alpha1` TrafficPolicy.

use std::collections::BTreeMap;

use super::balancing;
use super::check::Check;
use super::resilience;
use crate::config::{FieldPath, TargetRef, TrafficPolicySpec};
use crate::model::{EgressMode, MtlsMode, TrafficPolicy};

/// Most ports of an app that have a mode of their own.
const MOST_PORTS: usize = 64;
/// Most targets of a policy, as the Gateway API's own policies have.
const MOST_TARGETS: usize = 16;

pub(super) fn check(check: &mut Check<'_>, spec: &TrafficPolicySpec) -> TrafficPolicy {
    let path = FieldPath::of("spec");
    let mut policy = TrafficPolicy::default();
    targets(check, &path.key("targetRefs"), spec, &mut policy);
    fits_its_targets(check, &path, spec, &policy);
    policy.mtls = mode(check, &path.key("mtls"), spec.mtls.as_deref(), MTLS);
    policy.port_mtls = port_modes(check, &path.key("portLevelMtls"), spec);
    policy.egress = mode(check, &path.key("egress"), spec.egress.as_deref(), EGRESS);
    of_services(check, &path, spec, &mut policy);
    policy.balancing = balancing::check(check, &path, spec);
    resilience::check(check, &path, spec, &mut policy);
    policy
}

const MTLS: [(&str, MtlsMode); 2] = [("STRICT", MtlsMode::Strict), ("PERMISSIVE", MtlsMode::Permissive)];
const EGRESS: [(&str, EgressMode); 2] = [("ALLOW", EgressMode::Allow), ("REGISTRY_ONLY", EgressMode::RegistryOnly)];

fn mode<T: Copy>(check: &mut Check<'_>, path: &FieldPath, written: Option<&str>, known: [(&str, T); 2]) -> Option<T> {
    let written = written?;
    let found = known.iter().find(|(word, _)| *word == written).map(|(_, mode)| *mode);
    if found.is_none() {
        check.error(path, format!("{written:?} is no mode"), format!("write {} or {}", known[0].0, known[1].0));
    }
    found
}

/// By port of the app. A list of modes that is empty says nothing, and is refused as what it cannot mean.
fn port_modes(check: &mut Check<'_>, path: &FieldPath, spec: &TrafficPolicySpec) -> BTreeMap<u16, MtlsMode> {
    let Some(written) = &spec.port_level_mtls else { return BTreeMap::new() };
    if written.is_empty() {
        check.error(path, "no port is named", "write `portLevelMtls: {8080: PERMISSIVE}`, or remove it");
    }
    check.most(path, written.len(), MOST_PORTS);
    let mut modes = BTreeMap::new();
    for (port, word) in written.iter().take(MOST_PORTS) {
        let at = path.key(port);
        match port.parse().ok().filter(|port| *port != 0) {
            Some(number) => modes.extend(mode(check, &at, Some(word), MTLS).map(|mode| (number, mode))),
            None => {
                check.error(&at, format!("{port:?} is no port"), "write the number of a port of the app, 1 to 65535")
            }
        }
    }
    modes
}

/// What a field says of services means nothing for a namespace, and the other way round; neither is ignored.
fn fits_its_targets(check: &mut Check<'_>, path: &FieldPath, spec: &TrafficPolicySpec, policy: &TrafficPolicy) {
    let of_namespaces = [("egress", spec.egress.is_some())];
    let of_services = [
        ("portLevelMtls", spec.port_level_mtls.is_some()),
        ("retry", spec.retry.is_some()),
        ("hedge", spec.hedge.is_some()),
        ("faults", spec.faults.is_some()),
        ("rateLimits", spec.rate_limits.is_some()),
        ("accessLog", spec.access_log.is_some()),
        ("tracing", spec.tracing.is_some()),
        ("circuitBreaker", spec.circuit_breaker.is_some()),
        ("adaptiveConcurrency", spec.adaptive_concurrency.is_some()),
        ("connectTimeout", spec.connect_timeout.is_some()),
        ("idleTimeout", spec.idle_timeout.is_some()),
        ("outlierDetection", spec.outlier_detection.is_some()),
        ("retryBudget", spec.retry_budget.is_some()),
        ("loadBalancing", spec.load_balancing.is_some()),
        ("healthCheck", spec.health_check.is_some()),
    ];
    if !policy.targets.is_empty() {
        for (field, _) in of_namespaces.iter().filter(|(_, written)| *written) {
            let message = format!("{field} is for a Namespace, and the policy is attached to a Service");
            check.error(
                &path.key(*field),
                message,
                "move it to a policy with `targetRefs: [{kind: Namespace, name: …}]`",
            );
        }
    }
    if policy.of_namespace {
        for (field, _) in of_services.iter().filter(|(_, written)| *written) {
            let message = format!("{field} is for a Service, and the policy is attached to a Namespace");
            check.error(
                &path.key(*field),
                message,
                "move it to a policy with `targetRefs: [{kind: Service, name: …}]`",
            );
        }
    }
}

fn of_services(check: &mut Check<'_>, path: &FieldPath, spec: &TrafficPolicySpec, policy: &mut TrafficPolicy) {
    if let Some(text) = &spec.connect_timeout {
        policy.connect_timeout_ms = check.positive_duration(&path.key("connectTimeout"), text);
    }
    if let Some(text) = &spec.idle_timeout {
        policy.idle_timeout_ms = check.positive_duration(&path.key("idleTimeout"), text);
    }
    if let Some(outlier) = &spec.outlier_detection {
        let path = path.key("outlierDetection");
        if let Some(n) = outlier.consecutive_failures {
            policy.consecutive_failures = check.number(&path.key("consecutiveFailures"), n, 1, 1_000_000);
        }
        if let Some(text) = &outlier.ejection_time {
            policy.ejection_ms = check.positive_duration(&path.key("ejectionTime"), text);
        }
        if let Some(n) = outlier.max_ejected_percent {
            policy.max_ejected_percent = check.number(&path.key("maxEjectedPercent"), n, 1, 100);
        }
    }
    if let Some(budget) = &spec.retry_budget {
        let path = path.key("retryBudget");
        if let Some(n) = budget.percent {
            policy.retry_budget_percent = check.number(&path.key("percent"), n, 1, 100);
        }
        if let Some(n) = budget.min_retries_per_second {
            policy.retry_budget_per_second = check.number(&path.key("minRetriesPerSecond"), n, 1, 1_000_000);
        }
    }
}

fn targets(check: &mut Check<'_>, path: &FieldPath, spec: &TrafficPolicySpec, policy: &mut TrafficPolicy) {
    if spec.target_refs.is_empty() {
        check.error(path, "a policy is attached to something", "write `targetRefs: [{kind: Service, name: web}]`");
    }
    check.most(path, spec.target_refs.len(), MOST_TARGETS);
    for (n, target) in spec.target_refs.iter().take(MOST_TARGETS).enumerate() {
        let at = path.index(n);
        match (target.group.as_str(), target.kind.as_str()) {
            ("", "Service") => service(check, &at, target, policy),
            ("", "Namespace") => namespace(check, &at, target, policy),
            (resilience::ROUTES, "HTTPRoute" | "GRPCRoute") => resilience::route(check, &at, target, policy),
            (group, kind) => {
                let what = format!("a policy of {kind} {group:?}");
                let hint = "write `group: \"\", kind: Service` or `kind: Namespace`, or a route of group gateway.networking.k8s.io";
                check.error(&at, format!("{what} is not supported"), hint);
            }
        }
    }
}

fn service(check: &mut Check<'_>, at: &FieldPath, target: &TargetRef, policy: &mut TrafficPolicy) {
    check.dns_label(&at.key("name"), &target.name);
    if policy.targets.contains(&target.name) {
        check.error(&at.key("name"), format!("{:?} is here twice", target.name), "remove one of them");
    }
    policy.targets.push(target.name.clone());
}

/// A policy speaks for its own namespace only: nobody opens another one's doors.
fn namespace(check: &mut Check<'_>, at: &FieldPath, target: &TargetRef, policy: &mut TrafficPolicy) {
    let own = check.key().name.namespace.clone();
    if target.name != own {
        let message = format!("a policy in {own} cannot be attached to the namespace {:?}", target.name);
        check.error(&at.key("name"), message, format!("write `name: {own}`, or move the policy to that namespace"));
    }
    policy.of_namespace = true;
}
