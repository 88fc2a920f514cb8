//! The kinds `http2` and `grpc`: HTTP/2 with prior knowledge from the client, so many connections with so many requests at a time on each, to
//! a server that speaks HTTP/2, too. The figure is requests (of a stream: messages) for a second of the pair's processor time.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use clap::{Args, ValueEnum};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, Version};
use http_body::{Body, Frame};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;

use crate::comparison::Comparison;
use crate::contestant::{self, Carries, Contestant};
use crate::findings::Findings;
use crate::http1;
use crate::line_up::{Besides, LineUp, Run, seconds};
use crate::process::pinned;

/// How long a contestant may take until it answers.
const PATIENCE: Duration = Duration::from_secs(30);
/// Messages of one stream, each in a frame of its own.
const MESSAGES: u32 = 100;
/// What a message, or an answer, carries.
const BYTES: usize = 128;

/// How the two kinds are run.
#[derive(Debug, Args)]
pub struct Settings {
    #[command(flatten)]
    pub run: Run,
    /// Connections of the client
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1024))]
    connections: u32,
    /// Requests at a time on each
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1024))]
    streams: u32,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Call {
    /// An answer of 128 bytes.
    Plain,
    /// A gRPC call with one message and trailers.
    Unary,
    /// One with many messages.
    Streaming,
}

impl Call {
    fn path(self) -> &'static str {
        match self {
            Self::Plain => "/",
            Self::Unary => "/bench.Bench/Unary",
            Self::Streaming => "/bench.Bench/Stream",
        }
    }

    fn messages(self) -> u32 {
        if self == Self::Streaming { MESSAGES } else { 1 }
    }
}

/// Measures each of these.
pub fn run(settings: &Settings, kind: &'static str, calls: &[(Call, &str)]) -> Result<Findings> {
    let run = &settings.run;
    let cast = run.cast(Carries::Http2, Besides { direct: true, ..Besides::default() })?;
    let mut findings = Findings::of(kind, cast.peers.clone());
    let dir = tempfile::TempDir::with_prefix("leno-bench-")?;
    let (_backend, at) = http1::start_backend(run.load_core, dir.path(), &["--http2".to_owned()])?;
    let line_up = run.line_up_before(at, &cast, &cast.entrants)?;
    for (call, title) in calls {
        compare(settings, &line_up, *call, title, &mut findings)?;
    }
    Ok(findings)
}

/// The figure is of the pairs; beside it stands how many a second got through, of the server alone, too.
fn compare(settings: &Settings, line_up: &LineUp, call: Call, title: &str, findings: &mut Findings) -> Result<()> {
    let Settings { run, connections, streams } = settings;
    for contestant in &line_up.contestants {
        warm_up(settings, contestant, call)?;
    }
    let title = format!("{title}, {connections} connections x {streams}");
    let what = if call == Call::Streaming { "messages" } else { "requests" };
    let (names, pairs) = (line_up.names(), line_up.pairs());
    let mut costs = vec![Vec::new(); pairs];
    let unit = if call == Call::Streaming { "messages a second" } else { "requests a second" };
    let rates = Comparison::measure(format!("{title}, {what}"), unit, 0, run.rounds, names.clone(), |n| {
        let contestant = &line_up.contestants[n];
        let (done, used) = contestant.pays(|| load(settings, contestant, call, run.turn))?;
        if let Some(costs) = costs.get_mut(n) {
            costs.push(done as f64 / used.as_secs_f64());
        }
        Ok(done as f64 / run.turn.as_secs_f64())
    })?;
    let unit = if call == Call::Streaming { "messages per proxy CPU second" } else { "requests per proxy CPU second" };
    Comparison::of(title, unit, 0, names[..pairs].to_vec(), costs).found(findings);
    rates.found(findings);
    Ok(())
}

fn warm_up(settings: &Settings, contestant: &Contestant, call: Call) -> Result<()> {
    let begun = Instant::now();
    loop {
        match load(settings, contestant, call, Duration::from_secs(1)) {
            Ok(_) => return Ok(()),
            Err(error) if begun.elapsed() > PATIENCE => {
                return Err(error.context(format!("{} does not answer", contestant.name)));
            }
            Err(_) => {}
        }
    }
}

/// Runs the load as a process of its own; gives what it got.
fn load(settings: &Settings, contestant: &Contestant, call: Call, length: Duration) -> Result<u64> {
    let mut command = pinned(settings.run.load_core, &std::env::current_exe()?);
    let call = call.to_possible_value().context("a call has a name")?;
    command.args(["load-http2", "--target", &contestant.target.to_string(), "--call", call.get_name()]);
    command.args(["--connections", &settings.connections.to_string(), "--streams", &settings.streams.to_string()]);
    command.args(["--seconds", &length.as_secs_f64().to_string()]);
    let output = command.output().context("run the load generator")?;
    ensure!(output.status.success(), "load: {}", String::from_utf8_lossy(&output.stderr));
    let answer: Value = serde_json::from_slice(&output.stdout)?;
    answer["messages"].as_u64().context("field messages")
}

