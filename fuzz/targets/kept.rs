//! What clients and peers keep for us and bring back: the token of a session, the cookie it is in, and the names of fields as they were
//! written. Whatever is made of them, they say nothing but that.
#![no_main]

use leno_fuzz::{names, token};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // The first byte chooses what is tried with the rest.
    let [choice, bytes @ ..] = bytes else { return };
    match choice % 3 {
        0 => a_session(bytes),
        1 => a_list(bytes),
        _ => an_answer(bytes),
    }
});

fn a_session(bytes: &[u8]) {
    const SCOPE: u64 = 7;
    for (name, value) in [(&b"sid"[..], token::cookie(bytes, b"sid")), (b"", Some(bytes))] {
        let Some(value) = value else { continue };
        assert!(name.is_empty() || !value.contains(&b';'));
        let Some(read) = token::Token::decode(value, SCOPE) else { continue };
        assert_eq!(read.encode(SCOPE).as_bytes(), value, "a token has one form");
        assert_eq!(token::Token::decode(value, SCOPE + 1), None);
    }
    // One that is right, damaged at a place that the input chooses.
    let [at, by, rest @ ..] = bytes else { return };
    let mut number = rest.chunks(8).map(|part| part.iter().fold(0_u64, |n, b| n << 8 | u64::from(*b)));
    let mut next = || number.next().unwrap_or_default();
    let made = token::Token { backend: next(), endpoint: next(), begun: next() as u32, used: next() as u32 };
    let mut text = made.encode(SCOPE).into_bytes();
    assert_eq!(token::Token::decode(&text, SCOPE), Some(made));
    let place = usize::from(*at) % text.len();
    if text[place] != *by {
        text[place] = *by;
        assert_eq!(token::Token::decode(&text, SCOPE), None);
    }
}

/// The message that our library is shown has the names that were told, and no other; none of them brings a value, a body or a second
/// request.
fn a_list(bytes: &[u8]) {
    let message = names::message(bytes);
    let told: Vec<&[u8]> = bytes.split(|b| *b == b',').collect();
    let mut fields = vec![httparse::EMPTY_HEADER; told.len()];
    let mut request = httparse::Request::new(&mut fields);
    assert_eq!(request.parse(&message), Ok(httparse::Status::Complete(message.len())));
    let framing = |name: &str| ["content-length", "transfer-encoding"].iter().any(|f| name.eq_ignore_ascii_case(f));
    for field in request.headers.iter() {
        assert!(told.contains(&field.name.as_bytes()));
        assert!(field.value.is_empty() || framing(field.name));
    }
    assert!(request.headers.iter().filter(|field| framing(field.name)).count() <= 1);
}

/// An answer's head is found however it arrives.
fn an_answer(bytes: &[u8]) {
    let whole = names::final_head(bytes);
    for end in (0..bytes.len()).step_by(1 + bytes.len() / 64) {
        let part = names::final_head(&bytes[..end]);
        assert!(part.is_none() || part == whole, "{part:?} became {whole:?}");
    }
    if let Some(head) = whole {
        let (list, unusual) = names::of_head(head);
        assert!(list.len() <= names::MOST);
        let mut told = list.split(|b| *b == b',').filter(|name| !name.is_empty());
        assert_eq!(unusual, told.any(|name| !names::is_usual(name)));
    }
}
