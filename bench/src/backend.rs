//! The server behind every contestant: 128 bytes to whoever asks, by one thread; and an answer without an end, for whoever asks for that.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use anyhow::Result;
use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::LocalSet;

use crate::bulk;

/// The answer.
const BODY: &[u8; 128] = &[b'.'; 128];

/// Serves until it is killed; the first line on standard output is its address.
pub fn run() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("{}", listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::task::spawn_local(async move {
                let service = service_fn(|request: Request<Incoming>| async move {
                    Ok::<_, Infallible>(Response::new(match request.uri().path() {
                        bulk::PATH => Either::Left(WithoutEnd),
                        _ => Either::Right(Full::new(Bytes::from_static(BODY))),
                    }))
                });
                // A connection that a client breaks off is no matter of the benchmark's.
                let _ =
                    http1::Builder::new().pipeline_flush(true).serve_connection(TokioIo::new(stream), service).await;
            });
        }
    })
}

/// The same piece again and again.
struct WithoutEnd;

static PIECE: [u8; 64 << 10] = [b'.'; 64 << 10];

impl Body for WithoutEnd {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&PIECE)))))
    }
}
