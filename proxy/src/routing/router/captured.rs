//! Where a captured connection goes: from the address that it was on its way to, to a destination of the mesh or out of it.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use tokio::time::Instant;

use super::{LocalPort, RESOLVE, Router, remember};
use crate::error::Reason;
use crate::model::{self, Demand, Place, is_virtual};
use crate::routing::ServiceAddress;
use crate::state::demand::LastUsed;

/// Where a captured connection goes.
#[derive(Debug, Clone)]
pub enum Captured {
    /// To a destination of the mesh.
    Mesh(Rc<Destined>),
    /// To what is not in the mesh.
    Outside,
}

/// A destination that was found by the address of a connection.
#[derive(Debug)]
pub struct Destined {
    /// The destination, for its requests.
    pub address: Rc<ServiceAddress>,
    /// Its port.
    pub port: Rc<LocalPort>,
    /// The address itself is kept as long as it is used, beside what it leads to.
    used: Option<Arc<LastUsed>>,
}

impl Router {
    /// Where a connection goes that was on its way to `to` when it was captured.
    ///
    /// # Errors
    /// The control plane does not say, or it is a service's virtual address without such a port.
    pub async fn captured(&self, to: SocketAddr) -> Result<Captured, Reason> {
        self.refresh();
        if let Some(known) = self.captured.borrow().get(&to) {
            if let Captured::Mesh(destined) = known {
                self.touch(&destined.port);
                destined.used.iter().for_each(|used| used.touch(self.demands.clock()));
            }
            return Ok(known.clone());
        }
        let demand = Demand::Address(to.ip().to_string());
        let (place, used) = Box::pin(self.place(&demand)).await?;
        let found = match place {
            None if is_virtual(to.ip()) => return Err(Reason::UnknownService),
            None => None,
            Some(Place::Virtual(service)) => {
                let address = ServiceAddress { demand: Demand::Service(service), port: Some(to.port()) };
                Some((Box::pin(self.by_address(&address)).await?, address))
            }
            Some(Place::Host(host)) => model::host(&host, to).map(|cluster| {
                let address = ServiceAddress { demand, port: Some(to.port()) };
                (self.single(&Arc::new(cluster), &address, used.clone()), address)
            }),
            Some(Place::Shared | Place::Endpoint(_)) => {
                let address = ServiceAddress { demand: Demand::Address(to.to_string()), port: None };
                match Box::pin(self.by_address(&address)).await {
                    Ok(port) => Some((port, address)),
                    Err(Reason::UnknownService) => None,
                    Err(reason) => return Err(reason),
                }
            }
        };
        let found = found.map_or(Captured::Outside, |(port, address)| {
            Captured::Mesh(Rc::new(Destined { address: Rc::new(address), port, used }))
        });
        remember(&self.captured, to, found.clone());
        Ok(found)
    }

    /// What is at an address, and the mark that it is used.
    async fn place(&self, demand: &Demand) -> Result<(Option<Place>, Option<Arc<LastUsed>>), Reason> {
        let Demand::Address(text) = demand else { return Ok((None, None)) };
        let deadline = Instant::now() + RESOLVE;
        loop {
            self.refresh();
            let used = self.demands.want(demand);
            let known = self.snapshot.borrow().addresses.get(text).cloned();
            if let Some(place) = known {
                if let Some(used) = &used {
                    used.answered(place.is_some());
                }
                return Ok((place, used));
            }
            if self.reader.away() {
                return Err(Reason::NotResolved);
            }
            self.news(used.is_some(), deadline).await?;
        }
    }
}
