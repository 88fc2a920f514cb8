//! The incremental computation of the world.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::iter::Peekable;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use leno_proto::v1;

use super::addresses::{address, host};
use super::attach::{Attachments, RouteKey, resource_name};
use super::backend_tls::BackendPolicies;
use super::backends::{self, Known};
use super::gateways::Gateways;
use super::readers::{self, Readers};
use super::selection::{Selection, addresses, endpoint_ports};
use super::sidecar_config::Inputs;
use super::virtual_addresses::VirtualAddresses;
use super::world::Edit;
use super::written_endpoints::Slices;
use super::{Globals, Resource, ResourceType, World, convert, implicit, inbound};
use crate::model::{
    Backend, Committed, HttpRoute, HttpRule, Kind, Mesh, Name, Revocations, Service, StaticWorkload, TcpRoute,
    TlsRoute, Workload,
};
use crate::registry::Live;

/// What a change may have altered.
#[derive(Debug, Default)]
struct Touched {
    /// Services whose own resource is to be made again.
    services: BTreeSet<Name>,
    /// Services whose endpoints are.
    endpoints: BTreeSet<Name>,
    routes: BTreeSet<RouteKey>,
    addresses: BTreeSet<SocketAddr>,
    hosts: BTreeSet<IpAddr>,
    /// Virtual addresses of services that came or went.
    virtuals: BTreeMap<IpAddr, Name>,
}

/// Keeps the last inputs and what follows from them.
pub struct Engine {
    mesh: Arc<Mesh>,
    live: Arc<Live>,
    globals: Option<Globals>,
    configured: Inputs,
    /// Those that are written, and those that workloads stand for.
    services: BTreeMap<Name, Service>,
    virtual_addresses: VirtualAddresses,
    selection: Selection,
    attachments: Attachments,
    gateways: Gateways,
    slices: Slices,
    backend_policies: BackendPolicies,
    revocations: Arc<Revocations>,
    /// The last world does not show them.
    unshown: bool,
    world: Arc<World>,
}

impl Default for Engine {
    fn default() -> Self {
        Self::new(None)
    }
}

impl Engine {
    /// An engine that has seen nothing yet; `virtual_addresses` is what an earlier life wrote down of them.
    pub fn new(virtual_addresses: Option<&[u8]>) -> Self {
        Self {
            mesh: Arc::default(),
            live: Arc::default(),
            globals: None,
            configured: Inputs::default(),
            services: BTreeMap::new(),
            virtual_addresses: VirtualAddresses::restore(virtual_addresses),
            selection: Selection::default(),
            attachments: Attachments::default(),
            gateways: Gateways::default(),
            slices: Slices::default(),
            backend_policies: BackendPolicies::default(),
            revocations: Arc::default(),
            unshown: true,
            world: Arc::default(),
        }
    }

    /// The world as it was computed last.
    pub fn world(&self) -> Arc<World> {
        self.world.clone()
    }

    /// What is to be written down of the virtual addresses, before the world that has them is published.
    pub fn take_unsaved(&mut self) -> Option<Vec<u8>> {
        self.virtual_addresses.take_unsaved()
    }

    /// The mesh that was taken up last.
    #[cfg(test)]
    pub(super) fn mesh(&self) -> Arc<Mesh> {
        self.mesh.clone()
    }

    /// Says who is revoked, for the next world.
    pub fn revoke(&mut self, revocations: Arc<Revocations>) {
        self.unshown |= !Arc::ptr_eq(&self.revocations, &revocations);
        self.revocations = revocations;
    }

