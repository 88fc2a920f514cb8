//! The sidecar's own ports.

use std::collections::BTreeSet;
use std::rc::Rc;

/// A redirected connection that was on its way to one of these would go round in a circle, or come in by a back door.
#[derive(Debug, Clone)]
pub struct OwnPorts(Rc<BTreeSet<u16>>);

impl OwnPorts {
    /// These ports.
    pub fn new(ports: impl IntoIterator<Item = u16>) -> Self {
        Self(Rc::new(ports.into_iter().collect()))
    }

    /// Whether a port is one of them.
    pub fn contains(&self, port: u16) -> bool {
        self.0.contains(&port)
    }
}
