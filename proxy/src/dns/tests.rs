//! The server as a whole, on real sockets, with a resolver made here.

use std::io::Write;
use std::time::Duration;

use leno_runtime::drain::{self, Drain};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use super::message::code_of;
use super::*;
use crate::model::{Destination, Snapshot};
use crate::state;

const DEADLINE: Duration = Duration::from_secs(20);

struct Bench {
    addr: SocketAddr,
    registry: Registry,
    resolver: Resolver,
    _stop: Drain,
    _file: tempfile::NamedTempFile,
    _writer: state::Writer,
    _demands: state::demand::DemandReceiver,
}

/// A resolver on both protocols, at an address of its own.
struct Resolver {
    udp: Arc<UdpSocket>,
    tcp: tokio::net::TcpListener,
}

impl Resolver {
    async fn bind() -> (u16, Self) {
        loop {
            let tcp = tokio::net::TcpListener::bind("127.0.0.53:0").await.unwrap();
            let addr = tcp.local_addr().unwrap();
            if let Ok(udp) = UdpSocket::bind(addr).await {
                return (addr.port(), Self { udp: Arc::new(udp), tcp });
            }
        }
    }
}

async fn bench() -> Bench {
    let (port, resolver) = Resolver::bind().await;
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"nameserver 127.0.0.53\n").unwrap();
    let (writer, reader) = state::channel();
    let (demands, receiver) = state::demand::channel();
    let web = Destination {
        name: "default/web".into(),
        addresses: vec!["240.240.0.7".parse().unwrap()],
        ports: Vec::new(),
        any_port: None,
    };
    let mut snapshot = Snapshot::default();
    snapshot.services.insert("default/web".into(), Some(Arc::new(web)));
    writer.publish(Arc::new(snapshot));
    let bound = bind("127.0.0.1:0").unwrap();
    let (addr, registry) = (bound.addr, Registry::new());
    let parts = Parts { namespace: "default".into(), reader, demands, registry: registry.clone() };
    let (stop, stopped) = drain::channel();
    tokio::spawn(serve_with(bound, parts, file.path().to_owned(), port, stopped));
    Bench { addr, registry, resolver, _stop: stop, _file: file, _writer: writer, _demands: receiver }
}

impl Bench {
    fn counted(&self, answer: &str) -> u64 {
        self.registry.counter("leno_dns_queries_total", &[("answer", answer)]).get()
    }
}

fn query(id: u16, host: &str) -> Vec<u8> {
    let mut bytes = [&id.to_be_bytes()[..], &[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]].concat();
    for label in host.split('.') {
        bytes.push(label.len() as u8);
        bytes.extend(label.as_bytes());
    }
    bytes.extend([0, 0, 1, 0, 1]);
    bytes
}

async fn client(addr: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(addr).await.unwrap();
    socket
}

async fn receive(socket: &UdpSocket) -> Vec<u8> {
    let mut buffer = vec![0; 65_535];
    let n = tokio::time::timeout(DEADLINE, socket.recv(&mut buffer)).await.expect("an answer").unwrap();
    buffer.truncate(n);
    buffer
}

