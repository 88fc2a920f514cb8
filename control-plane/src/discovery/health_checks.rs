//! Which apps are checked by their own sidecars, and how. All sidecars of a namespace are told of all of its checks; each knows
//! by its own labels which ones are meant for it.

use std::collections::BTreeMap;

use leno_proto::v1;

use super::attach::Attachments;
use crate::model::{HealthCheck, Name, ProbeKind, Service, TargetPort};

/// Most checks of one namespace; of more, the services that come last by name are not checked.
pub(super) const MOST_CHECKS: usize = 500;

/// By namespace.
pub(super) type Checks = BTreeMap<String, Vec<v1::HealthCheck>>;

pub(super) fn of(services: &BTreeMap<Name, Service>, attachments: &Attachments) -> Checks {
    let mut checks = Checks::new();
    for (name, service) in services {
        let wanted = attachments.policy(name).and_then(|policy| policy.balancing.health_check.as_ref());
        let Some(check) = wanted.and_then(|wanted| one(service, wanted)) else { continue };
        let of_namespace = checks.entry(name.namespace.clone()).or_default();
        if of_namespace.len() < MOST_CHECKS {
            of_namespace.push(check);
        } else {
            tracing::warn!(service = %name, "the namespace has {MOST_CHECKS} health checks; this one is not made");
        }
    }
    checks
}

/// None: the Service selects nothing, or has no such port.
fn one(service: &Service, wanted: &HealthCheck) -> Option<v1::HealthCheck> {
    use v1::health_check::Check;
    if service.selector.is_empty() {
        return None;
    }
    let listed = service.ports.iter().find(|port| wanted.port.is_none_or(|number| number == port.number));
    let target = match (listed.map(|port| &port.target), wanted.port) {
        (Some(TargetPort::Name(name)), _) => name.clone(),
        (Some(TargetPort::Number(number)), _) => number.to_string(),
        (None, Some(number)) if service.any_port => number.to_string(),
        (None, _) => return None,
    };
    let check = match &wanted.kind {
        ProbeKind::Http { path, host, statuses } => Check::Http(v1::HttpCheck {
            path: path.clone(),
            host: host.clone(),
            statuses: statuses.iter().map(|status| u32::from(*status)).collect(),
        }),
        ProbeKind::Tcp => Check::Tcp(true),
        ProbeKind::Grpc { service } => Check::Grpc(v1::GrpcCheck { service: service.clone() }),
    };
    Some(v1::HealthCheck {
        service: service.name.to_string(),
        selector: service.selector.clone(),
        target,
        interval_ms: wanted.interval_ms,
        timeout_ms: wanted.timeout_ms,
        healthy_threshold: wanted.healthy_threshold,
        unhealthy_threshold: wanted.unhealthy_threshold,
        check: Some(check),
    })
}

#[cfg(test)]
mod tests {
    use super::super::ResourceType;
    use super::super::fixtures::{Scene, name, service};
    use super::*;
    use crate::model::{Balancing, TrafficPolicy};

    fn check(port: Option<u16>) -> HealthCheck {
        HealthCheck {
            port,
            interval_ms: 1000,
            timeout_ms: 500,
            healthy_threshold: 1,
            unhealthy_threshold: 2,
            kind: ProbeKind::Tcp,
        }
    }

    fn policy(target: &str, port: Option<u16>) -> TrafficPolicy {
        let balancing = Balancing { health_check: Some(check(port)), ..Balancing::default() };
        TrafficPolicy { targets: vec![target.into()], balancing, ..TrafficPolicy::default() }
    }

    fn told(scene: &Scene, namespace: &str) -> Vec<v1::HealthCheck> {
        let config: v1::SidecarConfig =
            scene.get(ResourceType::SidecarConfig, leno_proto::resource::SELF, namespace).unwrap();
        config.health_checks
    }

    #[test]
    fn the_sidecars_of_a_namespace_are_told_how_its_apps_are_checked_and_nobody_else() {
        let mut scene = Scene::new();
        scene.add_service(service("default/web"));
        scene.add_service(service("other/web"));
        scene.mesh.traffic_policies.insert(name("default/web"), policy("web", None));
        scene.commit();
        let checks = told(&scene, "default");
        assert_eq!((checks[0].service.as_str(), checks[0].target.as_str()), ("default/web", "http"));
        assert_eq!(checks[0].selector["app"], "web");
        assert!(told(&scene, "other").is_empty());
        scene.mesh.traffic_policies.insert(name("default/web"), policy("web", Some(81)));
        scene.commit();
        assert!(told(&scene, "default").is_empty(), "the Service has no such port");
        scene.mesh.traffic_policies.clear();
        let changed = scene.commit();
        assert!(changed.iter().all(|(kind, _)| *kind != ResourceType::SidecarConfig), "nobody is told that twice");
    }

    #[test]
    fn a_namespace_has_so_many_checks_and_no_more() {
        let mut scene = Scene::new();
        for n in 0..=MOST_CHECKS {
            let service_name = format!("web-{n}");
            scene.add_service(service(&format!("default/{service_name}")));
            scene.mesh.traffic_policies.insert(name(&format!("default/p{n}")), policy(&service_name, None));
        }
        scene.commit();
        assert_eq!(told(&scene, "default").len(), MOST_CHECKS);
    }
}
