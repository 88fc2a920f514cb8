//! Lists of names as they travel, and as they are read from an answer. Only the standard library is used here, so that the fuzz target
//! builds without the rest of the sidecar.

/// Most bytes of names. What is longer is passed on in lower case.
pub const MOST: usize = 2048;

/// Whether a name is Written-Like-This, as hyper is asked to write all of which it is not told more. So most messages have
/// nothing to tell.
pub fn is_usual(name: &[u8]) -> bool {
    let mut begins = true;
    name.iter().all(|byte| {
        let usual = if begins { !byte.is_ascii_lowercase() } else { !byte.is_ascii_uppercase() };
        begins = *byte == b'-';
        usual
    })
}

/// What a name may consist of (RFC 9110, 5.6.2).
fn is_token(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b))
}

/// The lines of the final answer's head, if it has come whole.
pub fn final_head(mut bytes: &[u8]) -> Option<&[u8]> {
    loop {
        let end = end_of_head(bytes)?;
        let head = &bytes[..end];
        let interim = head.get(8..10).is_some_and(|code| code == b" 1") && head.get(9..12) != Some(b"101");
        if !interim {
            return Some(head);
        }
        bytes = &bytes[end + 2..];
    }
}

/// Where the lines of the head end. Line by line, which is a look at each byte and no more.
fn end_of_head(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += bytes[at..].iter().position(|b| *b == b'\n')? + 1;
        if bytes[..at].ends_with(b"\r\n\r\n") {
            return Some(at - 2);
        }
    }
}

/// What stands before the colon in each line but the first.
fn names(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    let name = |line: &'_ [u8]| line.iter().position(|b| *b == b':').unwrap_or(0);
    head.split(|b| *b == b'\n').skip(1).map(move |line| &line[..name(line)])
}

/// The names in a head's lines with commas between, and whether there is one that has to be told; without one there is no list.
pub fn of_head(head: &[u8]) -> (Vec<u8>, bool) {
    if names(head).all(is_usual) {
        return (Vec::new(), false);
    }
    let (mut list, mut unusual): (Vec<u8>, bool) = (Vec::with_capacity(128), false);
    for name in names(head) {
        if !is_token(name) || list.len() + name.len() >= MOST {
            continue;
        }
        if !list.is_empty() {
            list.push(b',');
        }
        list.extend_from_slice(name);
        unusual |= !is_usual(name);
    }
    (list, unusual)
}

/// A message that has fields of these names, whatever a peer says they are: names alone, and at most one of them frames a body.
pub fn message(names: &[u8]) -> Vec<u8> {
    let (mut head, mut framed) = (b"GET / HTTP/1.1\r\n".to_vec(), false);
    for name in names.split(|b| *b == b',').filter(|name| is_token(name)) {
        let value: &[u8] = match &name.to_ascii_lowercase()[..] {
            b"content-length" | b"transfer-encoding" if framed => continue,
            b"content-length" => b"0",
            b"transfer-encoding" => b"chunked",
            _ => b"",
        };
        framed |= !value.is_empty();
        head.extend([name, b": ", value, b"\r\n"].concat());
    }
    head.extend(b"\r\n");
    head
}
