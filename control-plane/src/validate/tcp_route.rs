//! `gateway.networking.k8s.io/v1alpha2` TCPRoute.

use std::collections::BTreeSet;

use gateway_api::experimental::tcproutes::TcpRouteSpec;

use super::check::Check;
use super::route::{self, MOST_BACKENDS, written_backend, written_parents};
use crate::config::FieldPath;
use crate::model::{Name, TcpRoute};

/// A TCP connection has nothing to choose a rule by, so there is exactly one.
pub(super) fn check(check: &mut Check<'_>, name: Name, spec: &TcpRouteSpec) -> TcpRoute {
    let path = FieldPath::of("spec");
    if spec.use_default_gateways.is_some() {
        check.not_yet(&path.key("useDefaultGateways"), "useDefaultGateways");
    }
    let (parents, gateways) = route::parents(check, &name, written_parents!(&spec.parent_refs));
    let at = path.key("rules");
    match spec.rules.len() {
        1 => {}
        0 => check.error(&at, "a TCPRoute has one rule", "write `rules: [{backendRefs: […]}]`"),
        n => check.error(&at, format!("{n} rules; a TCPRoute with more than one is not supported yet"), "join them"),
    }
    let mut backends = Vec::new();
    if let Some(rule) = spec.rules.first() {
        let at = at.index(0);
        route::rule_name(check, &at, rule.name.as_deref(), &mut BTreeSet::new());
        let at = at.key("backendRefs");
        if rule.backend_refs.is_empty() {
            check.error(&at, "has at least one backend", "write `backendRefs: [{name: store, port: 6379}]`");
        }
        check.most(&at, rule.backend_refs.len(), MOST_BACKENDS);
        for (n, written) in rule.backend_refs.iter().take(MOST_BACKENDS).enumerate() {
            backends.extend(route::backend(check, &at.index(n), &name, &written_backend!(written), Vec::new()));
        }
    }
    TcpRoute { name, created: 0, parents, gateways, backends }
}
