//! HTTP/2 by hand: frames that no library would send.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

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
    /// Nothing came.
    Silent,
}

pub struct Connection(pub Box<dyn Io>);

impl Connection {
    /// Begins HTTP/2.
    pub async fn open(io: Box<dyn Io>) -> Self {
        let mut connection = Self(io);
        assert!(connection.send(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await);
        connection
    }

    /// False when the other end does not take it any more.
    pub async fn send(&mut self, bytes: &[u8]) -> bool {
        let sent = async { self.0.write_all(bytes).await.is_ok() && self.0.flush().await.is_ok() };
        tokio::time::timeout(Duration::from_secs(10), sent).await.unwrap_or(false)
    }

    async fn next(&mut self) -> Option<(u8, u8, u32, Vec<u8>)> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        self.0.read_exact(&mut payload).await.ok()?;
        Some((head[3], head[4], u32::from_be_bytes([head[5], head[6], head[7], head[8]]), payload))
    }

    /// How `stream` ends; 0: the connection.
    pub async fn end(&mut self, stream: u32) -> End {
        let code = |bytes: &[u8]| u32::from_be_bytes(bytes[..4].try_into().unwrap());
        let ending = async {
            loop {
                match self.next().await {
                    None => return End::Closed,
                    Some((GOAWAY, _, _, payload)) if code(&payload[4..]) != 0 => {
                        return End::GoAway(code(&payload[4..]));
                    }
                    Some((RST_STREAM, _, id, payload)) if id == stream => return End::Reset(code(&payload)),
                    Some((HEADERS, _, id, payload)) if id == stream => return End::Answer(payload[0]),
                    Some((SETTINGS, 0, ..)) => drop(self.send(&frame(SETTINGS, ACK, 0, &[])).await),
                    Some(_) => {}
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(10), ending).await.unwrap_or(End::Silent)
    }
}
