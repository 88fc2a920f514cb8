//! Apps and sidecars start, die and come back, in any order, and leave nothing behind.

use std::net::SocketAddr;
use std::time::Duration;

use leno_tests::netns::{self, Greeted, Greeter, Intercepting, Namespace, NetMesh, greeting, output, succeeded};
use leno_tests::wait::{DEADLINE, eventually};
use leno_tests::{Process, binaries, require_netns, tools};

const PORT: u16 = 4321;

struct Parts {
    client_sidecar: Intercepting,
    server_sidecar: Intercepting,
    client: Namespace,
    server: Namespace,
    // Held for its drop, which ends the control plane and the network.
    _mesh: NetMesh,
}

impl Parts {
    async fn start() -> Self {
        let mut mesh = NetMesh::start().await;
        let [client, server] = ["client", "server"].map(|name| mesh.host(name));
        let server_sidecar = mesh.sidecar(&server, "server").await.start().await;
        let client_sidecar = mesh.sidecar(&client, "client").await.start().await;
        mesh.connected(2).await;
        Self { client_sidecar, server_sidecar, client, server, _mesh: mesh }
    }

    fn server_addr(&self) -> SocketAddr {
        SocketAddr::new(self.server.v4().into(), PORT)
    }

    /// Waits until the client is greeted.
    async fn until_greeted(&self) {
        eventually("the server greets the client", DEADLINE, async || {
            greeting(&self.client, self.server_addr()).await.map(drop)
        })
        .await;
    }
}

/// What `program` prints inside `host`; it must succeed.
async fn told(host: &Namespace, program: &str, args: &[&str]) -> String {
    let mut command = host.command(tools::find(program).unwrap_or_else(|| program.into()));
    command.args(args);
    succeeded(&format!("{program} {args:?}"), output(command).await)
}

/// Loads an nftables script inside `host`.
async fn load_rules(mesh: &NetMesh, host: &Namespace, rules: &str) {
    let file = mesh.dir().join("rules.nft");
    std::fs::write(&file, rules).unwrap();
    told(host, "nft", &["-f", &file.display().to_string()]).await;
}

/// Every table inside `host` but ours, as `nft` and `iptables-save` show them.
async fn foreign_rules(host: &Namespace) -> String {
    let mut rules = String::new();
    for table in told(host, "nft", &["list", "tables"]).await.lines().filter(|line| !line.ends_with("inet leno")) {
        let words: Vec<&str> = ["list"].into_iter().chain(table.split_whitespace()).collect();
        rules += &told(host, "nft", &words).await;
    }
    rules
}

/// Our table inside `host`.
async fn our_rules(host: &Namespace) -> String {
    told(host, "nft", &["list", "table", "inet", "leno"]).await
}

