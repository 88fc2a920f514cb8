//! DNS inside an intercepted namespace: names of the mesh have addresses, and all others are heard as without the sidecar.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use leno_tests::netns::{Intercepting, Namespace, NetMesh, listens, output};
use leno_tests::{Process, require_netns, tools, wait};

/// What `dig` says when nobody answers.
const NO_REPLY: i32 = 9;

/// A sidecar whose namespace is intercepted, a host beside it without one, and the resolver of both.
struct Parts {
    sidecar: Intercepting,
    client: Namespace,
    direct: Namespace,
    resolver: SocketAddr,
    dnsmasq: Process,
    mesh: NetMesh,
}

async fn start() -> Parts {
    let mut mesh = NetMesh::start().await;
    let [client, direct] = ["client", "direct"].map(|name| mesh.host(name));
    let bridge = mesh.network.bridge().clone();
    let mut dnsmasq = bridge.command(tools::find("dnsmasq").unwrap());
    dnsmasq.args(["--no-daemon", "--no-hosts", "--no-resolv", "--conf-file=/dev/null", "--local=/test/"]);
    dnsmasq.args([
        "--address=/legacy.test/192.0.2.1",
        "--address=/legacy.test/2001:db8::1",
        "--address=/bare/192.0.2.2",
    ]);
    dnsmasq.args(["--mx-host=legacy.test,mail.test,10", "--srv-host=_x._tcp.legacy.test,legacy.test,99"]);
    dnsmasq.arg("--dns-rr=odd.test,65280,010203ff");
    for n in 0..40 {
        dnsmasq.arg(format!("--txt-record=large.test,{n:03}{}", "x".repeat(200)));
    }
    let mut dnsmasq = Process::spawn("dnsmasq", &mut dnsmasq, mesh.dir());
    listens(&bridge, 53, &mut dnsmasq).await;
    let sidecar = mesh.sidecar(&client, "web").await.start().await;
    mesh.connected(1).await;
    let resolver = SocketAddr::new(bridge.v4().into(), 53);
    Parts { sidecar, client, direct, resolver, dnsmasq, mesh }
}

