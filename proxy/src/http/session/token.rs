//! What a session's token consists of, and cookies that it may come in. A file of its own, so that the fuzz target builds without the rest of
//! the sidecar.

use crate::model::hash_all;

/// Its length in hexadecimal digits: four numbers and a check.
pub const LENGTH: usize = 64;

/// What a client carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    /// A hash.
    pub backend: u64,
    /// Likewise.
    pub endpoint: u64,
    /// When the session began, in seconds since 1970.
    pub begun: u32,
    /// When it was used last, as far as the token knows.
    pub used: u32,
}

impl Token {
    fn check(&self, scope: u64) -> u64 {
        let numbers = [self.backend, self.endpoint, self.begun.into(), self.used.into(), scope];
        hash_all(numbers.iter().map(|n| n.to_be_bytes()).collect::<Vec<_>>().iter().map(<[u8; 8]>::as_slice))
    }

    /// As it is carried, for the rule of this scope.
    pub fn encode(&self, scope: u64) -> String {
        let Self { backend, endpoint, begun, used } = self;
        format!("{backend:016x}{endpoint:016x}{begun:08x}{used:08x}{:016x}", self.check(scope))
    }

    /// Reads what a client carries. None: it is no token of that rule.
    pub fn decode(text: &[u8], scope: u64) -> Option<Self> {
        let text = std::str::from_utf8(text).ok().filter(|text| text.len() == LENGTH && text.bytes().all(is_hex))?;
        let long = |at: usize| u64::from_str_radix(&text[at..at + 16], 16).ok();
        let short = |at: usize| u32::from_str_radix(&text[at..at + 8], 16).ok();
        let token = Self { backend: long(0)?, endpoint: long(16)?, begun: short(32)?, used: short(40)? };
        (long(48)? == token.check(scope)).then_some(token)
    }
}

/// As we write them and no other way, so that a token has one form.
fn is_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

/// The value of a cookie in a field of a request (RFC 6265, 5.4).
pub fn cookie<'a>(field: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let pairs = field.split(|b| *b == b';').filter_map(|pair| {
        let pair = pair.trim_ascii();
        let at = pair.iter().position(|b| *b == b'=')?;
        Some((&pair[..at], &pair[at + 1..]))
    });
    pairs.filter(|(key, _)| *key == name).map(|(_, value)| value).next()
}
