//! DNS messages (RFC 1035, EDNS RFC 6891), as far as a forwarder needs them: the question of a query, and answers of our own.
//! What is not ours is never taken apart, so whatever a resolver and its client have agreed on passes unharmed.
//!
//! Only the standard library is used here, so that the fuzz target builds without the rest of the sidecar.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Length of a message's header.
pub const HEADER: usize = 12;
/// Longest name, with the lengths of its labels and the final zero.
const MOST_NAME: usize = 255;
/// No answer of ours is longer, so none ever has to be truncated: it is what a client without EDNS takes over UDP.
pub const MOST_ANSWER: usize = 512;
/// Size of UDP messages that our answers say we take: what passes every path without fragments (RFC 9715).
const UDP_PAYLOAD: u16 = 1232;
/// How long an address of ours may be kept by whoever asked, in seconds.
const TTL: u32 = 30;
/// The same for "there is none": a service may come into being at any moment.
const NEGATIVE_TTL: u32 = 5;
/// Owner of each record of ours: a pointer to the name in the question, which begins right after the header.
const QUESTION_NAME: u16 = 0xc000 | HEADER as u16;

/// Record types.
pub mod rtype {
    /// An IPv4 address.
    pub const A: u16 = 1;
    /// The start of a zone: goes with negative answers.
    pub const SOA: u16 = 6;
    /// A name, for an address.
    pub const PTR: u16 = 12;
    /// An IPv6 address.
    pub const AAAA: u16 = 28;
    /// EDNS.
    pub const OPT: u16 = 41;
    /// Whatever there is.
    pub const ANY: u16 = 255;
}

/// Response codes.
pub mod rcode {
    /// An answer, or that there is none of this type.
    pub const NO_ERROR: u8 = 0;
    /// The query cannot be read.
    pub const FORMAT: u8 = 1;
    /// No answer could be had.
    pub const SERVER_FAILURE: u8 = 2;
    /// There is no such name.
    pub const NO_SUCH_NAME: u8 = 3;
    /// The server does not know this kind of query.
    pub const NOT_IMPLEMENTED: u8 = 4;
    /// The server does not want to.
    pub const REFUSED: u8 = 5;
}

/// The class of the Internet; the other is ANY.
const CLASSES: [u16; 2] = [1, 255];

/// Why bytes are no query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotAQuery {
    /// Too short for a header, or a response. Answering it would invite loops.
    Noise,
    /// A query that cannot be read; [`format_error`] is the answer.
    Malformed,
}

/// A query with its one question.
#[derive(Debug, Clone, Copy)]
pub struct Query<'a> {
    bytes: &'a [u8],
    question_end: usize,
    /// What is asked for.
    pub rtype: u16,
    class: u16,
}

/// What the client said of itself by EDNS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Edns {
    version: u8,
    dnssec_ok: bool,
}

/// An answer of our own.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answer {
    /// One of [`rcode`].
    pub rcode: u8,
    /// An IPv4 address, for the name in the question.
    pub v4: Option<Ipv4Addr>,
    /// An IPv6 address.
    pub v6: Option<Ipv6Addr>,
    /// The name of an address, in text without a final dot.
    pub name: Option<String>,
    /// For a negative answer: how many labels, from the right, the zone has that says so. Zero: no zone is named.
    pub zone_labels: usize,
}

