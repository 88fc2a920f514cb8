//! Certificates change under traffic, and nobody notices.

use std::collections::BTreeSet;
use std::time::Duration;

use leno_tests::mesh::Trio;
use leno_tests::{Load, Mesh, Sidecar, wait};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Times of expiry that each sidecar must have had: three renewals are more than one whole life of a leaf.
const LEAVES: usize = 4;

async fn expiry(sidecar: &Sidecar) -> i64 {
    let metrics = sidecar.metrics().await;
    let expiry = metrics.max("leno_certificate_expiry_timestamp_seconds", &[]);
    expiry.unwrap_or_else(|| panic!("no certificate expiry in\n{}", metrics.text())) as i64
}

#[tokio::test(flavor = "multi_thread")]
async fn leaves_renew_under_traffic_without_one_failed_request() {
    let mesh = Mesh::start_with(&["--leaf-ttl", "10s"]).await;
    let Trio { frontend, web, store, .. } = &Trio::start(&mesh).await;

    let load = Load::new(frontend.http_proxy(), "http://web/").clients(4).pause(Duration::from_millis(2)).start();
    let stream = TcpStream::connect(frontend.upstream("store:7000")).await.unwrap();
    let talk = tokio::spawn(talk(stream));

    let mut seen = [BTreeSet::new(), BTreeSet::new(), BTreeSet::new()];
    let sidecars = [web, store, frontend];
    wait::eventually("every sidecar has renewed three times", Duration::from_secs(90), async || {
        for (sidecar, seen) in sidecars.into_iter().zip(&mut seen) {
            seen.insert(expiry(sidecar).await);
        }
        // A new TCP connection each time: it needs a handshake with the leaf of the moment.
        let mut fresh = TcpStream::connect(frontend.upstream("store:7000")).await.unwrap();
        ping(&mut fresh).await.expect("a new connection");
        seen.iter().all(|seen| seen.len() >= LEAVES).then_some(())
    })
    .await;

    talk.abort();
    assert!(talk.await.unwrap_err().is_cancelled(), "the TCP stream ended before it was told to");
    let report = load.stop().await;
    report.assert_no_failure();
    assert!(report.total() > 1000, "only {} requests were made", report.total());
}

/// One question and answer.
async fn ping(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(b"ping").await?;
    let mut answer = [0; 4];
    tokio::time::timeout(Duration::from_secs(10), stream.read_exact(&mut answer)).await??;
    assert_eq!(&answer, b"ping");
    Ok(())
}

/// One connection that is used all the time; any error ends it.
async fn talk(mut stream: TcpStream) {
    while ping(&mut stream).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
