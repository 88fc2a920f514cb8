//! HTTP/2 by hand: frames that no library would send.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

use super::field::Io;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const PADDED: u8 = 8;
pub const ACK: u8 = 1;

/// A frame with this payload.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A number in HPACK with a prefix of 7 bits.
fn number(n: usize) -> Vec<u8> {
    if n < 127 {
        return vec![n as u8];
    }
    let (mut bytes, mut rest) = (vec![127], n - 127);
    while rest >= 128 {
        bytes.push((rest % 128 + 128) as u8);
        rest /= 128;
    }
    bytes.push(rest as u8);
    bytes
}

/// A field as HPACK writes it without any table.
pub fn field(name: &[u8], value: &[u8]) -> Vec<u8> {
    [&[0][..], &number(name.len()), name, &number(value.len()), value].concat()
}

/// The same, which also goes into the table.
pub fn indexed(name: &[u8], value: &[u8]) -> Vec<u8> {
    [&[0x40][..], &number(name.len()), name, &number(value.len()), value].concat()
}

pub fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    fields.iter().flat_map(|(name, value)| field(name.as_bytes(), value.as_bytes())).collect()
}

/// The fields of a GET.
pub fn get(path: &str) -> Vec<u8> {
    fields(&[(":method", "GET"), (":scheme", "http"), (":authority", "web"), (":path", path)])
}

/// The fields of a POST.
pub fn post(path: &str) -> Vec<u8> {
    fields(&[(":method", "POST"), (":scheme", "http"), (":authority", "web"), (":path", path)])
}

/// How a stream or a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The first byte of the answer's fields: 0x88 is 200, 0x8c 400.
    Answer(u8),
    Reset(u32),
    GoAway(u32),
    Closed,
    /// It goes on: a ping was answered.
    Alive,
    /// Nothing came.
    Silent,
}

/// How long an end may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// When nothing of what is sent is taken for so long, the other end waits for us to read.
const STUCK: Duration = Duration::from_secs(1);
/// Asks whether a connection goes on.
const ALIVE: &[u8; 8] = b"alive?!?";

pub struct Connection {
    pub io: Box<dyn Io>,
    /// What the other end did not take (yet).
    unsent: Vec<u8>,
}

type Frame = (u8, u8, u32, Vec<u8>);

async fn read(io: &mut (impl AsyncRead + Unpin)) -> Option<Frame> {
    let mut head = [0; 9];
    io.read_exact(&mut head).await.ok()?;
    let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
    io.read_exact(&mut payload).await.ok()?;
    Some((head[3], head[4], u32::from_be_bytes([head[5], head[6], head[7], head[8]]), payload))
}

/// What a frame says of how `stream` ends; 0: the connection.
fn ends(frame: Option<&Frame>, stream: u32) -> Option<End> {
    let code = |bytes: &[u8]| u32::from_be_bytes(bytes[..4].try_into().unwrap());
    let Some((kind, flags, id, payload)) = frame else { return Some(End::Closed) };
    match *kind {
        GOAWAY if code(&payload[4..]) != 0 => Some(End::GoAway(code(&payload[4..]))),
        PING if *flags == ACK && payload == ALIVE => Some(End::Alive),
        RST_STREAM if *id == stream => Some(End::Reset(code(payload))),
        HEADERS if *id == stream => Some(End::Answer(payload[0])),
        _ => None,
    }
}

impl Connection {
    /// Begins HTTP/2.
    pub async fn open(io: Box<dyn Io>) -> Self {
        let mut connection = Self { io, unsent: Vec::new() };
        assert!(connection.send(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await);
        connection
    }

    /// False when the other end does not take it (any more).
    pub async fn send(&mut self, bytes: &[u8]) -> bool {
        self.unsent.extend_from_slice(bytes);
        while !self.unsent.is_empty() {
            match tokio::time::timeout(STUCK, self.io.write(&self.unsent)).await {
                Ok(Ok(n)) if n > 0 => drop(self.unsent.drain(..n)),
                _ => return false,
            }
        }
        matches!(tokio::time::timeout(STUCK, self.io.flush()).await, Ok(Ok(())))
    }

    /// How `stream` ends; 0: the connection.
    pub async fn end(&mut self, stream: u32) -> End {
        let ending = async {
            loop {
                let frame = read(&mut self.io).await;
                if let Some(end) = ends(frame.as_ref(), stream) {
                    return end;
                }
                if let Some((SETTINGS, 0, ..)) = frame {
                    self.send(&super::frames::frame(SETTINGS, ACK, 0, &[])).await;
                }
            }
        };
        tokio::time::timeout(PATIENCE, ending).await.unwrap_or(End::Silent)
    }

    /// How the connection ends once all that was to be sent is. `ask`: by a ping, whether it does; not within a head, where no
    /// ping may stand.
    pub async fn ended(&mut self, ask: bool) -> End {
        if ask {
            self.unsent.extend(frame(PING, 0, 0, ALIVE));
        }
        let (mut reader, mut writer) = tokio::io::split(&mut self.io);
        let sending = async {
            // Whoever has closed does not take it.
            let _ = writer.write_all(&self.unsent).await.is_ok() && writer.flush().await.is_ok();
            std::future::pending().await
        };
        let ending = async {
            loop {
                if let Some(end) = ends(read(&mut reader).await.as_ref(), 0) {
                    return end;
                }
            }
        };
        let ended = async {
            tokio::select! {
                end = ending => end,
                end = sending => end,
            }
        };
        tokio::time::timeout(PATIENCE, ended).await.unwrap_or(End::Silent)
    }
}
