//! Queries over TCP (RFC 7766). What is not ours goes over a connection to an original resolver that this client has for
//! itself, as messages: any number of them at once, answered in any order, and zone transfers, need no understanding. When the
//! resolver ends its connection, the client's ends, as it would have without us.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use super::Server;
use super::forward::OwnPort;
use super::lookup::Outcome;
use super::message::{NotAQuery, Query, format_error};

/// A connection without a message for this long is closed.
const IDLE: Duration = Duration::from_secs(30);
/// For one message to be taken by whoever it goes to.
const WRITE: Duration = Duration::from_secs(10);
/// Queries that wait for the original resolver; further ones are read once answers have come.
const MOST_WAITING: usize = 64;
/// After a connection could not be accepted (no more files, say).
const PAUSE: Duration = Duration::from_millis(100);

/// Serves connections for ever.
pub async fn serve(listener: TcpListener, server: Arc<Server>) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, from)) if !server.forwarder.is_own(from) => stream,
            Ok(_) => {
                server.looped();
                continue;
            }
            Err(error) => {
                tracing::warn!(%error, "a DNS connection cannot be accepted");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let Ok(permit) = server.connections.clone().try_acquire_owned() else {
            server.metrics.connections_refused.inc();
            continue;
        };
        let server = server.clone();
        tokio::spawn(async move {
            if let Err(error) = Connection::new(stream).run(&server).await {
                tracing::debug!(%error, "a DNS connection ended");
            }
            drop(permit);
        });
    }
}

/// A client's connection.
struct Connection {
    queries: Messages<OwnedReadHalf>,
    client: OwnedWriteHalf,
    upstream: Option<Upstream>,
    /// Queries that the resolver has not answered.
    waiting: usize,
}

struct Upstream {
    answers: Messages<OwnedReadHalf>,
    resolver: OwnedWriteHalf,
    _own: OwnPort,
}

impl Connection {
    fn new(stream: TcpStream) -> Self {
        let _ = stream.set_nodelay(true);
        let (read, client) = stream.into_split();
        Self { queries: Messages::new(read), client, upstream: None, waiting: 0 }
    }

    async fn run(mut self, server: &Server) -> io::Result<()> {
        let mut ended = false;
        while !ended || self.waiting > 0 {
            let deadline = Instant::now() + IDLE;
            let answer = async {
                match &mut self.upstream {
                    Some(upstream) => upstream.answers.next().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                query = self.queries.next(), if !ended && self.waiting < MOST_WAITING => match query? {
                    Some(query) => self.take(query, server).await?,
                    None => ended = true,
                },
                answer = answer => match answer? {
                    Some(answer) => {
                        self.waiting = self.waiting.saturating_sub(1);
                        write(&mut self.client, &answer).await?;
                    }
                    None => return Ok(()),
                },
                () = tokio::time::sleep_until(deadline) => return Ok(()),
            }
        }
        Ok(())
    }

    async fn take(&mut self, bytes: BytesMut, server: &Server) -> io::Result<()> {
        let query = match Query::parse(&bytes) {
            Ok(query) => query,
            Err(why) => {
                server.metrics.malformed.inc();
                // Whoever sends noise here is no client, and where the next message begins is not known any more.
                return match why {
                    NotAQuery::Noise => Err(io::ErrorKind::InvalidData.into()),
                    NotAQuery::Malformed => write(&mut self.client, &format_error(&bytes)).await,
                };
            }
        };
        // A name that the control plane has to be asked for holds up what comes behind it, for two seconds at most.
        let outcome = match server.lookup.look(&query) {
            Outcome::Answer(answer) => {
                server.count(&answer);
                Outcome::Answer(answer)
            }
            other => server.settle(&query, other).await,
        };
        match outcome {
            Outcome::Answer(answer) => write(&mut self.client, &query.answer(&answer)).await,
            _ => self.forward(&bytes, server).await,
        }
    }

    async fn forward(&mut self, query: &[u8], server: &Server) -> io::Result<()> {
        if self.upstream.is_none() {
            let Some((stream, own)) = server.forwarder.tcp().await else {
                server.metrics.unreachable.inc();
                return Err(io::ErrorKind::ConnectionRefused.into());
            };
            let (read, resolver) = stream.into_split();
            self.upstream = Some(Upstream { answers: Messages::new(read), resolver, _own: own });
        }
        if let Some(upstream) = &mut self.upstream {
            write(&mut upstream.resolver, query).await?;
            self.waiting += 1;
            server.metrics.forwarded.inc();
        }
        Ok(())
    }
}

/// Writes one message with its length before it, at once: some peers do not wait for a second packet.
async fn write<W: AsyncWrite + Unpin>(to: &mut W, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(io::Error::other)?;
    let mut framed = Vec::with_capacity(2 + message.len());
    framed.extend(length.to_be_bytes());
    framed.extend(message);
    tokio::time::timeout(WRITE, to.write_all(&framed)).await?
}

/// Messages with their length before them; none is longer than 65,535 bytes.
struct Messages<R> {
    read: R,
    buffer: BytesMut,
}

impl<R: AsyncRead + Unpin> Messages<R> {
    fn new(read: R) -> Self {
        Self { read, buffer: BytesMut::new() }
    }

    /// The next one. None: the peer has ended. Dropping the future loses nothing.
    async fn next(&mut self) -> io::Result<Option<BytesMut>> {
        loop {
            let wanted = match self.buffer[..] {
                [high, low, ..] => 2 + usize::from(u16::from_be_bytes([high, low])),
                _ => 2,
            };
            if wanted > 2 && self.buffer.len() >= wanted {
                let mut message = self.buffer.split_to(wanted);
                message.advance(2);
                return Ok(Some(message));
            }
            if wanted == 2 && self.buffer.len() >= 2 {
                // A length of zero.
                return Err(io::ErrorKind::InvalidData.into());
            }
            self.buffer.reserve(wanted.max(512) - self.buffer.len().min(wanted));
            if self.read.read_buf(&mut self.buffer).await? == 0 {
                return if self.buffer.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        }
    }
}

#[cfg(test)]
mod tests;
