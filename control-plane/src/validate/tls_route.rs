//! `gateway.networking.k8s.io/v1` TLSRoute.

use gateway_api::experimental::tlsroutes::TlsRouteSpec;

use super::check::Check;
use super::route::{self, opaque_backends, written_parents};
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
    let backends = opaque_backends!(check, &name, "TLSRoute", spec.rules, " has one", "join them, or split the route");
    TlsRoute { name, created: 0, parents, gateways, hostnames, backends }
}
