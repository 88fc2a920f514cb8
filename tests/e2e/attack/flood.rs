//! Frames in masses. A sidecar ends the connection, or takes them at no cost in memory; in both cases its other connections go on.

use std::time::Duration;

use futures_util::future::join_all;
use http::{Method, Request};
use http_body_util::Empty;
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::field::{ALL, Field, at_each};
use super::frames::*;

/// Frames of one flood; the limits are far below.
const FRAMES: usize = 10_000;
/// Frames that are written at once.
const BATCH: usize = 500;

/// Sends `make(n)` so many times, or until the connection is closed.
async fn flood(connection: &mut Connection, mut make: impl FnMut(u32) -> Vec<u8>) {
    for batch in 0..FRAMES / BATCH {
        let frames: Vec<u8> = (0..BATCH).flat_map(|n| make((batch * BATCH + n) as u32)).collect();
        if !connection.send(&frames).await {
            break;
        }
    }
}

/// How a flood may end.
const CLOSED: fn(End) -> bool = |end| matches!(end, End::GoAway(_) | End::Closed);
const ANY: fn(End) -> bool = |end| end == End::Alive || CLOSED(end);

/// Attacks every port at once.
async fn attack(what: &str, may_end: fn(End) -> bool, before: &[u8], make: fn(u32) -> Vec<u8>) {
    let field = Field::start().await;
    at_each(&ALL, async |role| {
        let mut connection = Connection::open(field.connect(role).await).await;
        connection.send(before).await;
        flood(&mut connection, make).await;
        let end = connection.ended(may_end(End::Alive)).await;
        assert!(may_end(end), "{role:?}: {end:?}");
    })
    .await;
    field.unharmed(what).await;
}

/// A test for a flood of frames.
macro_rules! flood {
    ($name:ident, $what:literal, $may_end:expr, $before:expr, |$n:ident| $frame:expr) => {
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            attack($what, $may_end, &$before, |$n| $frame).await;
        }
    };
}

fn id(n: u32) -> u32 {
    2 * n + 1
}

/// Begins a request of stream 1.
fn begun() -> Vec<u8> {
    frame(HEADERS, END_HEADERS, 1, &post("/flood"))
}

/// Begins it by a head that is not whole.
fn partial() -> Vec<u8> {
    frame(HEADERS, 0, 1, &get("/flood"))
}

flood!(rapid_resets_end_the_connection_or_cost_nothing, "rapid reset", ANY, [], |n| {
    let headers = frame(HEADERS, END_HEADERS | END_STREAM, id(n), &get("/flood"));
    [headers, frame(RST_STREAM, 0, id(n), &8u32.to_be_bytes())].concat()
});

flood!(a_head_that_never_ends_ends_the_connection, "CONTINUATION flood", CLOSED, partial(), |n| {
    frame(CONTINUATION, 0, 1, &field(b"x", n.to_string().as_bytes()))
});

flood!(empty_pieces_of_a_head_end_the_connection, "empty CONTINUATION", CLOSED, partial(), |_n| {
    frame(CONTINUATION, 0, 1, &[])
});

flood!(empty_data_ends_the_connection, "empty DATA", CLOSED, begun(), |_n| frame(DATA, 0, 1, &[]));

flood!(padding_alone_costs_no_memory, "padded DATA", ANY, begun(), |_n| frame(DATA, PADDED, 1, &[1, 0]));

flood!(data_in_the_smallest_pieces_costs_no_memory, "small DATA", ANY, begun(), |_n| frame(DATA, 0, 1, b"x"));

flood!(settings_in_masses_cost_no_memory, "SETTINGS flood", ANY, [], |n| {
    frame(SETTINGS, 0, 0, &[&[0, 3][..], &n.to_be_bytes()].concat())
});

flood!(tables_that_grow_and_shrink_cost_no_memory, "SETTINGS of tables", ANY, [], |n| {
    frame(SETTINGS, 0, 0, &[&[0, 1][..], &(n % 2 * 65_536).to_be_bytes()].concat())
});

flood!(pings_in_masses_cost_no_memory, "PING flood", ANY, [], |_n| frame(PING, 0, 0, b"flooding"));

flood!(priorities_in_masses_cost_no_memory, "PRIORITY flood", ANY, [], |n| {
    frame(PRIORITY, 0, id(n), &[0, 0, 0, 0, 1])
});

flood!(windows_in_masses_cost_no_memory, "WINDOW_UPDATE flood", ANY, begun(), |_n| {
    [frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]), frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])].concat()
});

flood!(frames_of_unknown_kinds_cost_no_memory, "unknown frames", ANY, [], |_n| frame(0xbe, 0, 0, &[0; 100]));

/// Makes the frames of one round.
type Frames = fn(u32) -> Vec<u8>;

