//! Who is in the mesh, as the control plane says.

use std::time::Duration;

use http::Method;
use tokio::time::{Instant, sleep};

use crate::client::{Client, Sidecar, Status, read};
use crate::failure::{Exit, Failure};
use crate::output::count;

/// How long sidecars may take to come (back) and to have the current revision.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until so many sidecars are connected, ready and at the current revision.
///
/// # Errors
/// That takes too long; the message says what is missing.
pub(super) async fn wait(client: &Client, sidecars: usize) -> Result<Status, Failure> {
    let start = Instant::now();
    loop {
        let answer = status(client).await;
        if let Ok(status) = &answer
            && status.sidecars.iter().filter(|s| is_up(s, status.control_plane.revision)).count() == sidecars
        {
            return answer;
        }
        if start.elapsed() > PATIENCE {
            let why = match answer {
                Ok(status) => summary(&status),
                Err(failure) => failure.to_string(),
            };
            let what =
                format!("{} did not all join in {} s: {why}", count(sidecars as u64, "sidecar"), PATIENCE.as_secs());
            return Err(Failure::new(Exit::Failed, what, ""));
        }
        sleep(Duration::from_millis(20)).await;
    }
}

fn is_up(sidecar: &Sidecar, revision: u64) -> bool {
    sidecar.connected && sidecar.state == "ready" && sidecar.ack == "ACK" && sidecar.revision == revision
}

/// `GET /v1/status`, by anyone who has a client.
///
/// # Errors
/// The control plane is unreachable.
pub async fn status(client: &Client) -> Result<Status, Failure> {
    read(&client.expect(Method::GET, "/v1/status", None).await?)
}

/// `revision 7: 5 sidecars connected, 1 behind`
pub fn summary(status: &Status) -> String {
    let revision = status.control_plane.revision;
    let connected = status.sidecars.iter().filter(|s| s.connected);
    let behind = connected.clone().filter(|s| !is_up(s, revision)).count();
    let rest = if behind == 0 { "all up to date".to_owned() } else { format!("{behind} not yet") };
    format!("revision {revision}: {} connected, {rest}", count(connected.count() as u64, "sidecar"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_behind_or_refuses_is_counted() {
        let up =
            || Sidecar { connected: true, state: "ready".into(), ack: "ACK".into(), revision: 7, ..Sidecar::default() };
        let mut status = Status { sidecars: vec![up(), Sidecar { ack: "NACK".into(), ..up() }], ..Status::default() };
        status.control_plane.revision = 7;
        assert_eq!(summary(&status), "revision 7: 2 sidecars connected, 1 not yet");
        status.sidecars.truncate(1);
        assert_eq!(summary(&status), "revision 7: 1 sidecar connected, all up to date");
    }
}
