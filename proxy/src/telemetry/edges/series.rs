//! Edges as Prometheus sees them: by the account of the caller, and not by its address or the port that it comes to.

use std::sync::{Arc, OnceLock};

use leno_certs::SpiffeId;
use leno_runtime::metrics::{Counter, Registry};

use super::Peer;
use crate::telemetry::{CLASSES, class};

/// Who is called.
#[derive(Debug, Default)]
pub struct Called {
    /// Where it is counted.
    pub registry: Registry,
    /// NAMESPACE/NAME of the service.
    pub service: String,
    /// The workload's label `version`.
    pub version: String,
}

/// The series of one edge; each is made with the first that is counted in it.
#[derive(Debug, Default)]
pub(super) struct Series {
    called: Arc<Called>,
    namespace: String,
    account: String,
    mtls: &'static str,
    by_class: [OnceLock<Counter>; CLASSES.len()],
    connections: [OnceLock<Counter>; 2],
}

impl Called {
    pub(super) fn series(self: &Arc<Self>, of: &Peer) -> Series {
        let proven = match of {
            Peer::Proven(id) => SpiffeId::parse(id).ok(),
            _ => None,
        };
        let (namespace, account) = proven.as_ref().map_or(("", "unknown"), |id| (id.namespace(), id.service_account()));
        let mtls = match of {
            Peer::Proven(_) => "true",
            Peer::Plaintext(_) => "false",
            Peer::Others => "unknown",
        };
        let (namespace, account) = (namespace.to_owned(), account.to_owned());
        Series { called: self.clone(), namespace, account, mtls, ..Series::default() }
    }
}

impl Series {
    pub(super) fn answered(&self, code: u16) {
        let class = class(code);
        let made = || self.counter("leno_edge_requests_total", ("class", CLASSES[class]));
        self.by_class[class].get_or_init(made).inc();
    }

    pub(super) fn opened(&self, well: bool) {
        let result = if well { "accepted" } else { "refused" };
        let made = || self.counter("leno_edge_connections_total", ("result", result));
        self.connections[usize::from(well)].get_or_init(made).inc();
    }

    fn counter(&self, name: &'static str, last: (&'static str, &str)) -> Counter {
        let labels = [
            ("source_namespace", self.namespace.as_str()),
            ("source_workload", &self.account),
            ("service", &self.called.service),
            ("version", &self.called.version),
            ("mtls", self.mtls),
            last,
        ];
        self.called.registry.counter(name, &labels)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::telemetry::{EdgeKey, Edges, Spoken};

    #[test]
    fn a_caller_is_counted_by_its_account_whatever_its_port_and_address() {
        let registry = Registry::new();
        let called = Called { registry: registry.clone(), service: "shop/web".into(), version: "v2".into() };
        let edges = Edges::of_app(called);
        let edge = |peer, port| edges.of(EdgeKey { peer, port, spoken: Spoken::Http });
        let proven = || Peer::Proven("spiffe://mesh/ns/front/sa/shop".into());
        edge(proven(), 80).answered(200, Duration::ZERO);
        edge(proven(), 81).answered(201, Duration::ZERO);
        edge(proven(), 81).answered(503, Duration::ZERO);
        edge(Peer::Plaintext([10, 0, 0, 1].into()), 80).answered(200, Duration::ZERO);
        edge(Peer::Plaintext([10, 0, 0, 2].into()), 80).opened(false);
        let page = registry.render();
        let of = r#"service="shop/web",version="v2""#;
        for line in [
            format!(
                r#"leno_edge_requests_total{{source_namespace="front",source_workload="shop",{of},mtls="true",class="2xx"}} 2"#
            ),
            format!(
                r#"leno_edge_requests_total{{source_namespace="front",source_workload="shop",{of},mtls="true",class="5xx"}} 1"#
            ),
            format!(
                r#"leno_edge_requests_total{{source_namespace="",source_workload="unknown",{of},mtls="false",class="2xx"}} 1"#
            ),
            format!(
                r#"leno_edge_connections_total{{source_namespace="",source_workload="unknown",{of},mtls="false",result="refused"}} 1"#
            ),
        ] {
            assert!(page.lines().any(|l| l == line), "{line} is not in\n{page}");
        }
    }
}
