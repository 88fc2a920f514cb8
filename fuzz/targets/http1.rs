//! Requests are read the same however they arrive, and what passes is read the same by another parser: as many heads, each as long,
//! with the same words, and none that has two lengths.
#![no_main]

use leno_fuzz::scan::{Flaw, MOST_FIELDS, Phase, Scanner};
use libfuzzer_sys::fuzz_target;

/// What became of the bytes: the length of each head, and where it ended or what was wrong.
type Outcome = (Vec<usize>, Result<Phase, Flaw>);

fn read(mut bytes: &[u8], piece: usize, mut head: impl FnMut(&[u8])) -> Outcome {
    let (mut scanner, mut heads, mut held) = (Scanner::default(), Vec::new(), Vec::new());
    loop {
        let n = bytes.len().min(piece);
        held.extend_from_slice(&bytes[..n]);
        bytes = &bytes[n..];
        while !held.is_empty() {
            let read = match scanner.phase() {
                Phase::Upgrade => break,
                Phase::Head => match scanner.head(&held) {
                    Ok(Some(n)) => {
                        heads.push(n);
                        head(&held[..n]);
                        n
                    }
                    Ok(None) => break,
                    Err(flaw) => return (heads, Err(flaw)),
                },
                _ => match scanner.body(&held) {
                    Ok(n) => n,
                    Err(flaw) => return (heads, Err(flaw)),
                },
            };
            assert!(read <= held.len());
            held.drain(..read);
        }
        if n == 0 {
            return (heads, Ok(scanner.phase()));
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let whole = read(bytes, usize::MAX, |head| {
        let mut fields = [httparse::EMPTY_HEADER; MOST_FIELDS];
        let mut request = httparse::Request::new(&mut fields);
        let parsed = request.parse(head).expect("another parser refuses what passed");
        assert_eq!(parsed, httparse::Status::Complete(head.len()));
        let called = |name: &str| request.headers.iter().filter(|f| f.name.eq_ignore_ascii_case(name)).count();
        assert!(called("content-length") + called("transfer-encoding") <= 1 && called("host") <= 1);
        let text = String::from_utf8_lossy(head);
        assert!(text.trim_start().starts_with(&format!("{} ", request.method.expect("a method"))));
    });
    for piece in [1, 7] {
        assert_eq!(read(bytes, piece, |_| ()), whole, "in pieces of {piece}");
    }
});
