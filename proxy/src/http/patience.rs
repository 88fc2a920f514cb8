//! Clients that do not take their answers. On HTTP/2 a client can hold an answer back for ever by giving it no window, and each
//! one that is held takes memory here and a part of the window of the connection to the app's sidecar, which all clients share. So
//! an answer of which nothing is taken for long is given up, for clients that are not in the mesh. (On HTTP/1 the kernel does the same by
//! `TCP_USER_TIMEOUT`.) An app that is silent for long is nobody's fault: event streams live as long as they like.

use std::cell::Cell;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::rt::Executor;
use leno_runtime::metrics::Counter;
use tokio::time::{Instant, Sleep};

use super::stream;
use super::untaken::Place;

/// How long a client may take nothing of an answer that is there.
pub const MOST_UNTAKEN: Duration = Duration::from_secs(60);

/// Whom a stream waits for, as the last of its parts has said that was looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Waits {
    /// Nobody has said it: for the client to take what is there.
    Client,
    /// The same, but the client has taken something meanwhile.
    Progress,
    /// For us or the app.
    App,
}

thread_local! {
    /// Of the stream that is being looked at; a worker has one thread.
    static WAITS: Cell<Waits> = const { Cell::new(Waits::Client) };
}

/// A part of a stream was looked at that makes its answer.
pub(super) fn note<T>(polled: Poll<T>) -> Poll<T> {
    WAITS.set(if polled.is_pending() { Waits::App } else { Waits::Progress });
    polled
}

/// Runs the streams of a connection whose client may not hold them for ever, nor too many of them. Those that are given up are counted.
#[derive(Debug, Clone)]
pub(super) struct Patience(pub(super) Counter);

impl<F: Future + 'static> Executor<F> for Patience {
    fn execute(&self, stream: F) {
        if let Some(stream) = stream::start(stream) {
            let given_up = self.0.clone();
            tokio::task::spawn_local(Watched { stream: Box::pin(stream), untaken: None, given_up });
        }
    }
}

/// One stream.
struct Watched<F> {
    stream: Pin<Box<F>>,
    /// Since when its client takes nothing.
    untaken: Option<Idle>,
    given_up: Counter,
}

/// How long nothing may be taken, and the place that this has.
struct Idle {
    until: Pin<Box<Sleep>>,
    place: Place,
}

impl<F: Future> Future for Watched<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        WAITS.set(Waits::Client);
        if this.stream.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        match (WAITS.get(), &mut this.untaken) {
            (Waits::App, untaken) => {
                *untaken = None;
                return Poll::Pending;
            }
            (Waits::Progress, Some(idle)) => {
                idle.until.as_mut().reset(Instant::now() + MOST_UNTAKEN);
                idle.place.renew();
            }
            (Waits::Client, Some(_)) => {}
            (_, untaken) => {
                *untaken = Some(Idle { until: Box::pin(tokio::time::sleep(MOST_UNTAKEN)), place: Place::take(cx) });
            }
        }
        let Some(idle) = &mut this.untaken else { return Poll::Pending };
        // The stream is dropped then, which resets it.
        if idle.until.as_mut().poll(cx).is_ready() {
            this.given_up.inc();
            return Poll::Ready(());
        }
        idle.place.poll_lost(cx, &this.given_up)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use bytes::Bytes;
    use http::{Request, Response};
    use http_body::{Body, Frame};
    use hyper::server::conn::http2;
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;

    use super::*;

    const PIECE: usize = 16 * 1024;
    const PIECES: usize = 20;

    /// An answer in pieces, some of which the app takes its time for.
    struct Pieces {
        left: usize,
        app: Option<Pin<Box<Sleep>>>,
    }

    impl Body for Pieces {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            let this = self.get_mut();
            if let Some(app) = &mut this.app {
                if app.as_mut().poll(cx).is_pending() {
                    return note(Poll::Pending);
                }
                this.app = None;
            }
            if this.left == 0 {
                return note(Poll::Ready(None));
            }
            this.left -= 1;
            note(Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[0; PIECE]))))))
        }
    }

    /// What a client gets of an answer that takes `take` bytes of it at a time, each time after a pause. The app lets it wait for
    /// its head, and then for its body.
    async fn taken(app: Duration, take: usize, pause: Duration) -> Result<usize, h2::Error> {
        let (client, io) = tokio::io::duplex(1 << 20);
        let service = service_fn(move |_| {
            let answer = async move {
                tokio::time::sleep(app).await;
                let app = Some(Box::pin(tokio::time::sleep(app)));
                Ok::<_, Infallible>(Response::new(Pieces { left: PIECES, app }))
            };
            let mut answer = Box::pin(answer);
            std::future::poll_fn(move |cx| note(answer.as_mut().poll(cx)))
        });
        let tasks = tokio::task::LocalSet::new();
        tasks
            .spawn_local(http2::Builder::new(Patience(Counter::default())).serve_connection(TokioIo::new(io), service));
        let client = async move {
            let (mut sender, connection) = h2::client::handshake(client).await?;
            tokio::task::spawn_local(connection);
            let request = Request::get("http://web/").body(()).unwrap();
            let mut body = sender.send_request(request, true)?.0.await?.into_body();
            let mut got = 0;
            while let Some(data) = body.data().await {
                got += data?.len();
                tokio::time::sleep(pause).await;
                let used = body.flow_control().used_capacity();
                body.flow_control().release_capacity(take.min(used))?;
            }
            Ok(got)
        };
        tasks.run_until(client).await
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_its_client_does_not_take_is_given_up_and_a_slow_one_is_not() {
        let soon = MOST_UNTAKEN / 4;
        assert_eq!(taken(Duration::ZERO, PIECE, soon).await.unwrap(), PIECES * PIECE);
        let slow_app = taken(MOST_UNTAKEN * 10, PIECE, soon).await;
        assert_eq!(slow_app.unwrap(), PIECES * PIECE, "an app that takes its time");
        let error = taken(Duration::ZERO, 0, soon).await.unwrap_err();
        assert!(error.is_reset(), "{error}");
    }
}
