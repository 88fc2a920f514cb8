//! A tunnel that CONNECT asks for (RFC 9110, 9.3.6; RFC 9113, 8.5): what opens it, and the connection that it becomes.

use std::sync::Arc;

use bytes::BytesMut;
use http::{Method, Request, Response};
use hyper::body::Incoming;
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;
use tokio::net::TcpStream;

use super::stream::{Cut, Http2Stream};
use super::{ResponseBody, upgrade};

/// A request for one.
#[derive(Debug)]
pub struct Tunnel {
    caller: OnUpgrade,
    stream: Option<Arc<Cut>>,
}

/// What carries it.
#[derive(Debug)]
pub enum Carrier {
    /// What is left of a connection of HTTP/1, and what was read of it already.
    Connection(TcpStream, BytesMut),
    /// A stream of HTTP/2.
    Stream(Http2Stream),
}

impl Tunnel {
    /// What a request asks for, and where it is to lead: a host and a port. None: it asks for none, or for a protocol in it.
    pub fn asked(request: &mut Request<Incoming>) -> Option<(Self, String)> {
        if request.method() != Method::CONNECT || request.extensions().get::<Protocol>().is_some() {
            return None;
        }
        let to = request.uri().authority()?.as_str().to_owned();
        let stream = (request.version() == http::Version::HTTP_2).then(Arc::default);
        Some((Self { caller: hyper::upgrade::on(request), stream }, to))
    }

    /// The answer that opens it.
    pub fn opened(&self) -> Response<ResponseBody> {
        let mut response = Response::new(ResponseBody::empty());
        if let Some(cut) = &self.stream {
            response.extensions_mut().insert(cut.clone());
        }
        response
    }

    /// What carries it, once the answer was given. None: the caller is gone.
    pub async fn carrier(self) -> Option<Carrier> {
        let carrier = self.caller.await.ok()?;
        if let Some(cut) = self.stream {
            return Some(Carrier::Stream(Http2Stream::new(carrier, cut)));
        }
        let (first, rest) = upgrade::plain(carrier).ok()?.into_parts();
        let (second, stream) = rest.into_parts();
        Some(Carrier::Connection(stream, BytesMut::from_iter(first.iter().chain(&second))))
    }
}
