//! The client of the control plane's REST API: HTTP/1.1 over TLS 1.3, one connection a call.

mod answer;
mod edges;
mod lines;
mod requests;
mod status;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

pub(crate) use answer::read;
pub use answer::{Change, Changed, Problem, Wait, problem_text};
pub use edges::{Edge, Edges, Traffic, account};
pub use requests::SeenRequest;
pub use status::{ControlPlane, Expiring, Federated, Sidecar, Status};

use crate::context::Context;
use crate::failure::{Exit, Failure};

/// How long a call may take, beyond what it was asked to wait for on the server.
const PATIENCE: Duration = Duration::from_secs(30);
/// The largest answer that is read, in bytes.
const LARGEST_ANSWER: usize = 256 << 20;

/// Talks to one control plane. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    server: Arc<Server>,
}

struct Server {
    /// `HOST:PORT`.
    authority: String,
    name: ServerName<'static>,
    tls: TlsConnector,
    token: String,
}

/// What the control plane answered, whatever the status.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: StatusCode,
    /// The body; null when it was empty.
    pub body: Value,
}

impl Client {
    /// A client for this context.
    ///
    /// # Errors
    /// The context's address or root certificate is unusable.
    pub fn new(context: &Context) -> Result<Self, Failure> {
        let wrong = |why: String| {
            Failure::new(
                Exit::Config,
                format!("the context is unusable: {why}"),
                "import the control plane's STATE_DIR/admin.yaml again",
            )
        };
        let uri: http::Uri = context.server.parse().map_err(|e| wrong(format!("server {}: {e}", context.server)))?;
        let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
        if uri.scheme_str() != Some("https") || host.is_empty() {
            return Err(wrong(format!("server {} is not https://HOST:PORT", context.server)));
        }
        let name = ServerName::try_from(host).map_err(|e| wrong(format!("server {}: {e}", context.server)))?;
        let authority = match uri.authority() {
            Some(a) if a.port().is_some() => a.to_string(),
            Some(a) => format!("{a}:443"),
            None => String::new(),
        };
        let tls = leno_certs::tls::pem_client(&context.certificate_authority, &[b"http/1.1"])
            .map_err(|e| wrong(format!("certificateAuthority: {e}")))?;
        let tls = TlsConnector::from(Arc::new(tls));
        Ok(Self { server: Arc::new(Server { authority, name, tls, token: context.token.clone() }) })
    }

    /// A client for the same control plane, which may show another certificate from now on; `roots` (PEM) came from it.
    ///
    /// # Errors
    /// They are no certificates.
    pub fn trusting(&self, roots: &str) -> Result<Self, Failure> {
        let tls = leno_certs::tls::pem_client(roots, &[b"http/1.1"]).map_err(|why| {
            Failure::new(Exit::Failed, format!("the control plane's new roots are unusable: {why}"), "see its log")
        })?;
        let Server { authority, name, token, .. } = &*self.server;
        let (tls, name) = (TlsConnector::from(Arc::new(tls)), name.clone());
        Ok(Self { server: Arc::new(Server { authority: authority.clone(), name, tls, token: token.clone() }) })
    }

