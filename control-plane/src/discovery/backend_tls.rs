//! How the ports of Services are spoken to over TLS, as sidecars get it.

use std::collections::{BTreeMap, BTreeSet};

use leno_proto::v1;

use crate::model::{Mesh, Name, SubjectAltName};
use crate::resolve::{self, BackendTls};

/// By Service and port; only those that a policy holds for.
#[derive(Debug, Default)]
pub(super) struct BackendPolicies(BTreeMap<Name, BTreeMap<u16, v1::BackendTls>>);

impl BackendPolicies {
    /// Takes up a mesh; gives the Services for which something changed.
    pub(super) fn update(&mut self, mesh: &Mesh) -> BTreeSet<Name> {
        let mut new = BTreeMap::new();
        for (name, policies) in resolve::policies_of(mesh) {
            let ports = mesh.services.get(&name).map(|service| service.ports.as_slice()).unwrap_or_default();
            let ports = ports
                .iter()
                .filter_map(|port| Some((port.number, convert(resolve::backend_tls(mesh, &policies, &name, port)?))));
            new.insert(name.clone(), ports.collect::<BTreeMap<_, _>>());
        }
        let old = std::mem::replace(&mut self.0, new);
        let names = old.keys().chain(self.0.keys()).cloned().collect::<BTreeSet<Name>>();
        names.into_iter().filter(|name| old.get(name) != self.0.get(name)).collect()
    }

    /// Says in the resource of a Service how its ports are spoken to.
    pub(super) fn put_into(&self, name: &Name, service: &mut v1::Service) {
        let Some(ports) = self.0.get(name) else { return };
        for port in &mut service.ports {
            port.backend_tls = u16::try_from(port.number).ok().and_then(|number| ports.get(&number)).cloned();
        }
    }
}

fn convert(tls: BackendTls) -> v1::BackendTls {
    use v1::subject_alt_name::Name as Wire;
    let name = |name: SubjectAltName| match name {
        SubjectAltName::Hostname(host) => Wire::Hostname(host),
        SubjectAltName::Uri(uri) => Wire::Uri(uri),
    };
    let names = tls.subject_alt_names.into_iter().map(|one| v1::SubjectAltName { name: Some(name(one)) });
    v1::BackendTls {
        hostname: tls.hostname,
        roots: tls.roots.iter().flat_map(|roots| roots.iter().cloned()).collect(),
        system_roots: tls.system_roots,
        subject_alt_names: names.collect(),
        invalid_reason: tls.invalid.map(|problem| problem.reason.to_owned()).unwrap_or_default(),
    }
}
