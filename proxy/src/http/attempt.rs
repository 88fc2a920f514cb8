//! One attempt at a request on one connection, and what its failure means.

use std::cell::Cell;
use std::error::Error as _;
use std::rc::Rc;

use futures_util::{FutureExt, TryFutureExt};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, Version, header, uri};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;

use super::respond;
use crate::error::Reason;
use crate::model::fields;
use crate::model::{Peer, Policy};
use crate::resilience::breaker::Breaker;
use crate::resilience::replay::RequestBody;
use crate::telemetry::record::Stages;
use crate::tls::port_name::AppHttp;
use crate::upstream::{CASE_HEADER, Http1Pool, Http1Sender, Http1Unanswered, Http2Sender, LocalEndpoint, SharedDialer};

/// Pooled connections that turn out to be closed before a byte was sent are replaced this often, outside the retry budget.
const MOST_STALE: usize = 4;

/// An answer's head, and the connection to be given back after its body.
pub(super) struct Answer {
    pub(super) response: Response<Incoming>,
    pub(super) connection: Option<(Http1Sender, Rc<Http1Pool>)>,
}

/// Sends a request to an endpoint. It is in the form of HTTP/2: an absolute URI and no Host. It is taken where it lies, since this future is
/// moved about before it is sent.
pub(super) async fn send(
    dialer: &SharedDialer,
    endpoint: &LocalEndpoint,
    policy: &Policy,
    breaker: &Breaker,
    app: AppHttp,
    request: &mut Option<Request<RequestBody>>,
    stages: &Cell<Stages>,
) -> Result<Answer, Reason> {
    let sidecar = matches!(endpoint.endpoint.peer, Peer::Sidecar { .. });
    let multiplexed = app == AppHttp::H2 || sidecar;
    if !multiplexed {
        *request = request.take().map(to_http1).transpose()?;
    } else if !sidecar && let Some(request) = request {
        fields::remove(request.headers_mut(), &CASE_HEADER);
    }
    let mut stale = 0;
    loop {
        let sent = if multiplexed {
            let sender = endpoint.http2(dialer, app, policy, breaker, stages).await?;
            let Some(request) = request.take() else { return Err(Reason::UpstreamReset) };
            send_http2(sender, request).await.map(|response| Answer { response, connection: None })
        } else {
            let (sender, pool) = endpoint.http1(dialer, policy, breaker, stages).await?;
            let Some(request) = request.take() else { return Err(Reason::UpstreamReset) };
            // Boxed, as every way that is rarely taken.
            Box::pin(send_http1(sender, pool, request)).await
        };
        match sent {
            Ok(mut answer) => {
                if !sidecar {
                    // Only a sidecar may say that an app has not seen a request; from an app the header is hearsay.
                    respond::hearsay(answer.response.headers_mut());
                    if multiplexed {
                        fields::remove(answer.response.headers_mut(), &CASE_HEADER);
                    }
                }
                return Ok(answer);
            }
            Err((_, Some(unsent))) if stale < MOST_STALE => {
                stale += 1;
                *request = Some(*unsent);
            }
            Err((reason, _)) => return Err(reason),
        }
    }
}

/// Why an attempt failed, and the request itself when none of it was sent.
pub(super) type Unanswered = (Reason, Option<Box<Request<RequestBody>>>);

/// The request is given away at once: what waits for the answer is small.
pub(super) fn send_http2(
    mut sender: Http2Sender,
    request: Request<RequestBody>,
) -> impl Future<Output = Result<Response<Incoming>, Unanswered>> {
    sender.try_send_request(request).map_err(unanswered)
}

/// Likewise.
pub(super) fn send_http1(
    sender: Http1Sender,
    pool: Rc<Http1Pool>,
    request: Request<RequestBody>,
) -> impl Future<Output = Result<Answer, Unanswered>> {
    sender.try_send_request(request).map(|answered| match answered {
        // Nobody asked to go on in another protocol.
        Ok((response, _)) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
            Err((Reason::UpstreamProtocol, None))
        }
        Ok((mut response, sender)) => {
            one_length(response.headers_mut());
            Ok(Answer { response, connection: Some((sender, pool)) })
        }
        Err(error) => Err(unanswered_http1(error)),
    })
}

