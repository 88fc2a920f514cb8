//! Answers that come a line at a time, for as long as the caller reads.

use http::{Method, StatusCode};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use super::{Answer, Client, parse};
use crate::failure::{Exit, Failure};

/// Longest line that is read, in bytes.
const LONGEST: usize = 1 << 20;
/// The largest body of a refusal.
const LARGEST_REFUSAL: usize = 1 << 20;

impl Client {
    /// Asks for lines of JSON and takes each as it comes, until the answer ends or `take` says that it is enough.
    ///
    /// # Errors
    /// The control plane is unreachable, is another one, or refuses; a line is none of JSON; what `take` says.
    pub async fn lines(&self, path: &str, mut take: impl FnMut(Value) -> Result<bool, Failure>) -> Result<(), Failure> {
        let stream = TcpStream::connect(self.authority()).await.map_err(|e| self.unreachable(&e))?;
        let stream = self.server.tls.connect(self.server.name.clone(), stream).await.map_err(|e| self.untrusted(&e))?;
        let broken = |e: hyper::Error| self.unreachable(&e);
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(broken)?;
        let driven = tokio::spawn(connection);
        let answered = sender.send_request(self.request(Method::GET, path, None)?).await.map_err(broken)?;
        let status = answered.status();
        let mut body = answered.into_body();
        let mut rest = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(broken)?;
            let Some(data) = frame.data_ref() else { continue };
            rest.extend_from_slice(data);
            if !status.is_success() {
                rest.truncate(LARGEST_REFUSAL);
                continue;
            }
            while let Some(end) = rest.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = rest.drain(..=end).collect();
                if !take(serde_json::from_slice(&line).map_err(|why| unreadable(&why))?)? {
                    driven.abort();
                    return Ok(());
                }
            }
            if rest.len() > LONGEST {
                return Err(unreadable(&"a line is too long"));
            }
        }
        driven.abort();
        if status.is_success() {
            return Ok(());
        }
        let answer = Answer { status, body: parse(&rest) };
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(answer.denied(self.authority())),
            _ => Err(answer.into_failure()),
        }
    }
}

fn unreadable(why: &dyn std::fmt::Display) -> Failure {
    let what = format!("the control plane's answer cannot be read: {why}");
    Failure::new(Exit::Failed, what, "use a `leno` of the control plane's version")
}
