//! The Gateway that this sidecar serves: from a port and a host to the listener, and from there to the routes of that host.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use leno_certs::tls::edge::EdgeClients;

use super::{LocalPort, Router, Split};
use crate::error::Reason;
use crate::model::{
    AppProtocol, Backend, Candidate, Family, Gateway, GatewayPort, HostMap, Hostname, HttpRule, Listener,
    ListenerProtocol, ListenerTls, Policy,
};
use crate::telemetry::ListenerMetrics;

/// Where a client's connection came in.
#[derive(Debug)]
pub struct EdgeAddress {
    /// The Gateway's port.
    pub port: u16,
    /// None: in the clear.
    pub tls: Option<Shown>,
}

/// What was said in a handshake.
#[derive(Debug)]
pub struct Shown {
    /// By the client, in lower case.
    pub server_name: Option<String>,
    /// What was asked of the client.
    pub clients: Option<Arc<EdgeClients>>,
}

/// One port of the Gateway, for one worker.
#[derive(Debug)]
pub struct EdgePort {
    /// What its connections are.
    pub family: Family,
    by_host: HostMap<Rc<EdgeListener>>,
}

/// One listener, for one worker.
#[derive(Debug)]
pub struct EdgeListener {
    /// What it speaks.
    pub protocol: ListenerProtocol,
    /// Set where TLS ends here.
    pub tls: Option<ListenerTls>,
    /// What is counted for it.
    pub metrics: ListenerMetrics,
    http: HostMap<Rc<LocalPort>>,
    opaque: HostMap<Rc<LocalPort>>,
}

impl EdgePort {
    /// The listener of a host: of several the one with the most specific hostname, and then no other.
    pub fn listener(&self, host: &str) -> Option<&Rc<EdgeListener>> {
        self.by_host.get(host)
    }
}

impl EdgeListener {
    /// Where the connections of a server name go that are no HTTP. Without one it is whatever holds for all.
    pub fn opaque(&self, server_name: &str) -> Option<&Rc<LocalPort>> {
        self.opaque.get(server_name)
    }
}

impl Router {
    /// What is served on a port of the Gateway. None: nothing, or the Gateway is not known.
    pub fn edge_port(&self, number: u16) -> Option<Rc<EdgePort>> {
        self.refresh();
        if let Some(known) = self.edge.borrow().get(&number) {
            return Some(known.clone());
        }
        let snapshot = self.snapshot.borrow();
        let gateway = snapshot.gateway.as_ref()?.as_ref()?;
        let made = Rc::new(self.made(gateway, gateway.ports.get(&number)?, number));
        self.edge.borrow_mut().insert(number, made.clone());
        Some(made)
    }

    /// The routes for a request to this host, in lower case and without a port.
    ///
    /// # Errors
    /// No listener or no route has the host; or the connection was made for another listener than the host's (GEP-3567).
    pub fn by_edge(&self, at: &EdgeAddress, host: &str) -> Result<Rc<LocalPort>, Reason> {
        let port = self.edge_port(at.port).ok_or(Reason::NoRoute)?;
        let listener = port.listener(host).ok_or(Reason::NoRoute)?;
        match (&at.tls, listener.protocol) {
            (None, ListenerProtocol::Http) => {}
            (Some(shown), ListenerProtocol::Https) if shown.is_for(&port, listener) => {}
            // Or the port was given to something else since.
            _ => return Err(Reason::Misdirected),
        }
        listener.metrics.requests.inc();
        listener.http.get(host).cloned().ok_or(Reason::NoRoute)
    }

    fn made(&self, gateway: &Gateway, port: &GatewayPort, number: u16) -> EdgePort {
        let mut parts = Parts { router: self, number, rules: HashMap::new() };
        let mut by_host = HostMap::default();
        for listener in &port.listeners {
            by_host.insert(&listener.hostname, Rc::new(parts.listener(listener, &gateway.name)));
        }
        EdgePort { family: port.family, by_host }
    }
}

