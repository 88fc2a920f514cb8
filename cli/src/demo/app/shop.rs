//! The frontend of `examples/compose`: for each visit it asks `web` and counts the visit in the database, and it knows of no mesh.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode, Uri};
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};
use tokio::task::{LocalSet, spawn_local};
use tokio::time::timeout;

use super::call::{Caller, Reply};
use super::{listen, say};
use crate::failure::Failure;

/// How long the database may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Visitors that are served at once; more wait.
const MOST_VISITORS: usize = 256;

struct Shop {
    web: Uri,
    database: Mutex<Database>,
}

/// Serves until the process ends.
///
/// # Errors
/// The port cannot be bound.
pub async fn run(at: SocketAddr, web: Uri, database: String) -> Result<(), Failure> {
    let (listener, address) = listen(Some(at)).await?;
    say(&json!({"event": "ready", "http": address}));
    let database = Mutex::new(Database { at: database, kept: None, visits: 0 });
    let shop = Rc::new(Shop { web, database });
    let places = Arc::new(Semaphore::new(MOST_VISITORS));
    LocalSet::new()
        .run_until(async {
            loop {
                let Ok(place) = places.clone().acquire_owned().await else { return Ok(()) };
                match listener.accept().await {
                    Ok((stream, _)) => drop(spawn_local(serve(shop.clone(), stream, place))),
                    // Out of descriptors: those in use will be given back.
                    Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            }
        })
        .await
}

/// One visitor's connection. Each has a connection of its own to `web`, as it would have in most frameworks' pools.
async fn serve(shop: Rc<Shop>, stream: TcpStream, _place: OwnedSemaphorePermit) {
    let _ = stream.set_nodelay(true);
    let web = Rc::new(Mutex::new(Caller::new(shop.web.clone())));
    let service = service_fn(move |_| {
        let (shop, web) = (shop.clone(), web.clone());
        async move { Ok::<_, Infallible>(shop.visit(&web).await) }
    });
    // A broken connection is its client's to notice.
    let _ = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

impl Shop {
    async fn visit(&self, web: &Mutex<Caller>) -> Response<Full<Bytes>> {
        let page = match web.lock().await.get().await {
            Ok(page) if page.status == StatusCode::OK => page,
            Ok(page) => return failed(format!("web answered {} {}", page.status.as_u16(), page.header("leno-reason"))),
            Err(why) => return failed(format!("web: {why}")),
        };
        match self.database.lock().await.count().await {
            Ok(visits) => shown(&page, visits),
            Err(why) => failed(format!("database: {why}")),
        }
    }
}

fn shown(page: &Reply, visits: u64) -> Response<Full<Bytes>> {
    let text = format!("{}, visit {visits}\n", page.body.trim_end());
    let mut answer = Response::new(Full::new(Bytes::from(text)));
    for name in ["x-version", "x-instance"] {
        if let Some(value) = page.headers.get(name) {
            answer.headers_mut().insert(name, value.clone());
        }
    }
    answer
}

fn failed(why: String) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(Bytes::from(why + "\n")));
    *answer.status_mut() = StatusCode::BAD_GATEWAY;
    answer
}

/// The visits, in the store of [`super::store`].
struct Database {
    /// HOST:PORT
    at: String,
    kept: Option<BufReader<TcpStream>>,
    visits: u64,
}

impl Database {
    /// Counts one more, and looks whether the database has it.
    async fn count(&mut self) -> Result<u64, String> {
        match timeout(PATIENCE, self.set_and_get()).await {
            Ok(counted) => counted,
            Err(_) => Err(format!("{} did not answer within {} s", self.at, PATIENCE.as_secs())),
        }
    }

    async fn set_and_get(&mut self) -> Result<u64, String> {
        // Kept only if all goes well.
        let mut stream = match self.kept.take() {
            Some(stream) => stream,
            None => BufReader::new(TcpStream::connect(&self.at).await.map_err(|why| format!("{}: {why}", self.at))?),
        };
        let visits = self.visits + 1;
        ask(&mut stream, &format!("SET visits {visits}\n"), "OK\n").await?;
        ask(&mut stream, "GET visits\n", &format!("VALUE {visits}\n")).await?;
        (self.visits, self.kept) = (visits, Some(stream));
        Ok(visits)
    }
}

async fn ask(stream: &mut BufReader<TcpStream>, question: &str, expected: &str) -> Result<(), String> {
    stream.get_mut().write_all(question.as_bytes()).await.map_err(|e| format!("cannot send: {e}"))?;
    let mut answer = String::new();
    stream.take(256).read_line(&mut answer).await.map_err(|e| format!("cannot read: {e}"))?;
    match answer.as_str() {
        answer if answer == expected => Ok(()),
        "" => Err("closed without an answer".to_owned()),
        other => Err(format!("{:?} where {:?} was right", other.trim_end(), expected.trim_end())),
    }
}
