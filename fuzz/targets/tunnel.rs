//! A request for a tunnel is read the same however it arrives, ends where another parser says that its head ends, and leads to a host and a port;
//! nothing behind it is looked at.
#![no_main]

use leno_fuzz::scan::{Flaw, MOST_FIELDS, Phase, Scanner};
use libfuzzer_sys::fuzz_target;

fn head(bytes: &[u8], piece: usize) -> (Result<Option<usize>, Flaw>, Phase) {
    let mut scanner = Scanner::tunnelling();
    let mut at = 0;
    loop {
        at = bytes.len().min(at + piece);
        match scanner.head(&bytes[..at]) {
            Ok(None) if at < bytes.len() => {}
            read => return (read, scanner.phase()),
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    // Most of what is tried shall be one.
    let bytes = [b"CONNECT ", bytes].concat();
    let (read, phase) = head(&bytes, bytes.len());
    for piece in [1, 7] {
        assert_eq!(head(&bytes, piece), (read, phase), "in pieces of {piece}");
    }
    let Ok(Some(length)) = read else { return };
    assert_eq!(phase, Phase::Upgrade);
    let mut fields = [httparse::EMPTY_HEADER; MOST_FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    let parsed = request.parse(&bytes[..length]).expect("another parser refuses what passed");
    assert_eq!((parsed, request.method), (httparse::Status::Complete(length), Some("CONNECT")));
    let to: http::uri::Authority = request.path.expect("a target").parse().expect("an authority");
    assert!(!to.host().is_empty() && !to.as_str().contains('@') && to.port().is_some());
    let value = |name: &str| request.headers.iter().find(|f| f.name.eq_ignore_ascii_case(name)).map(|f| f.value);
    assert!(value("transfer-encoding").is_none());
    let none = |length: &[u8]| length.iter().all(|b| *b == b'0');
    assert!(value("content-length").is_none_or(|length| none(length.trim_ascii())));
});
