//! What WebSocket's handshake has on HTTP/1.1 and not on HTTP/2 (RFC 6455, 4; RFC 8441, 5): a key, by whose answer a client knows that it
//! speaks with a WebSocket server. Where a client of HTTP/2 asks, it is for us to ask and to know.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use http::{HeaderMap, HeaderValue, header};

const MAGIC: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
/// The version that there is.
const VERSION: HeaderValue = HeaderValue::from_static("13");

/// Asks. Gives the answer that proves the server.
pub(super) fn ask(headers: &mut HeaderMap) -> HeaderValue {
    let key = base64(&fastrand::u128(..).to_ne_bytes());
    let proof = proof(&key);
    if let Ok(key) = HeaderValue::from_str(&key) {
        headers.insert(header::SEC_WEBSOCKET_KEY, key);
    }
    headers.entry(header::SEC_WEBSOCKET_VERSION).or_insert(VERSION);
    proof
}

/// Whether the server gave the proof, which is nobody else's.
pub(super) fn is_proven(headers: &mut HeaderMap, proof: &HeaderValue) -> bool {
    headers.remove(header::SEC_WEBSOCKET_ACCEPT).is_some_and(|given| given == proof)
}

fn proof(key: &str) -> HeaderValue {
    let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key.as_bytes(), MAGIC].concat());
    HeaderValue::from_str(&base64(hash.as_ref())).unwrap_or(HeaderValue::from_static(""))
}

/// RFC 4648, 4.
fn base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let word = three.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        for place in 0..4 {
            let six = (word >> (18 - 6 * place)) as usize & 63;
            text.push(if place <= three.len() { BASE64[six] as char } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_proves_that_it_has_read_the_key() {
        // RFC 6455, 1.3.
        assert_eq!(proof("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        for (bytes, text) in [(&b"f"[..], "Zg=="), (b"fo", "Zm8="), (b"foo", "Zm9v"), (b"foob", "Zm9vYg=="), (b"", "")]
        {
            assert_eq!(base64(bytes), text);
        }
        let mut headers = HeaderMap::new();
        let expected = ask(&mut headers);
        assert_eq!(headers[header::SEC_WEBSOCKET_KEY].len(), 24);
        assert_eq!(headers[header::SEC_WEBSOCKET_VERSION], "13");
        let mut answer = HeaderMap::from_iter([(header::SEC_WEBSOCKET_ACCEPT, expected.clone())]);
        assert!(is_proven(&mut answer, &expected) && answer.is_empty());
        assert!(!is_proven(&mut answer, &expected), "without one");
    }
}
