//! TLS records as they are on the wire. With TLS 1.3 all that may be seen is a hello from each side, the empty
//! change_cipher_spec that middleboxes like, and encrypted records that claim to be application data.

const CHANGE_CIPHER_SPEC: u8 = 20;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;
/// RFC 8446, 5.2: 2^14 bytes and what encryption adds.
const MOST: usize = (1 << 14) + 256;
const SERVER_HELLO: u8 = 2;
const CLIENT_HELLO: u8 = 1;
const SUPPORTED_VERSIONS: u16 = 43;
const TLS_1_3: [u8; 2] = [3, 4];

/// Reads `bytes` as one direction of TLS 1.3; gives the number of encrypted records, or what is not TLS 1.3.
pub fn tls13(bytes: &[u8], from_server: bool) -> Result<usize, String> {
    let (mut at, mut encrypted, mut hello) = (0, 0, false);
    while at < bytes.len() {
        // The capture may end in the middle of a record.
        let Some(head) = bytes.get(at..at + 5) else { break };
        let length = usize::from(u16::from_be_bytes([head[3], head[4]]));
        if head[1] != 3 || length == 0 || length > MOST {
            return Err(format!("at byte {at} is no TLS record: {head:02x?}"));
        }
        let Some(body) = bytes.get(at + 5..at + 5 + length) else { break };
        match head[0] {
            HANDSHAKE if !hello => {
                check_hello(body, from_server)?;
                hello = true;
            }
            CHANGE_CIPHER_SPEC if hello && body == [1] => {}
            APPLICATION_DATA if hello => encrypted += 1,
            kind => return Err(format!("at byte {at} is a record of type {kind}, which TLS 1.3 would have encrypted")),
        }
        at += 5 + length;
    }
    Ok(encrypted)
}

fn check_hello(body: &[u8], from_server: bool) -> Result<(), String> {
    let expected = if from_server { SERVER_HELLO } else { CLIENT_HELLO };
    if body.first() != Some(&expected) {
        return Err(format!("the first handshake message is of type {:?}, not {expected}", body.first()));
    }
    if !from_server {
        return Ok(()); // What counts is what the server chose.
    }
    match server_version(body) {
        Some(TLS_1_3) => Ok(()),
        version => Err(format!("the server chose the version {version:?}")),
    }
}

/// The version in a ServerHello's supported_versions (RFC 8446, 4.2.1).
fn server_version(hello: &[u8]) -> Option<[u8; 2]> {
    // Type and length, legacy version, random, session id, cipher suite, compression, extensions.
    let session = usize::from(*hello.get(4 + 2 + 32)?);
    let mut rest = hello.get(4 + 2 + 32 + 1 + session + 2 + 1 + 2..)?;
    while let [a, b, c, d, tail @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*c, *d]));
        let (value, tail) = tail.split_at_checked(length)?;
        if u16::from_be_bytes([*a, *b]) == SUPPORTED_VERSIONS {
            return value.try_into().ok();
        }
        rest = tail;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A ServerHello with an empty session id and one extension that chooses `version`.
    fn server_hello(version: [u8; 2]) -> Vec<u8> {
        let mut hello = vec![SERVER_HELLO, 0, 0, 46, 3, 3];
        hello.extend([7; 32]);
        hello.extend([0, 0x13, 0x01, 0, 0, 6, 0, 43, 0, 2, version[0], version[1]]);
        record(HANDSHAKE, &hello)
    }

    fn record(kind: u8, body: &[u8]) -> Vec<u8> {
        let mut record = vec![kind, 3, 3, 0, body.len() as u8];
        record.extend(body);
        record
    }

    #[test]
    fn a_flow_of_tls_1_3_is_believed() {
        let mut flow = server_hello(TLS_1_3);
        flow.extend(record(CHANGE_CIPHER_SPEC, &[1]));
        flow.extend(record(APPLICATION_DATA, b"secret"));
        flow.extend(&record(APPLICATION_DATA, b"cut off by the end of the capture")[..10]);
        assert_eq!(tls13(&flow, true), Ok(1));
    }

    #[test]
    fn tls_1_2_plaintext_and_open_alerts_are_found_out() {
        assert!(tls13(&server_hello([3, 3]), true).unwrap_err().contains("version"));
        assert!(tls13(b"GET / HTTP/1.1\r\n\r\n", false).is_err());
        assert!(tls13(&record(APPLICATION_DATA, b"before any hello"), true).is_err());
        let alert = [server_hello(TLS_1_3), record(21, &[2, 40])].concat();
        assert!(tls13(&alert, true).unwrap_err().contains("type 21"));
        let sneaked = [server_hello(TLS_1_3), b"HELLO IN PLAINTEXT".to_vec()].concat();
        assert!(tls13(&sneaked, true).is_err());
    }
}
