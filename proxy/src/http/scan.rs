//! Reads along as the bytes of HTTP/1 requests come, and finds what two readers could take differently (request smuggling): hyper
//! is lenient in places, the app behind may be so in others. Only the standard library is used here, so that the fuzz target builds
//! without the rest of the sidecar.

use super::target::{authority_fits, target_fits, tunnel_fits};

/// Largest request head.
pub const MOST_HEAD: usize = 64 * 1024;
/// Longest request line.
pub const MOST_LINE: usize = 16 * 1024;
/// Most fields of a head.
pub const MOST_FIELDS: usize = 100;
/// Longest method name.
const MOST_METHOD: usize = 64;
/// Bytes of a chunked body's framing: what is behind one chunk's size, and all trailers.
const MOST_EXTENSION: usize = 256;
const MOST_TRAILERS: usize = 16 * 1024;
/// Longest name of a field that has no place behind a body, and one more.
const MOST_FRAMING: usize = 18;
/// Bytes of names whose case is told.
const MOST_NAMES: usize = 2048;

/// What is wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// It is no HTTP, or could be read in two ways.
    Malformed(&'static str),
    /// Its authority is missing, said twice, or none.
    Authority,
    /// It asks for what no port of ours does.
    Form,
    /// Its head is beyond a limit.
    TooLarge,
}

/// Where in a message the next byte is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// In a request's head.
    Head,
    /// In a body of which so many bytes are to come.
    Length(u64),
    /// In a chunked body.
    Chunked(Chunk),
    /// Behind a request to go on in another protocol, or for a tunnel: nothing is to be read until it was answered.
    Upgrade,
}

/// Where in a chunked body the next byte is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chunk {
    /// In a size of which so many digits were read.
    Size(u64, u8),
    /// Behind a size.
    Extension(u64, u16),
    /// Before the line feed of a size.
    SizeEnd(u64),
    /// In data of which so much is to come.
    Data(u64),
    /// Before what ends the data.
    DataEnd,
    /// Before the line feed of that.
    DataFeed,
    /// At the start of a trailer, or of the end.
    Trailer,
    /// In a trailer's name.
    Name,
    /// In a trailer's value.
    Value,
    /// Before the line feed of a trailer.
    ValueEnd,
    /// Before the last line feed.
    End,
}

/// Reads along.
#[derive(Debug)]
pub struct Scanner {
    phase: Phase,
    /// Of a head: up to where there is no line feed, where the line begins that is not whole yet, and what was read so far.
    searched: usize,
    line: usize,
    head: Head,
    /// What comes behind the body.
    then: Phase,
    /// Bytes of trailers so far, and the begin of the name of the one that is being read.
    trailers: usize,
    trailer: ([u8; MOST_FRAMING], usize),
    names: Vec<u8>,
    /// One of them is not in lower case.
    unusual: bool,
    /// The last whole head is of HTTP/1.0.
    old: bool,
    /// A request may ask for a tunnel.
    tunnels: bool,
}

/// What was read of a head so far.
#[derive(Debug, Clone, Copy, Default)]
struct Head {
    started: bool,
    old: bool,
    fields: usize,
    hosts: usize,
    length: Option<u64>,
    chunked: bool,
    upgrade: bool,
    asked: bool,
    connect: bool,
}

impl Default for Scanner {
    fn default() -> Self {
        let (phase, then) = (Phase::Head, Phase::Head);
        Self {
            phase,
            then,
            searched: 0,
            line: 0,
            head: Head::default(),
            trailers: 0,
            trailer: ([0; MOST_FRAMING], 0),
            names: Vec::new(),
            unusual: false,
            old: false,
            tunnels: false,
        }
    }
}

impl Scanner {
    /// Reads along where CONNECT opens tunnels.
    pub fn tunnelling() -> Self {
        Self { tunnels: true, ..Self::default() }
    }

    /// Where the next byte is.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The names of the last whole head as they were written, in their order and with commas between; nothing when all of
    /// them are Written-Like-This.
    pub fn names(&self) -> &[u8] {
        if self.unusual { &self.names } else { &[] }
    }

    /// Whether the last whole head asks to go on in another protocol, or for a tunnel.
    pub fn asks_upgrade(&self) -> bool {
        self.then == Phase::Upgrade
    }

