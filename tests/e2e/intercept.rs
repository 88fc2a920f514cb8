//! A namespace's traffic goes to the sidecar, all of it or what was chosen, and nothing of anybody else's is touched.

mod life;
mod space;

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use leno_tests::wait;
use tempfile::TempDir;

use space::{APP, Arrived, Pair, SIDECAR, addr, at, possible};

/// What most tests here run.
const PROGRAMS: [&str; 4] = ["ip", "unshare", "nft", "sysctl"];

#[tokio::test(flavor = "multi_thread")]
async fn outbound_connections_of_both_families_arrive_with_their_destination_and_the_sidecars_own_pass() {
    if !possible(&PROGRAMS) {
        return;
    }
    let dir = TempDir::new().unwrap();
    let pair = Pair::new(dir.path()).await;
    assert_eq!(pair.outbound(APP, "10.77.0.2:80"), Arrived::Direct);
    pair.intercept("");
    for to in ["10.77.0.2:80", "[fd77::2]:80", "10.77.0.2:5432", "240.240.7.9:80", "[fd6c:656e:6f00::7]:443"] {
        assert_eq!(pair.outbound(APP, to), at(15001, to));
        assert_eq!(pair.outbound(0, to), at(15001, to));
    }
    for to in ["10.77.0.2:80", "[fd77::2]:80"] {
        assert_eq!(pair.outbound(SIDECAR, to), Arrived::Direct);
    }
    // Itself: by loopback and by its own addresses.
    for to in ["127.0.0.1:8080", "[::1]:8080", "10.77.0.1:8080", "[fd77::1]:8080", "10.77.0.1:15006"] {
        assert_eq!(pair.outbound(APP, to), Arrived::Direct, "{to}");
        assert_eq!(pair.outbound(SIDECAR, to), Arrived::Direct, "{to}");
    }
    // Nobody but the sidecar answers for a virtual address, and that is said at once.
    for to in ["240.240.7.9:80", "[fd6c:656e:6f00::7]:443"] {
        let start = Instant::now();
        assert_eq!(pair.outbound(SIDECAR, to), Arrived::Refused);
        assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());
    }
    pair.intercept("--remove");
    assert_eq!(pair.outbound(APP, "10.77.0.2:80"), Arrived::Direct);
}

