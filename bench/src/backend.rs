//! The server behind every contestant: so many bytes to whoever asks, by one thread.

use std::convert::Infallible;

use anyhow::Result;
use bytes::Bytes;
use clap::Args;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::LocalSet;

use crate::http2;

/// What it serves.
#[derive(Debug, Args)]
pub struct Settings {
    /// Bytes of an answer
    #[arg(long, default_value_t = 128)]
    bytes: usize,
    /// HTTP/2 with prior knowledge, and gRPC
    #[arg(long)]
    http2: bool,
}

/// Serves until it is killed; the first line on standard output is its address.
pub fn run(settings: &Settings) -> Result<()> {
    let body = Bytes::from(vec![b'.'; settings.bytes]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("{}", listener.local_addr()?);
        if settings.http2 {
            return http2::serve(listener).await;
        }
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let body = body.clone();
            tokio::task::spawn_local(async move {
                let service = service_fn(|_: Request<Incoming>| {
                    let answer = Response::new(Full::new(body.clone()));
                    async { Ok::<_, Infallible>(answer) }
                });
                // A connection that a client breaks off is no matter of the benchmark's.
                // Names are Written-Like-This, as nginx, Apache, Go's and Java's servers write them.
                let mut server = http1::Builder::new();
                let server = server.pipeline_flush(true).title_case_headers(true);
                let _ = server.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    })
}