    /// Takes up the present inputs. Gives the new world, or none when nothing changed for anyone.
    pub fn update(&mut self, committed: &Committed, live: &Arc<Live>, globals: &Globals) -> Option<Arc<World>> {
        let mut touched = Touched::default();
        let changed_mesh = !Arc::ptr_eq(&self.mesh, &committed.mesh);
        if changed_mesh {
            let old = std::mem::replace(&mut self.mesh, committed.mesh.clone());
            self.mesh_changed(&old, live, &mut touched);
        }
        if !Arc::ptr_eq(&self.live, live) {
            let old = std::mem::replace(&mut self.live, live.clone());
            for name in changed(&old, live, Arc::ptr_eq) {
                self.workload_changed(name, &mut touched);
            }
        }
        let mut edit = self.world.edit();
        self.set_globals(changed_mesh || !touched.services.is_empty(), globals, &mut edit, &mut touched);
        if std::mem::take(&mut self.unshown) {
            let message = convert::revocations(&self.revocations);
            edit.set(ResourceType::Revocations, &globals.trust_domain, Some(Resource::encode(&message)));
        }
        self.recompute(&touched, &mut edit);
        if changed_mesh {
            self.gateways.update(&self.mesh, &mut edit);
        }
        self.world = Arc::new(edit.finish(committed.revision)?);
        Some(self.world.clone())
    }

    fn mesh_changed(&mut self, old: &Mesh, live: &Live, touched: &mut Touched) {
        let new = self.mesh.clone();
        let before = std::mem::replace(&mut self.attachments, Attachments::of(&new));
        for name in changed(&old.services, &new.services, PartialEq::eq) {
            self.service_changed(name, touched);
        }
        for name in changed(&old.workloads, &new.workloads, PartialEq::eq) {
            // A live one of that name hides the object, so nothing changes for anyone.
            if !live.contains_key(name) {
                self.workload_changed(name, touched);
            }
        }
        for (kind, old, new) in [
            (Kind::HttpRoute, &old.http_routes, &new.http_routes),
            (Kind::GrpcRoute, &old.grpc_routes, &new.grpc_routes),
        ] {
            for name in changed(old, new, PartialEq::eq) {
                let routes = [old.get(name), new.get(name)].into_iter().flatten();
                touched.services.extend(routes.flat_map(|r: &HttpRoute| &r.parents).map(|p| p.service.clone()));
                touched.routes.insert((kind, name.clone()));
            }
        }
        for name in changed(&old.tcp_routes, &new.tcp_routes, PartialEq::eq) {
            let routes = [old.tcp_routes.get(name), new.tcp_routes.get(name)].into_iter().flatten();
            touched.services.extend(routes.flat_map(|r: &TcpRoute| &r.parents).map(|p| p.service.clone()));
            touched.routes.insert((Kind::TcpRoute, name.clone()));
        }
        for name in changed(&old.tls_routes, &new.tls_routes, PartialEq::eq) {
            let routes = [old.tls_routes.get(name), new.tls_routes.get(name)].into_iter().flatten();
            touched.services.extend(routes.flat_map(|r: &TlsRoute| &r.parents).map(|p| p.service.clone()));
            touched.routes.insert((Kind::TlsRoute, name.clone()));
        }
        for name in changed(&old.traffic_policies, &new.traffic_policies, PartialEq::eq) {
            let policies = [old.traffic_policies.get(name), new.traffic_policies.get(name)].into_iter().flatten();
            touched
                .services
                .extend(policies.clone().flat_map(|p| &p.targets).map(|target| Name::new(&name.namespace, target)));
            let routes = policies.flat_map(|p| &p.routes);
            touched.routes.extend(routes.map(|target| (target.kind, Name::new(&name.namespace, &target.name))));
        }
        touched.services.extend(self.backend_policies.update(&new));
        touched.endpoints.extend(self.slices.update(&new));
        if old.reference_grants != new.reference_grants {
            touched.routes.extend(before.crossing().chain(self.attachments.crossing()).cloned());
        }
        // Routes name ports of services that nobody wrote.
        for name in touched.services.clone() {
            self.service_changed(&name, touched);
        }
    }