    /// Calls the API and gives whatever it answered, except that a refused credential is a failure already.
    /// `wait` is how long the server itself was asked to wait.
    ///
    /// # Errors
    /// The control plane is unreachable, is another one, takes too long, or refuses the credential.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        wait: Duration,
    ) -> Result<Answer, Failure> {
        let answer =
            tokio::time::timeout(PATIENCE + wait, self.exchange(method, path, body)).await.map_err(|_| {
                let what = format!(
                    "the control plane at {} did not answer in {} s",
                    self.authority(),
                    (PATIENCE + wait).as_secs()
                );
                Failure::new(Exit::Unreachable, what, "see its log; it may be overloaded or stopped")
            })??;
        match answer.status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(answer.denied(self.authority())),
            _ => Ok(answer),
        }
    }

    /// As [`Client::call`], for calls where anything but success is a failure.
    ///
    /// # Errors
    /// As there, and every status of 400 and above.
    pub async fn expect(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        let answer = self.call(method, path, body, Duration::ZERO).await?;
        if answer.status.is_success() { Ok(answer.body) } else { Err(answer.into_failure()) }
    }

    fn authority(&self) -> &str {
        &self.server.authority
    }

    async fn exchange(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer, Failure> {
        let stream = TcpStream::connect(self.authority()).await.map_err(|e| self.unreachable(&e))?;
        let stream = self.server.tls.connect(self.server.name.clone(), stream).await.map_err(|e| self.untrusted(&e))?;
        let broken = |e: hyper::Error| self.unreachable(&e);
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let sent = sender.send_request(self.request(method, path, body)?);
        // The connection is driven here and not by a task of its own: it ends with this call.
        let exchange = async {
            let response = sent.await.map_err(broken)?;
            let status = response.status();
            let body =
                Limited::new(response.into_body(), LARGEST_ANSWER).collect().await.map_err(|e| self.unreachable(&e))?;
            Ok(Answer { status, body: parse(&body.to_bytes()) })
        };
        tokio::pin!(connection, exchange);
        tokio::select! {
            answer = &mut exchange => answer,
            ended = &mut connection => match ended {
                Err(e) => Err(broken(e)),
                // The server closed after its answer, which may still lie in the channel.
                Ok(()) => exchange.await,
            },
        }
    }

    fn request(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Request<Full<Bytes>>, Failure> {
        let mut bearer = header::HeaderValue::try_from(format!("Bearer {}", self.server.token)).map_err(|_| {
            Failure::new(
                Exit::Config,
                "the context's token is not one line of text",
                "import the control plane's STATE_DIR/admin.yaml again",
            )
        })?;
        bearer.set_sensitive(true);
        let content = body.map(ToString::to_string).unwrap_or_default();
        Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, self.authority())
            .header(header::AUTHORIZATION, bearer)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::USER_AGENT, concat!("leno/", env!("CARGO_PKG_VERSION")))
            .body(Full::new(Bytes::from(content)))
            .map_err(|e| Failure::new(Exit::Usage, format!("{path} cannot be asked for: {e}"), ""))
    }

    fn unreachable(&self, why: &dyn std::fmt::Display) -> Failure {
        let what = format!("cannot reach the control plane at {}: {why}", self.authority());
        Failure::new(
            Exit::Unreachable,
            what,
            "is it running? start leno-control-plane, or choose another with --context FILE",
        )
    }

    fn untrusted(&self, why: &std::io::Error) -> Failure {
        let is_certificate = why
            .get_ref()
            .and_then(|e| e.downcast_ref::<rustls::Error>())
            .is_some_and(|e| matches!(e, rustls::Error::InvalidCertificate(_)));
        if !is_certificate {
            return self.unreachable(&format!("the TLS handshake failed: {why}"));
        }
        let what = format!("whoever answers at {} is not the control plane of this context: {why}", self.authority());
        Failure::new(
            Exit::Config,
            what,
            "if the control plane was set up anew, import its STATE_DIR/admin.yaml again; else do not trust that address",
        )
    }
}

/// A body that is no JSON is kept as text: whoever prints it shows at least that.
fn parse(body: &[u8]) -> Value {
    if body.is_empty() {
        return Value::Null;
    }
    serde_json::from_slice(body).unwrap_or_else(|_| Value::String(String::from_utf8_lossy(body).into_owned()))
}

/// One segment of a path: everything but letters, digits and `-._~` is escaped (RFC 3986 2.3).
pub fn segment(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(server: &str) -> Context {
        let text = crate::context::tests::EXAMPLE.replace("https://127.0.0.1:15012", server);
        serde_yaml_ng::from_str(&text).unwrap()
    }

    #[test]
    fn an_unusable_context_is_a_configuration_error_that_names_the_field() {
        for (server, named) in [("http://127.0.0.1:1", "https://"), ("https://127.0.0.1:1", "certificateAuthority")] {
            let failure = Client::new(&context(server)).err().unwrap();
            assert_eq!(failure.exit(), Exit::Config);
            assert!(failure.to_string().contains(named), "{failure}");
        }
    }

    #[test]
    fn a_segment_cannot_leave_its_place() {
        assert_eq!(segment("web-1.a"), "web-1.a");
        assert_eq!(segment("../x?y"), "..%2Fx%3Fy");
    }

    #[test]
    fn a_body_that_is_no_json_is_kept_as_text() {
        assert_eq!(parse(b"oops"), Value::String("oops".into()));
        assert_eq!(parse(b""), Value::Null);
    }
}
