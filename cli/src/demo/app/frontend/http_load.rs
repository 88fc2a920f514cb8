//! GET requests to `http://web/`, one after another on a kept connection.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::spawn_local;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

use super::Shared;

/// More than the route's own timeout: whoever waits longer has a sidecar that does not answer.
const PATIENCE: Duration = Duration::from_secs(5);

type Sender = SendRequest<Empty<Bytes>>;

/// Who answered.
struct Served {
    version: String,
    instance: String,
}

pub(super) async fn run(shared: Rc<Shared>, proxy: SocketAddr, every: Duration, offset: Duration) {
    let mut ticks = interval_at(Instant::now() + offset, every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut sender = None;
    loop {
        ticks.tick().await;
        let request = shared.begin();
        match timeout(PATIENCE, call(&mut sender, proxy)).await {
            Ok(Ok(served)) => request.count(|r, took| r.answered(&served.version, &served.instance, took)),
            Ok(Err(why)) => {
                sender = None;
                request.count(|r, _| r.failed(&why));
            }
            Err(_) => {
                sender = None;
                request.count(|r, _| r.failed("no answer in 5 s"));
            }
        }
    }
}

/// One request. A kept connection that was closed meanwhile is replaced before anything is sent.
async fn call(kept: &mut Option<Sender>, proxy: SocketAddr) -> Result<Served, String> {
    let mut usable = None;
    if let Some(mut sender) = kept.take() {
        usable = sender.ready().await.is_ok().then_some(sender);
    }
    let mut sender = match usable {
        Some(sender) => sender,
        None => connect(proxy).await.map_err(|e| format!("cannot connect to the sidecar: {e}"))?,
    };
    // A proxy takes the absolute form (RFC 9112 3.2.2).
    let request = Request::get("http://web/").header("host", "web").body(Empty::new()).map_err(|e| e.to_string())?;
    let response = sender.send_request(request).await.map_err(|e| format!("no answer: {e}"))?;
    let served = read(response).await?;
    *kept = Some(sender);
    Ok(served)
}

async fn connect(proxy: SocketAddr) -> Result<Sender, String> {
    let stream = TcpStream::connect(proxy).await.map_err(|e| e.to_string())?;
    stream.set_nodelay(true).map_err(|e| e.to_string())?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
    // Its errors come out of the request that they hit.
    spawn_local(async move {
        let _ = connection.await;
    });
    Ok(sender)
}

async fn read(response: Response<Incoming>) -> Result<Served, String> {
    let status = response.status();
    let header = |name: &str| response.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    let served = Served { version: header("x-version"), instance: header("x-instance") };
    let reason = header("leno-reason");
    response.into_body().collect().await.map_err(|e| format!("half an answer: {e}"))?;
    match status {
        StatusCode::OK if !served.version.is_empty() => Ok(served),
        StatusCode::OK => Err("an answer that is not web's".to_owned()),
        _ if reason.is_empty() => Err(format!("{} from {}", status.as_u16(), served.instance)),
        _ => Err(format!("{} {reason}", status.as_u16())),
    }
}