/// A host's firewall that lets in the mesh port and whatever is answered, and the chains by which Docker publishes a port and
/// answers DNS.
const FOREIGN: &str = "
table inet firewall {
  set friends { type ipv4_addr; elements = { 10.77.0.3, 10.77.0.4 } }
  chain input {
    type filter hook input priority 0; policy drop;
    ct state established,related accept
    iif lo accept
    meta l4proto { icmp, icmpv6 } accept
    tcp dport { 22, 15008 } counter accept
  }
}
table ip nat {
  chain DOCKER { iifname != \"docker0\" tcp dport 8081 dnat to 172.17.0.2:80; }
  chain PREROUTING { type nat hook prerouting priority dstnat; fib daddr type local jump DOCKER; }
  chain OUTPUT { type nat hook output priority -100; ip daddr != 127.0.0.0/8 fib daddr type local jump DOCKER; }
  chain POSTROUTING { type nat hook postrouting priority srcnat; ip saddr 172.17.0.0/16 oifname != \"docker0\" masquerade; }
}
";

#[tokio::test(flavor = "multi_thread")]
async fn the_rules_of_a_firewall_and_of_docker_stay_as_they_were() {
    require_netns!("nft");
    let mut mesh = NetMesh::start().await;
    let [client, server] = ["client", "server"].map(|name| mesh.host(name));
    load_rules(&mesh, &server, FOREIGN).await;
    let without_counts = |rules: String| {
        let words = rules.split_whitespace().filter(|word| word.parse::<u64>().is_err()).map(str::to_owned);
        words.collect::<Vec<_>>().join(" ")
    };
    let before = without_counts(foreign_rules(&server).await);
    assert!(before.contains("chain DOCKER") && before.contains("policy drop"), "{before}");

    let _app = Greeter::start(&server, PORT, "behind a firewall");
    let mut server_sidecar = mesh.sidecar(&server, "server").await.start().await;
    let _client_sidecar = mesh.sidecar(&client, "client").await.start().await;
    mesh.connected(2).await;
    let addr = SocketAddr::new(server.v4().into(), PORT);
    eventually("the server greets the client", DEADLINE, async || greeting(&client, addr).await).await;
    assert_eq!(without_counts(foreign_rules(&server).await), before, "foreign rules were changed");

    server_sidecar.stop().await;
    let proxy = binaries::proxy().display().to_string();
    told(&server, &proxy, &["intercept", "--remove"]).await;
    assert_eq!(without_counts(foreign_rules(&server).await), before, "removal took foreign rules along");
    let tables = told(&server, "nft", &["list", "tables"]).await;
    assert!(!tables.contains("leno"), "{tables}");
    let routes = told(&server, "ip", &["route"]).await + &told(&server, "ip", &["-6", "route"]).await;
    assert!(!routes.contains("240.240") && !routes.contains("fd6c:656e"), "{routes}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_sidecar_comes_back_without_leaked_rules_or_stuck_connections() {
    require_netns!("nft");
    let mut parts = Parts::start().await;
    let _app = Greeter::start(&parts.server, PORT, "hello");
    parts.until_greeted().await;
    for killed in ["client", "server"] {
        let host = if killed == "client" { parts.client.clone() } else { parts.server.clone() };
        let rules = our_rules(&host).await;
        let mut open = Greeted::open(&parts.client, parts.server_addr()).await.unwrap();
        open.echo("before").await.unwrap();
        let sidecar = if killed == "client" { &mut parts.client_sidecar } else { &mut parts.server_sidecar };
        sidecar.kill();
        // What went through it has broken, and does not hang.
        assert!(open.echo("after").await.is_err(), "a connection outlived the {killed}'s sidecar");
        // While it is gone nobody goes around it: neither unencrypted nor at all.
        assert_eq!(greeting(&parts.client, parts.server_addr()).await, None, "the {killed}'s sidecar was bypassed");
        let sidecar = if killed == "client" { &mut parts.client_sidecar } else { &mut parts.server_sidecar };
        sidecar.start_again().await;
        parts.until_greeted().await;
        assert_eq!(our_rules(&host).await, rules, "the {killed}'s rules are not what they were");
        let tables = told(&host, "nft", &["list", "tables"]).await;
        assert_eq!(tables.matches("leno").count(), 1, "{tables}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_app_is_reached_again() {
    require_netns!();
    let parts = Parts::start().await;
    let app = Greeter::start(&parts.server, PORT, "first");
    parts.until_greeted().await;
    let mut open = Greeted::open(&parts.client, parts.server_addr()).await.unwrap();
    drop(app);
    assert!(open.echo("to whom?").await.is_err(), "a connection outlived its app");
    assert_eq!(greeting(&parts.client, parts.server_addr()).await, None);
    // Nothing holds its port.
    let _app = Greeter::start(&parts.server, PORT, "second");
    eventually("the new app greets", DEADLINE, async || {
        (greeting(&parts.client, parts.server_addr()).await.as_deref() == Some("second")).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_outlive_the_sidecars_drain() {
    require_netns!();
    let mut parts = Parts::start().await;
    let _app = Greeter::start(&parts.server, PORT, "hello");
    parts.until_greeted().await;
    let mut open = Greeted::open(&parts.client, parts.server_addr()).await.unwrap();
    parts.server_sidecar.process().signal(rustix::process::Signal::TERM);
    // It is told to others and takes nothing new, and what is open goes on until it ends.
    eventually("nothing new is taken", DEADLINE, async || {
        greeting(&parts.client, parts.server_addr()).await.is_none().then_some(())
    })
    .await;
    for _ in 0..10 {
        open.echo("still there").await.unwrap();
    }
    parts.server_sidecar.process().assert_running();
    drop(open);
    let status = parts.server_sidecar.process().wait(DEADLINE).await;
    assert!(status.success(), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_apps_first_packet_can_wait_for_the_sidecar() {
    require_netns!("sh");
    let mut mesh = NetMesh::start().await;
    let [client, server] = ["client", "server"].map(|name| mesh.host(name));
    let _app = Greeter::start(&server, PORT, "hello");
    let _server_sidecar = mesh.sidecar(&server, "server").await.start().await;
    let sidecar = mesh.sidecar(&client, "client").await;

    // The app first, as in a container whose start nobody orders.
    let proxy = binaries::proxy().display().to_string();
    let mut app = client.command(&proxy);
    app.args(["wait", "--timeout", "60s"]);
    let mut app = Process::spawn("waiting-app", &mut app, mesh.dir());
    let mut once = client.command(&proxy);
    once.args(["wait", "--timeout", "0s"]);
    assert!(!output(once).await.status.success(), "there is no sidecar yet");
    assert!(app.exited().is_none());
    let _sidecar = sidecar.start().await;
    let status = app.wait(DEADLINE).await;
    assert!(status.success(), "{status}\n{}", app.tail());
    // From here on the first packet goes where it should.
    assert_eq!(
        greeting(&client, SocketAddr::new(server.v4().into(), PORT)).await.as_deref(),
        Some("hello"),
        "the first connection of an app that waited"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jobs_sidecar_ends_with_the_job() {
    require_netns!("unshare", "nsenter");
    let mut mesh = NetMesh::start().await;
    let [client, server] = ["client", "server"].map(|name| mesh.host(name));
    let _app = Greeter::start(&server, PORT, "hello");
    let _server_sidecar = mesh.sidecar(&server, "server").await.start().await;

    // The containers of a job share namespaces; the first process of theirs only holds them.
    let mut hold = client.command("unshare");
    hold.args(["--pid", "--fork", "--mount-proc", "--kill-child"]).arg(binaries::proxy());
    hold.args(["hold", "--until-apps-end"]);
    let mut hold = Process::spawn("hold", &mut hold, mesh.dir());
    let first = eventually("the holder runs", DEADLINE, async || {
        let children = format!("/proc/{0}/task/{0}/children", hold.pid());
        std::fs::read_to_string(children).ok()?.split_whitespace().next().map(str::to_owned)
    })
    .await;
    let inside = |program: std::process::Command| {
        let mut command = std::process::Command::new("nsenter");
        command.args(["--target", &first, "--pid", "--mount"]).arg(program.get_program()).args(program.get_args());
        command
    };
    let sidecar = mesh.sidecar(&client, "job").await.args(&["--exit-with-app"]);
    let mut sidecar = Process::spawn("job-sidecar", &mut inside(sidecar.command()), mesh.dir());
    sidecar.first_line().await;
    let target = format!("/dev/tcp/{}/{PORT}", server.v4());
    let mut job = client.command("bash");
    // It works for a while, and speaks until its last moment.
    job.args(["-c", &format!("read -t 3 < /dev/zero; exec 3<>{target} && read -r line <&3 && echo \"got $line\"")]);
    let mut job = Process::spawn("job", &mut inside(job), mesh.dir());
    assert!(job.wait(DEADLINE).await.success(), "{}", job.tail());
    assert_eq!(job.stdout().trim(), "got hello");
    let status = sidecar.wait(DEADLINE).await;
    assert!(status.success(), "{status}\n{}", sidecar.tail());
    let status = hold.wait(DEADLINE).await;
    assert!(status.success(), "{status}\n{}", hold.tail());
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_on_both_sides_costs_a_bounded_amount() {
    require_netns!();
    /// More than a worker could hold if each cost it a buffer of some size.
    const MANY: usize = 400;
    /// What a silent connection may cost each of the two sidecars, in bytes; a debug build's TLS buffers included.
    const EACH: u64 = 100 << 10;
    let mut parts = Parts::start().await;
    let _app = Greeter::start(&parts.server, PORT, "hello");
    let silent = Greeter::silent(&parts.server, PORT + 1);
    parts.until_greeted().await;
    let before = [parts.client_sidecar.process().memory(), parts.server_sidecar.process().memory()];
    let descriptors = parts.client_sidecar.process().descriptors();
    let addr = SocketAddr::new(parts.server.v4().into(), PORT + 1);
    let mut open = Vec::new();
    for _ in 0..MANY {
        open.push(netns::connect(&parts.client, addr).await.unwrap());
    }
    eventually("the server is reached though nobody says a word", DEADLINE, async || {
        (silent.connections() == MANY).then_some(())
    })
    .await;
    let after = [parts.client_sidecar.process().memory(), parts.server_sidecar.process().memory()];
    for (before, after) in before.iter().zip(after) {
        let each = after.saturating_sub(*before) / MANY as u64;
        tools::note(&format!("FIGURE a silent connection costs a sidecar {each} bytes (debug build)"));
        assert!(each < EACH, "a silent connection costs {each} bytes");
    }
    // Others are not in their way.
    assert_eq!(greeting(&parts.client, parts.server_addr()).await.as_deref(), Some("hello"));
    drop(open);
    eventually("nothing of them is left", Duration::from_secs(60), async || {
        let left = parts.client_sidecar.process().descriptors();
        (silent.connections() == 0 && left <= descriptors + 4).then_some(())
    })
    .await;
}
