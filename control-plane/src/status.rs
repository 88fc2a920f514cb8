//! The `status` of objects: what the specification says about them as the mesh is now. A pure function; who is alive and what
//! the sidecars have in force are inputs. Times are put in by whoever remembers them.

mod condition;
mod features;
mod gateway;
mod policy;
mod route;
mod serving;

use serde_json::Value;

use crate::model::{Kind, Mesh, Name, ObjectKey};
use crate::resolve::Resolved;

pub use features::FEATURES;
pub use serving::Serving;

/// What a status is made of.
#[derive(Clone, Copy)]
pub struct Inputs<'a> {
    pub mesh: &'a Mesh,
    pub resolved: &'a Resolved,
    /// Whether a Service has a port; None: there is no such Service.
    pub has_port: &'a dyn Fn(&Name, u16) -> Option<bool>,
    /// The sidecars that serve a Gateway as it is now; None: no sidecar does.
    pub serving: &'a dyn Fn(&Name) -> Option<Serving>,
}

/// Whether objects of a kind have a status.
pub fn is_judged(kind: Kind) -> bool {
    use Kind::{
        AuthorizationPolicy, BackendTlsPolicy, Gateway, GatewayClass, GrpcRoute, HttpRoute, ListenerSet, TcpRoute,
        TlsRoute, TrafficPolicy,
    };
    let routes = matches!(kind, HttpRoute | GrpcRoute | TcpRoute | TlsRoute);
    routes
        || matches!(kind, GatewayClass | Gateway | ListenerSet | BackendTlsPolicy | TrafficPolicy | AuthorizationPolicy)
}

/// The status of one object at its present generation; None: its kind has none, or it is another controller's.
pub fn of(inputs: Inputs<'_>, key: &ObjectKey, generation: u64) -> Option<Value> {
    let status = match key.kind {
        Kind::GatewayClass => gateway::class(inputs, &key.name.name),
        Kind::Gateway => gateway::gateway(inputs, &key.name),
        Kind::ListenerSet => gateway::listener_set(inputs, &key.name),
        Kind::HttpRoute | Kind::GrpcRoute | Kind::TcpRoute | Kind::TlsRoute => {
            route::route(inputs, key.kind, &key.name)
        }
        Kind::BackendTlsPolicy => policy::backend_tls(inputs, &key.name),
        Kind::TrafficPolicy => policy::traffic(inputs, &key.name),
        Kind::AuthorizationPolicy => policy::authorization(inputs, &key.name),
        _ => None,
    };
    status.map(|mut status| {
        condition::observed(&mut status, generation);
        status
    })
}

#[cfg(test)]
mod tests;