async fn until(what: &str, mut check: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !check() {
        assert!(start.elapsed() < DEADLINE, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn noise_is_dropped_garbage_is_refused_and_the_server_goes_on() {
    let bench = bench().await;
    let socket = client(bench.addr).await;
    let mut response = query(1, "web");
    response[2] |= 0x80;
    for noise in [&b""[..], b"x", &[0xff; 11], &response, &[0xff; 3000]] {
        socket.send(noise).await.unwrap();
    }
    socket.send(&[&[0; 12][..], &[0x40; 100]].concat()).await.unwrap();
    assert_eq!(code_of(&receive(&socket).await), rcode::FORMAT);
    let mut long = query(2, "example.com");
    long.resize(udp::MOST_QUERY + 1, 0);
    socket.send(&long).await.unwrap();
    assert_eq!(code_of(&receive(&socket).await), rcode::FORMAT);
    assert_eq!(bench.counted("malformed"), 7);
    socket.send(&query(3, "web")).await.unwrap();
    assert_eq!(receive(&socket).await[..8], [0, 3, 0x85, 0x80, 0, 1, 0, 1]);
}

#[tokio::test]
async fn more_queries_than_the_bound_are_refused_while_names_of_the_mesh_are_answered() {
    let bench = bench().await;
    leno_runtime::limits::allow_many_files();
    let socket = client(bench.addr).await;
    // The resolver is silent, so every query stays in flight.
    let mut sent: usize = 0;
    while sent < 10_000 {
        for _ in 0..50 {
            socket.send(&query(sent as u16, "example.com")).await.unwrap();
            sent += 1;
        }
        // What the kernel would drop is not what is tried here.
        let overloaded = || bench.counted("overloaded") as usize;
        until("the queries are taken", || overloaded() + MOST_IN_FLIGHT >= sent).await;
    }
    assert_eq!(bench.counted("overloaded") as usize, 10_000 - MOST_IN_FLIGHT);
    let refused = receive(&socket).await;
    assert_eq!(code_of(&refused), rcode::SERVER_FAILURE);
    let other = client(bench.addr).await;
    other.send(&query(7, "web.default.svc.cluster.local")).await.unwrap();
    assert_eq!(receive(&other).await[..8], [0, 7, 0x85, 0x80, 0, 1, 0, 1]);
    // Answers make room.
    let mut buffer = [0; 600];
    let (n, from) = bench.resolver.udp.recv_from(&mut buffer).await.unwrap();
    buffer[2] |= 0x80;
    bench.resolver.udp.send_to(&buffer[..n], from).await.unwrap();
    until("one is answered", || bench.counted("forwarded") == 1).await;
}

#[tokio::test]
async fn one_connection_carries_answers_of_the_mesh_and_of_the_resolver_in_any_order() {
    let bench = bench().await;
    let mut client = TcpStream::connect(bench.addr).await.unwrap();
    let mut all = Vec::new();
    for (id, host) in [(1, "example.com"), (2, "web"), (3, "example.org")] {
        tcp_frame(&mut all, &query(id, host));
    }
    client.write_all(&all).await.unwrap();
    assert_eq!(tcp_read(&mut client).await[..2], [0, 2]);
    let (mut resolver, _) = bench.resolver.tcp.accept().await.unwrap();
    let first = tcp_read(&mut resolver).await;
    let second = tcp_read(&mut resolver).await;
    assert_eq!((&first[..], &second[..]), (&query(1, "example.com")[..], &query(3, "example.org")[..]));
    // The second first, and large; then the first, as two messages, as a zone transfer is.
    let mut answers = Vec::new();
    tcp_frame(&mut answers, &[second, vec![9; 60_000]].concat());
    tcp_frame(&mut answers, &first);
    tcp_frame(&mut answers, &first);
    resolver.write_all(&answers).await.unwrap();
    assert_eq!(tcp_read(&mut client).await.len(), query(3, "example.org").len() + 60_000);
    assert_eq!(tcp_read(&mut client).await, first);
    assert_eq!(tcp_read(&mut client).await, first);
    // The resolver ends the connection, and so the client's ends.
    drop(resolver);
    assert_eq!(tokio::time::timeout(DEADLINE, client.read(&mut [0; 9])).await.unwrap().unwrap(), 0);
}

#[tokio::test]
async fn more_connections_than_the_bound_are_closed_at_once() {
    let bench = bench().await;
    let mut open = Vec::new();
    for _ in 0..MOST_CONNECTIONS {
        let mut client = TcpStream::connect(bench.addr).await.unwrap();
        ask_for_web(&mut client).await.unwrap();
        open.push(client);
    }
    let mut one_more = TcpStream::connect(bench.addr).await.unwrap();
    assert!(ask_for_web(&mut one_more).await.is_err());
    drop(open.pop());
    let start = std::time::Instant::now();
    loop {
        let mut again = TcpStream::connect(bench.addr).await.unwrap();
        if ask_for_web(&mut again).await.is_ok() {
            break;
        }
        assert!(start.elapsed() < DEADLINE);
    }
}

#[tokio::test]
async fn a_query_of_ours_that_comes_back_ends_there() {
    let (_writer, reader) = state::channel();
    let (demands, _receiver) = state::demand::channel();
    // Listening everywhere, the server cannot tell that its resolver is itself, as it cannot when the rules lead its queries back.
    let bound = bind("0.0.0.0:0").unwrap();
    let addr = SocketAddr::from(([127, 0, 0, 1], bound.addr.port()));
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"nameserver 127.0.0.1\n").unwrap();
    let registry = Registry::new();
    let looped = registry.counter("leno_dns_queries_total", &[("answer", "loop")]);
    let parts = Parts { namespace: "default".into(), reader, demands, registry };
    let (_stop, stopped) = drain::channel();
    tokio::spawn(serve_with(bound, parts, file.path().to_owned(), addr.port(), stopped));

    let socket = client(addr).await;
    socket.send(&query(1, "www.example.com")).await.unwrap();
    assert_eq!(code_of(&receive(&socket).await), rcode::REFUSED);
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let mut framed = Vec::new();
    tcp_frame(&mut framed, &query(1, "www.example.com"));
    stream.write_all(&framed).await.unwrap();
    let ended = tokio::time::timeout(DEADLINE, stream.read(&mut [0; 9])).await.expect("an end");
    assert!(!matches!(ended, Ok(1..)), "{ended:?}");
    assert_eq!(looped.get(), 2);
}

fn tcp_frame(out: &mut Vec<u8>, message: &[u8]) {
    out.extend(u16::try_from(message.len()).unwrap().to_be_bytes());
    out.extend(message);
}

async fn tcp_read(stream: &mut TcpStream) -> Vec<u8> {
    let read = async {
        let mut message = vec![0; usize::from(stream.read_u16().await.unwrap())];
        stream.read_exact(&mut message).await.unwrap();
        message
    };
    tokio::time::timeout(DEADLINE, read).await.expect("a message")
}

async fn ask_for_web(client: &mut TcpStream) -> std::io::Result<()> {
    let mut framed = Vec::new();
    tcp_frame(&mut framed, &query(1, "web"));
    client.write_all(&framed).await?;
    let length = tokio::time::timeout(DEADLINE, client.read_u16()).await??;
    client.read_exact(&mut vec![0; length.into()]).await?;
    Ok(())
}
