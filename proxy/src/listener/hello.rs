//! Connections that are TLS and go on as such: what the client says first is read, and whoever asks for a name that is not here
//! is told so.

use std::io;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

use crate::detect::client_hello::{self, ClientHello, Progress};
use crate::error::Reason;

/// A fatal alert, unrecognized_name (RFC 6066, 3).
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

/// What the client says first. None: it is not TLS, or not to be read.
pub(super) async fn hello<I: AsyncRead + Unpin>(
    stream: &mut I,
    read: &mut BytesMut,
) -> io::Result<Option<ClientHello>> {
    loop {
        if stream.read_buf(read).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match client_hello::read(read) {
            Progress::Done(hello) => return Ok(Some(*hello)),
            Progress::Not => return Ok(None),
            Progress::More => {}
        }
    }
}

/// Says that nobody of that name is here, and closes.
pub(super) async fn unrecognized<I: AsyncWriteExt + Unpin>(mut io: I) -> Result<(), Reason> {
    // Best effort: whoever is gone needs no alert.
    let _ = io.write_all(&UNRECOGNIZED_NAME).await;
    let _ = io.shutdown().await;
    Err(Reason::NoRoute)
}
