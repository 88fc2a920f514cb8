//! Who may read where a workload is. Whoever may not send it any request, whatever that be, has no use for its address and its
//! identity; its sidecar is told that there is somebody, and denies the requests itself. The called app's sidecar decides all the same.

use std::sync::Arc;

use leno_proto::v1;
use leno_proto::v1::authorization_policy::Action;

use super::Resource;
use crate::model::Workload;

type Policy = Arc<v1::AuthorizationPolicy>;

/// Callers to whom some workload behind a resource may listen.
#[derive(Debug, PartialEq)]
pub struct Readers {
    /// For each workload what decides who may call it; those of which the same does are there once.
    workloads: Vec<Vec<Policy>>,
    /// What the others are told.
    instead: Arc<Resource>,
}

impl Readers {
    /// Those of some workloads. `policies` are their namespace's. None: everybody, since of one of the workloads nothing is said, or it has
    /// no sidecar that would enforce anything.
    pub(super) fn of<'a>(
        policies: &[Policy],
        workloads: impl Iterator<Item = &'a Workload>,
        instead: impl FnOnce() -> Resource,
    ) -> Option<Arc<Self>> {
        let mut groups: Vec<Vec<Policy>> = Vec::new();
        for workload in workloads {
            let holds = |policy: &&Policy| policy.action() != Action::Audit && is_for(policy, workload);
            let group: Vec<Policy> = policies.iter().filter(holds).cloned().collect();
            if workload.mesh_port.is_none() || group.is_empty() {
                return None;
            }
            if !groups.iter().any(|known| same(known, &group)) {
                groups.push(group);
            }
        }
        (!groups.is_empty()).then(|| Arc::new(Self { workloads: groups, instead: Arc::new(instead()) }))
    }

    /// What a caller is told instead of the resource. None: it may read that.
    pub(super) fn instead(&self, identity: &str) -> Option<&Arc<Resource>> {
        let may = self.workloads.iter().any(|policies| may_call(policies, identity));
        (!may).then_some(&self.instead)
    }
}

/// Somebody of whom nothing is said but that he is there.
pub(super) fn somebody() -> v1::Endpoint {
    v1::Endpoint { withheld: true, healthy: true, ..v1::Endpoint::default() }
}

fn same(a: &[Policy], b: &[Policy]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| Arc::ptr_eq(a, b))
}

fn is_for(policy: &v1::AuthorizationPolicy, workload: &Workload) -> bool {
    let has_all = |selector: &v1::WorkloadSelector| {
        selector.labels.iter().all(|(key, value)| workload.labels.get(key) == Some(value))
    };
    policy.whole_namespace || policy.selectors.iter().any(has_all)
}

/// Whether there may be a request of the caller that the policies let in. What a request looks like is not known here, so of a DENY
/// only rules count that look at nobody but the caller.
fn may_call(policies: &[Policy], identity: &str) -> bool {
    let of = |action| policies.iter().filter(move |policy| policy.action() == action);
    let denied =
        of(Action::Deny).flat_map(|policy| &policy.rules).any(|rule| rule.to.is_empty() && is_from(rule, identity));
    let mut allowing = of(Action::Allow).peekable();
    !denied
        && (allowing.peek().is_none() || allowing.flat_map(|policy| &policy.rules).any(|rule| is_from(rule, identity)))
}

fn is_from(rule: &v1::AuthorizationRule, identity: &str) -> bool {
    let any = |patterns: &[String]| patterns.iter().any(|pattern| is(pattern, identity));
    let matches = |from: &v1::CallerMatch| from.all_of.iter().all(|one| any(&one.any_of)) && !any(&from.none_of);
    rule.from.is_empty() || rule.from.iter().any(matches)
}

/// An identity, or the beginning of some and `/*`.
fn is(pattern: &str, identity: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) if beginning.ends_with('/') => identity.starts_with(beginning),
        _ => pattern == identity,
    }
}

#[cfg(test)]
mod tests {
    use leno_proto::resource::SELF;
    use prost::Message;

