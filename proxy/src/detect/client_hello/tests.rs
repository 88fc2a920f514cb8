use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use super::*;

/// A hello with these extensions.
fn hello_with(extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0x13, 0x01, 1, 0]);
    let mut list = Vec::new();
    for (kind, content) in extensions {
        list.extend(kind.to_be_bytes());
        list.extend(vector16(content));
    }
    body.extend(vector16(&list));
    let mut message = vec![CLIENT_HELLO, 0];
    message.extend(vector16(&body));
    message
}

fn vector16(content: &[u8]) -> Vec<u8> {
    let mut out = u16::try_from(content.len()).unwrap().to_be_bytes().to_vec();
    out.extend(content);
    out
}

/// The message in records of `size` bytes each.
fn records(message: &[u8], size: usize) -> Vec<u8> {
    message.chunks(size).flat_map(|chunk| [vec![HANDSHAKE, 3, 1], vector16(chunk)].concat()).collect()
}

fn sni(name: &[u8]) -> (u16, Vec<u8>) {
    (0, vector16(&[vec![0], vector16(name)].concat()))
}

fn alpn(names: &[&[u8]]) -> (u16, Vec<u8>) {
    let list: Vec<u8> = names.iter().flat_map(|name| [vec![name.len() as u8], name.to_vec()].concat()).collect();
    (16, vector16(&list))
}

fn done(bytes: &[u8]) -> ClientHello {
    match read(bytes) {
        Progress::Done(hello) => *hello,
        other => panic!("{other:?}: {}", bytes.escape_ascii()),
    }
}

/// Whole, the hello is read; before that more is asked for, wherever the bytes are cut.
fn read_in_every_way(bytes: &[u8]) -> ClientHello {
    let hello = done(bytes);
    let whole = (0..bytes.len()).find(|end| read(&bytes[..*end]) != Progress::More).unwrap_or(bytes.len());
    assert!((whole..bytes.len()).all(|end| done(&bytes[..end]) == hello));
    hello
}

#[test]
fn a_name_and_protocols_are_read_however_the_hello_is_cut() {
    let message = hello_with(&[(0x0a0a, vec![]), sni(b"Web.Default"), alpn(&[b"h2", b"http/1.1"])]);
    for size in [1, 2, 3, 5, 50, 1000] {
        let hello = read_in_every_way(&records(&message, size));
        assert_eq!(hello.server_name.as_deref(), Some("web.default"));
        assert_eq!(hello.alpn, [b"h2".to_vec(), b"http/1.1".to_vec()]);
    }
}

#[test]
fn grease_an_encrypted_hello_and_quic_parameters_are_passed_over() {
    let strange = [
        (0x1a1a, vec![0]),
        (0xfe0d, vec![0; 250]),
        (0x39, vec![1, 2, 3]),
        alpn(&[&[0x2a, 0x2a], b"h2"]),
        sni(b"front.example"),
        (0xffff, vec![9; 3000]),
    ];
    let hello = read_in_every_way(&records(&hello_with(&strange), 1 << 14));
    assert_eq!(hello.server_name.as_deref(), Some("front.example"));
    assert_eq!(hello.alpn, [vec![0x2a, 0x2a], b"h2".to_vec()]);
}

#[test]
fn a_name_that_is_no_hosts_name_is_none() {
    for name in [&b""[..], b"a b", b"a\0b", b"\xff", &[b'a'; MOST_NAME + 1], b"[::1]"] {
        assert_eq!(done(&records(&hello_with(&[sni(name)]), 9000)).server_name, None, "{}", name.escape_ascii());
    }
    assert_eq!(done(&records(&hello_with(&[]), 9000)), ClientHello::default());
}