    /// Whether the last whole head is of HTTP/1.0.
    pub fn is_old(&self) -> bool {
        self.old
    }

    /// Takes it that the request for another protocol was answered in this one.
    pub fn go_on(&mut self) {
        self.phase = Phase::Head;
    }

    /// Looks at a head, of which `bytes` is everything from its first byte on. Gives its length once it is whole.
    ///
    /// # Errors
    /// It must not be passed on.
    pub fn head(&mut self, bytes: &[u8]) -> Result<Option<usize>, Flaw> {
        if self.searched == 0 {
            self.names.clear();
            self.unusual = false;
        }
        while let Some(end) = control(bytes, self.searched) {
            self.searched = end;
            match (bytes[end], bytes.get(end + 1)) {
                (b'\r', Some(b'\n')) => {}
                // What comes next decides.
                (b'\r', None) => break,
                _ => return Err(Flaw::Malformed("a control character, or a line that does not end with CR LF")),
            }
            let (line, first) = (&bytes[self.line..end], self.line == 0);
            (self.searched, self.line) = (end + 2, end + 2);
            if end + 2 > MOST_HEAD {
                return Err(Flaw::TooLarge);
            }
            if !self.head.started {
                // One empty line in front is what some old clients send behind a body (RFC 9112, 2.2).
                if line.is_empty() && first {
                    continue;
                }
                self.request_line(line)?;
                self.head.started = true;
            } else if line.is_empty() {
                self.finish()?;
                return Ok(Some(end + 2));
            } else {
                self.field(line)?;
            }
        }
        if bytes.last() != Some(&b'\r') {
            self.searched = bytes.len();
        }
        let waiting = bytes.len() - self.line;
        if bytes.len() >= MOST_HEAD || (!self.head.started && waiting > MOST_LINE + 1) {
            return Err(Flaw::TooLarge);
        }
        Ok(None)
    }

    fn request_line(&mut self, line: &[u8]) -> Result<(), Flaw> {
        if line.len() > MOST_LINE {
            return Err(Flaw::TooLarge);
        }
        let mut words = line.split(|b| *b == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(Flaw::Malformed("a request line is not of three words"));
        };
        if method.is_empty() || method.len() > MOST_METHOD || !method.iter().all(|b| is_token(*b)) {
            return Err(Flaw::Malformed("no method"));
        }
        self.head.old = match version {
            b"HTTP/1.1" => false,
            b"HTTP/1.0" => true,
            _ => return Err(Flaw::Malformed("no version of HTTP/1")),
        };
        // Bytes that its sender believes to be in a tunnel must not be read as requests. Where there is none, nothing is read behind it.
        if method == b"CONNECT" {
            self.head.connect = true;
            return if self.tunnels { tunnel_fits(target) } else { Err(Flaw::Form) };
        }
        target_fits(method, target)
    }