/// MadeYouReset: frames that make the server reset the streams itself, each in another way.
#[tokio::test(flavor = "multi_thread")]
async fn resets_that_a_client_provokes_end_the_connection() {
    let field = Field::start().await;
    let provocations: [(&str, Frames); 5] = [
        ("a window of nothing", |n| frame(WINDOW_UPDATE, 0, id(n), &0u32.to_be_bytes())),
        ("a window too large", |n| frame(WINDOW_UPDATE, 0, id(n), &(i32::MAX as u32).to_be_bytes())),
        ("a length that does not hold", |n| frame(DATA, END_STREAM, id(n), b"xx")),
        ("depends on itself", |n| frame(PRIORITY, 0, id(n), &[&id(n).to_be_bytes()[..], &[1]].concat())),
        ("data behind the end", |n| [frame(DATA, END_STREAM, id(n), b"x"), frame(DATA, 0, id(n), b"x")].concat()),
    ];
    for (what, provoke) in provocations {
        at_each(&ALL, async |role| {
            let mut connection = Connection::open(field.connect(role).await).await;
            let block = [post("/flood"), fields(&[("content-length", "1")])].concat();
            flood(&mut connection, |n| [frame(HEADERS, END_HEADERS, id(n), &block), provoke(n)].concat()).await;
            let end = connection.ended(true).await;
            assert!(CLOSED(end), "{role:?}, {what}: {end:?}");
        })
        .await;
    }
    field.unharmed("made you reset").await;
}

/// Answers that are not taken, on each port.
const STALLED: u32 = 8;

/// An answer that the client gives no window for is held no longer than a bound says, and not read from the app beyond it.
#[tokio::test(flavor = "multi_thread")]
async fn clients_that_give_no_window_cost_no_memory() {
    let field = Field::start().await;
    let no_window = frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
    let (field_ref, no_window) = (&field, &no_window);
    let held = join_all(ALL.map(|role| async move {
        let mut connection = Connection::open(field_ref.connect(role).await).await;
        connection.send(no_window).await;
        for n in 0..STALLED {
            connection.send(&frame(HEADERS, END_HEADERS | END_STREAM, id(n), &get("/large"))).await;
        }
        assert_eq!(connection.end(id(STALLED - 1)).await, End::Answer(0x88), "{role:?}");
        connection
    }))
    .await;
    field.unharmed("no window").await;
    drop(held);
}

/// A table entry of 4,000 bytes and thousands of references to it, a byte each: decoded it would be hundreds of megabytes.
#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_is_small_only_while_it_is_packed_is_refused() {
    let field = Field::start().await;
    for name in ["x-large", "cookie", "host"] {
        at_each(&ALL, async |role| {
            let mut connection = Connection::open(field.connect(role).await).await;
            let mut ends = Vec::new();
            for n in 0..20 {
                let large = indexed(name.as_bytes(), &[b'a'; 3900]);
                let block = [get("/flood"), large, vec![0xbe; 12_000]].concat();
                if !connection.send(&frame(HEADERS, END_HEADERS | END_STREAM, id(n), &block)).await {
                    break;
                }
                let end = connection.end(id(n)).await;
                assert!(!matches!(end, End::Answer(0x88) | End::Silent), "{role:?} {name}: {end:?}");
                ends.push(end);
                if CLOSED(end) {
                    break;
                }
            }
            assert!(!ends.is_empty(), "{role:?} {name}");
        })
        .await;
    }
    assert!(field.app.asked("/flood").is_empty());
    field.unharmed("HPACK").await;
}

/// Within what HTTP/2 decodes, and beyond what we take: it is told why.
#[tokio::test(flavor = "multi_thread")]
async fn a_head_of_too_many_fields_is_refused_with_its_reason() {
    let field = Field::start().await;
    at_each(&ALL, async |role| {
        let io = TokioIo::new(field.connect(role).await);
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await;
        let (mut sender, connection) = handshake.unwrap();
        tokio::spawn(connection);
        for (count, length) in [(140, 1), (50, 3000)] {
            let mut request = Request::builder().method(Method::GET).uri("http://web/flood");
            for _ in 0..count {
                request = request.header("x-many", "a".repeat(length));
            }
            let request = request.body(Empty::<bytes::Bytes>::new()).unwrap();
            let answer = tokio::time::timeout(Duration::from_secs(10), sender.send_request(request)).await;
            let answer = answer.unwrap().unwrap();
            assert_eq!(answer.status(), 431, "{role:?}");
            assert_eq!(answer.headers()["leno-reason"], "head_too_large", "{role:?}");
        }
    })
    .await;
    assert!(field.app.asked("/flood").is_empty());
    field.unharmed("many fields").await;
}
