//! A request to go on in another protocol (RFC 9110, 7.8), such as WebSocket. It gets a connection of its own as far as the app,
//! and once the app has agreed by 101, and not before, bytes are carried both ways unseen. On HTTP/2 it is CONNECT with a protocol (RFC 8441),
//! which becomes one of HTTP/1.1 here, as apps know it.

use std::rc::Rc;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header, request};
use hyper::body::Incoming;
use hyper::ext::Protocol;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use leno_runtime::drain::DrainGuard;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::guard::Guard;
use super::scan::is_other_protocol;
use super::stream::{Cut, Http2Stream};
use super::{attempt, websocket};
use crate::detect::Prefixed;
use crate::error::Reason;
use crate::model::fields;
use crate::resilience::replay::RequestBody;
use crate::tcp::{self, Held, Reached};
use crate::telemetry::ServiceMetrics;
use crate::tls::{Watched, revoked};
use crate::upstream::{Heeded, Io, http1_handshake};

/// The protocols that a request asks to go on in.
pub(super) fn asked<B>(request: &Request<B>) -> Option<HeaderValue> {
    if request.method() != Method::CONNECT {
        return wanted(request.version(), request.headers());
    }
    let protocol = request.extensions().get::<Protocol>()?.as_str();
    HeaderValue::from_str(protocol).ok().filter(|_| is_other_protocol(protocol.as_bytes()) && !protocol.contains(','))
}

/// What a request on a stream of HTTP/2 has to be answered with.
pub(super) struct Streamed {
    cut: Arc<Cut>,
    /// Where it asks for WebSocket.
    proof: Option<HeaderValue>,
}

/// Makes a request of HTTP/1.1 of one that asks on a stream of HTTP/2. None: it does not.
pub(super) fn as_http1(parts: &mut request::Parts, protocol: &HeaderValue) -> Option<Streamed> {
    if parts.method != Method::CONNECT {
        return None;
    }
    parts.method = Method::GET;
    parts.extensions.remove::<Protocol>();
    let websocket = protocol.as_bytes().eq_ignore_ascii_case(b"websocket");
    let proof = websocket.then(|| websocket::ask(&mut parts.headers));
    Some(Streamed { cut: Arc::default(), proof })
}

impl Streamed {
    /// Whether an answer may be passed on. One of success that does not agree would be taken for one that does.
    pub(super) fn fits(&self, response: &mut Response<Incoming>) -> bool {
        match &self.proof {
            _ if !agreed(response) => !response.status().is_success(),
            Some(proof) => websocket::is_proven(response.headers_mut(), proof),
            None => true,
        }
    }

    /// The answer of an app that has agreed.
    pub(super) fn say<B>(&self, response: &mut Response<B>) {
        *response.status_mut() = StatusCode::OK;
        response.extensions_mut().insert(self.cut.clone());
    }

    /// Who asked.
    pub(super) fn caller(&self, caller: OnUpgrade) -> Caller {
        Caller::Stream(caller, self.cut.clone())
    }
}

/// Whoever asked, once the answer was written.
pub(super) enum Caller {
    /// On a connection of its own.
    Connection(OnUpgrade),
    /// On a stream.
    Stream(OnUpgrade, Arc<Cut>),
}

/// The same of HTTP/1.1, without those that are passed over.
fn wanted(version: Version, headers: &HeaderMap) -> Option<HeaderValue> {
    let offered = fields::find(headers, &header::UPGRADE).filter(|_| version == Version::HTTP_11)?;
    let asked = |value: &HeaderValue| {
        value.to_str().is_ok_and(|value| value.split(',').any(|word| word.trim().eq_ignore_ascii_case("upgrade")))
    };
    if !headers.get_all(header::CONNECTION).iter().any(asked) {
        return None;
    }
    let offers = offered.as_bytes().split(|b| *b == b',').map(<[u8]>::trim_ascii);
    let (passed, over): (Vec<_>, Vec<_>) = offers.partition(|offer| is_other_protocol(offer));
    if over.is_empty() {
        Some(offered.clone())
    } else {
        HeaderValue::from_bytes(&passed.join(&b", "[..])).ok().filter(|to| !to.is_empty())
    }
}

/// Sends the request on a connection of its own. It is in the form of HTTP/2, without what belongs to one connection.
pub(super) async fn send(
    reached: Reached,
    request: Request<RequestBody>,
    protocol: HeaderValue,
) -> Result<(Response<Incoming>, Held, Rc<ServiceMetrics>, Option<Watched>), Reason> {
    let Reached { io, metrics, in_flight, watched } = reached;
    let mut request = attempt::to_http1(request)?;
    say(request.headers_mut(), protocol);
    let sender = http1_handshake(io).await?;
    let (response, _) = tokio::select! {
        answered = sender.try_send_request(request) => answered.map_err(|error| attempt::unanswered_http1(error).0)?,
        () = revoked(watched.clone()) => return Err(Reason::UpstreamReset),
    };
    Ok((response, in_flight, metrics, watched))
}