    fn field(&mut self, line: &[u8]) -> Result<(), Flaw> {
        self.head.fields += 1;
        if self.head.fields > MOST_FIELDS {
            return Err(Flaw::TooLarge);
        }
        let (mut colon, mut unusual, mut begins) = (0, false, true);
        while let Some(byte) = line.get(colon).filter(|byte| is_token(**byte)) {
            unusual |= if begins { byte.is_ascii_lowercase() } else { byte.is_ascii_uppercase() };
            begins = *byte == b'-';
            colon += 1;
        }
        let (name, value) = (&line[..colon], line[colon..].strip_prefix(b":"));
        let value = value.filter(|_| !name.is_empty()).ok_or(Flaw::Malformed("a field has no name"))?;
        self.unusual |= unusual;
        self.remember(name);
        let value = trim(value);
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => {
                self.head.hosts += 1;
                if !value.is_empty() {
                    authority_fits(value)?;
                }
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => self.length(value)?,
            14 | 17 if is_look_alike(name) => return Err(Flaw::Malformed("a name that some take for a length's")),
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                // Any other coding would have to be undone by whoever passes the body on.
                if self.head.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Flaw::Malformed("a transfer coding other than chunked"));
                }
                self.head.chunked = true;
            }
            7 if name.eq_ignore_ascii_case(b"upgrade") => {
                self.head.upgrade |= value.split(|b| *b == b',').map(trim).any(is_other_protocol);
            }
            10 if name.eq_ignore_ascii_case(b"connection") => {
                let mut words = value.split(|b| *b == b',').map(trim);
                self.head.asked |= words.any(|word| word.eq_ignore_ascii_case(b"upgrade"));
            }
            _ => {}
        }
        Ok(())
    }

    fn length(&mut self, value: &[u8]) -> Result<(), Flaw> {
        const FLAW: Flaw = Flaw::Malformed("a length that is none, or two");
        if self.head.length.is_some() || value.is_empty() || value.len() > 18 {
            return Err(FLAW);
        }
        let digit = |sum: u64, b: &u8| b.is_ascii_digit().then(|| sum * 10 + u64::from(b - b'0'));
        self.head.length = Some(value.iter().try_fold(0, digit).ok_or(FLAW)?);
        Ok(())
    }

    fn remember(&mut self, name: &[u8]) {
        if self.names.len() + name.len() < MOST_NAMES {
            if !self.names.is_empty() {
                self.names.push(b',');
            }
            self.names.extend_from_slice(name);
        }
    }

    fn finish(&mut self) -> Result<(), Flaw> {
        let head = std::mem::take(&mut self.head);
        (self.searched, self.line, self.trailers) = (0, 0, 0);
        if head.hosts > 1 {
            return Err(Flaw::Authority);
        }
        if head.chunked && (head.old || head.length.is_some()) {
            return Err(Flaw::Malformed("a body with two lengths, or chunks in HTTP/1.0"));
        }
        let upgrade = head.upgrade && head.asked;
        // What follows is the tunnel's, so it must not be a body.
        if head.connect && (upgrade || head.chunked || head.length.is_some_and(|length| length > 0)) {
            return Err(Flaw::Malformed("a CONNECT with a body, or with another wish"));
        }
        self.old = head.old;
        self.then = if head.connect || upgrade && !head.old { Phase::Upgrade } else { Phase::Head };
        self.phase = match head.length {
            Some(length) if length > 0 => Phase::Length(length),
            _ if head.chunked => Phase::Chunked(Chunk::Size(0, 0)),
            _ => self.then,
        };
        Ok(())
    }

    /// Looks at bytes of a body. Gives how many of them are its.
    ///
    /// # Errors
    /// They must not be passed on.
    pub fn body(&mut self, bytes: &[u8]) -> Result<usize, Flaw> {
        let mut at = 0;
        while at < bytes.len() {
            match self.phase {
                Phase::Head | Phase::Upgrade => break,
                Phase::Length(left) => {
                    let n = take(left, bytes.len() - at);
                    at += n;
                    self.phase = if left == n as u64 { self.then } else { Phase::Length(left - n as u64) };
                }
                Phase::Chunked(Chunk::Data(left)) => {
                    let n = take(left, bytes.len() - at);
                    at += n;
                    let left = left - n as u64;
                    self.phase = Phase::Chunked(if left == 0 { Chunk::DataEnd } else { Chunk::Data(left) });
                }
                Phase::Chunked(chunk) => {
                    self.phase = self.framing(chunk, bytes[at])?;
                    at += 1;
                }
            }
        }
        Ok(at)
    }

    /// One byte of what is around the data of chunks.
    fn framing(&mut self, chunk: Chunk, byte: u8) -> Result<Phase, Flaw> {
        const FLAW: Flaw = Flaw::Malformed("chunks that are none");
        let next = match (chunk, byte) {
            (Chunk::Size(..), b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => digit(chunk, byte).ok_or(FLAW)?,
            (Chunk::Size(size, 1..), b'\r') => Chunk::SizeEnd(size),
            (Chunk::Size(size, 1..), b';') => Chunk::Extension(size, 0),
            (Chunk::Extension(size, _), b'\r') => Chunk::SizeEnd(size),
            (Chunk::Extension(size, n), _) if is_text(byte) && usize::from(n) < MOST_EXTENSION => {
                Chunk::Extension(size, n + 1)
            }
            (Chunk::SizeEnd(0), b'\n') => Chunk::Trailer,
            (Chunk::SizeEnd(size), b'\n') => Chunk::Data(size),
            (Chunk::DataEnd, b'\r') => Chunk::DataFeed,
            (Chunk::DataFeed, b'\n') => Chunk::Size(0, 0),
            (Chunk::Trailer, b'\r') => Chunk::End,
            (Chunk::Trailer | Chunk::Name, _) if is_token(byte) => {
                self.trailer_name(chunk, byte);
                Chunk::Name
            }
            (Chunk::Name, b':') if self.is_framing() => {
                return Err(Flaw::Malformed("a length or host behind the body"));
            }
            (Chunk::Name, b':') => Chunk::Value,
            (Chunk::Value, b'\r') => Chunk::ValueEnd,
            (Chunk::Value, _) if is_text(byte) => Chunk::Value,
            (Chunk::ValueEnd, b'\n') => Chunk::Trailer,
            (Chunk::End, b'\n') => return Ok(self.then),
            _ => return Err(FLAW),
        };
        if matches!(next, Chunk::Name | Chunk::Value | Chunk::ValueEnd) {
            self.trailers += 1;
            if self.trailers > MOST_TRAILERS {
                return Err(Flaw::TooLarge);
            }
        }
        Ok(Phase::Chunked(next))
    }
}

