//! The case of HTTP/1 field names. HTTP/2 between the sidecars has lower case alone, so the names of a message that has any
//! that is not Written-Like-This travel once more, as they were written, in a header of ours, and are written like that again by the last HTTP/1 hop. The table of HPACK makes a byte of
//! it from the second message on.

mod names;

use std::cell::RefCell;
use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::detect::written_to;

/// Between sidecars only: it is taken off every message that comes from elsewhere or goes there.
pub const CASE_HEADER: HeaderName = HeaderName::from_static("leno-header-case");

/// Lists that a worker remembers. Apps have a handful; whoever sends ever new ones makes all be forgotten.
const MOST_LISTS: usize = 256;

thread_local! {
    static KNOWN: RefCell<HashMap<HeaderValue, Extensions>> = RefCell::default();
}

/// The names that answers of our own have, in lower case.
static OWN: HeaderValue = HeaderValue::from_static(
    "connection,content-type,leno-reason,leno-hop,leno-fault,leno-retry,leno-attempts,retry-after,ratelimit,ratelimit-policy",
);

/// An answer of our own is written as our documents write it.
pub fn own(headers: &mut HeaderMap) {
    headers.entry(CASE_HEADER).or_insert_with(|| OWN.clone());
}

/// Takes the names off a message. `extensions` are then what makes hyper write them as they were.
pub fn restore(headers: &mut HeaderMap, extensions: &mut Extensions) {
    let Some(names) = headers.remove(CASE_HEADER) else { return };
    if names.len() > names::MOST {
        return;
    }
    KNOWN.with_borrow_mut(|known| {
        if known.len() >= MOST_LISTS && !known.contains_key(&names) {
            known.clear();
        }
        extensions.extend(known.entry(names).or_insert_with_key(made).clone());
    });
}

/// What hyper keeps of a message's names is its own secret, so it is given a message that has them.
fn made(names: &HeaderValue) -> Extensions {
    let head = names::message(names.as_bytes());
    let kept = Rc::new(RefCell::new(Extensions::new()));
    let keep = kept.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        *keep.borrow_mut() = std::mem::take(request.extensions_mut());
        std::future::ready(Ok::<_, Infallible>(Response::new(Empty::<&[u8]>::new())))
    });
    // All of it is there, so one look is enough.
    let io = TokioIo::new(tokio::io::join(&head[..], tokio::io::sink()));
    let connection =
        hyper::server::conn::http1::Builder::new().preserve_header_case(true).serve_connection(io, service);
    let _ = std::pin::pin!(connection).poll(&mut Context::from_waker(Waker::noop()));
    let mut extensions = kept.take();
    extensions.remove::<hyper::upgrade::OnUpgrade>();
    extensions
}

/// Hears the names of an answer's fields on its connection.
#[derive(Debug, Clone, Default)]
pub(super) struct Listener(Arc<Mutex<Heard>>);

/// Both ends are of one thread, so the lock is never waited for; hyper's upgraded connections have to be `Send`.
#[derive(Debug, Default)]
struct Heard {
    /// An answer's head is to come.
    listening: bool,
    /// What came of it, when it did not come whole.
    head: Vec<u8>,
    names: Option<HeaderValue>,
}

impl Listener {
    /// A request is sent.
    pub(super) fn listen(&self) {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        heard.listening = true;
        heard.head = Vec::new();
    }

    /// Its answer has come.
    pub(super) fn names(&self) -> Option<HeaderValue> {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::take(&mut heard.listening) { None } else { heard.names.clone() }
    }

    fn hear(&self, bytes: &[u8]) {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let heard = &mut *heard;
        if !heard.listening {
            return;
        }
        let all = if heard.head.is_empty() {
            bytes
        } else {
            heard.head.extend_from_slice(bytes);
            &heard.head
        };
        match names::final_head(all) {
            Some(head) => {
                heard.listening = false;
                heard.names = names_of(head, heard.names.take());
                heard.head = Vec::new();
            }
            // A large one is passed on in lower case.
            None if all.len() > MOST_HEARD => (heard.listening, heard.names, heard.head) = (false, None, Vec::new()),
            None if heard.head.is_empty() => heard.head = bytes.to_vec(),
            None => {}
        }
    }
}

/// Largest head that is listened to.
const MOST_HEARD: usize = 16 * 1024;

fn names_of(head: &[u8], last: Option<HeaderValue>) -> Option<HeaderValue> {
    let (list, unusual) = names::of_head(head);
    match last {
        // A connection's answers mostly have the same names.
        Some(last) if last.as_bytes() == list => Some(last),
        _ if !unusual => None,
        _ => HeaderValue::from_bytes(&list).ok(),
    }
}

/// A connection to an app whose answers are listened to.
#[derive(Debug)]
pub struct Heeded<I> {
    io: I,
    listener: Listener,
}

impl<I> Heeded<I> {
    pub(super) fn new(io: I, listener: Listener) -> Self {
        Self { io, listener }
    }

    /// The connection itself.
    pub fn into_inner(self) -> I {
        self.io
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Heeded<I> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.io).poll_read(cx, buf))?;
        this.listener.hear(&buf.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Heeded<I> {
    written_to!(io);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_an_answer_are_heard_however_it_arrives() {
        let text = b"HTTP/1.1 100 Continue\r\nX-Early: 1\r\n\r\nHTTP/1.1 200 OK\r\nContent-Type: a:b\r\nx-b: 1\r\nX-C:2\r\n\r\nX-Body: 1\r\n\r\n";
        for piece in [1, 7, 1000] {
            let listener = Listener::default();
            listener.listen();
            text.chunks(piece).for_each(|part| listener.hear(part));
            assert_eq!(listener.names().unwrap(), "Content-Type,x-b,X-C", "in pieces of {piece}");
        }
        let listener = Listener::default();
        listener.listen();
        listener.hear(&[b'a'; MOST_HEARD + 1]);
        assert_eq!(listener.names(), None);
        assert!(listener.0.lock().unwrap().head.is_empty());
    }

    #[test]
    fn a_worker_remembers_a_bounded_number_of_lists() {
        for n in 0..3 * MOST_LISTS {
            let mut headers = HeaderMap::new();
            headers.insert(CASE_HEADER, HeaderValue::from_str(&format!("X-{n},Content-Length,, :")).unwrap());
            let mut extensions = Extensions::new();
            restore(&mut headers, &mut extensions);
            assert!(headers.is_empty() && extensions.len() == 1);
        }
        KNOWN.with_borrow(|known| assert!(known.len() <= MOST_LISTS));
    }

    #[test]
    fn whatever_a_peer_says_of_names_adds_no_field() {
        let parts =
            ["X-A", ",", ":", " ", "\r", "\n", "Content-Length", "Transfer-Encoding", "Host", "Upgrade", "\u{fc}", "x"];
        for _ in 0..2000 {
            let text: String = (0..fastrand::usize(..8)).map(|_| parts[fastrand::usize(..parts.len())]).collect();
            let Ok(names) = HeaderValue::from_str(&text) else { continue };
            let mut headers = HeaderMap::new();
            headers.insert("x-a", HeaderValue::from_static("1"));
            headers.insert(CASE_HEADER, names);
            restore(&mut headers, &mut Extensions::new());
            assert_eq!(headers.len(), 1, "{text:?}");
        }
    }
}
