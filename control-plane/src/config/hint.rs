//! 'Did you mean': the known word nearest to what was written.

/// Names of fields of the kinds that we take. Which of them exist where is asked of the types themselves (`decode`),
/// so a word too many here does no harm, and a missing one only costs a hint.
pub(super) const FIELDS: &[&str] = &[
    "apiVersion",
    "kind",
    "metadata",
    "spec",
    "status",
    "name",
    "namespace",
    "labels",
    "annotations",
    "uid",
    "creationTimestamp",
    "resourceVersion",
    "generation",
    "parentRefs",
    "hostnames",
    "rules",
    "matches",
    "filters",
    "backendRefs",
    "timeouts",
    "retry",
    "sessionPersistence",
    "path",
    "headers",
    "queryParams",
    "method",
    "type",
    "value",
    "group",
    "port",
    "sectionName",
    "weight",
    "request",
    "backendRequest",
    "attempts",
    "backoff",
    "codes",
    "requestHeaderModifier",
    "responseHeaderModifier",
    "requestMirror",
    "requestRedirect",
    "urlRewrite",
    "cors",
    "extensionRef",
    "externalAuth",
    "set",
    "add",
    "remove",
    "service",
    "from",
    "to",
    "selector",
    "ports",
    "protocol",
    "targetPort",
    "appProtocol",
    "nodePort",
    "clusterIP",
    "clusterIPs",
    "externalName",
    "sessionAffinity",
    "address",
    "serviceAccount",
    "targetRefs",
    "mtls",
    "portLevelMtls",
    "egress",
    "connectTimeout",
    "idleTimeout",
    "outlierDetection",
    "retryBudget",
    "consecutiveFailures",
    "ejectionTime",
    "maxEjectedPercent",
    "percent",
    "minRetriesPerSecond",
    "loadBalancing",
    "policy",
    "hashKey",
    "ttl",
    "stickySplits",
    "locality",
    "slowStart",
    "panicThresholdPercent",
    "consecutiveGatewayFailures",
    "interval",
    "minimumRequests",
    "successRatePercent",
    "latencyFactor",
    "healthCheck",
    "http",
    "tcp",
    "grpc",
    "expectedStatuses",
    "timeout",
    "healthyThreshold",
    "unhealthyThreshold",
    "sessionName",
    "absoluteTimeout",
    "cookieConfig",
    "lifetimeType",
    "gatewayClassName",
    "listeners",
    "hostname",
    "tls",
    "mode",
    "certificateRefs",
    "allowedRoutes",
    "allowedListeners",
    "namespaces",
    "kinds",
    "matchLabels",
    "addresses",
    "infrastructure",
    "frontend",
    "backend",
    "default",
    "perPort",
    "validation",
    "caCertificateRefs",
    "clientCertificateRef",
    "wellKnownCACertificates",
    "subjectAltNames",
    "parentRef",
    "controllerName",
    "data",
    "stringData",
    "binaryData",
    "immutable",
    "addressType",
    "endpoints",
    "conditions",
];

/// The candidate that is spelt nearly so, if there is one.
pub fn nearest<'a>(written: &str, candidates: &[&'a str]) -> Option<&'a str> {
    ranked(written, candidates).into_iter().next()
}

/// Candidates that are spelt nearly so, nearest first.
pub(super) fn ranked<'a>(written: &str, candidates: &[&'a str]) -> Vec<&'a str> {
    if written.len() > 64 {
        return Vec::new();
    }
    let plain = normal(written);
    let allowed = (plain.len() / 3).clamp(1, 3);
    let mut near: Vec<(usize, &str)> = candidates
        .iter()
        .map(|candidate| (distance(&plain, &normal(candidate)), *candidate))
        .filter(|(distance, candidate)| *distance <= allowed && *distance < candidate.len())
        .collect();
    near.sort_by_key(|(distance, _)| *distance);
    near.into_iter().map(|(_, candidate)| candidate).collect()
}

/// Case and separators are the commonest slips: `backend_refs`, `BackendRefs`.
fn normal(text: &str) -> Vec<char> {
    text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// Levenshtein's distance, one row at a time.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_pen_is_recognised() {
        assert_eq!(nearest("backendRef", FIELDS), Some("backendRefs"));
        assert_eq!(nearest("backend_refs", FIELDS), Some("backendRefs"));
        assert_eq!(nearest("wieght", FIELDS), Some("weight"));
        assert_eq!(nearest("zzzzzzzz", FIELDS), None);
        assert_eq!(nearest(&"x".repeat(100_000), FIELDS), None);
    }
}
