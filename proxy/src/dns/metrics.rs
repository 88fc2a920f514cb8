//! What is counted of DNS.

use leno_runtime::metrics::{Counter, Histogram, Registry};

/// The handles.
#[derive(Debug)]
pub struct Metrics {
    /// Answered by the mesh: an address, a name, or that there is none of this type.
    pub mesh: Counter,
    /// The mesh has no such name.
    pub no_such_name: Counter,
    /// Only the mesh may have the name, and whether it does is not known now.
    pub not_known: Counter,
    /// Answered by the original resolver.
    pub forwarded: Counter,
    /// The original resolvers said nothing in time.
    pub timed_out: Counter,
    /// Nobody listens where the original resolvers should be.
    pub unreachable: Counter,
    /// More queries at once than the bound.
    pub overloaded: Counter,
    /// Not a query.
    pub malformed: Counter,
    /// Queries of our own that came back to us.
    pub looped: Counter,
    /// Connections above the bound, closed at once.
    pub connections_refused: Counter,
    /// What the original resolvers take.
    pub forward_duration: Histogram,
}

impl Metrics {
    /// The handles in `registry`.
    pub fn new(registry: &Registry) -> Self {
        let queries = |answer: &str| registry.counter("leno_dns_queries_total", &[("answer", answer)]);
        Self {
            mesh: queries("mesh"),
            no_such_name: queries("no_such_name"),
            not_known: queries("not_known"),
            forwarded: queries("forwarded"),
            timed_out: queries("timed_out"),
            unreachable: queries("unreachable"),
            overloaded: queries("overloaded"),
            malformed: queries("malformed"),
            looped: queries("loop"),
            connections_refused: registry.counter("leno_dns_connections_refused_total", &[]),
            forward_duration: registry.histogram("leno_dns_forward_duration_seconds", &[]),
        }
    }
}
