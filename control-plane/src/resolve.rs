//! What refers to what: which ListenerSets a Gateway has, which listeners hold, which certificates they show, and which routes
//! are attached to them. A pure function of the mesh; discovery makes resources of it, and `status` conditions.

mod apart;
mod attach;
mod backend;
mod backend_tls;
mod conflict;
mod gateway;
mod reference;
mod services;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::{Authorities, CLASS, CONTROLLER, GatewayParent, KeyPair, Kind, Listener, Mesh, Name};

pub use backend::backend_problem;
pub use backend_tls::{BackendTls, backend_tls, backend_tls_policy, policies_of};
pub use services::OnServices;

/// Why something does not hold: a reason of the Gateway API, and words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub reason: &'static str,
    pub message: String,
}

impl Problem {
    fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

/// All Gateways of our class, and what is attached to them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Resolved {
    pub gateways: BTreeMap<Name, Gateway>,
    /// Every ListenerSet whose Gateway is ours or is not there: accepted, or why not.
    pub listener_sets: BTreeMap<Name, Result<(), Problem>>,
    pub routes: BTreeMap<(Kind, Name), Vec<ResolvedParent>>,
    pub on_services: OnServices,
}

/// What came of a Gateway or ListenerSet that a route names. None: it belongs to another controller.
pub type ResolvedParent = (GatewayParent, Option<Result<(), Problem>>);

/// A Gateway.
#[derive(Debug, Clone, PartialEq)]
pub struct Gateway {
    pub accepted: Result<(), Problem>,
    /// Its own first, then those of ListenerSets, by age.
    pub listeners: Vec<ResolvedListener>,
    pub backend_client_certificate: Option<Result<Arc<KeyPair>, Problem>>,
    /// A frontend lets clients without a valid certificate in.
    pub insecure_fallback: bool,
}

/// A listener.
#[derive(Debug, Clone, PartialEq)]
pub struct ResolvedListener {
    /// Gateway or ListenerSet.
    pub owner: (Kind, Name),
    pub listener: Listener,
    /// It cannot be told apart from another one.
    pub conflict: Option<&'static str>,
    /// Why it is not accepted, beside a conflict.
    pub refused: Option<Problem>,
    /// Why not all of its references hold.
    pub unresolved: Option<Problem>,
    pub certificates: Vec<Arc<KeyPair>>,
    pub client_validation: Option<ClientValidation>,
    /// The kinds of route that it takes.
    pub kinds: Vec<Kind>,
    /// Another TLS listener of the port stands for a name of its own.
    pub overlaps: bool,
    /// In the order in which they are tried: the oldest first, then by namespace and name.
    pub attached: BTreeSet<Attached>,
}

/// A route of a listener.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attached {
    pub created: i64,
    pub name: Name,
    pub kind: Kind,
}

/// Which client certificates are taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientValidation {
    pub roots: Vec<Authorities>,
    pub insecure_fallback: bool,
}

impl ResolvedListener {
    /// Whether it can be served.
    pub fn holds(&self) -> bool {
        self.conflict.is_none() && self.refused.is_none() && (!self.terminates() || !self.certificates.is_empty())
    }

    /// Whether a route's parent names it.
    fn is_of(&self, parent: &GatewayParent) -> bool {
        (self.owner.0, &self.owner.1) == (parent.kind, &parent.name)
            && parent.section.as_ref().is_none_or(|section| *section == self.listener.name)
            && parent.port.is_none_or(|port| port == self.listener.port)
    }

    /// Whether TLS ends there.
    pub fn terminates(&self) -> bool {
        gateway::terminates(&self.listener)
    }
}

impl Resolved {
    /// What a mesh comes to.
    pub fn of(mesh: &Mesh) -> Self {
        let mut all = Self::default();
        for gateway in mesh.gateways.values().filter(|gateway| is_ours(mesh, &gateway.class)) {
            all.gateways.insert(gateway.name.clone(), gateway::resolve(mesh, gateway));
        }
        gateway::add_listener_sets(mesh, &mut all);
        for gateway in all.gateways.values_mut() {
            conflict::mark(&mut gateway.listeners);
        }
        gateway::judge_listener_sets(&mut all);
        attach::routes(mesh, &mut all);
        apart::keep(mesh, &mut all);
        all.on_services = OnServices::of(mesh);
        all
    }
}

/// Whether Gateways of a class are ours: the class names us, or it is `leno` and nobody wrote it down.
pub fn is_ours(mesh: &Mesh, class: &str) -> bool {
    mesh.gateway_classes.get(class).map_or(class == CLASS, |class| class.controller == CONTROLLER)
}

#[cfg(test)]
pub(crate) mod tests;