    /// Brings one service up to date with the present inputs, written before implicit. Nothing happens when it is.
    fn service_changed(&mut self, name: &Name, touched: &mut Touched) {
        let written = self.mesh.services.get(name).cloned();
        let new = written.or_else(|| implicit::service(name, &self.selection, &self.attachments));
        let old = match &new {
            Some(new) if self.services.get(name) == Some(new) => return,
            Some(new) => self.services.insert(name.clone(), new.clone()),
            None => self.services.remove(name),
        };
        if old.is_none() && new.is_none() {
            return;
        }
        for service in [&old, &new].into_iter().flatten() {
            for workload in self.selection.workloads_of(service) {
                touched.addresses.extend(addresses(workload));
                touched.hosts.extend(workload.ips());
            }
        }
        self.selection.set_service(old.as_ref(), new.as_ref());
        let mut virtuals = self.virtual_addresses.of(name);
        match &new {
            Some(new) if !new.headless => self.virtual_addresses.add(name),
            _ => self.virtual_addresses.remove(name),
        }
        virtuals.extend(self.virtual_addresses.of(name));
        touched.virtuals.extend(virtuals.into_iter().map(|ip| (ip, name.clone())));
        touched.services.insert(name.clone());
        touched.endpoints.insert(name.clone());
        // A Service that comes, goes or changes its ports decides whether a reference to it is valid.
        touched.routes.extend(self.attachments.sending_to(name).cloned());
    }

    /// Brings one workload up to date with the present inputs, live before written down.
    fn workload_changed(&mut self, name: &Name, touched: &mut Touched) {
        let new = match (self.live.get(name), self.mesh.workloads.get(name)) {
            (Some(live), _) => Some(live.clone()),
            (None, Some(written)) => Some(Arc::new(from_static(written))),
            (None, None) => None,
        };
        let old = self.selection.set_workload(name, new.clone());
        for workload in [old, new].into_iter().flatten() {
            touched.addresses.extend(addresses(&workload));
            touched.hosts.extend(workload.ips());
            if let Some(implied) = implicit::name_of(&workload) {
                self.service_changed(&implied, touched);
            }
            touched.endpoints.extend(self.selection.services_near(&workload).into_iter().cloned());
        }
    }

    fn recompute(&self, touched: &Touched, edit: &mut Edit) {
        for name in &touched.endpoints {
            edit.set(ResourceType::Endpoints, &name.to_string(), self.endpoints(name));
        }
        for name in &touched.services {
            self.recompute_service(name, edit);
        }
        for (kind, name) in &touched.routes {
            let (of, resource) = match kind {
                Kind::TcpRoute => (ResourceType::TcpRoute, self.tcp_route(name)),
                Kind::TlsRoute => (ResourceType::TlsRoute, self.tls_route(name)),
                _ => (ResourceType::HttpRoute, self.http_route(*kind, name)),
            };
            edit.set(of, &resource_name(*kind, name), resource);
        }
        for at in &touched.addresses {
            let resource = address(&self.selection, &self.services, *at).map(|found| self.of_workload(found));
            edit.set(ResourceType::Address, &at.to_string(), resource);
        }
        for ip in &touched.hosts {
            let resource = host(&self.selection, &self.services, *ip).map(|found| self.of_workload(found));
            edit.set(ResourceType::Address, &ip.to_string(), resource);
        }
        for (ip, name) in &touched.virtuals {
            let held = self.virtual_addresses.of(name).contains(ip);
            let address = v1::Address { service: name.to_string(), ..v1::Address::default() };
            edit.set(ResourceType::Address, &ip.to_string(), held.then(|| Resource::encode(&address)));
        }
    }

    /// An address, and who may read whose it is.
    fn of_workload(&self, (found, workload): (v1::Address, Option<&Arc<Workload>>)) -> Resource {
        let readers = workload.and_then(|workload| {
            self.readers(&workload.name.namespace, std::iter::once(&**workload), || {
                Resource::encode(&v1::Address { endpoint: Some(readers::somebody()), ..found.clone() })
            })
        });
        Resource::encode(&found).only_for(readers)
    }