/// Runs `dig` inside `host`: its exit code and what it printed.
async fn dig(host: &Namespace, args: &str) -> (Option<i32>, String) {
    let mut dig = host.command("dig");
    dig.args(args.split(' '));
    let output = output(dig).await;
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The only line of `dig +short`.
async fn short(host: &Namespace, args: &str) -> String {
    let (code, text) = dig(host, &format!("+short {args}")).await;
    assert_eq!((code, text.lines().count()), (Some(0), 1), "{args}: {text}");
    text.trim().to_owned()
}

/// What `dig` printed, without what differs from one query to the next.
fn essence(text: &str) -> Vec<String> {
    let differs = ["; <<>> DiG", ";; Query time", ";; WHEN", ";; SERVER", ";; Got answer", "; COOKIE"];
    let lines = text.lines().filter(|line| !line.is_empty() && !differs.iter().any(|start| line.starts_with(start)));
    // The number of the query.
    let mut lines: Vec<String> = lines.map(|line| line.split(", id: ").next().unwrap_or(line).to_owned()).collect();
    // Resolvers rotate what they say.
    lines.sort();
    lines
}

#[tokio::test(flavor = "multi_thread")]
async fn every_form_of_a_services_name_has_its_addresses_over_udp_and_tcp() {
    require_netns!("dnsmasq", "dig");
    let parts = start().await;
    let (v4, v6) = (short(&parts.client, "web A").await, short(&parts.client, "web AAAA").await);
    assert!(v4.starts_with("240.240.") && v6.starts_with("fd6c:656e:6f00:"), "{v4} {v6}");
    for name in
        ["web", "web.default", "web.default.svc", "web.default.svc.cluster.local", "web.mesh", "WEB.default.mesh."]
    {
        for how in ["+notcp", "+tcp", "+noedns", "+bufsize=512 +dnssec"] {
            assert_eq!(short(&parts.client, &format!("{how} {name} A")).await, v4, "{how} {name}");
            assert_eq!(short(&parts.client, &format!("{how} {name} AAAA")).await, v6, "{how} {name}");
        }
    }
    for address in [&v4, &v6] {
        assert_eq!(short(&parts.client, &format!("-x {address}")).await, "web.default.mesh.");
    }
    // There is the name, but nothing of this type; and there is no such name.
    for (query, status) in [("web MX", "NOERROR"), ("web HTTPS", "NOERROR"), ("nothing.mesh A", "NXDOMAIN")] {
        let (_, text) = dig(&parts.client, query).await;
        let zone = text.lines().any(|line| line.contains("\tSOA\t"));
        assert!(text.contains(&format!("status: {status}")) && text.contains("ANSWER: 0") && zone, "{text}");
    }
    let counted = parts.sidecar.metrics().await;
    assert!(counted.sum("leno_dns_queries_total", &[("answer", "mesh")]) >= 50.0, "{}", counted.text());
    assert_eq!(counted.sum("leno_dns_queries_total", &[("answer", "forwarded")]), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_other_name_is_heard_as_without_the_sidecar() {
    require_netns!("dnsmasq", "dig");
    let parts = start().await;
    for query in [
        "legacy.test A",
        "LEGACY.test AAAA",
        "legacy.test MX",
        "_x._tcp.legacy.test SRV",
        "odd.test TYPE65280",
        "legacy.test ANY",
        "bare A",
        // NXDOMAIN, an empty answer, a refusal, another class and another kind of message.
        "nobody.test A",
        "odd.test A",
        "example.com A",
        "web.nowhere.svc.cluster.local A",
        "-c CH version.bind TXT",
        "+opcode=notify legacy.test SOA",
        "large.test TXT",
    ] {
        for how in [
            "+notcp",
            "+tcp",
            "+ignore +bufsize=512",
            "+dnssec +cd +bufsize=4096",
            "+noedns +norecurse",
            "+ednsopt=65001:01ff",
        ] {
            let args = format!("+tries=1 {how} {query}");
            let (through, direct) = tokio::join!(dig(&parts.client, &args), dig(&parts.direct, &args));
            assert_eq!(through.0, direct.0, "{args}\n{}", through.1);
            // dnsmasq does not refuse another class in the same words each time (AA, or an extended error).
            let mut heard = vec![essence(&direct.1)];
            while !heard.contains(&essence(&through.1)) && heard.len() < 20 {
                heard.push(essence(&dig(&parts.direct, &args).await.1));
            }
            assert!(heard.contains(&essence(&through.1)), "{args}\n{}\n{heard:?}", through.1);
        }
    }
    // What does not fit says so, and comes over TCP.
    let (_, cut) = dig(&parts.client, "+ignore +bufsize=512 large.test TXT").await;
    assert!(cut.lines().any(|line| line.starts_with(";; flags:") && line.contains(" tc")), "{cut}");
    let (_, whole) = dig(&parts.client, "+bufsize=512 large.test TXT").await;
    assert!(whole.contains("ANSWER: 40") && whole.contains("(TCP)"), "{whole}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_resolver_looks_dead_and_names_of_the_mesh_go_on() {
    require_netns!("dnsmasq", "dig");
    let mut parts = start().await;
    let v4 = short(&parts.client, "web A").await;
    parts.dnsmasq.pause();
    for how in ["+notcp", "+tcp"] {
        let args = format!("+tries=1 +time=2 {how} legacy.test A");
        let (through, direct) = tokio::join!(dig(&parts.client, &args), dig(&parts.direct, &args));
        assert_eq!((through.0, direct.0), (Some(NO_REPLY), Some(NO_REPLY)), "{}", through.1);
    }
    assert_eq!(short(&parts.client, "+time=1 +tries=1 web.mesh A").await, v4);
    parts.dnsmasq.resume();
    wait::eventually("the resolver is heard again", wait::DEADLINE, async || {
        (dig(&parts.client, "+short legacy.test A").await.1.trim() == "192.0.2.1").then_some(())
    })
    .await;
    // Nobody listens: said at once, as the kernel would have.
    parts.dnsmasq.kill();
    let start = Instant::now();
    let (_, refused) = dig(&parts.client, "+tries=1 +time=5 legacy.test A").await;
    assert!(
        refused.contains("SERVFAIL") && start.elapsed() < Duration::from_secs(4),
        "{:?}: {refused}",
        start.elapsed()
    );
    assert_eq!(short(&parts.client, "web A").await, v4);
    // The control plane is away: what is known stays known.
    parts.mesh.kill_plane();
    assert_eq!(short(&parts.client, "web.default A").await, v4);
}

/// A query for `host`'s A record.
fn query(id: u16, host: &str) -> Vec<u8> {
    let mut bytes = [&id.to_be_bytes()[..], &[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]].concat();
    for label in host.split('.') {
        bytes.push(label.len() as u8);
        bytes.extend(label.as_bytes());
    }
    bytes.extend([0, 0, 1, 0, 1]);
    bytes
}

/// Sends every message to `to` from one socket inside `host`.
fn blast(host: &Namespace, to: SocketAddr, messages: impl Iterator<Item = Vec<u8>> + Send) {
    host.enter(|| {
        let socket = UdpSocket::bind(("0.0.0.0", 0)).unwrap();
        for message in messages {
            socket.send_to(&message, to).unwrap();
        }
    })
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn junk_and_ten_thousand_queries_at_once_cost_a_bounded_amount() {
    require_netns!("dnsmasq", "dig");
    let mut parts = start().await;
    let v4 = short(&parts.client, "web A").await;
    let random = (0..2000).map(|n: usize| (0..n % 600).map(|at| (n * 31 + at * at * 7) as u8).collect());
    blast(&parts.client, parts.resolver, random);
    assert_eq!(short(&parts.client, "web A").await, v4);

    // The resolver does not answer, so each query is held as long as it may be.
    parts.dnsmasq.pause();
    let memory = parts.sidecar.process().memory();
    let many = (0..10_000_u16).map(|n| query(n, &format!("host-{n}.test")));
    blast(&parts.client, parts.resolver, many);
    let overloaded = wait::eventually("the bound is reached", wait::DEADLINE, async || {
        let overloaded = parts.sidecar.metrics().await.sum("leno_dns_queries_total", &[("answer", "overloaded")]);
        (overloaded > 0.0).then_some(overloaded)
    })
    .await;
    let (files, grown) =
        (parts.sidecar.process().descriptors(), parts.sidecar.process().memory().saturating_sub(memory));
    assert!(files < 1024 + 200, "{files} files");
    assert!(grown < 48 * 1024 * 1024, "{grown} bytes");
    assert_eq!(short(&parts.client, "+time=2 +tries=3 web A").await, v4);
    tools::note(&format!(
        "FIGURE dns: 10000 queries at once: {overloaded} refused, {files} files, {} KiB more",
        grown / 1024
    ));
    parts.dnsmasq.resume();
    wait::eventually("names resolve again", wait::DEADLINE, async || {
        (dig(&parts.client, "+short +time=2 +tries=1 legacy.test A").await.1.trim() == "192.0.2.1").then_some(())
    })
    .await;
    parts.sidecar.process().assert_running();
}
