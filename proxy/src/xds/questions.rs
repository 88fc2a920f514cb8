//! Answers what the control plane asks of this sidecar: what it remembers of requests that failed or took long, and requests as they end.

use std::collections::HashMap;
use std::time::{Duration, UNIX_EPOCH};

use leno_proto::v1::reports_client::ReportsClient;
use leno_proto::v1::{self, question::What};
use leno_runtime::backoff::Backoff;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::AbortOnDropHandle;
use tonic::transport::Channel;

use crate::telemetry::memory::{Asked as Remembering, Remembered, RequestId, Try, TryOutcome};
use crate::telemetry::record::{self, Record};
use crate::telemetry::taps::{Filter, Tap, Taps};
use crate::telemetry::{Direction, Memory};

/// Answers that wait to be sent; a control plane that reads none gets no more.
const MOST_WAITING: usize = 8;

/// Requests of one answer to a tap, and how long it waits until the next one.
const MOST_SHOWN: usize = 128;
const GATHER: Duration = Duration::from_millis(100);

/// Of what is asked.
#[derive(Clone)]
pub struct Asked {
    pub memory: Memory,
    pub taps: Taps,
}

/// Answers until the process ends. `channels` has the connection of the stream while there is one.
pub async fn run(of: Asked, workload: String, mut channels: watch::Receiver<Option<Channel>>) {
    let name = workload.rsplit_once('/').map_or(workload.as_str(), |(_, name)| name).to_owned();
    let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
    loop {
        let channel = channels.borrow_and_update().clone();
        if let Some(channel) = channel {
            match answer(&of, &name, channel).await {
                Ok(()) => backoff.reset(),
                Err(status) => tracing::debug!(code = ?status.code(), "not asked any more: {}", status.message()),
            }
            tokio::select! {
                () = tokio::time::sleep(backoff.next_delay()) => {}
                changed = channels.changed() => if changed.is_err() { return },
            }
        } else if channels.changed().await.is_err() {
            return;
        }
    }
}

/// One call, until the control plane ends it.
async fn answer(of: &Asked, name: &str, channel: Channel) -> Result<(), tonic::Status> {
    let (answers, waiting) = mpsc::channel(MOST_WAITING);
    let hello = v1::Answer { workload: name.to_owned(), ..v1::Answer::default() };
    // There is room for the first one.
    let _ = answers.try_send(hello);
    let mut questions = ReportsClient::new(channel).ask(ReceiverStream::new(waiting)).await?.into_inner();
    // By question; each is closed with its task, and all of them with the call.
    let mut taps: HashMap<u64, AbortOnDropHandle<()>> = HashMap::new();
    while let Some(v1::Question { id, what: Some(what) }) = questions.message().await? {
        taps.retain(|_, tap| !tap.is_finished());
        let told = match what {
            What::Tap(wanted) => {
                if let Some(tap) = of.taps.open(filter(wanted)) {
                    let shown = AbortOnDropHandle::new(tokio::spawn(show(tap, id, answers.clone())));
                    taps.insert(id, shown);
                    continue;
                }
                // Too many look already.
                Vec::new()
            }
            What::End(_) => {
                taps.remove(&id);
                continue;
            }
            What::Request(id) => of.memory.tell(&Remembering::Id(RequestId(id))),
            What::FailuresOf(service) => of.memory.tell(&Remembering::FailuresOf(service)),
            What::SlowOf(service) => of.memory.tell(&Remembering::SlowOf(service)),
        };
        let requests = told.into_iter().map(remembered).collect();
        let answer = v1::Answer { question: id, requests, ..v1::Answer::default() };
        if answers.send(answer).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// Sends what a tap sees, a few times a second.
async fn show(mut tap: Tap, question: u64, answers: mpsc::Sender<v1::Answer>) {
    let mut seen = Vec::new();
    while tap.requests.recv_many(&mut seen, MOST_SHOWN).await > 0 {
        let requests = seen.drain(..).map(|record| tapped(&record)).collect();
        let answer = v1::Answer { question, requests, missed: tap.missed(), ..v1::Answer::default() };
        if answers.send(answer).await.is_err() {
            return;
        }
        tokio::time::sleep(GATHER).await;
    }
}

fn filter(wanted: v1::Tap) -> Filter {
    let status = |n: u32| u16::try_from(n).unwrap_or(u16::MAX);
    Filter {
        service: wanted.service,
        method: wanted.method,
        path: wanted.path,
        status: (status(wanted.status_from), status(wanted.status_to)),
        failures: wanted.failures,
        per_second: wanted.per_second,
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn millis(since: Duration) -> u64 {
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn remembered(of: Remembered) -> v1::RememberedRequest {
    v1::RememberedRequest {
        id: of.id.0,
        inbound: of.direction == Direction::Inbound,
        ended_ms: millis(of.ended),
        method: of.method,
        host: of.host,
        path: of.path,
        caller: of.caller,
        service: of.service,
        rule: of.rule,
        status: of.ending.status.into(),
        reason: of.ending.reason.map(|reason| reason.code().to_owned()).unwrap_or_default(),
        took_us: micros(of.ending.took),
        tries: of.tries.into_iter().map(tried).collect(),
        revision: of.revision,
        retry_denied: of.retry_denied,
        ..v1::RememberedRequest::default()
    }
}

fn tapped(of: &Record) -> v1::RememberedRequest {
    let ended = of.began.duration_since(UNIX_EPOCH).unwrap_or_default() + of.total;
    let (endpoint, address) = of
        .endpoint
        .as_ref()
        .map_or_else(Default::default, |(workload, _, address)| (workload.clone(), address.to_string()));
    v1::RememberedRequest {
        id: of.story.id.map_or(0, |id| id.0),
        inbound: of.direction == Direction::Inbound,
        ended_ms: millis(ended),
        method: record::shown(of.story.method()),
        host: record::shown(of.story.uri.authority().map_or("", |authority| authority.as_str())),
        path: of.path(),
        caller: of.caller.clone(),
        service: of.story.service.clone(),
        rule: of.story.rule.clone(),
        status: of.status.into(),
        reason: of.reason.map(|reason| reason.code().to_owned()).unwrap_or_default(),
        took_us: micros(of.total),
        tries: of.story.tries.iter().cloned().map(tried).collect(),
        revision: of.revision,
        retry_denied: of.story.retry_denied,
        endpoint,
        address,
        attempts: of.attempts,
        bytes: of.received,
        trace_id: of.span.as_ref().map(|span| format!("{:032x}", span.trace)).unwrap_or_default(),
    }
}

fn tried(one: Try) -> v1::TriedEndpoint {
    let (status, reason) = match one.outcome {
        TryOutcome::Answered(status) => (status.into(), String::new()),
        TryOutcome::Failed(reason) => (0, reason.code().to_owned()),
    };
    let (workload, address) = (one.endpoint, one.address.to_string());
    v1::TriedEndpoint { workload, address, status, reason, after_us: micros(one.after) }
}