    fn recompute_service(&self, name: &Name, edit: &mut Edit) {
        let mut consumers = HashMap::new();
        let base = self.services.get(name).map(|service| {
            let (policy, addresses) = (self.attachments.policy(name), self.virtual_addresses.of(name));
            let view = |namespace: &str| {
                let routes = self.attachments.routes(service, namespace);
                let any_port = self.attachments.routes_of_any_port(service, namespace);
                let mut message = convert::service(service, policy, &addresses, &routes, &any_port);
                self.backend_policies.put_into(name, &mut message);
                Resource::encode(&message)
            };
            for namespace in self.attachments.consumer_namespaces(name) {
                consumers.insert(namespace.to_owned(), view(namespace));
            }
            view(&name.namespace)
        });
        let name = name.to_string();
        edit.set(ResourceType::Service, &name, base);
        edit.set_consumers(ResourceType::Service, &name, &consumers);
    }

    /// The endpoints of a Service, sorted by workload; empty while it has none, absent when there is no such Service.
    fn endpoints(&self, name: &Name) -> Option<Resource> {
        let service = self.services.get(name)?;
        let (mut taken, mut workloads) = (BTreeSet::new(), Vec::new());
        let reached = self.selection.workloads_of(service).filter_map(|workload| {
            let ports = endpoint_ports(service, workload);
            let reached = !ports.is_empty() || service.any_port && workload.any_port;
            taken.extend(workload.ips());
            reached.then(|| {
                workloads.push(&**workload);
                convert::endpoint(workload, ports)
            })
        });
        let mut endpoints: Vec<_> = reached.collect();
        let written = self.slices.endpoints(service, &taken);
        // Those have no sidecar, and are anybody's.
        let all_meshed = written.is_empty();
        endpoints.extend(written);
        let of = |endpoints| Resource::encode(&v1::Endpoints { service: name.to_string(), endpoints });
        let readers =
            all_meshed.then(|| self.readers(&name.namespace, workloads.into_iter(), || of(vec![readers::somebody()])));
        Some(of(endpoints).only_for(readers.flatten()))
    }

    fn known(&self) -> Known<'_> {
        Known { mesh: &self.mesh, services: &self.services }
    }

    /// What every sidecar of a namespace gets; made again only when something may have changed that goes into it.
    fn set_globals(&mut self, recompute: bool, globals: &Globals, edit: &mut Edit, touched: &mut Touched) {
        let bundle_changed = self.globals.as_ref() != Some(globals);
        if bundle_changed {
            let federated = globals.federated.iter();
            let federated =
                federated.map(|(name, roots)| v1::FederatedRoots { trust_domain: name.clone(), roots: roots.to_vec() });
            let (trust_domain, roots) = (globals.trust_domain.clone(), globals.roots.clone());
            let bundle = v1::TrustBundle { trust_domain, roots, federated: federated.collect() };
            edit.set(ResourceType::TrustBundle, &globals.trust_domain, Some(Resource::encode(&bundle)));
            self.globals = Some(globals.clone());
        }
        if !recompute && !bundle_changed {
            return;
        }
        let namespaces: BTreeSet<&String> = self.services.keys().map(|name| &name.namespace).collect();
        let checks = super::health_checks::of(&self.services, &self.attachments);
        let mut inputs = Inputs::of(&self.mesh, namespaces.into_iter(), checks);
        inputs.authorization = super::authorization::of(&self.mesh, &self.services, &globals.trust_domain);
        inputs.jwt_providers = super::jwt::of(&self.mesh, &globals.jwks);
        for service in self.services.values() {
            if let Some(policy) = inbound::policy(&self.mesh, &self.attachments, service) {
                inputs.inbound.entry(service.name.namespace.clone()).or_default().push(policy);
            }
        }
        if inputs != self.configured || bundle_changed {
            let (base, own) = inputs.resources(globals);
            edit.set(ResourceType::SidecarConfig, leno_proto::resource::SELF, Some(base));
            edit.set_consumers(ResourceType::SidecarConfig, leno_proto::resource::SELF, &own);
            let before = std::mem::replace(&mut self.configured, inputs).authorization;
            for namespace in changed(&before, &self.configured.authorization, PartialEq::eq) {
                self.readers_changed(namespace, touched);
            }
        }
    }

    /// Who may call decides who is told where the workloads of a namespace are.
    fn readers_changed(&self, namespace: &str, touched: &mut Touched) {
        touched.endpoints.extend(self.services.keys().filter(|name| name.namespace == namespace).cloned());
        for workload in self.selection.workloads_in(namespace) {
            touched.addresses.extend(addresses(workload));
            touched.hosts.extend(workload.ips());
        }
    }

    /// Who may read where some workloads of a namespace are.
    fn readers<'a>(
        &self,
        namespace: &str,
        workloads: impl Iterator<Item = &'a Workload>,
        instead: impl FnOnce() -> Resource,
    ) -> Option<Arc<Readers>> {
        Readers::of(self.configured.authorization.get(namespace)?, workloads, instead)
    }

    fn http_route(&self, kind: Kind, name: &Name) -> Option<Resource> {
        let routes = if kind == Kind::GrpcRoute { &self.mesh.grpc_routes } else { &self.mesh.http_routes };
        let route = routes.get(name)?;
        let rules = route.rules.iter();
        let checked: Vec<_> = rules.map(|rule| backends::check(self.known(), kind, name, &rule.backends)).collect();
        let mirror = |backend: &Backend| backends::invalid_reason(self.known(), kind, name, backend).to_owned();
        let said = |rule: &HttpRule| {
            let mut all = self.attachments.of_rule(kind, name, &rule.name).into_iter();
            let mut first = all.next()?.clone();
            all.for_each(|other| first.fill(other));
            Some(convert::resilience::resilience(&first))
        };
        Some(Resource::encode(&convert::http_route(route, &checked, &mirror, said)))
    }

    fn tcp_route(&self, name: &Name) -> Option<Resource> {
        let route = self.mesh.tcp_routes.get(name)?;
        let checked = backends::check(self.known(), Kind::TcpRoute, name, &route.backends);
        Some(Resource::encode(&convert::tcp_route(route, &checked)))
    }

    fn tls_route(&self, name: &Name) -> Option<Resource> {
        let route = self.mesh.tls_routes.get(name)?;
        let checked = backends::check(self.known(), Kind::TlsRoute, name, &route.backends);
        Some(Resource::encode(&convert::tls_route(route, &checked)))
    }
}