/// Of two lengths the chunks hold, and the other must not be passed on (RFC 9112, 6.3).
fn one_length(headers: &mut HeaderMap) {
    if fields::find(headers, &header::TRANSFER_ENCODING).is_some() {
        headers.remove(header::CONTENT_LENGTH);
    }
}

fn unanswered(mut error: TrySendError<Request<RequestBody>>) -> Unanswered {
    if let Some(request) = error.take_message() {
        return (Reason::Refused, Some(Box::new(request)));
    }
    (reason(&error.into_error()), None)
}

pub(super) fn unanswered_http1(error: Http1Unanswered) -> Unanswered {
    match error {
        Http1Unanswered::Unsent(request) => (Reason::Refused, Some(request)),
        Http1Unanswered::Failed(error) => (reason(&error), None),
    }
}

/// What hyper's error means. Only a stream that the peer says it has not begun counts as unseen.
fn reason(error: &hyper::Error) -> Reason {
    let h2 = error.source().and_then(|source| source.downcast_ref::<h2::Error>());
    if let Some(h2) = h2 {
        let untouched = h2.is_go_away() && h2.is_remote() && h2.reason() == Some(h2::Reason::NO_ERROR);
        if untouched || h2.reason() == Some(h2::Reason::REFUSED_STREAM) {
            return Reason::Refused;
        }
        return Reason::UpstreamReset;
    }
    if error.is_parse() || error.is_parse_too_large() {
        return Reason::UpstreamProtocol;
    }
    Reason::UpstreamReset
}

/// From the form of HTTP/2 to that of HTTP/1.1: origin-form and a Host (RFC 9112, 3.2.1).
pub(super) fn to_http1(mut request: Request<RequestBody>) -> Result<Request<RequestBody>, Reason> {
    let uri = std::mem::take(request.uri_mut());
    let uri::Parts { authority, path_and_query, .. } = uri.into_parts();
    if let Some(authority) = authority {
        let host = HeaderValue::from_str(authority.as_str()).map_err(|_| Reason::BadAuthority)?;
        request.headers_mut().insert(header::HOST, host);
    }
    *request.uri_mut() = path_and_query.map_or_else(|| Uri::from_static("/"), Uri::from);
    *request.version_mut() = Version::HTTP_11;
    // A body of unknown length, whatever the method: hyper would leave that of a GET out.
    if !matches!(request.body(), RequestBody::Empty) && !request.headers().contains_key(header::CONTENT_LENGTH) {
        request.headers_mut().insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    join_cookies(request.headers_mut());
    Ok(request)
}

/// HTTP/2 may send a cookie in pieces, HTTP/1.1 must not (RFC 9113, 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut crumbs = headers.get_all(header::COOKIE).iter();
    let (Some(first), Some(second)) = (crumbs.next(), crumbs.next()) else { return };
    let mut whole = first.as_bytes().to_vec();
    for crumb in std::iter::once(second).chain(crumbs) {
        whole.extend_from_slice(b"; ");
        whole.extend_from_slice(crumb.as_bytes());
    }
    if let Ok(whole) = HeaderValue::from_bytes(&whole) {
        headers.insert(header::COOKIE, whole);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(headers: &[(&'static str, &'static str)]) -> Request<RequestBody> {
        let mut request = Request::get("http://web/a?b").body(RequestBody::Empty).unwrap();
        for (name, value) in headers {
            request.headers_mut().append(*name, HeaderValue::from_static(value));
        }
        request
    }

    #[test]
    fn a_request_takes_the_form_of_http_1() {
        let sent = to_http1(request(&[("cookie", "a=1"), ("cookie", "b=2")])).unwrap();
        assert_eq!(sent.uri(), "/a?b");
        assert_eq!(sent.headers()["host"], "web");
        assert_eq!(sent.headers().get_all("cookie").iter().collect::<Vec<_>>(), ["a=1; b=2"]);
        assert!(!sent.headers().contains_key("transfer-encoding"));
    }

    #[test]
    fn an_answer_with_two_lengths_keeps_the_one_that_holds() {
        let mut headers = request(&[("content-length", "1"), ("transfer-encoding", "chunked")]).headers().clone();
        one_length(&mut headers);
        assert!(!headers.contains_key("content-length"));
        let mut headers = request(&[("content-length", "1")]).headers().clone();
        one_length(&mut headers);
        assert!(headers.contains_key("content-length"));
    }
}