impl Scanner {
    fn trailer_name(&mut self, chunk: Chunk, byte: u8) {
        let (name, length) = &mut self.trailer;
        if chunk == Chunk::Trailer {
            *length = 0;
        }
        if let Some(place) = name.get_mut(*length) {
            *place = byte.to_ascii_lowercase();
            *length += 1;
        }
    }

    /// Behind a body nobody may say how long it is or whom it is for: whoever joined that with the head would read another request.
    fn is_framing(&self) -> bool {
        let name = &self.trailer.0[..self.trailer.1];
        matches!(name, b"content-length" | b"transfer-encoding" | b"host") || is_look_alike(name)
    }
}

fn digit(chunk: Chunk, byte: u8) -> Option<Chunk> {
    let Chunk::Size(size, digits @ 0..16) = chunk else { return None };
    let value = (byte as char).to_digit(16)?;
    // Sixteen digits fill 64 bits exactly; a size that large is nobody's, and sums of it would wrap.
    let size = size.checked_mul(16)?.checked_add(u64::from(value)).filter(|size| *size < 1 << 62)?;
    Some(Chunk::Size(size, digits + 1))
}

fn take(left: u64, there: usize) -> usize {
    usize::try_from(left).map_or(there, |left| left.min(there))
}

/// What a name or method may consist of (RFC 9110, 5.6.2).
const TOKENS: [bool; 256] = {
    let (mut table, mut byte) = ([false; 256], 0);
    while byte < 256 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let (marks, mut n) = (b"!#$%&'*+-.^_`|~", 0);
    while n < marks.len() {
        table[marks[n] as usize] = true;
        n += 1;
    }
    table
};

fn is_token(byte: u8) -> bool {
    TOKENS[usize::from(byte)]
}

/// The next control character but the tab, looked for in eight bytes at once.
fn control(bytes: &[u8], from: usize) -> Option<usize> {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = ONES << 7;
    let mut at = from;
    while let Some(eight) = bytes.get(at..at + 8) {
        let word = eight.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
        // Less than a space, or 0x7f. Above a byte that is, others may seem to be; the lowest one is right.
        let del = word ^ (ONES * 0x7f);
        let found = (word.wrapping_sub(ONES * 0x20) & !word | del.wrapping_sub(ONES) & !del) & HIGH;
        if found == 0 {
            at += 8;
            continue;
        }
        at += found.trailing_zeros() as usize / 8;
        if bytes[at] != b'\t' {
            return Some(at);
        }
        at += 1;
    }
    bytes[at.min(bytes.len())..].iter().position(|byte| !is_text(*byte)).map(|n| at + n)
}

/// What a value may consist of: no control character but the tab.
fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// Names that gateways to CGI and its kind cannot tell from those that say how long a body is.
pub fn is_look_alike(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"content_length") || name.eq_ignore_ascii_case(b"transfer_encoding")
}

/// Whether an offer to go on in a protocol is passed on. One of HTTP in another version, or of TLS, is passed over, as is always allowed:
/// in such a tunnel a client would reach the app past every route and limit.
pub fn is_other_protocol(offered: &[u8]) -> bool {
    let name = offered.split(|b| *b == b'/').next().unwrap_or_default();
    !name.is_empty() && ![&b"h2c"[..], b"h2", b"http", b"tls"].iter().any(|http| name.eq_ignore_ascii_case(http))
}

fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

#[cfg(test)]
mod tests;
