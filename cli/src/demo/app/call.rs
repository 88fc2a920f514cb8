//! One HTTP request of an app that knows nothing of a mesh: it resolves a name, connects and asks.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long one request may take, with its connection.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest body that is read, in bytes.
const MOST_BYTES: usize = 64 * 1024;

/// An answer, whatever its status.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
}

impl Reply {
    /// A header's value, or nothing.
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// Asks one URL, over a connection that is kept as long as it works.
pub(super) struct Caller {
    url: Uri,
    kept: Option<SendRequest<Empty<Bytes>>>,
}

impl Caller {
    pub(super) fn new(url: Uri) -> Self {
        Self { url, kept: None }
    }

    /// GET.
    pub(super) async fn get(&mut self) -> Result<Reply, String> {
        match timeout(PATIENCE, self.ask()).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("{} did not answer within {} s", self.url, PATIENCE.as_secs())),
        }
    }

    async fn ask(&mut self) -> Result<Reply, String> {
        let host = self.url.host().unwrap_or_default().to_owned();
        let port = self.url.port_u16().unwrap_or(80);
        let mut usable = None;
        // Whatever goes wrong from here on, the connection is not kept.
        if let Some(mut sender) = self.kept.take() {
            usable = sender.ready().await.is_ok().then_some(sender);
        }
        let mut sender = match usable {
            Some(sender) => sender,
            None => connect(&host, port).await.map_err(|why| format!("{host}:{port}: {why}"))?,
        };
        let target = self.url.path_and_query().map_or("/", |target| target.as_str());
        let request = Request::get(target).header("host", format!("{host}:{port}")).body(Empty::new());
        let response = sender.send_request(request.map_err(|e| e.to_string())?).await;
        let (head, body) = response.map_err(|why| format!("{host}:{port}: no answer: {why}"))?.into_parts();
        let body = Limited::new(body, MOST_BYTES).collect().await.map_err(|why| format!("half an answer: {why}"))?;
        let body = String::from_utf8_lossy(&body.to_bytes()).into_owned();
        self.kept = Some(sender);
        Ok(Reply { status: head.status, headers: head.headers, body })
    }
}

async fn connect(host: &str, port: u16) -> Result<SendRequest<Empty<Bytes>>, String> {
    let stream = TcpStream::connect((host, port)).await.map_err(|e| e.to_string())?;
    stream.set_nodelay(true).map_err(|e| e.to_string())?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
    // Its errors come out of the request that they hit.
    tokio::task::spawn_local(async move {
        let _ = connection.await;
    });
    Ok(sender)
}