/// What both messages of an upgrade have.
pub(super) fn say(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, protocol);
}

/// Whether the app has agreed.
pub(super) fn agreed(response: &Response<Incoming>) -> bool {
    response.status() == StatusCode::SWITCHING_PROTOCOLS
}

/// Both ends of an upgraded connection, and what is held as long as it lives.
pub(super) struct Tunnel {
    pub(super) caller: Caller,
    pub(super) app: OnUpgrade,
    pub(super) metrics: Rc<ServiceMetrics>,
    pub(super) in_flight: Held,
    pub(super) watched: Option<Watched>,
    pub(super) guard: DrainGuard,
}

impl Tunnel {
    /// Carries bytes until both ends have ended. The caller's end is there once the answer was written to it.
    pub(super) async fn run(self) {
        let unknown = || tracing::error!("an upgraded connection is of a kind that no listener or dialler makes");
        let (caller, cut) = match self.caller {
            Caller::Connection(caller) => (caller, None),
            Caller::Stream(caller, cut) => (caller, Some(cut)),
        };
        let (Ok(caller), Ok(app)) = (caller.await, self.app.await) else { return };
        let Some(app) = upstream(app) else { return unknown() };
        let gone = revoked(self.watched);
        if let Some(cut) = cut {
            tcp::copy_until(Http2Stream::new(caller, cut), app, &self.metrics, gone).await;
            return drop((self.in_flight, self.guard));
        }
        match plain(caller) {
            Ok(caller) => tcp::copy_until(caller, app, &self.metrics, gone).await,
            Err(caller) => match over_tls(caller) {
                Ok(caller) => tcp::copy_until(caller, app, &self.metrics, gone).await,
                Err(caller) => match in_tunnel(caller) {
                    Some(caller) => tcp::copy_until(caller, app, &self.metrics, gone).await,
                    None => unknown(),
                },
            },
        }
        drop((self.in_flight, self.guard));
    }
}

/// The local app's connection, with what it sent behind its request in front.
pub(super) fn plain(upgraded: Upgraded) -> Result<Prefixed<Prefixed<TcpStream>>, Upgraded> {
    let parts = upgraded.downcast::<TokioIo<Guard<Prefixed<TcpStream>>>>()?;
    Ok(parts.io.into_inner().into_inner(&parts.read_buf))
}

/// A connection of a Gateway's client, likewise.
fn over_tls(upgraded: Upgraded) -> Result<Prefixed<Prefixed<TlsStream<Prefixed<TcpStream>>>>, Upgraded> {
    let parts = upgraded.downcast::<TokioIo<Guard<Prefixed<TlsStream<Prefixed<TcpStream>>>>>>()?;
    Ok(parts.io.into_inner().into_inner(&parts.read_buf))
}

/// One in a tunnel that is a stream, likewise.
fn in_tunnel(upgraded: Upgraded) -> Option<Prefixed<Prefixed<Http2Stream>>> {
    let parts = upgraded.downcast::<TokioIo<Guard<Prefixed<Http2Stream>>>>().ok()?;
    Some(parts.io.into_inner().into_inner(&parts.read_buf))
}

fn upstream(upgraded: Upgraded) -> Option<Prefixed<Io>> {
    let parts = upgraded.downcast::<TokioIo<Heeded<Io>>>().ok()?;
    Some(Prefixed::of(parts.read_buf, parts.io.into_inner().into_inner()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_wish_for_another_protocol_is_one() {
        let headers = |fields: &[(&'static str, &'static str)]| -> HeaderMap {
            fields.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
        };
        let websocket = headers(&[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")]);
        assert_eq!(wanted(Version::HTTP_11, &websocket).unwrap(), "websocket");
        assert_eq!(wanted(Version::HTTP_10, &websocket), None, "RFC 9110, 7.8");
        assert_eq!(wanted(Version::HTTP_2, &websocket), None, "RFC 9113, 8.2.2");
        assert_eq!(wanted(Version::HTTP_11, &headers(&[("upgrade", "websocket")])), None);
        for (offered, passed) in [
            ("h2c", None),
            ("H2C, HTTP/2.0", None),
            ("TLS/1.2,h2", None),
            ("h2c, websocket", Some("websocket")),
            ("websocket,h2c, x/1", Some("websocket, x/1")),
            ("websocket, x", Some("websocket, x")),
        ] {
            let asked = headers(&[("connection", "upgrade"), ("upgrade", offered)]);
            assert_eq!(wanted(Version::HTTP_11, &asked).as_ref().map(HeaderValue::as_bytes), passed.map(str::as_bytes));
        }
    }
}
