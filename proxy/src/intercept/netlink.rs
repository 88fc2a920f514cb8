//! The frame that every netlink message has: a header of 16 bytes, a fixed head that depends on the subsystem, and
//! attributes of a length, a type and a payload, each padded to four bytes (netlink(7)). Numbers in the frame are in the
//! machine's byte order.

use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::Timeout;
use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType};

/// NLM_F_REQUEST.
const REQUEST: u16 = 0x1;
/// NLM_F_ACK: the kernel answers also when all went well.
pub const ACK: u16 = 0x4;
/// NLM_F_EXCL: it is an error when it exists.
pub const EXCL: u16 = 0x200;
/// NLM_F_DUMP: all of them.
pub const DUMP: u16 = 0x300;
/// NLM_F_CREATE.
pub const CREATE: u16 = 0x400;
/// NLM_F_APPEND: after the others. The same bit means 'last' for rules.
pub const APPEND: u16 = 0x800;
/// NLM_F_DUMP_INTR: what was dumped changed meanwhile.
const DUMP_INTERRUPTED: u16 = 0x10;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const HEADER: usize = 16;
/// NLA_F_NESTED, in the type of an attribute that holds attributes.
const NESTED: u16 = 0x8000;
/// The flags in an attribute's type.
const TYPE_MASK: u16 = 0x3fff;
/// The kernel puts at most 32 KiB of a dump into one datagram.
const DATAGRAM: usize = 64 * 1024;
/// Asked for so that the largest table fits into one datagram; the kernel grants what net.core.wmem_max allows, twice.
const SEND_BUFFER: usize = 1024 * 1024;
/// The kernel answers at once, or is none that knows what was asked.
const ANSWER: Duration = Duration::from_secs(10);
/// How often a dump is begun anew because somebody changed what was dumped.
const DUMP_TRIES: usize = 10;

/// A message in the making.
#[derive(Debug, Clone)]
pub struct Message {
    kind: u16,
    flags: u16,
    body: Vec<u8>,
}

impl Message {
    /// A request of type `kind` whose fixed head is `head`.
    pub fn new(kind: u16, flags: u16, head: &[u8]) -> Self {
        Self { kind, flags, body: head.to_vec() }
    }

    /// Adds flags.
    pub fn flag(&mut self, flags: u16) {
        self.flags |= flags;
    }

    /// Appends attributes.
    pub fn with(mut self, attributes: &Attributes) -> Self {
        self.body.extend_from_slice(&attributes.0);
        self
    }

    fn encode(&self, sequence: u32, out: &mut Vec<u8>) {
        let length = u32::try_from(HEADER + self.body.len()).unwrap_or(u32::MAX);
        out.extend_from_slice(&length.to_ne_bytes());
        out.extend_from_slice(&self.kind.to_ne_bytes());
        out.extend_from_slice(&(self.flags | REQUEST).to_ne_bytes());
        out.extend_from_slice(&sequence.to_ne_bytes());
        out.extend_from_slice(&0u32.to_ne_bytes());
        out.extend_from_slice(&self.body);
        pad(out);
    }
}

fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(4), 0);
}

/// Attributes in the making.
#[derive(Debug, Clone, Default)]
pub struct Attributes(Vec<u8>);

impl Attributes {
    /// One with bytes.
    pub fn bytes(mut self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        pad(&mut self.0);
        self
    }

    /// One with a number, in network byte order.
    pub fn be32(self, kind: u16, value: u32) -> Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// One with a text, ended by a zero.
    pub fn text(self, kind: u16, value: &str) -> Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.bytes(kind, &bytes)
    }

    /// One that holds others.
    pub fn nest(self, kind: u16, inner: &Self) -> Self {
        self.bytes(kind | NESTED, &inner.0)
    }

    /// The encoded bytes.
    #[cfg(test)]
    pub fn encoded(&self) -> &[u8] {
        &self.0
    }
}

/// Attributes as they came. Damaged ones end the list.
#[derive(Debug, Clone, Copy)]
pub struct Attrs<'a>(pub &'a [u8]);

impl<'a> Attrs<'a> {
    /// Each with its type.
    pub fn iter(self) -> impl Iterator<Item = (u16, &'a [u8])> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let length = usize::from(u16_at(rest, 0)?);
            let kind = u16_at(rest, 2)? & TYPE_MASK;
            let value = rest.get(4..length)?;
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            Some((kind, value))
        })
    }

    /// The first of the type.
    pub fn get(self, kind: u16) -> Option<&'a [u8]> {
        self.iter().find(|(found, _)| *found == kind).map(|(_, value)| value)
    }

    /// What a nested one holds; nothing when there is none.
    pub fn nested(self, kind: u16) -> Self {
        Self(self.get(kind).unwrap_or_default())
    }

    /// A number in network byte order.
    pub fn be32(self, kind: u16) -> Option<u32> {
        Some(u32::from_be_bytes(self.get(kind)?.try_into().ok()?))
    }

    /// A text.
    pub fn text(self, kind: u16) -> Option<String> {
        let bytes = self.get(kind)?;
        let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
        Some(String::from_utf8_lossy(&bytes[..end]).into_owned())
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// A message as it came.
struct Received<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    body: &'a [u8],
}

/// The messages in one datagram. Damaged ones end the list.
fn split(datagram: &[u8]) -> impl Iterator<Item = Received<'_>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let length = usize::try_from(u32_at(rest, 0)?).ok()?;
        let body = rest.get(HEADER..length)?;
        let (kind, flags, sequence) = (u16_at(rest, 4)?, u16_at(rest, 6)?, u32_at(rest, 8)?);
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Received { kind, flags, sequence, body })
    })
}