#[tokio::test(flavor = "multi_thread")]
async fn inbound_connections_arrive_at_the_inbound_port_and_our_own_ports_are_no_way_in() {
    if !possible(&PROGRAMS) {
        return;
    }
    let dir = TempDir::new().unwrap();
    let pair = Pair::new(dir.path()).await;
    // Includes and excludes do not open our own ports.
    for flags in ["", "--include-inbound-ports 8080 --exclude-inbound-ports 15001 --exclude-interface eth9"] {
        pair.intercept(flags);
        for ip in ["10.77.0.1", "fd77::1"] {
            for port in [8080, 15001, 15053] {
                assert_eq!(pair.inbound(&addr(ip, port)), at(15006, &addr(ip, port)));
            }
            for port in [15006, 15008, 15020] {
                assert_eq!(pair.inbound(&addr(ip, port)), Arrived::Direct);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_only_forwarded_is_left_alone() {
    if !possible(&PROGRAMS) {
        return;
    }
    let dir = TempDir::new().unwrap();
    let pair = Pair::new(dir.path()).await;
    let behind = space::Space::new("behind", dir.path()).await;
    behind.cable(&pair.app, "br0", [("10.78.0.2/24", "10.78.0.1/24"), ("fd78::2/64", "fd78::1/64")]);
    behind.sh("ip route add default via 10.78.0.1; ip -6 route add default via fd78::1");
    pair.host.sh("ip route add 10.78.0.0/24 via 10.77.0.1; ip -6 route add fd78::/64 via fd77::1");
    pair.app.sh("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
    pair.intercept("");
    let server = behind.listen("[::]:8080");
    for to in ["10.78.0.2:8080", "[fd78::2]:8080"] {
        let stream = pair.host.connect(APP, to).unwrap();
        let from = stream.local_addr().unwrap();
        wait::until("the connection arrives", wait::DEADLINE, || {
            server.accept().is_ok_and(|(_, peer)| peer.port() == from.port() && peer.ip().to_canonical() == from.ip())
        })
        .await;
    }
    // Outwards, too.
    assert!(behind.connect(APP, "10.77.0.2:80").is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn each_flag_chooses_what_it_says() {
    if !possible(&PROGRAMS) {
        return;
    }
    let dir = TempDir::new().unwrap();
    let pair = Pair::new(dir.path()).await;
    let out = |port: u16, ip: &str| pair.outbound(APP, &addr(ip, port));
    let captured = |port: u16, ip: &str| at(15001, &addr(ip, port));
    let (v4, v6) = ("10.77.0.2", "fd77::2");

    pair.intercept("--exclude-outbound-ports 5432,8000-8090");
    assert_eq!([out(5432, v4), out(8080, v6), out(80, v4)], [Arrived::Direct, Arrived::Direct, captured(80, v4)]);
    pair.intercept("--include-outbound-ports 5432 --include-outbound-ports 8000-8090");
    assert_eq!([out(80, v4), out(5432, v6), out(8080, v4)], [Arrived::Direct, captured(5432, v6), captured(8080, v4)]);
    pair.intercept("--exclude-cidr 10.64.0.0/11,2001:db8::/32");
    assert_eq!([out(80, v4), out(80, v6)], [Arrived::Direct, captured(80, v6)]);
    pair.intercept("--include-cidr fd77::2/128");
    assert_eq!([out(80, v4), out(80, v6)], [Arrived::Direct, captured(80, v6)]);
    pair.intercept("--exclude-interface eth*");
    assert_eq!([out(80, v4), pair.inbound("10.77.0.1:8080")], [Arrived::Direct, Arrived::Direct]);
    pair.intercept("--include-interface eth0");
    assert_eq!([out(80, v4), pair.inbound("10.77.0.1:8080")], [captured(80, v4), at(15006, "10.77.0.1:8080")]);
    pair.intercept("--include-interface et");
    assert_eq!([out(80, v4), pair.inbound("10.77.0.1:8080")], [Arrived::Direct, Arrived::Direct]);
    pair.intercept("--exclude-user 1000,1001");
    assert_eq!([out(80, v4), pair.outbound(0, "10.77.0.2:80")], [Arrived::Direct, captured(80, v4)]);
    pair.intercept("--exclude-inbound-ports 9000-9100");
    let inbound = [pair.inbound("[fd77::1]:9100"), pair.inbound("[fd77::1]:8080")];
    assert_eq!(inbound, [Arrived::Direct, at(15006, "[fd77::1]:8080")]);
    pair.intercept("--include-inbound-ports 9100");
    let inbound = [pair.inbound("10.77.0.1:9100"), pair.inbound("10.77.0.1:8080")];
    assert_eq!(inbound, [at(15006, "10.77.0.1:9100"), Arrived::Direct]);
    // All conditions together; virtual addresses are the sidecar's in any case.
    pair.intercept("--include-cidr 10.77.0.0/16 --include-outbound-ports 80 --include-interface eth0");
    assert_eq!([out(80, v4), out(80, v6), out(5432, v4)], [captured(80, v4), Arrived::Direct, Arrived::Direct]);
    assert_eq!(out(7, "240.240.0.1"), captured(7, "240.240.0.1"));
    pair.intercept("--sidecar-uid 1000");
    assert_eq!([out(80, v4), pair.outbound(SIDECAR, "10.77.0.2:80")], [Arrived::Direct, captured(80, v4)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn dns_to_the_nameservers_of_resolv_conf_arrives_at_the_dns_port_and_no_other_udp_does() {
    if !possible(&["ip", "unshare", "sysctl", "iptables", "mount"]) {
        return;
    }
    let dir = TempDir::new().unwrap();
    let pair = Pair::new(dir.path()).await;
    // As in a container of Docker: its resolver is reached by rules of its own, at a port that nobody knows.
    pair.app.sh("iptables -t nat -A OUTPUT -d 127.0.0.11 -p udp --dport 53 -j DNAT --to 127.0.0.11:5353");
    let resolv = dir.path().join("resolv.conf");
    std::fs::write(&resolv, "nameserver 127.0.0.11\nnameserver 10.77.0.2\nnameserver fd77::2\noptions ndots:0\n")
        .unwrap();
    let with_resolv = |flags: &str| {
        let script = format!("mount --bind {} /etc/resolv.conf && exec leno-proxy intercept {flags}", resolv.display());
        pair.app.sh(&format!("unshare -m sh -c '{script}'"))
    };
    with_resolv("");
    let udp = |space: &space::Space, addr: &str| {
        let socket = space.inside(0, || UdpSocket::bind(addr).unwrap());
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        socket
    };
    let dns = [udp(&pair.app, "127.0.0.1:15053"), udp(&pair.app, "[::1]:15053")];
    let docker = udp(&pair.app, "127.0.0.11:5353");
    let host = udp(&pair.host, "[::]:53");
    let other = udp(&pair.host, "[::]:5300");
    // Sends to `to`, sees it at `server`, and gets the answer from where it was asked.
    let ask = |user: u32, to: &str, server: &UdpSocket| {
        let client =
            pair.app.inside(user, || UdpSocket::bind(if to.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" }));
        let client = client.unwrap();
        client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        pair.app.inside(user, || client.connect(to).and_then(|()| client.send(to.as_bytes())).unwrap());
        let mut buffer = [0; 64];
        let (n, from) = server.recv_from(&mut buffer).unwrap_or_else(|why| panic!("{to} as {user}: {why}"));
        assert_eq!(&buffer[..n], to.as_bytes());
        server.send_to(b"answer", from).unwrap();
        assert_eq!(client.recv(&mut buffer).unwrap_or_else(|why| panic!("{to} as {user}: {why}")), 6);
    };
    for (to, server) in [("127.0.0.11:53", &dns[0]), ("10.77.0.2:53", &dns[0]), ("[fd77::2]:53", &dns[1])] {
        ask(APP, to, server);
    }
    for (to, server) in [("127.0.0.11:53", &docker), ("10.77.0.2:53", &host), ("[fd77::2]:53", &host)] {
        ask(SIDECAR, to, server);
    }
    ask(APP, "10.77.0.2:5300", &other);
    // By TCP, too; a port 53 that is no nameserver's is a connection like any other.
    let tcp = pair.app.listen("127.0.0.1:15053");
    assert!(pair.app.connect(APP, "10.77.0.2:53").is_ok());
    wait::until("DNS by TCP", wait::DEADLINE, || {
        tcp.accept().is_ok_and(|(stream, _)| space::original(&stream) == Some("10.77.0.2:53".parse().unwrap()))
    })
    .await;
    assert_eq!(pair.outbound(APP, "10.77.0.3:53"), at(15001, "10.77.0.3:53"));
    // Switched off, everything goes where it was sent.
    with_resolv("--no-dns");
    for (to, server) in [("127.0.0.11:53", &docker), ("10.77.0.2:53", &host)] {
        ask(APP, to, server);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_without_ipv6_and_without_any_route_is_intercepted() {
    if !possible(&PROGRAMS) {
        return;
    }
    let dir = TempDir::new().unwrap();
    let lonely = space::Space::new("lonely", dir.path()).await;
    lonely.sh("sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.lo.disable_ipv6=1");
    lonely.sh("leno-proxy intercept && leno-proxy intercept && leno-proxy intercept --check");
    let sidecar = lonely.listen("127.0.0.1:15001");
    let stream = lonely.connect(APP, "240.240.3.4:5432").unwrap();
    assert_eq!(stream.peer_addr().unwrap().to_string(), "240.240.3.4:5432");
    wait::until("it arrives", wait::DEADLINE, || {
        sidecar.accept().is_ok_and(|(stream, _)| space::original(&stream) == Some("240.240.3.4:5432".parse().unwrap()))
    })
    .await;
    lonely.sh("leno-proxy intercept --remove");
    assert_eq!(lonely.sh("nft list ruleset; ip route"), "");
}
