//! Reading what a TLS client says first, in the clear: which server it wants (SNI, RFC 6066) and what it is going to speak
//! (ALPN, RFC 7301). Nothing is decrypted, and nothing that is read here is proven.
//!
//! Only the standard library is used here, so that the fuzz target builds without the rest of the sidecar.

/// Most bytes that are looked at. Hellos with post-quantum key shares have about 2 KiB; one that does not fit is taken for TLS
/// without a name.
pub const MOST_BYTES: usize = 16 * 1024;
/// Protocols of which the names are kept; browsers name two.
const MOST_PROTOCOLS: usize = 16;
/// Longest server name (RFC 1035).
const MOST_NAME: usize = 253;
/// Content of a record: a handshake.
const HANDSHAKE: u8 = 22;
/// A handshake message: the client's first.
const CLIENT_HELLO: u8 = 1;
/// Longest record of plaintext (RFC 8446, 5.1).
const MOST_RECORD: usize = 1 << 14;
const RECORD_HEADER: usize = 5;
const HANDSHAKE_HEADER: usize = 4;

/// What a client said.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClientHello {
    /// The server that it wants, in lower case. With an encrypted hello this is the outer one, which names the front. None: it
    /// names none, or something that is no host's name.
    pub server_name: Option<String>,
    /// What it would speak, best first.
    pub alpn: Vec<Vec<u8>>,
}

/// How far the bytes lead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// More are needed.
    More,
    /// The hello is whole. Boxed, since most of these values are the other two.
    Done(Box<ClientHello>),
    /// It is no hello that can be read; more bytes change nothing.
    Not,
}

/// Whether a connection begins as TLS does. None: more bytes are needed.
pub fn begins(bytes: &[u8]) -> Option<bool> {
    let fits = |at: usize| match (at, bytes[at]) {
        (0, byte) => byte == HANDSHAKE,
        // The version in the record: up to TLS 1.2, but a client that says 1.3 here is not worth a quarrel.
        (1, byte) => byte == 3,
        (2, byte) => byte <= 4,
        (3, byte) => usize::from(byte) <= MOST_RECORD >> 8,
        (4, byte) => (1..=MOST_RECORD).contains(&usize::from(u16::from_be_bytes([bytes[3], byte]))),
        (_, byte) => byte == CLIENT_HELLO,
    };
    if !(0..bytes.len().min(RECORD_HEADER + 1)).all(fits) {
        return Some(false);
    }
    (bytes.len() > RECORD_HEADER).then_some(true)
}

/// Reads the hello at the beginning of what a client has sent. It may be spread over records in any way.
pub fn read(bytes: &[u8]) -> Progress {
    match begins(bytes) {
        None => return Progress::More,
        Some(false) => return Progress::Not,
        Some(true) => {}
    }
    let mut message = Vec::new();
    let mut rest = &bytes[..bytes.len().min(MOST_BYTES)];
    loop {
        match take_record(&mut rest, &mut message) {
            Ok(whole) => {
                if let Some(length) = message_length(&message) {
                    if length > MOST_BYTES {
                        return Progress::Not;
                    }
                    if let Some(body) = message.get(HANDSHAKE_HEADER..HANDSHAKE_HEADER + length) {
                        return hello(body).map_or(Progress::Not, |hello| Progress::Done(Box::new(hello)));
                    }
                }
                if !whole {
                    // What was looked at ends within this record.
                    return if bytes.len() >= MOST_BYTES { Progress::Not } else { Progress::More };
                }
            }
            Err(NoHandshake) => return Progress::Not,
        }
    }
}

struct NoHandshake;

/// Appends one record's part of the message. False: the record is not all there yet.
fn take_record(rest: &mut &[u8], message: &mut Vec<u8>) -> Result<bool, NoHandshake> {
    let header = &rest[..rest.len().min(RECORD_HEADER)];
    if header.first().is_some_and(|content| *content != HANDSHAKE) || header.get(1).is_some_and(|major| *major != 3) {
        return Err(NoHandshake);
    }
    let [_, _, _, high, low] = *header else { return Ok(false) };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length == 0 || length > MOST_RECORD {
        return Err(NoHandshake);
    }
    let body = &rest[RECORD_HEADER..];
    let there = &body[..body.len().min(length)];
    message.extend_from_slice(there);
    *rest = &body[there.len()..];
    Ok(there.len() == length)
}

/// Length of the handshake message without its header. None: the header is not all there.
fn message_length(message: &[u8]) -> Option<usize> {
    let [_, high, middle, low] = *message.get(..HANDSHAKE_HEADER)? else { return None };
    Some(usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low))
}

/// The body of a ClientHello (RFC 8446, 4.1.2). None: its parts do not fit into each other.
fn hello(body: &[u8]) -> Option<ClientHello> {
    let mut body = Reader(body);
    body.take(2 + 32)?; // Version and random.
    body.vector8()?; // Session.
    body.vector16()?; // Cipher suites.
    body.vector8()?; // Compression.
    let mut found = ClientHello::default();
    if body.0.is_empty() {
        // Before TLS 1.3 extensions are optional.
        return Some(found);
    }
    let mut extensions = Reader(body.vector16()?);
    while !extensions.0.is_empty() {
        let (kind, content) = (extensions.u16()?, extensions.vector16()?);
        match kind {
            0 => found.server_name = server_name(content)?,
            16 => found.alpn = protocols(content)?,
            // GREASE, the encrypted hello, QUIC's parameters and whatever comes.
            _ => {}
        }
    }
    Some(found)
}

/// The first host name in the list. The outer None: it is malformed.
fn server_name(content: &[u8]) -> Option<Option<String>> {
    let mut list = Reader(Reader(content).vector16()?);
    while !list.0.is_empty() {
        let kind = list.take(1)?[0];
        let name = list.vector16()?;
        if kind == 0 {
            return Some(host(name));
        }
    }
    Some(None)
}

fn host(name: &[u8]) -> Option<String> {
    let fits = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    let fine = !name.is_empty() && name.len() <= MOST_NAME && name.iter().all(fits);
    fine.then(|| name.iter().map(|b| char::from(b.to_ascii_lowercase())).collect())
}

fn protocols(content: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut list = Reader(Reader(content).vector16()?);
    let mut found = Vec::new();
    while !list.0.is_empty() {
        let name = list.vector8()?;
        if found.len() < MOST_PROTOCOLS {
            found.push(name.to_vec());
        }
    }
    Some(found)
}

/// Takes parts off the front; None when there is not enough left.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(taken)
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    fn vector8(&mut self) -> Option<&'a [u8]> {
        let length = self.take(1)?[0];
        self.take(length.into())
    }

    fn vector16(&mut self) -> Option<&'a [u8]> {
        let length = self.u16()?;
        self.take(length.into())
    }
}

#[cfg(test)]
mod tests;
