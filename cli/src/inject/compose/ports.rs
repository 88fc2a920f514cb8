//! The ports of a compose service, in the short and the long form, as far as a sidecar has to know them.

use std::ops::RangeInclusive;

use super::node::{Content, Node};

/// Where a sidecar listens (ARCHITECTURE.md, 'Ports').
pub const OWN: [u16; 6] = [15000, 15001, 15006, 15008, 15020, 15053];

/// One published (or, without a host's port, exposed) range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// None: a variable, or any free port.
    pub host: Option<RangeInclusive<u16>>,
    /// None: a variable.
    pub container: Option<RangeInclusive<u16>>,
    /// TCP, so that it goes through the sidecar.
    pub tcp: bool,
}

/// `80` or `8000-8010`.
pub fn range(text: &str) -> Option<RangeInclusive<u16>> {
    let number = |text: &str| text.trim().parse::<u16>().ok().filter(|port| *port > 0);
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some(first..=last)
}

/// Reads an element of `ports` or `expose`.
///
/// # Errors
/// What is wrong with it. A variable is no error: only docker-compose knows its value.
pub fn read(node: &Node) -> Result<Published, String> {
    match &node.content {
        Content::Map { .. } => long(node),
        Content::Scalar(_) => short(node.text().unwrap_or_default()),
        Content::List { .. } => Err("a port is a text or a map".to_owned()),
    }
}

fn long(node: &Node) -> Result<Published, String> {
    let text = |key: &str| node.get(key).and_then(Node::text);
    let Some(target) = text("target") else { return Err("a port needs its `target`".to_owned()) };
    let host = text("published").map(known).transpose()?.flatten();
    Ok(Published { host, container: known(target)?, tcp: text("protocol").is_none_or(|p| p != "udp" && p != "sctp") })
}

/// `[[IP:]HOST:]CONTAINER[/PROTOCOL]`; an IPv6 address is in brackets.
fn short(text: &str) -> Result<Published, String> {
    let (text, protocol) = match text.rsplit_once('/') {
        Some((text, protocol)) if !protocol.contains('}') => (text, protocol),
        _ => (text, "tcp"),
    };
    let parts = split(text);
    let last = parts.last().copied().unwrap_or_default();
    let host = parts.len().checked_sub(2).and_then(|n| parts.get(n)).copied().filter(|host| !host.is_empty());
    let host = host.map(known).transpose()?.flatten();
    Ok(Published { host, container: known(last)?, tcp: protocol.eq_ignore_ascii_case("tcp") })
}

/// Parts between colons, but not those within `${…}` or `[…]`.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut begin, mut depth) = (Vec::new(), 0, 0usize);
    for (at, c) in text.char_indices() {
        match c {
            '{' | '[' => depth += 1,
            '}' | ']' => depth = depth.saturating_sub(1),
            ':' if depth == 0 => {
                parts.push(&text[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[begin..]);
    parts
}

fn known(text: &str) -> Result<Option<RangeInclusive<u16>>, String> {
    if text.contains('$') {
        return Ok(None);
    }
    range(text).map(Some).ok_or_else(|| format!("{text:?} is no port or range of ports"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_short_form_is_read() {
        let read = |text: &str| short(text).unwrap();
        let of =
            |host: Option<RangeInclusive<u16>>, container, tcp| Published { host, container: Some(container), tcp };
        assert_eq!(read("80"), of(None, 80..=80, true));
        assert_eq!(read("8080:80"), of(Some(8080..=8080), 80..=80, true));
        assert_eq!(read("127.0.0.1:8080:80/udp"), of(Some(8080..=8080), 80..=80, false));
        assert_eq!(read("127.0.0.1::80"), of(None, 80..=80, true));
        assert_eq!(read("[::1]:8000-8001:80-81"), of(Some(8000..=8001), 80..=81, true));
        assert_eq!(read("${PORT:-8080}:80"), of(None, 80..=80, true));
        assert_eq!(read("80:${PORT:-8080}").container, None);
        for bad in ["", "a:80", "80:a", "0", "65536", "80-70", "1:2:x/tcp"] {
            assert!(short(bad).is_err(), "{bad}");
        }
    }
}
