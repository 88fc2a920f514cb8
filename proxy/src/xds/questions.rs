//! Answers what the control plane asks of this sidecar: what it remembers of requests that failed or took long.

use std::time::Duration;

use leno_proto::v1::reports_client::ReportsClient;
use leno_proto::v1::{self, question::What};
use leno_runtime::backoff::Backoff;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use crate::telemetry::Memory;
use crate::telemetry::memory::{Asked, Remembered, RequestId, Try, TryOutcome};

/// Answers that wait to be sent; a control plane that reads none gets no more.
const MOST_WAITING: usize = 8;

/// Answers until the process ends. `channels` has the connection of the stream while there is one.
pub async fn run(memory: Memory, workload: String, mut channels: watch::Receiver<Option<Channel>>) {
    let name = workload.rsplit_once('/').map_or(workload.as_str(), |(_, name)| name).to_owned();
    let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
    loop {
        let channel = channels.borrow_and_update().clone();
        if let Some(channel) = channel {
            match answer(&memory, &name, channel).await {
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
async fn answer(memory: &Memory, name: &str, channel: Channel) -> Result<(), tonic::Status> {
    let (answers, waiting) = mpsc::channel(MOST_WAITING);
    let hello = v1::Answer { workload: name.to_owned(), ..v1::Answer::default() };
    // There is room for the first one.
    let _ = answers.try_send(hello);
    let mut questions = ReportsClient::new(channel).ask(ReceiverStream::new(waiting)).await?.into_inner();
    while let Some(question) = questions.message().await? {
        let told = question.what.map(asked).map(|asked| memory.tell(&asked)).unwrap_or_default();
        let requests = told.into_iter().map(request).collect();
        let answer = v1::Answer { question: question.id, requests, ..v1::Answer::default() };
        if answers.send(answer).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

fn asked(what: What) -> Asked {
    match what {
        What::Request(id) => Asked::Id(RequestId(id)),
        What::FailuresOf(service) => Asked::FailuresOf(service),
        What::SlowOf(service) => Asked::SlowOf(service),
    }
}

fn request(of: Remembered) -> v1::RememberedRequest {
    let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    v1::RememberedRequest {
        id: of.id.0,
        inbound: of.direction == crate::telemetry::Direction::Inbound,
        ended_ms: u64::try_from(of.ended.as_millis()).unwrap_or(u64::MAX),
        method: of.method,
        host: of.host,
        path: of.path,
        caller: of.caller,
        service: of.service,
        rule: of.rule,
        status: of.ending.status.into(),
        reason: of.ending.reason.map(|reason| reason.code().to_owned()).unwrap_or_default(),
        took_us: micros(of.ending.took),
        tries: of.tries.into_iter().map(|one| tried(one, micros)).collect(),
        revision: of.revision,
    }
}

fn tried(one: Try, micros: impl Fn(Duration) -> u64) -> v1::TriedEndpoint {
    let (status, reason) = match one.outcome {
        TryOutcome::Answered(status) => (status.into(), String::new()),
        TryOutcome::Failed(reason) => (0, reason.code().to_owned()),
    };
    let (workload, address) = (one.endpoint, one.address.to_string());
    v1::TriedEndpoint { workload, address, status, reason, after_us: micros(one.after) }
}
