//! How a port of a Service is spoken to over TLS (GEP-1897).

use std::collections::BTreeMap;

use super::Problem;
use super::reference::{self, AuthorityReasons};
use crate::model::{Authorities, BackendTlsPolicy, Kind, Mesh, Name, ServicePort, SubjectAltName};

/// What one policy comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendTls {
    pub hostname: String,
    pub roots: Vec<Authorities>,
    pub system_roots: bool,
    pub subject_alt_names: Vec<SubjectAltName>,
    /// Some of the references hold, and some do not.
    pub unresolved: Option<Problem>,
    /// None of the references holds, so nobody can be trusted.
    pub invalid: Option<Problem>,
}

/// The policies of every Service, those that win a conflict first: a policy for one port goes before one for all, then the
/// oldest, then the first by name.
pub fn policies_of(mesh: &Mesh) -> BTreeMap<Name, Vec<&BackendTlsPolicy>> {
    let mut found: BTreeMap<Name, Vec<&BackendTlsPolicy>> = BTreeMap::new();
    for policy in mesh.backend_tls_policies.values() {
        for target in policy.targets.iter().filter(|target| target.group.is_empty() && target.kind == "Service") {
            let list = found.entry(Name::new(&policy.name.namespace, &target.name)).or_default();
            if !list.iter().any(|other| other.name == policy.name) {
                list.push(policy);
            }
        }
    }
    for list in found.values_mut() {
        list.sort_by_key(|policy| (policy.created, &policy.name));
    }
    found
}

/// The policy that holds for a port, of those of its Service.
fn winner<'a>(policies: &[&'a BackendTlsPolicy], service: &Name, port: &ServicePort) -> Option<&'a BackendTlsPolicy> {
    let names = |policy: &BackendTlsPolicy, section: Option<&str>| {
        policy.targets.iter().any(|t| t.kind == "Service" && t.name == service.name && t.section.as_deref() == section)
    };
    let of_port = policies.iter().find(|policy| !port.name.is_empty() && names(policy, Some(&port.name)));
    of_port.or_else(|| policies.iter().find(|policy| names(policy, None))).copied()
}

/// How a port is spoken to; None: in plaintext.
pub fn backend_tls(
    mesh: &Mesh,
    policies: &[&BackendTlsPolicy],
    service: &Name,
    port: &ServicePort,
) -> Option<BackendTls> {
    winner(policies, service, port).map(|policy| backend_tls_policy(mesh, policy))
}

/// What a policy comes to, wherever it is attached.
pub fn backend_tls_policy(mesh: &Mesh, policy: &BackendTlsPolicy) -> BackendTls {
    let reasons = AuthorityReasons { invalid: "InvalidCACertificateRef", kind: "InvalidKind" };
    let (mut roots, mut unresolved) = (Vec::new(), None);
    for to in &policy.authorities {
        // A policy refers to its own namespace only, which nobody has to permit.
        match reference::authorities(mesh, (Kind::BackendTlsPolicy, &policy.name), to, &reasons) {
            Ok(found) => roots.push(found),
            Err(problem) => drop(unresolved.get_or_insert(problem)),
        }
    }
    let invalid = (roots.is_empty() && !policy.system_authorities)
        .then(|| Problem::new("NoValidCACertificate", "none of the caCertificateRefs can be used"));
    BackendTls {
        hostname: policy.hostname.clone(),
        roots,
        system_roots: policy.system_authorities,
        subject_alt_names: policy.subject_alt_names.clone(),
        unresolved,
        invalid,
    }
}
