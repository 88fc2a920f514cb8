//! `leno.dev/v1alpha1` TrafficPolicy.

use super::check::Check;
use crate::config::{FieldPath, TrafficPolicySpec};
use crate::model::TrafficPolicy;

/// Most targets of a policy, as the Gateway API's own policies have.
const MOST_TARGETS: usize = 16;

pub(super) fn check(check: &mut Check<'_>, spec: &TrafficPolicySpec) -> TrafficPolicy {
    let path = FieldPath::of("spec");
    let mut policy =
        TrafficPolicy { targets: targets(check, &path.key("targetRefs"), spec), ..TrafficPolicy::default() };
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
    policy
}

fn targets(check: &mut Check<'_>, path: &FieldPath, spec: &TrafficPolicySpec) -> Vec<String> {
    if spec.target_refs.is_empty() {
        check.error(path, "a policy is attached to something", "write `targetRefs: [{kind: Service, name: web}]`");
    }
    check.most(path, spec.target_refs.len(), MOST_TARGETS);
    let mut targets = Vec::new();
    for (n, target) in spec.target_refs.iter().take(MOST_TARGETS).enumerate() {
        let at = path.index(n);
        if !target.group.is_empty() || target.kind != "Service" {
            let what = format!("a policy of {} {:?}", target.kind, target.group);
            check.error(&at, format!("{what} is not supported"), "write `group: \"\", kind: Service`");
        }
        check.dns_label(&at.key("name"), &target.name);
        if targets.contains(&target.name) {
            check.error(&at.key("name"), format!("{:?} is here twice", target.name), "remove one of them");
        }
        targets.push(target.name.clone());
    }
    targets
}
