//! What the mesh says to a question.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::interfaces;
use super::message::{Answer, Query, rcode, rtype};
use super::names::{self, Meaning};
use crate::model::{Demand, Destination};
use crate::state::Reader;
use crate::state::demand::{Demands, MOST_DEMANDS};

/// How long a name may take that the control plane has not been asked for yet. Resolvers in apps ask again after five seconds.
const WAIT: Duration = Duration::from_secs(2);
/// Names that are asked for on behalf of DNS. An app can look up as many as it likes; half of the table of demands stays free for
/// the destinations that it connects to.
const MOST_ASKED: usize = MOST_DEMANDS / 2;
/// A name that nobody has looked up for this long makes room for others; its demand has ended by itself before.
const FORGET: Duration = Duration::from_secs(900);
/// Whether there is IPv6 is looked at again after this.
const IPV6_KNOWN: Duration = Duration::from_secs(5);

/// What happens to a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The mesh answers.
    Answer(Answer),
    /// The original resolver does.
    Forward,
    /// The control plane has to be asked first, with [`Lookup::ask`].
    Ask {
        /// NAMESPACE/NAME.
        service: String,
        /// Whether nobody but the mesh may be asked.
        ours_alone: bool,
    },
}

/// The names of the mesh, as a sidecar of one namespace sees them.
pub struct Lookup {
    namespace: String,
    reader: Reader,
    demands: Demands,
    /// When each name was looked up last.
    asked: Mutex<HashMap<String, Instant>>,
    ipv6: Mutex<Option<(Instant, bool)>>,
}

impl Lookup {
    /// For a sidecar of `namespace`.
    pub fn new(namespace: String, reader: Reader, demands: Demands) -> Self {
        Self { namespace, reader, demands, asked: Mutex::default(), ipv6: Mutex::default() }
    }

    /// What is known of the question now.
    pub fn look(&self, query: &Query<'_>) -> Outcome {
        if !query.is_lookup() {
            return Outcome::Forward;
        }
        let Some(host) = query.host() else { return Outcome::Forward };
        let snapshot = self.reader.current();
        match names::meaning(&host, &self.namespace, &snapshot) {
            Meaning::Elsewhere => Outcome::Forward,
            Meaning::Nothing { zone_labels } => no_such_name(zone_labels),
            Meaning::Virtual { address, zone_labels } => match address.and_then(|a| names::name_of(a, &snapshot)) {
                Some(name) if query.rtype == rtype::PTR || query.rtype == rtype::ANY => {
                    Outcome::Answer(Answer { name: Some(name), ..Answer::default() })
                }
                Some(_) => Outcome::Answer(Answer::code(rcode::NO_ERROR, zone_labels)),
                None => no_such_name(zone_labels),
            },
            Meaning::Service { service, ours_alone } => match snapshot.services.get(&service) {
                Some(known) => {
                    self.keep(&service);
                    self.known(known.as_deref(), query.rtype, ours_alone)
                }
                None => Outcome::Ask { service, ours_alone },
            },
        }
    }

    /// Asks the control plane for a service, and waits until it has answered, cannot be reached, or takes too long.
    pub async fn ask(&self, service: &str, ours_alone: bool, rtype: u16) -> Outcome {
        let deadline = Instant::now() + WAIT;
        loop {
            let version = self.reader.version();
            if !self.keep(service) {
                return not_known(ours_alone);
            }
            if let Some(known) = self.reader.current().services.get(service) {
                return self.known(known.as_deref(), rtype, ours_alone);
            }
            let news = self.reader.changed(version);
            if self.reader.away() || tokio::time::timeout_at(deadline, news).await.is_err() {
                return not_known(ours_alone);
            }
        }
    }

    /// Demands a service, so that its name is known from now on. False: there is no room.
    fn keep(&self, service: &str) -> bool {
        let now = Instant::now();
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        match asked.get_mut(service) {
            Some(last) => *last = now,
            None => {
                if asked.len() >= MOST_ASKED {
                    asked.retain(|_, last| now.duration_since(*last) < FORGET);
                }
                if asked.len() >= MOST_ASKED {
                    return false;
                }
                asked.insert(service.to_owned(), now);
            }
        }
        drop(asked);
        let used = self.demands.want(&Demand::Service(service.to_owned()));
        used.map(|used| used.touch(self.demands.clock())).is_some()
    }

    /// The answer for a service of which the control plane has spoken.
    fn known(&self, destination: Option<&Destination>, rtype: u16, ours_alone: bool) -> Outcome {
        let Some(destination) = destination else {
            return if ours_alone { no_such_name(1) } else { Outcome::Forward };
        };
        if destination.addresses.is_empty() && !ours_alone {
            return Outcome::Forward;
        }
        let asks = |wanted: u16| rtype == wanted || rtype == rtype::ANY;
        let (mut v4, mut v6) = (None, None);
        for address in &destination.addresses {
            match address {
                IpAddr::V4(address) if asks(rtype::A) => v4 = v4.or(Some(*address)),
                IpAddr::V6(address) if asks(rtype::AAAA) && self.has_ipv6() => v6 = v6.or(Some(*address)),
                _ => {}
            }
        }
        // Without an address of the type that was asked for it is the name itself that says so.
        Outcome::Answer(Answer { v4, v6, zone_labels: usize::MAX, ..Answer::default() })
    }

    fn has_ipv6(&self) -> bool {
        let now = Instant::now();
        let mut known = self.ipv6.lock().unwrap_or_else(PoisonError::into_inner);
        match *known {
            Some((at, has)) if now.duration_since(at) < IPV6_KNOWN => has,
            _ => {
                let has = interfaces::has_ipv6(&interfaces::read());
                *known = Some((now, has));
                has
            }
        }
    }
}

fn no_such_name(zone_labels: usize) -> Outcome {
    Outcome::Answer(Answer::code(rcode::NO_SUCH_NAME, zone_labels))
}

/// Whether there is such a service cannot be said now. A name that others may have goes to them; "there is none" would be a lie
/// about the mesh's own, and would be remembered.
fn not_known(ours_alone: bool) -> Outcome {
    if ours_alone { Outcome::Answer(Answer::code(rcode::SERVER_FAILURE, 0)) } else { Outcome::Forward }
}

#[cfg(test)]
mod tests;