/// What the load does.
#[derive(Debug, Clone, Args)]
pub struct Load {
    #[arg(long)]
    target: SocketAddr,
    #[arg(long)]
    call: Call,
    #[arg(long)]
    connections: u32,
    #[arg(long)]
    streams: u32,
    #[arg(long = "seconds", value_parser = seconds)]
    length: Duration,
}

/// The load: on each connection so many requests at a time, one after the other. Prints a JSON object.
pub fn generate(load: &Load) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let end = Instant::now() + load.length;
    let messages = LocalSet::new().block_on(&runtime, async {
        let mut asking = Vec::new();
        for _ in 0..load.connections {
            let stream = TcpStream::connect(load.target).await?;
            stream.set_nodelay(true)?;
            let handshake = http2::Builder::new(TokioExecutor::new()).handshake(TokioIo::new(stream));
            let (sender, connection) = handshake.await?;
            // It ends with its senders.
            tokio::task::spawn_local(connection);
            asking.extend((0..load.streams).map(|_| tokio::task::spawn_local(ask(sender.clone(), load.call, end))));
        }
        let mut messages = 0;
        for one in asking {
            messages += one.await??;
        }
        anyhow::Ok(messages)
    })?;
    println!("{}", json!({"messages": messages}));
    Ok(())
}

async fn ask(mut sender: SendRequest<Empty<Bytes>>, call: Call, end: Instant) -> Result<u64> {
    let mut messages = 0;
    while Instant::now() < end {
        let uri = format!("http://{}{}", contestant::HOST, call.path());
        let mut request = Request::get(uri).version(Version::HTTP_2);
        if call != Call::Plain {
            request = request.method("POST").header("content-type", "application/grpc").header("te", "trailers");
        }
        let mut answer = sender.send_request(request.body(Empty::new())?).await?;
        ensure!(answer.status().is_success(), "an answer was {}", answer.status());
        let (mut bytes, mut well) = (0, call == Call::Plain);
        while let Some(frame) = poll_fn(|cx| Pin::new(answer.body_mut()).poll_frame(cx)).await {
            match frame?.into_data() {
                Ok(data) => bytes += data.len(),
                Err(frame) => {
                    let trailers = frame.into_trailers().unwrap_or_default();
                    well = trailers.get("grpc-status").is_some_and(|status| status == "0");
                }
            }
        }
        ensure!(well, "a call ended without the status 0");
        ensure!(bytes == (BYTES + prefix(call)) * call.messages() as usize, "an answer has {bytes} bytes");
        messages += u64::from(call.messages());
    }
    Ok(messages)
}

/// gRPC puts a flag and a length before each message.
fn prefix(call: Call) -> usize {
    if call == Call::Plain { 0 } else { 5 }
}

/// The server: what is asked for stands in the path.
pub async fn serve(listener: TcpListener) -> Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let service = service_fn(|request: Request<Incoming>| async move {
            let calls = [Call::Unary, Call::Streaming];
            let call = calls.into_iter().find(|call| call.path() == request.uri().path()).unwrap_or(Call::Plain);
            Ok::<_, Infallible>(answer(call))
        });
        tokio::task::spawn_local(async move {
            let mut server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            // A connection that a client breaks off is no matter of the benchmark's.
            let _ = server.max_concurrent_streams(1_000).serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

fn answer(call: Call) -> Response<Messages> {
    let mut data = match call {
        Call::Plain => Vec::new(),
        _ => [&[0][..], &(BYTES as u32).to_be_bytes()].concat(),
    };
    data.extend([b'.'; BYTES]);
    let grpc = call != Call::Plain;
    let mut response = Response::new(Messages { data: data.into(), left: call.messages(), trailers: grpc });
    let kind = if grpc { "application/grpc" } else { "text/plain" };
    response.headers_mut().insert("content-type", HeaderValue::from_static(kind));
    response
}

/// So many messages, and then trailers.
struct Messages {
    data: Bytes,
    left: u32,
    trailers: bool,
}

impl Body for Messages {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left > 0 {
            self.left -= 1;
            return Poll::Ready(Some(Ok(Frame::data(self.data.clone()))));
        }
        let trailers = std::mem::take(&mut self.trailers);
        Poll::Ready(trailers.then(|| {
            let status = (HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"));
            Ok(Frame::trailers(HeaderMap::from_iter([status])))
        }))
    }
}
