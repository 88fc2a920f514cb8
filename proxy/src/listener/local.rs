//! The ports that the local app is configured for: the HTTP proxy, and those that lead to one service.

use std::rc::Rc;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::forward::{FIRST_BYTES, Forwarder};
use crate::detect::{self, Detected, Prefixed};
use crate::error::Reason;
use crate::http::tunnel;
use crate::routing::{Router, ServiceAddress, parse_authority};

/// Tells an HTTP client that a tunnel was opened.
const OPENED: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";
/// What stands in the place of a CONNECT that is refused, so that it is answered as every other request.
const REFUSED: &[u8] = b"GET / HTTP/1.1\r\nhost: refused\r\nconnection: close\r\n\r\n";

/// The HTTP proxy port.
#[derive(Debug, Clone)]
pub struct ProxyListener {
    /// Of the sidecar: a bare name is of it.
    pub namespace: Rc<str>,
    /// Where a tunnel leads.
    pub router: Rc<Router>,
    /// Carries the connections.
    pub forwarder: Rc<Forwarder>,
}

impl ProxyListener {
    /// Serves one connection to its end.
    pub async fn serve(self, mut stream: TcpStream) {
        let mut read = BytesMut::with_capacity(1024);
        let detected = tokio::time::timeout(FIRST_BYTES, detect::read(&mut stream, &mut read)).await;
        let Ok(Ok(detected)) = detected else { return };
        if detected == Detected::Http1 && tunnel::begins(&read) {
            // Boxed, as every way that is rarely taken.
            return Box::pin(self.tunnel(stream, read)).await;
        }
        self.forwarder.proxy(detected, Prefixed::new(read, stream)).await;
    }

    /// Serves a CONNECT (RFC 9110, 9.3.6): what comes behind its head is carried as at a local port of the service that it names.
    /// Only the first request of a connection can be one.
    async fn tunnel(&self, mut stream: TcpStream, mut read: BytesMut) {
        let opened = async {
            let authority = tokio::time::timeout(FIRST_BYTES, head(&mut stream, &mut read)).await;
            let authority = authority.unwrap_or(Err(Reason::HeadTimeout))?;
            let address = parse_authority(&authority, &self.namespace).ok_or(Reason::UnknownService)?;
            let port = self.router.by_address(&address).await?;
            stream.write_all(OPENED).await.map_err(|_| Reason::DownstreamReset)?;
            Ok((Rc::new(address), port))
        };
        let served = match opened.await {
            Ok((address, port)) => self.forwarder.carry(&address, &port, stream, read).await,
            Err(reason) => self.forwarder.refuse(stream, REFUSED.into(), reason).await,
        };
        if let Err(reason) = served {
            self.forwarder.failed(reason, &"CONNECT");
        }
    }
}

/// Reads a CONNECT's head, and nothing that stands behind it is taken away. Gives what it names.
async fn head(stream: &mut TcpStream, read: &mut BytesMut) -> Result<String, Reason> {
    loop {
        if let Some((authority, length)) = tunnel::target(read)? {
            read.advance(length);
            return Ok(authority);
        }
        if stream.read_buf(read).await.map_err(|_| Reason::DownstreamReset)? == 0 {
            return Err(Reason::DownstreamReset);
        }
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
            Ok(port) => self.forwarder.carry(&self.address, &port, stream, BytesMut::with_capacity(1024)).await,
            // An HTTP client can be told why; the service's protocol is not known, so its bytes decide.
            Err(reason) => self.forwarder.refuse(stream, BytesMut::new(), reason).await,
        }
    }
}
