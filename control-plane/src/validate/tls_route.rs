//! `gateway.networking.k8s.io/v1` TLSRoute.

use std::collections::BTreeSet;

use gateway_api::experimental::tlsroutes::TlsRouteSpec;

use super::check::Check;
use super::route::{self, MOST_BACKENDS, written_backend, written_parents};
use crate::config::FieldPath;
use crate::model::{Name, TlsRoute};

/// The server name chooses the route, so nothing is left to choose a rule by, and there is exactly one.
pub(super) fn check(check: &mut Check<'_>, name: Name, spec: &TlsRouteSpec) -> TlsRoute {
    let path = FieldPath::of("spec");
    if spec.use_default_gateways.is_some() {
        check.not_yet(&path.key("useDefaultGateways"), "useDefaultGateways");
    }
    let (parents, gateways) = route::parents(check, &name, written_parents!(&spec.parent_refs));
    let hostnames = route::hostnames(check, &spec.hostnames);
    let at = path.key("rules");
    match spec.rules.len() {
        1 => {}
        0 => check.error(&at, "a TLSRoute has one rule", "write `rules: [{backendRefs: […]}]`"),
        n => check.error(&at, format!("{n} rules; a TLSRoute has one"), "join them, or split the route"),
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
    TlsRoute { name, created: 0, parents, gateways, hostnames, backends }
}