impl<'a> Query<'a> {
    /// Reads a query. Only the header and the question are looked at.
    ///
    /// # Errors
    /// It is none; what to do with it is in the error.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, NotAQuery> {
        if bytes.len() < HEADER || bytes[2] & 0x80 != 0 {
            return Err(NotAQuery::Noise);
        }
        if u16_at(bytes, 4) != Some(1) {
            return Err(NotAQuery::Malformed);
        }
        let name_end = plain_name(bytes, HEADER).ok_or(NotAQuery::Malformed)?;
        let (Some(rtype), Some(class)) = (u16_at(bytes, name_end), u16_at(bytes, name_end + 2)) else {
            return Err(NotAQuery::Malformed);
        };
        Ok(Self { bytes, question_end: name_end + 4, rtype, class })
    }

    /// The question as it came: name, type and class.
    pub fn question(&self) -> &'a [u8] {
        &self.bytes[HEADER..self.question_end]
    }

    /// Whether this is a look-up in the Internet's names, as opposed to an update, a notification or another class.
    pub fn is_lookup(&self) -> bool {
        self.bytes[2] & 0x78 == 0 && CLASSES.contains(&self.class)
    }

    /// The name in lower case without a final dot. None: it has bytes that no host's name has.
    pub fn host(&self) -> Option<String> {
        let mut host = String::new();
        for label in Labels(&self.question()[..self.question().len() - 4]) {
            if !label.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-' || *b == b'_') {
                return None;
            }
            if !host.is_empty() {
                host.push('.');
            }
            host.extend(label.iter().map(|b| char::from(b.to_ascii_lowercase())));
        }
        Some(host)
    }

    /// The OPT record, which may stand anywhere behind the question.
    fn edns(&self) -> Result<Option<Edns>, NotAQuery> {
        let count = |at| usize::from(u16_at(self.bytes, at).unwrap_or_default());
        let (mut at, mut found) = (self.question_end, None);
        // Each record has eleven bytes at least, so the message's length bounds this.
        for _ in 0..count(6) + count(8) + count(10) {
            let root = self.bytes.get(at) == Some(&0);
            let fixed = skip_name(self.bytes, at).ok_or(NotAQuery::Malformed)?;
            let (Some(rtype), Some(length)) = (u16_at(self.bytes, fixed), u16_at(self.bytes, fixed + 8)) else {
                return Err(NotAQuery::Malformed);
            };
            at = fixed + 10 + usize::from(length);
            if at > self.bytes.len() {
                return Err(NotAQuery::Malformed);
            }
            if rtype == rtype::OPT {
                let (version, flags) = (self.bytes[fixed + 5], self.bytes[fixed + 6]);
                if found.replace(Edns { version, dnssec_ok: flags & 0x80 != 0 }).is_some() || !root {
                    return Err(NotAQuery::Malformed);
                }
            }
        }
        Ok(found)
    }

    /// The answer as bytes, [`MOST_ANSWER`] at most.
    pub fn answer(&self, answer: &Answer) -> Vec<u8> {
        let edns = match self.edns() {
            Ok(edns) => edns,
            Err(_) => return format_error(self.bytes),
        };
        if edns.is_some_and(|edns| edns.version > 0) {
            // BADVERS: the upper bits of 16 are in the OPT record (RFC 6891, 6.1.3).
            return self.write(&Answer::default(), edns, 1);
        }
        self.write(answer, edns, 0)
    }

    fn write(&self, answer: &Answer, edns: Option<Edns>, extended: u8) -> Vec<u8> {
        let negative = answer.v4.is_none() && answer.v6.is_none() && answer.name.is_none() && answer.zone_labels > 0;
        let records =
            u16::from(answer.v4.is_some()) + u16::from(answer.v6.is_some()) + u16::from(answer.name.is_some());
        let mut out = Vec::with_capacity(MOST_ANSWER);
        header(&mut out, self.bytes, answer.rcode, true);
        for count in [1, records, u16::from(negative), u16::from(edns.is_some())] {
            out.extend(count.to_be_bytes());
        }
        out.extend(self.question());
        if let Some(v4) = answer.v4 {
            record(&mut out, QUESTION_NAME, rtype::A, TTL, &v4.octets());
        }
        if let Some(v6) = answer.v6 {
            record(&mut out, QUESTION_NAME, rtype::AAAA, TTL, &v6.octets());
        }
        if let Some(name) = &answer.name {
            record(&mut out, QUESTION_NAME, rtype::PTR, TTL, &encode(name));
        }
        if negative {
            record(&mut out, self.suffix(answer.zone_labels), rtype::SOA, NEGATIVE_TTL, &soa());
        }
        if let Some(edns) = edns {
            out.push(0);
            out.extend(rtype::OPT.to_be_bytes());
            out.extend(UDP_PAYLOAD.to_be_bytes());
            out.extend([extended, 0, if edns.dnssec_ok { 0x80 } else { 0 }, 0, 0, 0]);
        }
        debug_assert!(out.len() <= MOST_ANSWER);
        out
    }

    /// A pointer to the last `labels` labels of the question's name.
    fn suffix(&self, labels: usize) -> u16 {
        let name = &self.question()[..self.question().len() - 4];
        let skipped = Labels(name).count().saturating_sub(labels);
        let offset: usize = Labels(name).take(skipped).map(|label| label.len() + 1).sum();
        QUESTION_NAME + u16::try_from(offset).unwrap_or_default()
    }
}