/// A written-down workload has no sidecar, and nobody reports its health.
fn from_static(written: &StaticWorkload) -> Workload {
    Workload {
        name: written.name.clone(),
        labels: written.labels.clone(),
        address: written.address,
        mesh_port: written.sidecar.as_ref().map(|(port, _)| *port),
        identity: written.sidecar.as_ref().map(|(_, identity)| identity.clone()),
        ports: written.ports.clone(),
        healthy: true,
        more_addresses: Vec::new(),
        any_port: false,
        lineage: None,
    }
}

/// The keys whose values differ, including those that only one of the two has. One pass over both, in order.
fn changed<'a, K: Ord, V>(
    old: &'a BTreeMap<K, V>,
    new: &'a BTreeMap<K, V>,
    same: impl Fn(&V, &V) -> bool,
) -> Vec<&'a K> {
    let (mut old, mut new) = (old.iter().peekable(), new.iter().peekable());
    let mut keys = Vec::new();
    while let Some(key) = next_changed(&mut old, &mut new, &same) {
        keys.extend(key);
    }
    keys
}

/// One step of [`changed`]: none at the end, else the key if its values differ.
fn next_changed<'a, K: Ord + 'a, V: 'a>(
    old: &mut Peekable<impl Iterator<Item = (&'a K, &'a V)>>,
    new: &mut Peekable<impl Iterator<Item = (&'a K, &'a V)>>,
    same: &impl Fn(&V, &V) -> bool,
) -> Option<Option<&'a K>> {
    use std::cmp::Ordering::{Equal, Greater, Less};
    let order = match (old.peek(), new.peek()) {
        (None, None) => return None,
        (Some(_), None) => Less,
        (None, Some(_)) => Greater,
        (Some((a, _)), Some((b, _))) => a.cmp(b),
    };
    Some(match order {
        Less => old.next().map(|(key, _)| key),
        Greater => new.next().map(|(key, _)| key),
        Equal => {
            let (old, new) = (old.next()?, new.next()?);
            (!same(old.1, new.1)).then_some(new.0)
        }
    })
}
