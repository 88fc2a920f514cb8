//! `gateway.networking.k8s.io/v1alpha2` TCPRoute.

use gateway_api::experimental::tcproutes::TcpRouteSpec;

use super::check::Check;
use super::route::{self, opaque_backends, written_parents};
use crate::config::FieldPath;
use crate::model::{Name, TcpRoute};

/// A TCP connection has nothing to choose a rule by, so there is exactly one.
pub(super) fn check(check: &mut Check<'_>, name: Name, spec: &TcpRouteSpec) -> TcpRoute {
    let path = FieldPath::of("spec");
    if spec.use_default_gateways.is_some() {
        check.not_yet(&path.key("useDefaultGateways"), "useDefaultGateways");
    }
    let (parents, gateways) = route::parents(check, &name, written_parents!(&spec.parent_refs));
    let backends =
        opaque_backends!(check, &name, "TCPRoute", spec.rules, " with more than one is not supported yet", "join them");
    TcpRoute { name, created: 0, parents, gateways, backends }
}
