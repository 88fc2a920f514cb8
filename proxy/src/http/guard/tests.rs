use std::rc::Rc;

use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use leno_runtime::drain;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::ResponseBody;
use super::super::server::{Protocol, Server};
use super::*;

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";

#[tokio::test]
async fn no_more_than_so_many_requests_pass_before_the_first_of_them_is_begun() {
    let (mut client, io) = tokio::io::duplex(1 << 20);
    client.write_all(&GET.repeat(3 * MOST_AHEAD + 1)).await.unwrap();
    let mut guard = Guard::new(io, false);
    let requests = guard.requests();
    let mut got = vec![0; 1 << 20];
    for _ in 0..3 {
        assert_eq!(guard.read(&mut got).await.unwrap(), MOST_AHEAD * GET.len());
        assert_eq!(requests.lock().seen.len(), MOST_AHEAD);
        (0..MOST_AHEAD).for_each(|_| drop(requests.begin()));
    }
    assert_eq!(guard.read(&mut got).await.unwrap(), GET.len());
}

/// A client that sends as much as it can while the first of its requests is not answered: what is held of it has a bound.
#[tokio::test(start_paused = true)]
async fn a_client_that_sends_ever_more_requests_is_not_read_while_the_first_one_lasts() {
    let (_drain, watch) = drain::channel();
    let (mut client, io) = tokio::io::duplex(4096);
    let served = Rc::new(std::cell::Cell::new(0));
    let begun = served.clone();
    let handler = move |_: Request<Incoming>| {
        begun.set(begun.get() + 1);
        std::future::pending::<Response<ResponseBody>>()
    };
    let written = Rc::new(std::cell::Cell::new(0));
    let sent = written.clone();
    let sending = async move {
        while client.write_all(GET).await.is_ok() {
            sent.set(sent.get() + GET.len());
        }
    };
    let server = Server::new(watch);
    tokio::select! {
        () = server.serve(io, Protocol::Http1, handler) => panic!("it ended"),
        () = sending => panic!("all was read"),
        // Paused time: passes once nobody has anything left to do.
        () = tokio::time::sleep(Duration::from_secs(1)) => {}
    }
    assert_eq!(served.get(), 1);
    assert!(written.get() < 256 * 1024, "{} bytes were taken", written.get());
}

/// What became of a request whose body comes at such times: whether the app had it whole, and when it ended.
async fn body(pieces: &[Duration]) -> (bool, Duration) {
    let (_drain, watch) = drain::channel();
    let (mut client, io) = tokio::io::duplex(4096);
    let whole = Rc::new(std::cell::Cell::new(false));
    let was = whole.clone();
    let handler = move |request: Request<Incoming>| {
        let was = was.clone();
        async move {
            was.set(request.into_body().collect().await.is_ok());
            Response::new(ResponseBody::empty())
        }
    };
    let start = Instant::now();
    let sending = async {
        let head =
            format!("POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", pieces.len());
        client.write_all(head.as_bytes()).await.unwrap();
        for pause in pieces {
            tokio::time::sleep(*pause).await;
            if client.write_all(b"a").await.is_err() {
                break;
            }
        }
        client
    };
    let (_client, ()) = tokio::join!(sending, async {
        Server::new(watch).serve(io, Protocol::Http1, handler).await;
    });
    (whole.get(), start.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_body_of_which_nothing_comes_for_long_is_given_up_and_a_slow_one_is_not() {
    let (a_second, nearly) = (Duration::from_secs(1), BODY_IDLE - Duration::from_secs(1));
    let (whole, took) = body(&[nearly; 5]).await;
    assert!(whole && took >= 5 * nearly, "{whole} {took:?}");
    let (whole, took) = body(&[a_second, BODY_IDLE * 3]).await;
    assert!(!whole && took >= BODY_IDLE, "{whole} {took:?}");
}
