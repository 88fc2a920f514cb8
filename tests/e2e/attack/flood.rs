//! Frames in masses. A sidecar ends the connection, or takes them at no cost in memory; in both cases its other connections go on.

use std::time::Duration;

use super::field::{BOTH, Field};
use super::frames::*;

/// Frames of one flood; the limits are far below.
const FRAMES: usize = 30_000;
/// Frames that are written at once.
const BATCH: usize = 500;

/// Sends `make(n)` so many times, or until the connection is closed; gives how it ended.
async fn flood(connection: &mut Connection, mut make: impl FnMut(u32) -> Vec<u8>) -> End {
    for batch in 0..FRAMES / BATCH {
        let frames: Vec<u8> = (0..BATCH).flat_map(|n| make((batch * BATCH + n) as u32)).collect();
        if !connection.send(&frames).await {
            break;
        }
    }
    connection.end(0).await
}

/// Attacks both roles and says of each how it ended.
macro_rules! attack {
    ($name:ident, $what:literal, $ended:pat, |$connection:ident| $before:expr, |$n:ident| $frame:expr) => {
        #[tokio::test(flavor = "multi_thread")]
        #[allow(clippy::no_effect, reason = "most attacks have nothing to send before")]
        async fn $name() {
            let field = Field::start().await;
            for role in BOTH {
                let mut connection = Connection::open(field.connect(role).await).await;
                let $connection = &mut connection;
                $before;
                let end = flood(&mut connection, |$n| $frame).await;
                assert!(matches!(end, $ended), "{role:?}: {end:?}");
            }
            field.unharmed($what).await;
        }
    };
}

fn id(n: u32) -> u32 {
    2 * n + 1
}

async fn begin(connection: &mut Connection, block: &[u8]) {
    connection.send(&frame(HEADERS, END_HEADERS, 1, block)).await;
}

attack!(
    rapid_resets_end_the_connection_or_cost_nothing,
    "rapid reset",
    End::GoAway(_) | End::Closed | End::Silent,
    |_c| (),
    |n| {
        let headers = frame(HEADERS, END_HEADERS | END_STREAM, id(n), &get("/flood"));
        [headers, frame(RST_STREAM, 0, id(n), &8u32.to_be_bytes())].concat()
    }
);

// MadeYouReset: frames that make the server reset the streams itself.
attack!(
    resets_that_a_client_provokes_end_the_connection,
    "made you reset",
    End::GoAway(_) | End::Closed,
    |_c| (),
    |n| {
        let headers = frame(HEADERS, END_HEADERS, id(n), &post("/flood"));
        [headers, frame(WINDOW_UPDATE, 0, id(n), &0u32.to_be_bytes())].concat()
    }
);

attack!(
    a_head_that_never_ends_ends_the_connection,
    "CONTINUATION flood",
    End::GoAway(_) | End::Closed,
    |c| { c.send(&frame(HEADERS, 0, 1, &get("/flood"))).await },
    |n| frame(CONTINUATION, 0, 1, &field(b"x", n.to_string().as_bytes()))
);

attack!(
    empty_pieces_of_a_head_end_the_connection,
    "empty CONTINUATION",
    End::GoAway(_) | End::Closed,
    |c| { c.send(&frame(HEADERS, 0, 1, &get("/flood"))).await },
    |_n| frame(CONTINUATION, 0, 1, &[])
);

attack!(
    empty_data_ends_the_connection,
    "empty DATA",
    End::GoAway(_) | End::Closed,
    |c| begin(c, &post("/flood")).await,
    |_n| { frame(DATA, 0, 1, &[]) }
);

attack!(settings_in_masses_cost_no_memory, "SETTINGS flood", _, |_c| (), |n| {
    let payload = [&[0, 3][..], &n.to_be_bytes()].concat();
    frame(SETTINGS, 0, 0, &payload)
});

attack!(pings_in_masses_cost_no_memory, "PING flood", _, |_c| (), |_n| frame(PING, 0, 0, b"flooding"));

attack!(priorities_in_masses_cost_no_memory, "PRIORITY flood", _, |_c| (), |n| frame(
    PRIORITY,
    0,
    id(n),
    &[0, 0, 0, 0, 1]
));

attack!(windows_in_masses_cost_no_memory, "WINDOW_UPDATE flood", _, |c| begin(c, &post("/flood")).await, |_n| {
    [frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]), frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])].concat()
});

attack!(frames_of_unknown_kinds_cost_no_memory, "unknown frames", _, |_c| (), |_n| frame(0xbe, 0, 0, &[0; 100]));

#[tokio::test(flavor = "multi_thread")]
async fn data_in_the_smallest_pieces_costs_no_memory() {
    let field = Field::start().await;
    for role in BOTH {
        let mut connection = Connection::open(field.connect(role).await).await;
        begin(&mut connection, &post("/flood")).await;
        flood(&mut connection, |_| frame(DATA, 0, 1, b"x")).await;
    }
    field.unharmed("small DATA").await;
}

/// A table entry of 4,000 bytes and thousands of references to it, a byte each: decoded it would be hundreds of megabytes.
#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_is_small_only_while_it_is_packed_is_refused() {
    let field = Field::start().await;
    for role in BOTH {
        for name in ["x-large", "cookie", "host"] {
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
                if matches!(end, End::GoAway(_) | End::Closed) {
                    break;
                }
            }
            assert!(!ends.is_empty(), "{role:?} {name}");
        }
    }
    assert!(field.app.asked("/flood").is_empty());
    field.unharmed("HPACK").await;
}

/// Within what HTTP/2 decodes, and beyond what we take: it is told why.
#[tokio::test(flavor = "multi_thread")]
async fn a_head_of_too_many_fields_is_refused_with_its_reason() {
    use http::{Method, Request};
    use http_body_util::Empty;
    use hyper_util::rt::{TokioExecutor, TokioIo};
    let field = Field::start().await;
    for role in BOTH {
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
    }
    assert!(field.app.asked("/flood").is_empty());
    field.unharmed("many fields").await;
}
