//! What the sidecars of a namespace are told about themselves.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use leno_proto::v1;

use super::authorization;
use super::health_checks::Checks;
use super::{Globals, Resource};
use crate::model::{EgressMode, Mesh, MtlsMode};

/// Most namespaces that are named. Of more, names such as `a.b` resolve in their long form only.
const MOST_NAMESPACES: usize = 1000;

/// What of the mesh goes into it: the namespaces that have services, the policies of namespaces, and the checks of apps.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Inputs {
    pub(super) namespaces: Vec<String>,
    policies: BTreeMap<String, (MtlsMode, EgressMode)>,
    checks: Checks,
    /// By namespace, in the order of the services.
    pub(super) inbound: BTreeMap<String, Vec<v1::InboundPolicy>>,
    pub(super) authorization: authorization::Policies,
    /// Those that the policies name.
    pub(super) jwt_providers: BTreeMap<String, Vec<v1::JwtProvider>>,
}

impl Inputs {
    /// Of several policies for a namespace the oldest that says something holds.
    pub(super) fn of<'a>(mesh: &Mesh, namespaces: impl Iterator<Item = &'a String>, checks: Checks) -> Self {
        let mut said: BTreeMap<&str, (Option<MtlsMode>, Option<EgressMode>)> = BTreeMap::new();
        for (name, policy) in mesh.policies_by_age().into_iter().filter(|(_, policy)| policy.of_namespace) {
            let (mtls, egress) = said.entry(&name.namespace).or_default();
            *mtls = mtls.or(policy.mtls);
            *egress = egress.or(policy.egress);
        }
        let modes = |(mtls, egress): (Option<MtlsMode>, Option<EgressMode>)| {
            (mtls.unwrap_or_default(), egress.unwrap_or_default())
        };
        Self {
            namespaces: namespaces.take(MOST_NAMESPACES).cloned().collect(),
            policies: said.into_iter().map(|(namespace, said)| (namespace.to_owned(), modes(said))).collect(),
            checks,
            inbound: BTreeMap::new(),
            authorization: authorization::Policies::new(),
            jwt_providers: BTreeMap::new(),
        }
    }

    /// What every sidecar gets, and what those of some namespaces get instead.
    pub(super) fn resources(&self, globals: &Globals) -> (Resource, HashMap<String, Resource>) {
        let config = |(mtls, egress): (MtlsMode, EgressMode), namespace: Option<&String>| {
            let inbound = namespace.and_then(|namespace| self.inbound.get(namespace));
            let authorization = namespace.and_then(|namespace| self.authorization.get(namespace));
            let providers = namespace.and_then(|namespace| self.jwt_providers.get(namespace));
            let checks = namespace.and_then(|namespace| self.checks.get(namespace));
            Resource::encode(&v1::SidecarConfig {
                renew_generation: globals.renew_generation,
                permissive: mtls == MtlsMode::Permissive,
                registry_only: egress == EgressMode::RegistryOnly,
                namespaces: self.namespaces.clone(),
                inbound: inbound.cloned().unwrap_or_default(),
                health_checks: checks.cloned().unwrap_or_default(),
                authorization: authorization.into_iter().flatten().map(|policy| (**policy).clone()).collect(),
                jwt_providers: providers.cloned().unwrap_or_default(),
            })
        };
        let (policies, inbound) = (self.policies.keys(), self.inbound.keys());
        let own: BTreeSet<&String> =
            policies.chain(inbound).chain(self.checks.keys()).chain(self.authorization.keys()).collect();
        let own = own.into_iter().map(|namespace| {
            let modes = self.policies.get(namespace).copied().unwrap_or_default();
            (namespace.clone(), config(modes, Some(namespace)))
        });
        (config(Default::default(), None), own.collect())
    }
}