#[test]
fn what_is_no_hello_is_refused_and_nothing_grows_past_its_bound() {
    let good = records(&hello_with(&[sni(b"web")]), 9000);
    let with = |at: usize, byte: u8| {
        let mut bad = good.clone();
        bad[at] = byte;
        bad
    };
    // Another content, version, length zero, an endless record, another message; a message of 16 MiB; parts that do not fit.
    for (at, byte) in [(0, 23), (1, 2), (2, 9), (3, 0x41), (5, 2), (6, 0xff), (43, 0xff), (44, 0xff), (50, 0xff)] {
        assert_eq!(read(&with(at, byte)), Progress::Not, "{at}");
    }
    let second_is_an_alert = [records(&hello_with(&[])[..4], 4), vec![21, 3, 3, 0, 2, 1, 0]].concat();
    assert_eq!(read(&second_is_an_alert), Progress::Not);
    let empty_second = [records(&hello_with(&[])[..4], 4), vec![HANDSHAKE, 3, 3, 0, 0]].concat();
    assert_eq!(read(&empty_second), Progress::Not);

    let largest = records(&hello_with(&[(1, vec![0; MOST_BYTES - 60])]), 1 << 14);
    assert!(largest.len() <= MOST_BYTES);
    done(&largest);
    let too_large = records(&hello_with(&[(1, vec![0; MOST_BYTES - 50])]), 1 << 14);
    assert!(too_large.len() > MOST_BYTES);
    assert_eq!(read(&too_large[..MOST_BYTES - 1]), Progress::More);
    assert_eq!(read(&too_large[..MOST_BYTES]), Progress::Not);
    assert_eq!(read(&too_large), Progress::Not);
    let many: Vec<&[u8]> = vec![b"x"; 1000];
    assert_eq!(done(&records(&hello_with(&[alpn(&many)]), 9000)).alpn.len(), MOST_PROTOCOLS);
}

#[test]
fn the_hello_of_rustls_is_read() {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"leno-tcp/1".to_vec()];
    let mut client = rustls::ClientConnection::new(Arc::new(config), "web.shop.mesh".try_into().unwrap()).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    let hello = read_in_every_way(&bytes);
    assert_eq!(hello.server_name.as_deref(), Some("web.shop.mesh"));
    assert_eq!(hello.alpn, [b"h2".to_vec(), b"leno-tcp/1".to_vec()]);
}

/// What a program says first to a server that it takes for one of TLS. None: the program is not installed.
fn first_words_of(program: &str, args: impl Fn(u16) -> Vec<String>) -> Option<Vec<u8>> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut command = Command::new(program);
    command.args(args(port)).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            assert!(std::env::var("LENO_NO_SKIP").as_deref() != Ok("1"), "{program} is not installed");
            let _ = writeln!(std::io::stderr(), "SKIPPED the hello of {program}: it is not installed");
            return None;
        }
        Err(error) => panic!("{program}: {error}"),
    };
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut bytes = vec![0; MOST_BYTES];
    let mut length = 0;
    while read(&bytes[..length]) == Progress::More {
        let n = stream.read(&mut bytes[length..]).unwrap();
        assert_ne!(n, 0, "{program} ended");
        length += n;
    }
    drop(stream);
    let _ = child.kill();
    child.wait().unwrap();
    bytes.truncate(length);
    Some(bytes)
}

fn words(text: String) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

#[test]
fn the_hello_of_curl_is_read() {
    let args =
        |port| words(format!("-sk --http2 --resolve Shop.Example:{port}:127.0.0.1 https://Shop.Example:{port}/"));
    let Some(bytes) = first_words_of("curl", args) else { return };
    let hello = read_in_every_way(&bytes);
    assert_eq!(hello.server_name.as_deref(), Some("shop.example"));
    assert!(hello.alpn.contains(&b"h2".to_vec()), "{hello:?}");
}

#[test]
fn the_hellos_of_openssl_are_read_in_every_version() {
    for version in ["-tls1_2", "-tls1_3"] {
        let args = |port| {
            words(format!("s_client -connect 127.0.0.1:{port} -servername db.example -alpn postgresql,h2 {version}"))
        };
        let Some(bytes) = first_words_of("openssl", args) else { return };
        let hello = read_in_every_way(&bytes);
        assert_eq!(hello.server_name.as_deref(), Some("db.example"), "{version}");
        assert_eq!(hello.alpn, [b"postgresql".to_vec(), b"h2".to_vec()], "{version}");
    }
}