impl Shown {
    /// Whether the handshake was the listener's own. What is asked of clients may have changed since.
    fn is_for(&self, port: &EdgePort, listener: &Rc<EdgeListener>) -> bool {
        let name = self.server_name.as_deref().unwrap_or_default();
        let chosen = port.listener(name).is_some_and(|chosen| Rc::ptr_eq(chosen, listener));
        let asked = listener.tls.as_ref().and_then(|tls| tls.clients.as_ref());
        chosen
            && match (&self.clients, asked) {
                (None, None) => true,
                (Some(then), Some(now)) => Arc::ptr_eq(then, now) || then == now,
                _ => false,
            }
    }
}

/// What the listeners of one port are made with.
struct Parts<'a> {
    router: &'a Router,
    number: u16,
    /// Splits that were made already.
    rules: HashMap<*const HttpRule, Rc<Split>>,
}

impl Parts<'_> {
    fn listener(&mut self, listener: &Listener, gateway: &str) -> EdgeListener {
        let mut opaque = HostMap::default();
        for (hostname, backends) in &listener.tls_routes {
            opaque.insert(hostname, Rc::new(self.opaque(backends)));
        }
        if let Some(backends) = &listener.tcp {
            opaque.insert(&Hostname::Any, Rc::new(self.opaque(backends)));
        }
        EdgeListener {
            protocol: listener.protocol,
            tls: listener.tls.clone(),
            metrics: ListenerMetrics::new(self.router.clusters.registry(), gateway, &listener.name),
            http: self.http(&listener.http),
            opaque,
        }
    }

    /// Each hostname's matches, and behind them those of the next less specific one. So the less specific are made first.
    fn http(&mut self, hosts: &[(Hostname, Vec<Candidate>)]) -> HostMap<Rc<LocalPort>> {
        let length = |hostname: &Hostname| match hostname {
            Hostname::Any => (0, 0),
            Hostname::Below(suffix) => (1, suffix.len()),
            Hostname::Exact(_) => (2, 0),
        };
        let mut ordered: Vec<_> = hosts.iter().collect();
        ordered.sort_by_key(|(hostname, _)| length(hostname));
        let mut map: HostMap<Rc<LocalPort>> = HostMap::default();
        for (hostname, candidates) in ordered {
            let less_specific = map.less_specific(hostname).cloned();
            let candidates = candidates.iter().map(|candidate| {
                let backends = &candidate.rule.backends;
                let made = || Rc::new(self.router.split(Some(candidate.rule.clone()), backends, &sticky(backends)));
                let split = self.rules.entry(Arc::as_ptr(&candidate.rule)).or_insert_with(made);
                (candidate.clone(), split.clone())
            });
            let candidates = candidates.collect();
            map.insert(
                hostname,
                Rc::new(self.port(candidates, Rc::new(self.router.split(None, &[], &None)), less_specific)),
            );
        }
        map
    }

    fn opaque(&self, backends: &[Backend]) -> LocalPort {
        self.port(Vec::new(), Rc::new(self.router.split(None, backends, &sticky(backends))), None)
    }

    fn port(
        &self,
        candidates: Vec<(Candidate, Rc<Split>)>,
        own: Rc<Split>,
        less_specific: Option<Rc<LocalPort>>,
    ) -> LocalPort {
        LocalPort {
            number: self.number,
            protocol: AppProtocol::Detect,
            budget: None,
            learned: Rc::default(),
            routed: true,
            matches_host: candidates.iter().any(|(candidate, _)| candidate.matches.asks_for_host())
                || less_specific.as_ref().is_some_and(|port| port.matches_host),
            candidates,
            less_specific,
            tls: None,
            tcp: own.clone(),
            own,
            used: None,
        }
    }
}

/// A Gateway has no policy of its own: of a rule's backends the first whose Service asks for it makes the split sticky.
fn sticky(backends: &[Backend]) -> Option<Arc<Policy>> {
    backends.iter().filter_map(Backend::policy).find(|policy| policy.balancing.sticky_splits).cloned()
}
