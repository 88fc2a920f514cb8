//! The health port's HTTP: `/probe/CONTAINER/KIND` and `/ready`.

use std::convert::Infallible;
use std::net::TcpListener;
use std::time::Duration;

use ::http::{HeaderValue, Method, Request, Response, StatusCode, header};
use bytes::Bytes;
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use leno_runtime::drain::DrainWatch;
use leno_runtime::ready::Readiness;
use tokio::net::TcpStream;

use super::places::Places;
use super::run::Checks;

/// How long a client may take to send its request head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a client may take to read its answer, which is one packet.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest request head.
const MOST_HEAD: usize = 16 << 10;

/// What the health port answers from.
#[derive(Debug, Clone)]
pub struct Health {
    /// Behind `/probe/CONTAINER/KIND`.
    pub checks: Checks,
    /// Behind `/ready`: the sidecar's own, which kubelet asks before it starts the app.
    pub readiness: Readiness,
}

/// Serves the health port until the drain starts.
pub async fn serve(listener: TcpListener, health: Health, drain: DrainWatch) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "the health port cannot be served");
            return;
        }
    };
    let places = Places::default();
    loop {
        let (stream, from) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors, mostly: wait for some to come back instead of spinning.
                    tracing::warn!(%error, "the health port cannot accept");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
            () = drain.signaled() => return,
        };
        // Over the bound the connection is closed: whoever is in earnest asks again.
        let Some(place) = places.take(from.ip()) else { continue };
        let health = health.clone();
        tokio::spawn(async move {
            converse(stream, health).await;
            drop(place);
        });
    }
}

/// One request and its answer. A check's own timeout bounds the time between.
async fn converse(stream: TcpStream, health: Health) {
    let (answered, mut done) = tokio::sync::watch::channel(false);
    let service = service_fn(move |request| {
        let (health, answered) = (health.clone(), answered.clone());
        async move {
            let response = answer(&health, &request).await;
            answered.send_replace(true);
            Ok::<_, Infallible>(response)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MOST_HEAD)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    let too_slow = async {
        // The sender lives in the service, which lives as long as the connection.
        let _ = done.wait_for(|answered| *answered).await;
        tokio::time::sleep(ANSWER_TIMEOUT).await;
    };
    tokio::select! {
        _ = connection => {}
        () = too_slow => {}
    }
}

async fn answer<B>(health: &Health, request: &Request<B>) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return reply(StatusCode::METHOD_NOT_ALLOWED, "only GET is served here".to_owned());
    }
    let path = request.uri().path();
    if path == "/ready" {
        return match health.readiness.pending()[..] {
            [] => reply(StatusCode::OK, "ready".to_owned()),
            ref pending => {
                reply(StatusCode::SERVICE_UNAVAILABLE, format!("not ready, waiting for: {}", pending.join(", ")))
            }
        };
    }
    let agent = request.headers().get(header::USER_AGENT).cloned();
    let agent = agent.unwrap_or(HeaderValue::from_static("leno-proxy"));
    let verdict = match path.strip_prefix("/probe/") {
        Some(name) => health.checks.make(name, agent).await,
        None => None,
    };
    match verdict {
        Some(Ok(())) => reply(StatusCode::OK, "ok".to_owned()),
        Some(Err(reason)) => reply(StatusCode::SERVICE_UNAVAILABLE, reason.to_string()),
        None => reply(StatusCode::NOT_FOUND, "there is no such check; there is /ready".to_owned()),
    }
}

fn reply(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text + "\n")));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}
