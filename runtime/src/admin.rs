//! The admin port: `/ready`, `/live`, `/metrics`, `/config_dump`.

use std::convert::Infallible;
use std::fmt;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::Semaphore;

use crate::drain::DrainWatch;
use crate::metrics::Registry;
use crate::ready::Readiness;

/// Connections that are served at once; further ones wait in the kernel's queue.
const MOST_CONNECTIONS: usize = 64;
/// How long a client may take to send its request head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection that has lived this long is closed, so that idle ones cannot hold all places.
const MOST_LIFE: Duration = Duration::from_secs(60);

/// What the admin port shows.
#[derive(Clone)]
pub struct Admin {
    /// Behind `/ready`.
    pub readiness: Readiness,
    /// Behind `/metrics`.
    pub metrics: Registry,
    /// Behind `/config_dump`. It must not hold a secret.
    pub config_dump: Arc<dyn Fn() -> serde_json::Value + Send + Sync>,
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").field("readiness", &self.readiness).finish_non_exhaustive()
    }
}

/// Serves the admin port until the drain starts.
pub async fn serve(listener: TcpListener, admin: Admin, drain: DrainWatch) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "the admin port cannot be served");
            return;
        }
    };
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of file descriptors, mostly: wait for some to come back instead of spinning.
                    tracing::warn!(%error, "the admin port cannot accept");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
            () = drain.signaled() => return,
        };
        let admin = admin.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let response = answer(&admin, &request);
                async move { Ok::<_, Infallible>(response) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service);
            let _ = tokio::time::timeout(MOST_LIFE, connection).await;
            drop(place);
        });
    }
}

fn answer<B>(admin: &Admin, request: &Request<B>) -> Response<Full<Bytes>> {
    const TEXT: &str = "text/plain; charset=utf-8";
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return reply(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET is served here\n".to_owned());
    }
    match request.uri().path() {
        "/live" => reply(StatusCode::OK, TEXT, "live\n".to_owned()),
        "/ready" => match admin.readiness.pending()[..] {
            [] => reply(StatusCode::OK, TEXT, "ready\n".to_owned()),
            ref pending => reply(
                StatusCode::SERVICE_UNAVAILABLE,
                TEXT,
                format!("not ready, waiting for: {}\n", pending.join(", ")),
            ),
        },
        "/metrics" if wants_open_metrics(request) => {
            let form = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            reply(StatusCode::OK, form, admin.metrics.render_open_metrics())
        }
        "/metrics" => reply(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", admin.metrics.render()),
        "/config_dump" => reply(StatusCode::OK, "application/json", format!("{:#}\n", (admin.config_dump)())),
        _ => reply(StatusCode::NOT_FOUND, TEXT, "there are /ready, /live, /metrics and /config_dump\n".to_owned()),
    }
}

/// Prometheus asks for it where it keeps exemplars.
fn wants_open_metrics<B>(request: &Request<B>) -> bool {
    let accepted = request.headers().get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|kind| {
        let mut parts = kind.split(';').map(str::trim);
        parts.next() == Some("application/openmetrics-text") && !parts.any(|part| part == "q=0")
    })
}

fn reply(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(admin: &Admin, path: &str) -> StatusCode {
        answer(admin, &Request::builder().uri(path).body(()).unwrap()).status()
    }

    #[test]
    fn ready_is_503_until_every_part_has_started() {
        let readiness = Readiness::new();
        let admin = Admin {
            readiness: readiness.clone(),
            metrics: Registry::new(),
            config_dump: Arc::new(|| serde_json::json!({})),
        };
        let token = readiness.token("stream");
        assert_eq!(get(&admin, "/ready"), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(get(&admin, "/live"), StatusCode::OK);
        token.done();
        assert_eq!(get(&admin, "/ready"), StatusCode::OK);
        assert_eq!(get(&admin, "/metrics"), StatusCode::OK);
        let open =
            Request::builder().uri("/metrics").header("accept", "application/openmetrics-text;version=1.0.0,*/*;q=0.1");
        let answer = answer(&admin, &open.body(()).unwrap());
        assert!(answer.headers()["content-type"].to_str().unwrap().starts_with("application/openmetrics-text"));
        assert_eq!(get(&admin, "/config_dump"), StatusCode::OK);
        assert_eq!(get(&admin, "/nothing"), StatusCode::NOT_FOUND);
    }
}
