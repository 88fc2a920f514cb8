//! A key that somebody else holds, reached over a Unix socket.
//!
//! A connection carries one request: 4 bytes of length (big endian) and the message to be signed. The answer is 4 bytes of length, a byte that
//! is 0 when it was signed, and the signature (ECDSA on P-256 with SHA-256, as RFC 3279 2.2.3 has it), or why it was not.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use leno_certs::Remote;

/// Longest message or answer, in bytes; what is signed here has about 600.
pub const MOST_BYTES: u32 = 64 * 1024;
/// How long the signer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whoever listens at a socket.
pub(super) struct SocketSigner {
    socket: PathBuf,
}

impl SocketSigner {
    pub(super) fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    fn ask(&self, message: &[u8]) -> io::Result<Vec<u8>> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        write_frame(&mut stream, message)?;
        let answer = read_frame(&mut stream)?;
        match answer.split_first() {
            Some((0, signature)) => Ok(signature.to_vec()),
            Some((_, why)) => {
                let why: String = String::from_utf8_lossy(why).chars().filter(|c| !c.is_control()).take(200).collect();
                Err(io::Error::other(format!("it refuses: {why}")))
            }
            None => Err(io::Error::other("it answers nothing")),
        }
    }
}

impl Remote for SocketSigner {
    fn sign(&self, message: &[u8]) -> io::Result<Vec<u8>> {
        self.ask(message).inspect_err(|error| {
            tracing::error!(%error, socket = %self.socket.display(), "the signer does not sign; leaves are not renewed until it does");
        })
    }
}

/// Reads one frame.
///
/// # Errors
/// It is too long, or the peer is gone.
pub fn read_frame(stream: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length);
    if length > MOST_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame is too long"));
    }
    let mut frame = Vec::new();
    stream.take(u64::from(length)).read_to_end(&mut frame)?;
    if frame.len() < length as usize {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(frame)
}

/// Writes one frame.
///
/// # Errors
/// It is too long, or the peer is gone.
pub fn write_frame(stream: &mut impl Write, frame: &[u8]) -> io::Result<()> {
    let length = u32::try_from(frame.len()).ok().filter(|n| *n <= MOST_BYTES);
    let length = length.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a frame is too long"))?;
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.extend_from_slice(frame);
    stream.write_all(&bytes)
}