    use super::super::fixtures::{Scene, name, service, workload};
    use super::super::{Client, ResourceType};
    use super::*;
    use crate::model::{Among, AuthorizationAction, AuthorizationPolicy, AuthorizationRule, CallerMatch, RequestMatch};

    fn rule(accounts: &[&str], to: Vec<RequestMatch>) -> AuthorizationRule {
        let accounts = Among { one_of: accounts.iter().map(|a| (*a).to_owned()).collect(), none_of: vec![] };
        let from = CallerMatch { service_accounts: accounts, ..CallerMatch::default() };
        AuthorizationRule { name: "0".into(), from: vec![from], to }
    }

    fn policy(action: AuthorizationAction, rules: Vec<AuthorizationRule>) -> AuthorizationPolicy {
        AuthorizationPolicy { action, targets: vec!["web".into()], of_namespace: false, rules }
    }

    fn client(account: &str) -> Client {
        Client { namespace: "default".into(), identity: format!("spiffe://cluster.local/ns/default/sa/{account}") }
    }

    /// Whether an account is told where the workloads of `web` are: by the Service, and by their addresses.
    fn reads(scene: &Scene, account: &str) -> bool {
        let world = scene.world();
        let endpoints = world.get(ResourceType::Endpoints, "default/web", &client(account)).unwrap();
        let endpoints = v1::Endpoints::decode(endpoints.any.value.as_slice()).unwrap();
        let address = world.get(ResourceType::Address, "10.0.0.1:8080", &client(account)).unwrap();
        let address = v1::Address::decode(address.any.value.as_slice()).unwrap();
        let withheld = endpoints.endpoints.iter().all(|e| e.withheld);
        assert!(!withheld || endpoints.endpoints == [somebody()], "nothing is said of whom it may not call");
        assert_eq!(address.endpoint.unwrap().withheld, withheld);
        !withheld
    }

    #[test]
    fn who_may_send_no_request_is_not_told_where_to() {
        let mut scene = Scene::new();
        scene.add_service(service("default/web"));
        scene.add_live(workload("default/web-1", "web", 8080));
        scene.commit();
        assert!(reads(&scene, "a") && reads(&scene, "b"), "nothing is said");
        let some = || {
            vec![RequestMatch {
                methods: Among { one_of: vec!["GET".into()], none_of: vec![] },
                ..RequestMatch::default()
            }]
        };
        use AuthorizationAction::{Allow, Audit, Deny};
        for (policies, a, b) in [
            (vec![(Allow, vec![rule(&["default/a"], some())])], true, false),
            (vec![(Allow, vec![])], false, false),
            (vec![(Deny, vec![rule(&["default/a"], vec![])])], false, true),
            (vec![(Deny, vec![rule(&["default/a"], some())])], true, true),
            (vec![(Audit, vec![rule(&["default/a"], vec![])])], true, true),
            (vec![(Allow, vec![]), (Allow, vec![rule(&["default/b"], vec![])])], false, true),
            (
                vec![
                    (Allow, vec![rule(&["default/a", "default/b"], vec![])]),
                    (Deny, vec![rule(&["default/b"], vec![])]),
                ],
                true,
                false,
            ),
        ] {
            scene.mesh.authorization_policies.clear();
            for (n, (action, rules)) in policies.iter().enumerate() {
                scene
                    .mesh
                    .authorization_policies
                    .insert(name(&format!("default/p{n}")), policy(*action, rules.clone()));
            }
            scene.commit();
            assert_eq!((reads(&scene, "a"), reads(&scene, "b")), (a, b), "{policies:?}");
        }
        let config = scene.world().get(ResourceType::SidecarConfig, SELF, &client("a")).is_some();
        assert!(config, "what a sidecar is told of itself is nobody's to withhold");
    }

    #[test]
    fn a_pattern_ends_at_a_whole_segment() {
        assert!(is("spiffe://t/ns/a/*", "spiffe://t/ns/a/sa/b") && is("spiffe://t/ns/a/sa/b", "spiffe://t/ns/a/sa/b"));
        assert!(!is("spiffe://t/ns/a/*", "spiffe://t/ns/ab/sa/b") && !is("spiffe://t/ns/a*", "spiffe://t/ns/ab/sa/b"));
    }
}
