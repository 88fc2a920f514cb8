//! The ports that the local app is configured for: the HTTP proxy, and those that lead to one service.

use std::rc::Rc;

use bytes::BytesMut;
use tokio::net::TcpStream;

use super::forward::{FIRST_BYTES, Forwarder};
use crate::detect::{self, Prefixed};
use crate::error::Reason;
use crate::routing::{Router, ServiceAddress};

/// The HTTP proxy port.
#[derive(Debug, Clone)]
pub struct ProxyListener {
    /// Carries the connections.
    pub forwarder: Rc<Forwarder>,
}

impl ProxyListener {
    /// Serves one connection to its end.
    pub async fn serve(self, mut stream: TcpStream) {
        let mut read = BytesMut::with_capacity(1024);
        let detected = tokio::time::timeout(FIRST_BYTES, detect::read(&mut stream, &mut read)).await;
        let Ok(Ok(detected)) = detected else { return };
        self.forwarder.proxy(detected, Prefixed::new(read, stream)).await;
    }
}

/// A local port that leads to one service.
#[derive(Debug, Clone)]
pub struct LocalListener {
    /// The service.
    pub address: Rc<ServiceAddress>,
    /// Where its endpoints are.
    pub router: Rc<Router>,
    /// Carries the connections.
    pub forwarder: Rc<Forwarder>,
}

impl LocalListener {
    /// Serves one connection to its end.
    pub async fn serve(self, stream: TcpStream) {
        if let Err(reason) = self.route(stream).await {
            self.forwarder.failed(reason, &self.address.demand);
        }
    }

    async fn route(&self, stream: TcpStream) -> Result<(), Reason> {
        match self.router.by_address(&self.address).await {
            Ok(port) => self.forwarder.carry(&self.address, &port, stream).await,
            // An HTTP client can be told why; the service's protocol is not known, so its bytes decide.
            Err(reason) => self.forwarder.refuse(stream, BytesMut::new(), reason).await,
        }
    }
}
