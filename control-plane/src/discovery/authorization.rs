//! Who may call the apps of each namespace. All sidecars of a namespace are told of all of its policies; each knows by its own
//! labels which ones are meant for it.

use std::collections::BTreeMap;
use std::sync::Arc;

use leno_proto::v1;

use crate::model::{
    Among, AuthorizationAction, AuthorizationPolicy, AuthorizationRule, CallerMatch, ClaimCondition, HeaderCondition,
    Mesh, Name, RequestMatch, Service,
};

/// By namespace, in the order of their names.
pub(super) type Policies = BTreeMap<String, Vec<Arc<v1::AuthorizationPolicy>>>;

/// The policies of one namespace, as its sidecars are told them.
pub fn told(mesh: &Mesh, namespace: &str, trust_domain: &str) -> Vec<v1::AuthorizationPolicy> {
    let policies = of(mesh, &mesh.services, trust_domain).remove(namespace).unwrap_or_default();
    policies.into_iter().map(Arc::unwrap_or_clone).collect()
}

pub(super) fn of(mesh: &Mesh, services: &BTreeMap<Name, Service>, trust_domain: &str) -> Policies {
    let mut policies = Policies::new();
    for (name, policy) in &mesh.authorization_policies {
        policies.entry(name.namespace.clone()).or_default().push(Arc::new(one(name, policy, services, trust_domain)));
    }
    policies
}

/// A Service that is not there or selects nothing has no workloads, so nobody is left out by having no selector.
fn one(
    name: &Name,
    policy: &AuthorizationPolicy,
    services: &BTreeMap<Name, Service>,
    trust_domain: &str,
) -> v1::AuthorizationPolicy {
    use v1::authorization_policy::Action;
    let action = match policy.action {
        AuthorizationAction::Allow => Action::Allow,
        AuthorizationAction::Deny => Action::Deny,
        AuthorizationAction::Audit => Action::Audit,
    };
    let selected = policy.targets.iter().filter_map(|target| services.get(&Name::new(&name.namespace, target)));
    let selectors = selected.filter(|service| !service.selector.is_empty());
    v1::AuthorizationPolicy {
        name: name.to_string(),
        action: action.into(),
        whole_namespace: policy.of_namespace,
        selectors: selectors.map(|service| v1::WorkloadSelector { labels: service.selector.clone() }).collect(),
        rules: policy.rules.iter().map(|said| rule(trust_domain, &name.namespace, said)).collect(),
    }
}

fn rule(trust_domain: &str, namespace: &str, rule: &AuthorizationRule) -> v1::AuthorizationRule {
    v1::AuthorizationRule {
        name: rule.name.clone(),
        from: rule.from.iter().map(|said| caller(trust_domain, said)).collect(),
        to: rule.to.iter().map(|said| request(namespace, said)).collect(),
    }
}

/// Everything that may be said of a caller is said of its SPIFFE ID on the wire.
fn caller(trust_domain: &str, said: &CallerMatch) -> v1::CallerMatch {
    let account = |name: &String| match name.split_once('/') {
        Some((namespace, name)) => format!("spiffe://{trust_domain}/ns/{namespace}/sa/{name}"),
        None => String::new(),
    };
    let namespace = |name: &String| format!("spiffe://{trust_domain}/ns/{name}/*");
    let domain = |name: &String| format!("spiffe://{name}/*");
    let read = |among: &Among<String>, id: &dyn Fn(&String) -> String| {
        let all = |names: &[String]| names.iter().map(id).collect::<Vec<_>>();
        (all(&among.one_of), all(&among.none_of))
    };
    let said = [
        read(&said.identities, &String::clone),
        read(&said.service_accounts, &account),
        read(&said.namespaces, &namespace),
        read(&said.trust_domains, &domain),
    ];
    let mut wire = v1::CallerMatch::default();
    for (one_of, none_of) in said {
        if !one_of.is_empty() {
            wire.all_of.push(v1::Identities { any_of: one_of });
        }
        wire.none_of.extend(none_of);
    }
    wire
}

fn request(namespace: &str, said: &RequestMatch) -> v1::RequestMatch {
    let RequestMatch { methods, paths, hosts, ports, headers, claims } = said.clone();
    let numbers = |ports: Vec<u16>| ports.into_iter().map(u32::from).collect();
    let Among { one_of, none_of } = ports;
    v1::RequestMatch {
        methods: methods.one_of,
        not_methods: methods.none_of,
        paths: paths.one_of,
        not_paths: paths.none_of,
        hosts: hosts.one_of,
        not_hosts: hosts.none_of,
        ports: numbers(one_of),
        not_ports: numbers(none_of),
        headers: headers.into_iter().map(header).collect(),
        claims: claims.into_iter().map(|said| claim(namespace, said)).collect(),
    }
}

fn claim(namespace: &str, said: ClaimCondition) -> v1::ClaimCondition {
    v1::ClaimCondition {
        provider: Name::new(namespace, said.provider).to_string(),
        path: said.path,
        values: said.values.one_of,
        not_values: said.values.none_of,
    }
}

fn header(said: HeaderCondition) -> v1::HeaderCondition {
    v1::HeaderCondition { name: said.name, values: said.values.one_of, not_values: said.values.none_of }
}

#[cfg(test)]
mod tests {
    use super::super::ResourceType;
    use super::super::fixtures::{Scene, name, service};
    use super::*;

    fn told(scene: &Scene, namespace: &str) -> Vec<v1::AuthorizationPolicy> {
        let config: v1::SidecarConfig =
            scene.get(ResourceType::SidecarConfig, leno_proto::resource::SELF, namespace).unwrap();
        config.authorization
    }

    #[test]
    fn the_sidecars_of_a_namespace_are_told_who_may_call_and_nobody_else() {
        let mut scene = Scene::new();
        scene.add_service(service("default/web"));
        let some = |text: &str| Among { one_of: vec![text.to_owned()], none_of: vec!["b".to_owned()] };
        let from =
            CallerMatch { namespaces: some("a"), trust_domains: some("cluster.local"), ..CallerMatch::default() };
        let policy = AuthorizationPolicy {
            action: AuthorizationAction::Allow,
            targets: vec!["web".into(), "nowhere".into()],
            of_namespace: false,
            rules: vec![AuthorizationRule { name: "0".into(), from: vec![from], to: vec![] }],
        };
        scene.mesh.authorization_policies.insert(name("default/who"), policy);
        scene.commit();
        let policies = told(&scene, "default");
        assert_eq!((policies[0].name.as_str(), policies[0].whole_namespace), ("default/who", false));
        assert_eq!(policies[0].selectors.len(), 1, "a Service that is not there selects nobody");
        assert_eq!(policies[0].selectors[0].labels["app"], "web");
        let from = &policies[0].rules[0].from[0];
        assert_eq!(from.all_of[0].any_of, ["spiffe://cluster.local/ns/a/*"]);
        assert_eq!(from.all_of[1].any_of, ["spiffe://cluster.local/*"], "both have to hold");
        assert_eq!(from.none_of, ["spiffe://cluster.local/ns/b/*", "spiffe://b/*"]);
        assert!(told(&scene, "other").is_empty());
    }
}
