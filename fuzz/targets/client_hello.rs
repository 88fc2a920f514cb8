//! A hello reads the same however it arrives: cut anywhere, and spread over records in any way.
#![no_main]

use leno_fuzz::client_hello::{MOST_BYTES, Progress, begins, read};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let whole = read(bytes);
    match begins(bytes) {
        Some(false) => assert_eq!(whole, Progress::Not),
        None => assert_eq!(whole, Progress::More),
        Some(true) => {}
    }
    assert!(whole != Progress::More || bytes.len() < MOST_BYTES);
    let mut last = Progress::More;
    for end in (0..bytes.len().min(80)).chain((80..bytes.len()).step_by(1 + bytes.len() / 64)) {
        let part = read(&bytes[..end]);
        assert!(last == Progress::More || part == last, "{last:?} became {part:?} at {end}");
        last = part;
    }
    assert!(last == Progress::More || last == whole, "{last:?} became {whole:?}");
    if let Progress::Done(hello) = &whole {
        if let Some(name) = &hello.server_name {
            let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-._".contains(c);
            assert!(!name.is_empty() && name.len() <= 253 && name.chars().all(fits), "{name:?}");
        }
        assert!(hello.alpn.len() <= 16);
        if let Some(spread) = spread(bytes) {
            assert_eq!(read(&spread), whole);
        }
    }
});

/// The same message in records of 7 bytes. None: it would be larger than what is looked at.
fn spread(bytes: &[u8]) -> Option<Vec<u8>> {
    let (mut message, mut rest) = (Vec::new(), bytes);
    while rest.len() > 5 && rest[0] == 22 {
        let length = usize::from(u16::from_be_bytes([rest[3], rest[4]]));
        let end = rest.len().min(5 + length);
        message.extend(&rest[5..end]);
        rest = &rest[end..];
        let whole = |m: &[u8]| 4 + usize::from(m[1]) * 65_536 + usize::from(m[2]) * 256 + usize::from(m[3]);
        if message.len() >= 4 && message.len() >= whole(&message) {
            message.truncate(whole(&message));
            break;
        }
    }
    let spread: Vec<u8> =
        message.chunks(7).flat_map(|part| [&[22, 3, 1, 0, part.len() as u8][..], part].concat()).collect();
    (spread.len() <= MOST_BYTES).then_some(spread)
}
