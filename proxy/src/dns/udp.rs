//! Queries over UDP.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::Instant;

use super::Server;
use super::forward::Forwarded;
use super::lookup::Outcome;
use super::message::{Answer, NotAQuery, Query, format_error, rcode};

/// Longest query that is read; ordinary ones have a tenth of it.
pub const MOST_QUERY: usize = 4096;
/// After an error of the socket itself, which should not happen.
const PAUSE: Duration = Duration::from_millis(100);

/// Answers queries for ever.
pub async fn serve(socket: UdpSocket, server: Arc<Server>) {
    let socket = Arc::new(socket);
    // One more than the longest, so that a longer one is seen as such.
    let mut buffer = vec![0; MOST_QUERY + 1];
    loop {
        match socket.recv_from(&mut buffer).await {
            Ok((n, from)) => take(&buffer[..n], from, &socket, &server),
            Err(error) => {
                tracing::warn!(%error, "queries cannot be received");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Answers what can be answered at once; the rest gets a task, of which there is a bounded number.
fn take(bytes: &[u8], from: SocketAddr, socket: &Arc<UdpSocket>, server: &Arc<Server>) {
    let metrics = &server.metrics;
    let reply = |bytes: &[u8]| {
        // A client that is gone, or a full queue: it asks again.
        let _ = socket.try_send_to(bytes, from);
    };
    let query = match Query::parse(bytes) {
        Ok(query) if bytes.len() <= MOST_QUERY => query,
        Err(NotAQuery::Noise) => return metrics.malformed.inc(),
        Ok(_) | Err(NotAQuery::Malformed) => {
            metrics.malformed.inc();
            return reply(&format_error(bytes));
        }
    };
    if server.forwarder.is_own(from) {
        server.looped();
        return reply(&query.answer(&Answer::code(rcode::REFUSED, 0)));
    }
    let outcome = server.lookup.look(&query);
    if let Outcome::Answer(answer) = outcome {
        server.count(&answer);
        return reply(&query.answer(&answer));
    }
    let Ok(permit) = server.in_flight.clone().try_acquire_owned() else {
        metrics.overloaded.inc();
        return reply(&query.answer(&Answer::code(rcode::SERVER_FAILURE, 0)));
    };
    let (bytes, socket, server) = (bytes.to_vec(), socket.clone(), server.clone());
    tokio::spawn(async move {
        if let Some(answer) = answer(&bytes, outcome, &server).await {
            let _ = socket.send_to(&answer, from).await;
        }
        drop(permit);
    });
}

/// The answer to a query that the mesh could not answer at once. None: nobody says anything, and so neither do we.
async fn answer(bytes: &[u8], outcome: Outcome, server: &Server) -> Option<Vec<u8>> {
    let query = Query::parse(bytes).ok()?;
    if let Outcome::Answer(answer) = server.settle(&query, outcome).await {
        return Some(query.answer(&answer));
    }
    let start = Instant::now();
    match server.forwarder.udp(bytes).await {
        Forwarded::Answer(answer) => {
            server.metrics.forwarded.inc();
            server.metrics.forward_duration.observe(start.elapsed());
            Some(answer)
        }
        // The client would have been told by the kernel; this is the nearest to it, and as quick.
        Forwarded::Unreachable => {
            server.metrics.unreachable.inc();
            Some(query.answer(&Answer::code(rcode::SERVER_FAILURE, 0)))
        }
        Forwarded::Silence => {
            server.metrics.timed_out.inc();
            None
        }
    }
}
