//! The web server: answers with its version and instance. A second port, which is not in the mesh, breaks it and tells what it
//! has seen.

use std::cell::Cell;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};

use super::{listen, say};
use crate::demo::INTRUDER_PATH;
use crate::failure::Failure;

/// What it does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Well,
    /// Answers 503.
    Refuse,
    /// Resets the connection without an answer.
    Reset,
}

struct App {
    version: String,
    instance: String,
    mode: Cell<Mode>,
    answered: Cell<u64>,
    refused: Cell<u64>,
    resets: Cell<u64>,
    intruders: Cell<u64>,
}

type Answer = Response<Full<Bytes>>;

/// Serves until the process ends.
///
/// # Errors
/// No port can be bound.
pub async fn run(version: String, instance: String, at: Option<SocketAddr>) -> Result<(), Failure> {
    let (http, http_address) = listen(at).await?;
    let (control, control_address) = listen(None).await?;
    say(&json!({"event": "ready", "http": http_address, "control": control_address}));
    let app = Rc::new(App {
        version,
        instance,
        mode: Cell::new(Mode::Well),
        answered: Cell::new(0),
        refused: Cell::new(0),
        resets: Cell::new(0),
        intruders: Cell::new(0),
    });
    let requests = accept(http, app.clone(), |app, stream, request| app.answer(stream, &request));
    let controls = accept(control, app, |app, _, request| Ok(app.control(&request)));
    tokio::task::LocalSet::new()
        .run_until(async {
            tokio::join!(requests, controls);
        })
        .await;
    Ok(())
}

fn bump(counter: &Cell<u64>) {
    counter.set(counter.get() + 1);
}

/// A request that gets no answer but a reset.
struct NoAnswer;

async fn accept(
    listener: TcpListener,
    app: Rc<App>,
    handler: impl Fn(&App, Option<&socket2::Socket>, Request<Incoming>) -> Result<Answer, NoAnswer> + Copy + 'static,
) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors: those in use will be given back.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        tokio::task::spawn_local(serve(stream, app.clone(), handler));
    }
}

async fn serve(
    stream: TcpStream,
    app: Rc<App>,
    handler: impl Fn(&App, Option<&socket2::Socket>, Request<Incoming>) -> Result<Answer, NoAnswer> + Copy + 'static,
) {
    let _ = stream.set_nodelay(true);
    // A second handle of the connection, so that it can be made to reset while hyper owns the first.
    let socket = stream.as_fd().try_clone_to_owned().ok().map(socket2::Socket::from);
    let service = service_fn(move |request| {
        let answer = handler(&app, socket.as_ref(), request);
        async move { answer.map_err(|NoAnswer| std::io::Error::other("reset")) }
    });
    // A broken connection is its client's to notice.
    let _ = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

impl App {
    fn answer(&self, stream: Option<&socket2::Socket>, request: &Request<Incoming>) -> Result<Answer, NoAnswer> {
        if request.uri().path() == INTRUDER_PATH {
            bump(&self.intruders);
        }
        match self.mode.get() {
            Mode::Well => {
                bump(&self.answered);
                let body = format!("web {} {}\n", self.version, self.instance);
                Ok(self.stamped(StatusCode::OK, body))
            }
            Mode::Refuse => {
                bump(&self.refused);
                Ok(self.stamped(StatusCode::SERVICE_UNAVAILABLE, "broken\n".to_owned()))
            }
            Mode::Reset => {
                bump(&self.resets);
                // With a linger time of zero, close sends RST and not FIN.
                let _ = stream.map(|s| s.set_linger(Some(Duration::ZERO)));
                Err(NoAnswer)
            }
        }
    }

    fn stamped(&self, status: StatusCode, body: String) -> Answer {
        let mut answer = Response::new(Full::new(Bytes::from(body)));
        *answer.status_mut() = status;
        for (name, value) in [("x-version", &self.version), ("x-instance", &self.instance)] {
            if let Ok(value) = value.parse() {
                answer.headers_mut().insert(name, value);
            }
        }
        answer
    }

    /// `POST /break?mode=503|reset|off` and `GET /stats`.
    fn control(&self, request: &Request<Incoming>) -> Answer {
        let mode = match (request.method(), request.uri().path(), request.uri().query()) {
            (&Method::GET, "/stats", None) => None,
            (&Method::POST, "/break", Some("mode=503")) => Some(Mode::Refuse),
            (&Method::POST, "/break", Some("mode=reset")) => Some(Mode::Reset),
            (&Method::POST, "/break", Some("mode=off")) => Some(Mode::Well),
            _ => {
                let mut answer = Response::new(Full::default());
                *answer.status_mut() = StatusCode::NOT_FOUND;
                return answer;
            }
        };
        if let Some(mode) = mode {
            self.mode.set(mode);
        }
        let stats = json!({
            "answered": self.answered.get(), "refused": self.refused.get(),
            "resets": self.resets.get(), "intruders": self.intruders.get(),
        });
        Response::new(Full::new(Bytes::from(stats.to_string())))
    }
}
