use std::io::Write;

use super::*;
use crate::dns::message::{Answer, Query, rcode};

/// Resolvers at 127.0.0.x on one port, and the forwarder that knows them by a file.
struct Bench {
    forwarder: Forwarder,
    file: tempfile::NamedTempFile,
    port: u16,
}

/// A port that is free at each of `addresses`, with the sockets there.
async fn sockets(addresses: &[&str]) -> (u16, Vec<UdpSocket>) {
    loop {
        let first = UdpSocket::bind((addresses[0], 0)).await.unwrap();
        let port = first.local_addr().unwrap().port();
        let mut all = vec![first];
        for address in &addresses[1..] {
            match UdpSocket::bind((*address, port)).await {
                Ok(socket) => all.push(socket),
                Err(_) => break,
            }
        }
        if all.len() == addresses.len() {
            return (port, all);
        }
    }
}

fn bench(port: u16, text: &str) -> Bench {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let forwarder = Forwarder::new(file.path().to_owned(), port, vec![SocketAddr::from(([127, 0, 0, 99], port))]);
    Bench { forwarder, file, port }
}

/// `example.com A` with an OPT record of a kind that nobody knows.
fn query() -> Vec<u8> {
    let mut bytes = vec![0xab, 0xcd, 0x01, 0x20, 0, 1, 0, 0, 0, 0, 0, 1, 7];
    bytes.extend(b"example\x03com\x00\x00\x01\x00\x01");
    bytes.extend([0, 0, 41, 0xff, 0xff, 0, 0, 0x80, 0, 0, 5, 0xff, 0xf0, 0, 1, 9]);
    bytes
}

fn reply(query: &[u8], code: u8) -> Vec<u8> {
    Query::parse(query).unwrap().answer(&Answer { v4: "192.0.2.7".parse().ok(), ..Answer::code(code, 0) })
}

/// Answers each query with these codes in turn, and counts them.
fn resolver(socket: UdpSocket, code: u8) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        let mut buffer = [0; 2000];
        loop {
            let (n, from) = socket.recv_from(&mut buffer).await.unwrap();
            socket.send_to(&reply(&buffer[..n], code), from).await.unwrap();
        }
    })
}

#[tokio::test]
async fn a_query_goes_out_as_it_came_but_for_a_number_and_a_port_of_its_own() {
    let (port, mut sockets) = sockets(&["127.0.0.1"]).await;
    let socket = sockets.remove(0);
    let bench = bench(port, "nameserver 127.0.0.1\n");
    let asked = query();
    let answering = async {
        let mut seen = Vec::new();
        let mut buffer = [0; 2000];
        for _ in 0..20 {
            let (n, from) = socket.recv_from(&mut buffer).await.unwrap();
            assert_eq!(buffer[2..n], asked[2..]);
            assert!(bench.forwarder.is_own(from));
            seen.push((from.port(), [buffer[0], buffer[1]]));
            // Guesses first: another number, another question, a query.
            let good = reply(&buffer[..n], rcode::NO_ERROR);
            for (at, byte) in [(0, !good[0]), (13, b'x'), (2, 0)] {
                let mut bad = good.clone();
                bad[at] = byte;
                socket.send_to(&bad, from).await.unwrap();
            }
            socket.send_to(&good, from).await.unwrap();
        }
        seen
    };
    let asking = async {
        for _ in 0..20 {
            let Forwarded::Answer(answer) = bench.forwarder.udp(&asked).await else { panic!("no answer") };
            assert_eq!(answer, reply(&asked, rcode::NO_ERROR));
        }
    };
    let (seen, ()) = tokio::join!(answering, asking);
    let ports: HashSet<u16> = seen.iter().map(|(port, _)| *port).collect();
    let numbers: HashSet<[u8; 2]> = seen.iter().map(|(_, number)| *number).collect();
    assert!(ports.len() > 15 && numbers.len() > 15, "{seen:?}");
    assert!(lock(&bench.forwarder.ports).is_empty());
}

#[tokio::test]
async fn a_resolver_that_is_dead_or_cannot_is_passed_over_within_the_clients_patience() {
    let (port, mut sockets) = sockets(&["127.0.0.1", "127.0.0.2", "127.0.0.3"]).await;
    let bench = bench(port, "nameserver 127.0.0.1\nnameserver 127.0.0.2\nnameserver 127.0.0.3\n");
    resolver(sockets.pop().unwrap(), rcode::NO_ERROR);
    let second = resolver(sockets.pop().unwrap(), rcode::SERVER_FAILURE);
    // The first one is silent.
    let start = Instant::now();
    let Forwarded::Answer(answer) = bench.forwarder.udp(&query()).await else { panic!("no answer") };
    assert_eq!(code_of(&answer), rcode::NO_ERROR);
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    // Nobody listens at the first two: no time is lost.
    second.abort();
    let _ = second.await;
    sockets.clear();
    let start = Instant::now();
    assert_eq!(bench.forwarder.udp(&query()).await, Forwarded::Answer(reply(&query(), rcode::NO_ERROR)));
    assert!(start.elapsed() < Duration::from_millis(400), "{:?}", start.elapsed());
}

#[tokio::test]
async fn when_all_fail_the_client_hears_the_first_failure_or_nothing_as_it_would_have() {
    let (port, mut sockets) = sockets(&["127.0.0.1", "127.0.0.2"]).await;
    let bench = bench(port, "nameserver 127.0.0.1\nnameserver 127.0.0.2\noptions timeout:1\n");
    let first = resolver(sockets.remove(0), rcode::REFUSED);
    resolver(sockets.remove(0), rcode::SERVER_FAILURE);
    assert_eq!(bench.forwarder.udp(&query()).await, Forwarded::Answer(reply(&query(), rcode::REFUSED)));
    first.abort();
    let _ = first.await;

    let (port, silent) = super::tests::sockets(&["127.0.0.1"]).await;
    let lonely = super::tests::bench(port, "nameserver 127.0.0.1\noptions timeout:1\n");
    let start = Instant::now();
    assert_eq!(lonely.forwarder.udp(&query()).await, Forwarded::Silence);
    assert!(start.elapsed() >= Duration::from_secs(1));
    drop(silent);
    assert_eq!(lonely.forwarder.udp(&query()).await, Forwarded::Unreachable);
}

#[tokio::test]
async fn the_file_is_read_again_when_it_changes_and_never_leads_to_ourselves() {
    let mut bench = bench(5353, "nameserver 127.0.0.99\nnameserver 127.0.0.2\n");
    let servers = |bench: &Bench| bench.forwarder.conf().servers.clone();
    assert_eq!(servers(&bench), [SocketAddr::from(([127, 0, 0, 2], bench.port))]);
    bench.file.write_all(b"nameserver 127.0.0.3\n").unwrap();
    assert_eq!(servers(&bench).len(), 1, "not looked at more than once a second");
    lock(&bench.forwarder.conf).checked = None;
    assert_eq!(servers(&bench).len(), 2);
    std::fs::remove_file(bench.file.path()).unwrap();
    lock(&bench.forwarder.conf).checked = None;
    assert_eq!(servers(&bench).len(), 2, "what cannot be read stays as it was");
}
