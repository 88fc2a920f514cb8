//! A verdict on the first bytes is final: no further byte changes it. And it is always reached within a bound.
#![no_main]

use leno_fuzz::client_hello;
use leno_fuzz::sniff::{Detected, sniff};
use libfuzzer_sys::fuzz_target;

/// Nothing that is undecided is this long.
const MOST: usize = 16 * 1024;

fuzz_target!(|bytes: &[u8]| {
    let whole = sniff(bytes);
    assert!(whole.is_some() || bytes.len() < MOST);
    let mut decided = None;
    // Every cut near the front, where verdicts fall, and some further on.
    for end in (0..bytes.len().min(64)).chain((64..bytes.len()).step_by(1 + bytes.len() / 64)) {
        let verdict = sniff(&bytes[..end]);
        assert!(decided.is_none() || verdict == decided, "{decided:?} became {verdict:?} at {end}");
        decided = verdict;
    }
    assert!(decided.is_none() || decided == whole, "{decided:?} became {whole:?}");
    match whole {
        Some(Detected::Http1) => assert!(bytes.contains(&b'\n')),
        Some(Detected::Tls) => assert_eq!(client_hello::begins(bytes), Some(true)),
        Some(Detected::Http2 | Detected::Unknown) | None => {}
    }
});
