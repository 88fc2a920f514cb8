//! Small builders for the tests of discovery.

use std::sync::Arc;

use super::{Client, Engine, Globals, ResourceType, World};
use crate::model::{
    AppProtocol, Backend, Committed, GATEWAY_GROUP, GrantFrom, GrantTo, HttpMatch, HttpRoute, HttpRule, Kind, Mesh,
    Name, ParentRef, Service, ServicePort, TargetPort, Workload,
};
use crate::registry::Live;
use leno_proto::v1;
use prost::Message;

pub(super) fn name(text: &str) -> Name {
    let (namespace, name) = text.split_once('/').unwrap();
    Name::new(namespace, name)
}

/// A Service on port 80 that selects `app=NAME` and reaches the port `http`.
pub(super) fn service(at: &str) -> Service {
    let at = name(at);
    let selector = [("app".to_owned(), at.name.clone())].into();
    let target = TargetPort::Name("http".into());
    let port = ServicePort { name: "http".into(), number: 80, target, protocol: AppProtocol::Http, unfit: None };
    Service { name: at, selector, ports: vec![port], any_port: false, headless: false }
}

/// A live workload of the app `app` with one port `http`.
pub(super) fn workload(at: &str, app: &str, port: u16) -> Workload {
    Workload {
        name: name(at),
        labels: [("app".to_owned(), app.to_owned())].into(),
        address: "10.0.0.1".parse().unwrap(),
        mesh_port: Some(port + 10_000),
        identity: Some(format!("spiffe://cluster.local/ns/{}/sa/{app}", name(at).namespace)),
        ports: [("http".to_owned(), port)].into(),
        healthy: true,
        more_addresses: vec![],
        any_port: false,
        lineage: None,
    }
}

pub(super) fn backend(to: &str) -> Backend {
    Backend { service: name(to), port: 80, weight: 1, invalid_reason: String::new(), filters: vec![] }
}

pub(super) fn route(at: &str, created: i64, parent: &str, to: &[&str]) -> HttpRoute {
    let rule = HttpRule {
        matches: vec![HttpMatch::default()],
        backends: to.iter().map(|to| backend(to)).collect(),
        ..HttpRule::default()
    };
    HttpRoute {
        name: name(at),
        grpc: false,
        created,
        parents: vec![ParentRef { service: name(parent), port: None, section: None, says_namespace: false }],
        gateways: vec![],
        hostnames: vec![],
        rules: vec![rule],
    }
}

pub(super) fn grant_from(kind: Kind, namespace: &str) -> GrantFrom {
    GrantFrom { group: GATEWAY_GROUP.into(), kind: kind.as_str().into(), namespace: namespace.into() }
}

/// A grant on one Service, or on all.
pub(super) fn grant_to(name: Option<&str>) -> GrantTo {
    GrantTo { group: String::new(), kind: "Service".into(), name: name.map(str::to_owned) }
}

pub(super) fn globals() -> Globals {
    Globals {
        trust_domain: "cluster.local".into(),
        roots: vec![vec![1]],
        federated: Default::default(),
        jwks: Default::default(),
        renew_generation: 0,
    }
}

/// Some sidecar of a namespace.
pub(super) fn client(namespace: &str) -> Client {
    Client { namespace: namespace.to_owned(), identity: format!("spiffe://cluster.local/ns/{namespace}/sa/caller") }
}

/// An engine together with its inputs.
pub(super) struct Scene {
    pub(super) engine: Engine,
    pub(super) mesh: Mesh,
    pub(super) live: Live,
    pub(super) revision: u64,
}

impl Scene {
    pub(super) fn new() -> Self {
        Self { engine: Engine::default(), mesh: Mesh::default(), live: Live::new(), revision: 0 }
    }

    pub(super) fn add_service(&mut self, service: Service) {
        self.mesh.services.insert(service.name.clone(), service);
    }

    pub(super) fn add_route(&mut self, route: HttpRoute) {
        let routes = if route.grpc { &mut self.mesh.grpc_routes } else { &mut self.mesh.http_routes };
        routes.insert(route.name.clone(), route);
    }

    pub(super) fn add_live(&mut self, workload: Workload) {
        self.live.insert(workload.name.clone(), Arc::new(workload));
    }

    /// Commits the mesh as it is, at a new revision; gives what changed.
    pub(super) fn commit(&mut self) -> Vec<(ResourceType, String)> {
        self.revision += 1;
        let committed = Committed { revision: self.revision, mesh: Arc::new(self.mesh.clone()) };
        self.update(&committed)
    }

    /// Shows the engine the live workloads as they are; gives what changed.
    pub(super) fn publish(&mut self) -> Vec<(ResourceType, String)> {
        let committed = Committed { revision: self.revision, mesh: self.engine.mesh() };
        self.update(&committed)
    }

    fn update(&mut self, committed: &Committed) -> Vec<(ResourceType, String)> {
        let before = self.engine.world().sequence();
        let world = self.engine.update(committed, &Arc::new(self.live.clone()), &globals());
        let Some(world) = world else { return vec![] };
        let mut changed: Vec<_> =
            world.changed_since(before).unwrap().map(|(kind, name)| (*kind, name.to_string())).collect();
        changed.sort();
        changed.dedup();
        changed
    }

    pub(super) fn world(&self) -> Arc<World> {
        self.engine.world()
    }

    pub(super) fn get<T: Message + Default>(&self, kind: ResourceType, name: &str, from: &str) -> Option<T> {
        let resource = self.world().get(kind, name, &client(from)).cloned()?;
        Some(T::decode(resource.any.value.as_slice()).unwrap())
    }

    pub(super) fn service(&self, name: &str, from: &str) -> v1::Service {
        self.get(ResourceType::Service, name, from).unwrap()
    }

    pub(super) fn endpoints(&self, name: &str) -> Vec<v1::Endpoint> {
        self.get::<v1::Endpoints>(ResourceType::Endpoints, name, "").unwrap().endpoints
    }

    /// The reasons of all backends of the first rule of an HTTPRoute.
    pub(super) fn reasons(&self, route: &str) -> Vec<String> {
        let route: v1::HttpRoute = self.get(ResourceType::HttpRoute, &format!("HTTPRoute/{route}"), "").unwrap();
        route.rules[0].backends.iter().map(|b| b.invalid_reason.clone()).collect()
    }
}