/// The number in an answer: what went wrong, or nothing.
fn error_of(body: &[u8]) -> Option<Errno> {
    let number = u32_at(body, 0).map_or(0, u32::cast_signed);
    (number != 0).then(|| Errno::from_raw_os_error(number.saturating_neg()))
}

/// Which of the messages sent was refused, by its place, and why. Without a place the whole was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// Place among the messages.
    pub at: Option<usize>,
    /// Why.
    pub why: Errno,
}

impl From<Errno> for Refused {
    fn from(why: Errno) -> Self {
        Self { at: None, why }
    }
}

/// A socket to a subsystem of the kernel.
pub struct Socket {
    fd: OwnedFd,
    sequence: u32,
}

impl Socket {
    /// Opens one. It works in the network namespace that this thread is in now.
    ///
    /// # Errors
    /// The kernel has no such subsystem.
    pub fn open(protocol: Option<Protocol>) -> Result<Self, Errno> {
        let fd = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
        rustix::net::sockopt::set_socket_send_buffer_size(&fd, SEND_BUFFER)?;
        rustix::net::sockopt::set_socket_timeout(&fd, Timeout::Recv, Some(ANSWER))?;
        Ok(Self { fd, sequence: 1 })
    }

    /// Sends `messages` in one datagram and waits for the verdict. The last message that may have one must carry [`ACK`];
    /// its place is `acknowledged`. The kernel answers in order, and what was refused before that.
    ///
    /// # Errors
    /// The first message that was refused.
    pub fn transact(&mut self, messages: &[Message], acknowledged: usize) -> Result<(), Refused> {
        let first = self.sequence;
        let mut datagram = Vec::new();
        for message in messages {
            message.encode(self.sequence, &mut datagram);
            self.sequence = self.sequence.wrapping_add(1);
        }
        rustix::net::send(&self.fd, &datagram, SendFlags::empty())?;
        let mut buffer = vec![0; DATAGRAM];
        loop {
            let (_, length) = rustix::net::recv(&self.fd, &mut buffer[..], RecvFlags::empty())?;
            for answer in split(&buffer[..length.min(DATAGRAM)]) {
                let place = usize::try_from(answer.sequence.wrapping_sub(first)).ok().filter(|n| *n < messages.len());
                if answer.kind != NLMSG_ERROR || place.is_none() {
                    continue; // A late answer to an earlier batch that was refused already.
                }
                match error_of(answer.body) {
                    Some(why) => return Err(Refused { at: place, why }),
                    None if place == Some(acknowledged) => return Ok(()),
                    None => {}
                }
            }
        }
    }

    /// Sends one request and waits for the verdict.
    ///
    /// # Errors
    /// It was refused.
    pub fn request(&mut self, mut message: Message) -> Result<(), Errno> {
        message.flag(ACK);
        self.transact(&[message], 0).map_err(|refused| refused.why)
    }

    /// The bodies of all messages that answer `request`.
    ///
    /// # Errors
    /// It was refused, or what is asked for changes all the time.
    pub fn dump(&mut self, mut request: Message) -> Result<Vec<Vec<u8>>, Errno> {
        request.flag(DUMP);
        for _ in 0..DUMP_TRIES {
            if let Some(bodies) = self.dump_once(&request)? {
                return Ok(bodies);
            }
        }
        Err(Errno::BUSY)
    }

    /// Nothing when the dump was disturbed.
    fn dump_once(&mut self, request: &Message) -> Result<Option<Vec<Vec<u8>>>, Errno> {
        let sequence = self.sequence;
        self.sequence = self.sequence.wrapping_add(1);
        let mut datagram = Vec::new();
        request.encode(sequence, &mut datagram);
        rustix::net::send(&self.fd, &datagram, SendFlags::empty())?;
        let (mut bodies, mut whole) = (Vec::new(), true);
        let mut buffer = vec![0; DATAGRAM];
        loop {
            let (_, length) = rustix::net::recv(&self.fd, &mut buffer[..], RecvFlags::empty())?;
            for message in split(&buffer[..length.min(DATAGRAM)]).filter(|message| message.sequence == sequence) {
                whole &= message.flags & DUMP_INTERRUPTED == 0;
                match message.kind {
                    NLMSG_DONE => return Ok(whole.then_some(bodies)),
                    NLMSG_ERROR => {
                        let why = error_of(message.body).unwrap_or(Errno::PROTO);
                        // Newer kernels say so by an error, too.
                        return if why == Errno::INTR { Ok(None) } else { Err(why) };
                    }
                    _ => bodies.push(message.body.to_vec()),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_come_back_as_they_were_written() {
        let inner = Attributes::default().be32(1, 7).text(2, "lo");
        let outer = Attributes::default().bytes(5, &[1, 2, 3]).nest(4, &inner);
        assert_eq!(outer.encoded().len() % 4, 0);
        let read = Attrs(outer.encoded());
        assert_eq!(read.get(5), Some(&[1, 2, 3][..]));
        assert_eq!((read.nested(4).be32(1), read.nested(4).text(2)), (Some(7), Some("lo".to_owned())));
        assert_eq!(read.get(6), None);
    }

    #[test]
    fn damaged_messages_end_the_list_and_nothing_else() {
        let mut datagram = Vec::new();
        Message::new(7, 0, &[0; 4]).with(&Attributes::default().be32(1, 7)).encode(3, &mut datagram);
        let whole = datagram.clone();
        for cut in 0..whole.len() {
            assert_eq!(split(&whole[..cut]).count(), 0);
            let _ = Attrs(&whole[..cut]).iter().count();
        }
        assert_eq!(split(&whole).count(), 1);
        // Lengths that lie.
        for byte in [0, 1, 15, 0xff] {
            datagram[0] = byte;
            let _ = split(&datagram).count();
            let _ = Attrs(&[byte, 0, 1, 0]).iter().count();
        }
    }
}
