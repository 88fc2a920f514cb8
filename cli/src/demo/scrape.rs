//! Plain HTTP calls on loopback: metrics of the sidecars, and the controls of the web servers.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::failure::{Exit, Failure};

const PATIENCE: Duration = Duration::from_secs(5);
const LARGEST: usize = 16 << 20;

/// Calls `http://ADDRESS/PATH`, and gives the body of a 200.
///
/// # Errors
/// Anything else.
pub async fn call(address: SocketAddr, method: Method, path: &str) -> Result<String, Failure> {
    let failed = |why: String| Failure::new(Exit::Failed, format!("cannot ask http://{address}{path}: {why}"), "");
    match timeout(PATIENCE, exchange(address, method, path)).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(why)) => Err(failed(why.to_string())),
        Err(_) => Err(failed("no answer".to_owned())),
    }
}

async fn exchange(address: SocketAddr, method: Method, path: &str) -> anyhow::Result<String> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request =
        Request::builder().method(method).uri(path).header("host", address.to_string()).body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    anyhow::ensure!(response.status().is_success(), "it answered {}", response.status());
    let body = Limited::new(response.into_body(), LARGEST).collect().await.map_err(|e| anyhow::anyhow!(e))?;
    Ok(String::from_utf8(body.to_bytes().to_vec())?)
}

/// The sum of all series of a metric in the Prometheus text format whose labels contain all of `labels` (each `name="value"`).
pub fn sum(metrics: &str, name: &str, labels: &[&str]) -> f64 {
    let value = |line: &str| {
        let (series, value) = line.rsplit_once(' ')?;
        let (found, its_labels) = series.split_once('{').unwrap_or((series, ""));
        let matches = found == name && labels.iter().all(|l| its_labels.contains(l));
        if matches { value.parse::<f64>().ok() } else { None }
    };
    metrics.lines().filter(|l| !l.starts_with('#')).filter_map(value).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "# TYPE a_total counter\na_total{x=\"1\",y=\"2\"} 3\na_total{x=\"2\",y=\"2\"} 4\na_total_other 9\nb 1.5\n";

    #[test]
    fn series_are_summed_by_name_and_labels() {
        assert_eq!(sum(TEXT, "a_total", &[]), 7.0);
        assert_eq!(sum(TEXT, "a_total", &["x=\"1\""]), 3.0);
        assert_eq!(sum(TEXT, "b", &[]), 1.5);
        assert_eq!(sum(TEXT, "c", &[]), 0.0);
    }
}