impl Answer {
    /// An answer that is only a code: there is no address, or no name, or no answer.
    pub fn code(rcode: u8, zone_labels: usize) -> Self {
        Self { rcode, zone_labels, ..Self::default() }
    }
}

/// The answer to a query that cannot be read: its header alone.
pub fn format_error(query: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER);
    header(&mut out, query, rcode::FORMAT, false);
    out.extend([0; 8]);
    out
}

/// Whether `response` answers `query`, of which it must carry the number and the question. An error may leave the question out.
pub fn answers(query: &[u8], response: &[u8]) -> bool {
    if response.len() < HEADER || query.len() < HEADER || response[2] & 0x80 == 0 || response[..2] != query[..2] {
        return false;
    }
    let Ok(asked) = Query::parse(query) else { return false };
    match u16_at(response, 4) {
        Some(1) => {
            let question = response.get(HEADER..asked.question_end);
            question.is_some_and(|question| question.eq_ignore_ascii_case(asked.question()))
        }
        Some(0) => code_of(response) != rcode::NO_ERROR && code_of(response) != rcode::NO_SUCH_NAME,
        _ => false,
    }
}

/// A response's code, without the bits that EDNS adds.
pub fn code_of(response: &[u8]) -> u8 {
    response.get(3).map_or(0, |b| b & 0x0f)
}

/// Number and flags of a response to `query`, which has a header.
fn header(out: &mut Vec<u8>, query: &[u8], rcode: u8, authoritative: bool) {
    let asked = |at: usize| query.get(at).copied().unwrap_or_default();
    // Kind of query and 'recursion desired' come back as they were.
    let flags = 0x80 | (asked(2) & 0x79) | if authoritative { 0x04 } else { 0 };
    // Recursion is available; 'checking disabled' comes back as it was.
    out.extend([asked(0), asked(1), flags, 0x80 | (asked(3) & 0x10) | (rcode & 0x0f)]);
}

fn record(out: &mut Vec<u8>, owner: u16, rtype: u16, ttl: u32, data: &[u8]) {
    out.extend(owner.to_be_bytes());
    out.extend(rtype.to_be_bytes());
    out.extend(1_u16.to_be_bytes());
    out.extend(ttl.to_be_bytes());
    out.extend(u16::try_from(data.len()).unwrap_or_default().to_be_bytes());
    out.extend(data);
}

/// Whom a negative answer comes from. Nobody transfers the zone, so only the last number, how long to believe it, counts.
fn soa() -> Vec<u8> {
    let mut data = encode("dns.mesh");
    data.extend(encode("leno.mesh"));
    for number in [1, 3600, 600, 86_400, NEGATIVE_TTL] {
        data.extend(number.to_be_bytes());
    }
    data
}

/// A name in the form of the wire. Labels that do not fit are left out: the names are ours and checked when they came in.
fn encode(name: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len() + 2);
    for label in name.split('.').filter(|label| !label.is_empty()) {
        if let Ok(length @ 1..=63) = u8::try_from(label.len())
            && out.len() + label.len() + 2 <= MOST_NAME
        {
            out.push(length);
            out.extend(label.as_bytes());
        }
    }
    out.push(0);
    out
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// Where the name that begins at `start` ends. None: it is too long, cut off, or compressed, which a question's never is: there
/// is nothing before it to point to.
fn plain_name(bytes: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
    loop {
        let length = usize::from(*bytes.get(at)?);
        at += 1 + length;
        if length > 63 || at - start > MOST_NAME || at > bytes.len() {
            return None;
        }
        if length == 0 {
            return Some(at);
        }
    }
}

/// Where the possibly compressed name that begins at `start` ends. Pointers are not followed.
fn skip_name(bytes: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
    loop {
        let length = *bytes.get(at)?;
        match length {
            0 => return Some(at + 1),
            1..=63 => at += 1 + usize::from(length),
            0xc0.. => return Some(at + 2),
            _ => return None,
        }
    }
}

/// The labels of a name that [`plain_name`] has checked.
struct Labels<'a>(&'a [u8]);

impl<'a> Iterator for Labels<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.0.split_first()?;
        let (label, rest) = rest.split_at_checked(usize::from(*length))?;
        self.0 = rest;
        (!label.is_empty()).then_some(label)
    }
}

#[cfg(test)]
mod tests;
