//! What the stream has said so far, and how it is joined into a [`Snapshot`].

mod assemble;
mod gateway;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use leno_proto::resource::Resource;
use leno_proto::v1;
use prost::Message;
use prost_types::Any;

use super::gateway::{Gateway, RawGateway, TlsRoute};
use super::route::{HttpRoute, TcpRoute};
use super::service::Service;
use super::snapshot::{Cluster, Destination, Posture, Snapshot};
use super::{Demand, InvalidResource, Network, convert, nearness};

/// Answers by name; None: the control plane says that there is no such thing.
type Answers<T> = BTreeMap<String, Option<T>>;
/// Type URLs and names.
type Wanted = BTreeSet<(&'static str, String)>;

/// Everything held of the stream, converted. A name without an entry was not answered yet.
#[derive(Debug, Default)]
pub struct Resources {
    services: Answers<Service>,
    http_routes: Answers<HttpRoute>,
    tcp_routes: Answers<TcpRoute>,
    tls_routes: Answers<TlsRoute>,
    gateways: Answers<RawGateway>,
    endpoints: Answers<Arc<v1::Endpoints>>,
    addresses: Answers<v1::Address>,
    posture: Arc<Posture>,
    /// Those that this machine is in.
    networks: Vec<Network>,
    /// What was assembled last. A destination whose parts are not all there keeps its previous version.
    assembled: BTreeMap<String, Arc<Destination>>,
    /// Likewise of the Gateway.
    assembled_gateway: Option<Arc<Gateway>>,
}

/// A snapshot, and how many destinations in it could not be brought up to date because something is still on its way.
#[derive(Debug)]
pub struct Assembled {
    /// To be published.
    pub snapshot: Snapshot,
    /// Destinations that wait for a part.
    pub incomplete: usize,
}

impl Resources {
    /// Takes a resource in.
    ///
    /// # Errors
    /// It is malformed, or of a type that is none of ours; what was held of that name stays.
    pub fn upsert(&mut self, name: &str, any: &Any) -> Result<(), InvalidResource> {
        let name = name.to_owned();
        match any.type_url.as_str() {
            v1::Service::TYPE_URL => {
                let service = decode::<v1::Service>(any)?.try_into()?;
                self.services.insert(name, Some(service));
            }
            v1::HttpRoute::TYPE_URL => {
                let route = decode::<v1::HttpRoute>(any)?.try_into()?;
                self.http_routes.insert(name, Some(route));
            }
            v1::TcpRoute::TYPE_URL => {
                let route = decode::<v1::TcpRoute>(any)?.try_into()?;
                self.tcp_routes.insert(name, Some(route));
            }
            v1::TlsRoute::TYPE_URL => {
                let route = decode::<v1::TlsRoute>(any)?.try_into()?;
                self.tls_routes.insert(name, Some(route));
            }
            v1::Gateway::TYPE_URL => {
                let gateway = decode::<v1::Gateway>(any)?.try_into()?;
                self.gateways.insert(name, Some(gateway));
            }
            v1::Endpoints::TYPE_URL => {
                let mut endpoints: v1::Endpoints = decode(any)?;
                for endpoint in &mut endpoints.endpoints {
                    nearness::choose(endpoint, &self.networks);
                    for port in &endpoint.ports {
                        let port = u16::try_from(port.service_port).unwrap_or_default();
                        convert::endpoint(endpoint, port)?;
                    }
                }
                self.endpoints.insert(name, Some(Arc::new(endpoints)));
            }
            v1::Address::TYPE_URL => {
                let address: v1::Address = decode(any)?;
                assemble::check_address(&address)?;
                self.addresses.insert(name, Some(address));
            }
            other => return Err(InvalidResource(format!("type {other:?} is not known to this sidecar"))),
        }
        Ok(())
    }

    /// Says which networks this machine is in; holds for what is taken in from then on.
    pub fn set_networks(&mut self, networks: Vec<Network>) {
        self.networks = networks;
    }

    /// Takes in what the control plane wants of this sidecar's namespace. Gives whether that is news.
    pub fn set_posture(&mut self, posture: Posture) -> bool {
        let news = *self.posture != posture;
        if news {
            self.posture = Arc::new(posture);
        }
        news
    }

    /// The control plane says that there is no such resource.
    pub fn remove(&mut self, type_url: &str, name: &str) {
        self.answer_none(type_url, name, true);
    }

    /// It is no longer subscribed, so nothing is known of it.
    pub fn forget(&mut self, type_url: &str, name: &str) {
        self.answer_none(type_url, name, false);
        if type_url == v1::Service::TYPE_URL {
            self.assembled.remove(name);
        }
    }

    fn answer_none(&mut self, type_url: &str, name: &str, absent: bool) {
        fn set<T>(answers: &mut Answers<T>, name: &str, absent: bool) {
            if absent {
                answers.insert(name.to_owned(), None);
            } else {
                answers.remove(name);
            }
        }
        match type_url {
            v1::Service::TYPE_URL => set(&mut self.services, name, absent),
            v1::HttpRoute::TYPE_URL => set(&mut self.http_routes, name, absent),
            v1::TcpRoute::TYPE_URL => set(&mut self.tcp_routes, name, absent),
            v1::TlsRoute::TYPE_URL => set(&mut self.tls_routes, name, absent),
            v1::Gateway::TYPE_URL => set(&mut self.gateways, name, absent),
            v1::Endpoints::TYPE_URL => set(&mut self.endpoints, name, absent),
            v1::Address::TYPE_URL => set(&mut self.addresses, name, absent),
            _ => {}
        }
    }

    /// Everything that has to be subscribed for these demands: the services, their routes, the services that those send to,
    /// and the endpoints of all of them.
    pub fn wanted(&self, demanded: &BTreeSet<Demand>) -> Wanted {
        let mut wanted = BTreeSet::new();
        for demand in demanded {
            match demand {
                Demand::Address(address) => {
                    wanted.insert((v1::Address::TYPE_URL, address.clone()));
                }
                Demand::Gateway(name) => self.want_gateway(name, &mut wanted),
                Demand::Service(name) => {
                    self.want_routes(name, &mut wanted);
                    // The routes of a backend are not followed: a backend is reached as it is (GEP-1426).
                    for service in std::iter::once(name.clone()).chain(self.backends_of(name)) {
                        wanted.insert((v1::Endpoints::TYPE_URL, service.clone()));
                        wanted.insert((v1::Service::TYPE_URL, service));
                    }
                }
            }
        }
        wanted
    }

    fn want_routes(&self, name: &str, wanted: &mut Wanted) {
        let Some(Some(service)) = self.services.get(name) else { return };
        for port in service.ports.iter().chain(&service.any_port) {
            wanted.extend(port.http_routes.iter().map(|r| (v1::HttpRoute::TYPE_URL, r.clone())));
            wanted.extend(port.tls_routes.iter().map(|r| (v1::TlsRoute::TYPE_URL, r.clone())));
            wanted.extend(port.tcp_routes.iter().map(|r| (v1::TcpRoute::TYPE_URL, r.clone())));
        }
    }

    /// Services that the routes of a service send to.
    fn backends_of(&self, name: &str) -> BTreeSet<String> {
        let Some(Some(service)) = self.services.get(name) else { return BTreeSet::new() };
        let ports = || service.ports.iter().chain(&service.any_port);
        self.backends_in(
            ports().flat_map(|p| &p.http_routes),
            ports().flat_map(|p| &p.tls_routes),
            ports().flat_map(|p| &p.tcp_routes),
        )
    }

    /// Services that these routes send to.
    fn backends_in<'a>(
        &self,
        http: impl Iterator<Item = &'a String>,
        tls: impl Iterator<Item = &'a String>,
        tcp: impl Iterator<Item = &'a String>,
    ) -> BTreeSet<String> {
        let http = http
            .filter_map(|r| self.http_routes.get(r)?.as_ref())
            .flat_map(|r| &r.rules)
            .flat_map(super::route::RawRule::targets);
        let tcp = tcp.filter_map(|r| self.tcp_routes.get(r)?.as_ref()).flat_map(|r| &r.backends);
        let tls = tls.filter_map(|r| self.tls_routes.get(r)?.as_ref()).flat_map(|r| &r.backends);
        http.chain(tls).chain(tcp).filter(|b| b.invalid_reason.is_empty()).map(|b| b.service.clone()).collect()
    }

    /// Joins what is held into what the workers read.
    pub fn assemble(&mut self, demanded: &BTreeSet<Demand>) -> Assembled {
        let mut snapshot = Snapshot { posture: self.posture.clone(), ..Snapshot::default() };
        let mut incomplete = 0;
        let mut clusters = assemble::Clusters::default();
        for demand in demanded {
            match demand {
                Demand::Service(name) => match self.services.get(name) {
                    None => incomplete += 1,
                    Some(None) => {
                        self.assembled.remove(name);
                        snapshot.services.insert(name.clone(), None);
                    }
                    Some(Some(service)) => {
                        match assemble::destination(self, name, service, &mut clusters) {
                            Ok(destination) => {
                                self.assembled.insert(name.clone(), Arc::new(destination));
                            }
                            Err(assemble::Missing) => incomplete += 1,
                        }
                        if let Some(destination) = self.assembled.get(name) {
                            snapshot.services.insert(name.clone(), Some(destination.clone()));
                        }
                    }
                },
                Demand::Gateway(name) => match self.gateways.get(name) {
                    None => incomplete += 1,
                    Some(None) => {
                        self.assembled_gateway = None;
                        snapshot.gateway = Some(None);
                    }
                    Some(Some(raw)) => {
                        match gateway::gateway(self, name, raw, &mut clusters) {
                            Ok(gateway) => self.assembled_gateway = Some(Arc::new(gateway)),
                            Err(assemble::Missing) => incomplete += 1,
                        }
                        snapshot.gateway = self.assembled_gateway.clone().map(Some);
                    }
                },
                Demand::Address(address) => match self.addresses.get(address) {
                    None => incomplete += 1,
                    Some(answer) => {
                        let place = answer.as_ref().and_then(|answer| assemble::place(address, answer));
                        snapshot.addresses.insert(address.clone(), place);
                    }
                },
            }
        }
        Assembled { snapshot, incomplete }
    }
}

fn decode<M: Message + Default>(any: &Any) -> Result<M, InvalidResource> {
    M::decode(any.value.as_slice()).map_err(|e| InvalidResource(format!("{}: {e}", any.type_url)))
}

/// The cluster type is used by [`assemble`] only.
type SharedCluster = Arc<Cluster>;
