//! `gateway.networking.k8s.io/v1` BackendTLSPolicy.

use gateway_api::backendtlspolicies::{
    BackendTlsPolicySpec, BackendTlsPolicyTargetRefs, BackendTlsPolicyValidation,
    BackendTlsPolicyValidationSubjectAltNamesType as SanType,
};

use super::check::{Check, is_dns_subdomain};
use crate::config::FieldPath;
use crate::model::{BackendTlsPolicy, Name, ObjectRef, PolicyTarget, SubjectAltName};

/// Bounds of lists, as specified.
const MOST_TARGETS: usize = 16;
const MOST_AUTHORITIES: usize = 8;
const MOST_NAMES: usize = 5;

pub(super) fn check(check: &mut Check<'_>, name: Name, spec: &BackendTlsPolicySpec) -> BackendTlsPolicy {
    let path = FieldPath::of("spec");
    for key in spec.options.iter().flatten().map(|(key, _)| key) {
        check.not_yet(&path.key("options").key(key.as_str()), &format!("the option {key:?}"));
    }
    let targets = targets(check, &path.key("targetRefs"), &spec.target_refs);
    let (path, written) = (path.key("validation"), &spec.validation);
    if written.hostname.starts_with('*') || !is_dns_subdomain(&written.hostname) {
        let hint = "write a DNS name in lower case, as web.example.com";
        check.error(&path.key("hostname"), format!("{:?} is no hostname", written.hostname), hint);
    }
    let refs = written.ca_certificate_refs.as_deref().unwrap_or_default();
    check.most(&path.key("caCertificateRefs"), refs.len(), MOST_AUTHORITIES);
    let authorities = refs.iter().take(MOST_AUTHORITIES).map(|r| ObjectRef {
        group: r.group.clone(),
        kind: r.kind.clone(),
        name: Name::new(&name.namespace, &r.name),
    });
    let authorities: Vec<_> = authorities.collect();
    let system_authorities = match written.well_known_ca_certificates.as_deref() {
        None | Some("") => false,
        Some("System") => true,
        Some(other) => {
            let at = path.key("wellKnownCACertificates");
            check.error(&at, format!("{other:?} is not supported"), "write System, or caCertificateRefs");
            false
        }
    };
    if authorities.is_empty() != system_authorities {
        let hint = "write `caCertificateRefs` or `wellKnownCACertificates: System`";
        check.error(&path, "has caCertificateRefs or wellKnownCACertificates, and not both", hint);
    }
    BackendTlsPolicy {
        subject_alt_names: names(check, &path.key("subjectAltNames"), written),
        name,
        created: 0,
        targets,
        authorities,
        system_authorities,
        hostname: written.hostname.clone(),
    }
}

fn targets(check: &mut Check<'_>, path: &FieldPath, written: &[BackendTlsPolicyTargetRefs]) -> Vec<PolicyTarget> {
    if written.is_empty() {
        let hint = "write `targetRefs: [{group: \"\", kind: Service, name: web}]`";
        check.error(path, "a policy is attached to something", hint);
    }
    check.most(path, written.len(), MOST_TARGETS);
    let mut found: Vec<PolicyTarget> = Vec::new();
    for (n, target) in written.iter().take(MOST_TARGETS).enumerate() {
        let target = PolicyTarget {
            group: target.group.clone(),
            kind: target.kind.clone(),
            name: target.name.clone(),
            section: target.section_name.clone(),
        };
        if found.contains(&target) {
            check.error(&path.index(n), "is here twice", "remove one of them");
        }
        if !target.group.is_empty() || target.kind != "Service" {
            let what = format!("a policy of {} {:?} does nothing", target.kind, target.group);
            check.warn(&path.index(n), what, "write `group: \"\", kind: Service`");
        }
        found.push(target);
    }
    found
}

fn names(check: &mut Check<'_>, path: &FieldPath, written: &BackendTlsPolicyValidation) -> Vec<SubjectAltName> {
    let list = written.subject_alt_names.as_deref().unwrap_or_default();
    check.most(path, list.len(), MOST_NAMES);
    let mut found = Vec::new();
    for (n, written) in list.iter().take(MOST_NAMES).enumerate() {
        let at = path.index(n);
        let hostname = written.hostname.as_deref().filter(|text| !text.is_empty());
        let uri = written.uri.as_deref().filter(|text| !text.is_empty());
        match (&written.r#type, hostname, uri) {
            (SanType::Hostname, Some(host), None) => {
                if !is_dns_subdomain(host.strip_prefix("*.").unwrap_or(host)) {
                    let hint = "write a DNS name in lower case, as web.example.com";
                    check.error(&at.key("hostname"), format!("{host:?} is no hostname"), hint);
                }
                found.push(SubjectAltName::Hostname(host.to_owned()));
            }
            (SanType::Uri, None, Some(uri)) => {
                if !uri.contains("://") || uri.len() > 253 {
                    let hint = "write a scheme and an authority, as spiffe://cluster.local/ns/default/sa/web";
                    check.error(&at.key("uri"), format!("{uri:?} is no URI"), hint);
                }
                found.push(SubjectAltName::Uri(uri.to_owned()));
            }
            _ => check.error(&at, "has the one of `hostname` and `uri` that its type says", "change it"),
        }
    }
    found
}
