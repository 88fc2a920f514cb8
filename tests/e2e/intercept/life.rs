//! How rules come, stay, are looked at and go.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use leno_tests::{Mesh, Process, binaries, tools, wait};
use tempfile::TempDir;

use super::PROGRAMS;
use super::space::{APP, Arrived, Pair, SIDECAR, Space, at, possible};

/// Flags of every kind.
const MANY: &str = "--exclude-outbound-ports 5432,1-20 --include-outbound-ports 80,8000-8999 --exclude-user 0,77 \
    --include-cidr 10.0.0.0/8,0.0.0.0/0,2001:db8::/33 --exclude-cidr 192.0.2.7,fd00::/8,172.16.0.0/12 \
    --include-interface eth*,eth0 --exclude-interface docker0 --include-inbound-ports 80 --exclude-inbound-ports 91-92";
/// Another process may still hold the console's attention that long.
const SHORT: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn the_dry_run_prints_what_nft_lists_and_applying_twice_changes_nothing() {
    if !possible(&PROGRAMS) {
        return;
    }
    let dir = TempDir::new().unwrap();
    let space = Space::new("space", dir.path()).await;
    for flags in ["", MANY, "--no-dns --sidecar-uid 7 --outbound-port 1001 --inbound-port 1006"] {
        let printed = space.sh(&format!("leno-proxy intercept {flags} --dry-run"));
        let rules: String =
            printed.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect();
        for _ in 0..2 {
            assert_eq!(space.sh(&format!("leno-proxy intercept {flags}")), "");
            assert_eq!(space.sh("nft list table inet leno"), rules, "{flags}");
            assert_eq!(space.sh(&format!("leno-proxy intercept {flags} --check")), "");
        }
        // What it prints nft takes.
        space.sh(&format!("leno-proxy intercept {flags} --dry-run | nft -c -f -"));
        assert_eq!(space.sh("ip route; ip -6 route show dev lo").matches("proto 158").count(), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn others_rules_and_routes_are_byte_for_byte_the_same_after_removal() {
    if !possible(&["ip", "unshare", "nft", "iptables", "ip6tables"]) {
        return;
    }
    let dir = TempDir::new().unwrap();
    let pair = Pair::new(dir.path()).await;
    // Rules like Docker's, a host firewall's by iptables, and one by nft with the name of ours in another family.
    pair.app.sh(
        "iptables -t nat -N DOCKER; iptables -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
         iptables -t nat -A DOCKER -p tcp --dport 8081 -j DNAT --to-destination 10.77.0.2:80
         iptables -t nat -A OUTPUT -d 127.0.0.11 -p udp --dport 53 -j DNAT --to 127.0.0.11:5353
         iptables -t nat -A POSTROUTING -j MASQUERADE
         iptables -A INPUT -p tcp --dport 22 -j ACCEPT; iptables -A FORWARD -i eth0 -j ACCEPT
         ip6tables -A INPUT -p tcp --dport 22 -j ACCEPT
         nft add table ip leno; nft add chain ip leno output '{ type nat hook output priority -100; }'
         nft add table inet firewall; nft add set inet firewall bad '{ type ipv4_addr; elements = { 192.0.2.1 } }'
         nft add chain inet firewall input '{ type filter hook input priority 0; policy drop; }'
         nft add rule inet firewall input ip saddr != @bad accept; nft add rule inet firewall input meta nfproto ipv6 accept
         ip route add 240.241.0.0/16 dev lo; ip route add default via 10.77.0.2",
    );
    // Without the counters, which count what passes.
    let all = || {
        pair.app
            .sh("iptables-save | grep -v ^#; ip6tables-save | grep -v ^#; nft -s list ruleset; ip route; ip -6 route")
    };
    let before = all();
    assert!(before.contains("DOCKER") && before.contains("policy drop"), "{before}");
    pair.intercept("");
    assert_ne!(all(), before);
    assert_eq!(pair.outbound(APP, "10.77.0.2:80"), at(15001, "10.77.0.2:80"));
    assert_eq!(pair.inbound("10.77.0.1:8080"), at(15006, "10.77.0.1:8080"));
    pair.intercept(MANY);
    for _ in 0..2 {
        pair.intercept("--remove");
        assert_eq!(all(), before);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_names_what_was_tampered_with_and_has_its_own_exit_code() {
    if !possible(&PROGRAMS) {
        return;
    }
    let dir = TempDir::new().unwrap();
    let space = Space::new("space", dir.path()).await;
    let check = |expected: &str| {
        let output = space.output("leno-proxy intercept --check");
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains(expected), "{expected}\n{text}");
        space.sh("leno-proxy intercept && leno-proxy intercept --check");
    };
    check("the table inet leno is missing");
    let delete = |what: &str| {
        space.sh(&format!(
            "nft delete rule inet leno output handle $(nft -a list table inet leno | grep '{what}' | head -1 | sed 's/.*handle //')"
        ));
    };
    delete("meta skuid");
    check("the chain output lacks the rule `meta skuid 15008 return`");
    space.sh("nft insert rule inet leno output tcp dport 22 counter accept");
    check("the chain output has a rule that was not asked for, its number 1");
    space.sh("nft add chain inet leno more");
    check("the chain more is not one that was asked for");
    space.sh("nft add table inet leno '{ flags dormant; }'");
    check("dormant");
    space.sh("nft chain inet leno refuse '{ policy drop; }'");
    check("the chain refuse drops");
    space.sh("ip route del 240.240.0.0/16");
    check("the route to 240.240.0.0/16 by lo is missing");
    space.sh("leno-proxy intercept --exclude-outbound-ports 5432");
    check("the chain output has a rule that was not asked for");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_capability_one_line_names_it_and_nothing_happens() {
    if !possible(&["ip", "unshare", "nft", "setpriv"]) {
        return;
    }
    let dir = TempDir::new().unwrap();
    let space = Space::new("space", dir.path()).await;
    // A copy that another user may run.
    let program = dir.path().join("intercepting");
    std::fs::copy(binaries::proxy(), &program).unwrap();
    space.sh(&format!("chmod 755 {}", dir.path().display()));
    for who in ["--reuid 1000 --clear-groups", "--bounding-set -net_admin"] {
        for flag in ["", "--check", "--remove"] {
            let output = space.output(&format!("setpriv {who} {} intercept {flag}", program.display()));
            let text = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(77), "{text}");
            assert!(text.contains("CAP_NET_ADMIN") && text.lines().count() == 1, "{text}");
        }
    }
    assert_eq!(space.sh("nft list ruleset; ip route"), "");
    // Printing needs no right.
    space.sh(&format!("setpriv --reuid 1000 --clear-groups {} intercept --dry-run", program.display()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_from_before_the_rules_lives_on_and_so_does_a_redirected_one_when_they_are_made_anew() {
    if !possible(&PROGRAMS) {
        return;
    }
    let dir = TempDir::new().unwrap();
    let (app, host) = (Space::new("app", dir.path()).await, Space::new("host", dir.path()).await);
    app.cable(&host, "eth0", super::space::NETS);
    let speak = |a: &TcpStream, b: &TcpStream| {
        for (mut from, mut to) in [(a, b), (b, a)] {
            from.write_all(b"x").unwrap();
            to.set_read_timeout(Some(SHORT)).unwrap();
            to.read_exact(&mut [0]).unwrap();
        }
    };
    let (server, sidecar) = (host.listen("[::]:8080"), app.listen("127.0.0.1:15001"));
    let accept = |listener: &std::net::TcpListener| {
        listener.set_nonblocking(false).unwrap();
        listener.accept().unwrap().0
    };
    let before = (app.connect(APP, "10.77.0.2:8080").unwrap(), accept(&server));
    let inbound = {
        let listener = app.listen("[::]:9000");
        (host.connect(APP, "10.77.0.1:9000").unwrap(), accept(&listener))
    };
    app.sh("leno-proxy intercept");
    let redirected = (app.connect(APP, "10.77.0.2:8080").unwrap(), accept(&sidecar));
    for flags in ["", MANY, ""] {
        for pair in [&before, &inbound, &redirected] {
            speak(&pair.0, &pair.1);
        }
        app.sh(&format!("leno-proxy intercept {flags}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_are_there_whole_at_every_moment_however_often_they_are_made_and_their_maker_is_killed() {
    if !possible(&PROGRAMS) {
        return;
    }
    let dir = TempDir::new().unwrap();
    let space = Space::new("space", dir.path()).await;
    let sidecar = space.listen("127.0.0.1:15001");
    space.sh("leno-proxy intercept");
    let (over, mut tries) = (AtomicBool::new(false), 0);
    std::thread::scope(|scope| {
        // Without rules, or with half of them, it would not get through: nobody else is at that address.
        let client = scope.spawn(|| {
            let mut connected = 0;
            while !over.load(Ordering::Relaxed) {
                space.connect(APP, "240.240.0.7:80").unwrap_or_else(|why| panic!("connection {connected}: {why}"));
                while sidecar.accept().is_ok_and(|_| true) {}
                connected += 1;
            }
            connected
        });
        let end = Instant::now() + Duration::from_secs(3);
        while Instant::now() < end && !client.is_finished() {
            let flags = if tries % 2 == 0 { MANY } else { "" };
            let arguments = ["intercept"].into_iter().chain(flags.split_whitespace());
            let mut maker = space.inside(0, || Command::new(binaries::proxy()).args(arguments).spawn().unwrap());
            // At any point of its short life, from the first microsecond on.
            std::thread::sleep(Duration::from_micros(150 * (tries % 100)));
            let _ = maker.kill();
            maker.wait().unwrap();
            let whole = ["", MANY]
                .iter()
                .any(|flags| space.output(&format!("leno-proxy intercept {flags} --check")).status.success());
            assert!(whole, "after try {tries}: {}", space.sh("nft list table inet leno"));
            tries += 1;
        }
        over.store(true, Ordering::Relaxed);
        let connected = client.join().unwrap();
        assert!(tries > 5 && connected > 20, "{tries} tries, {connected} connections");
    });
}

/// The fields of a thread's status.
fn status(pid: u32, thread: &str) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{thread}/status")).unwrap();
    let fields = text.lines().filter_map(|line| line.split_once(':'));
    fields.map(|(key, value)| (key.to_owned(), value.split_whitespace().collect::<Vec<_>>().join(" "))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_that_made_its_rules_has_neither_root_nor_a_capability_in_any_thread() {
    if !possible(&PROGRAMS) {
        return;
    }
    let dir = TempDir::new().unwrap();
    let space = Space::new("space", dir.path()).await;
    space.inside(0, || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(intercepting_sidecar(&space));
    });
}

async fn intercepting_sidecar(space: &Space) {
    let mesh = Mesh::start().await;
    space.sh(&format!("chmod 755 {}", mesh.dir().display()));
    let token = mesh.control_plane.api().token("default", "web", 60).await.unwrap();
    // Root's alone, as a secret is.
    let token_file = mesh.dir().join("token");
    std::fs::write(&token_file, token).unwrap();
    space.sh(&format!("chmod 600 {}", token_file.display()));
    let state = mesh.dir().join("sidecar.state");
    let start = || {
        let mut command = Command::new(binaries::proxy());
        command.args(["--control-plane", &mesh.control_plane.xds().to_string(), "--service", "web", "--intercept"]);
        command.arg("--token-file").arg(&token_file).arg("--state-dir").arg(&state);
        Process::spawn("sidecar", &mut command, mesh.dir())
    };
    let mut sidecar = start();
    assert!(sidecar.first_line().await.starts_with("ready "));
    space.sh("leno-proxy intercept --check");
    let tasks = std::fs::read_dir(format!("/proc/{}/task", sidecar.pid())).unwrap();
    let tasks: Vec<String> = tasks.map(|task| task.unwrap().file_name().into_string().unwrap()).collect();
    assert!(tasks.len() >= 2, "{tasks:?}");
    let wanted = [
        ("Uid", "15008 15008 15008 15008"),
        ("Gid", "15008 15008 15008 15008"),
        ("Groups", ""),
        ("CapInh", "0000000000000000"),
        ("CapPrm", "0000000000000000"),
        ("CapEff", "0000000000000000"),
        ("CapBnd", "0000000000000000"),
        ("CapAmb", "0000000000000000"),
        ("NoNewPrivs", "1"),
    ];
    for task in tasks {
        let status = status(sidecar.pid(), &task);
        for (key, value) in wanted {
            let found = status.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str());
            assert_eq!(found, Some(value), "{key} of thread {task}");
        }
    }
    assert!(sidecar.terminate().await.success(), "{}", sidecar.tail());
    // The rules stay, so that nothing goes around the sidecar while it is away; it comes back with the same folder.
    space.sh("leno-proxy intercept --check");
    let mut again = start();
    assert!(again.first_line().await.starts_with("ready "));
    assert_eq!(space.connect(SIDECAR, "240.240.0.1:80").unwrap_err().kind(), ErrorKind::ConnectionRefused);
    assert!(again.terminate().await.success(), "{}", again.tail());
}

#[tokio::test(flavor = "multi_thread")]
async fn flags_that_cannot_be_right_are_refused_all_at_once_and_nothing_happens() {
    let output = Command::new(binaries::proxy())
        .args(["intercept", "--exclude-cidr", "10.0.0.1/8,x", "--exclude-user", "root", "--outbound-port", "15006"])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{text}");
    for word in ["--exclude-cidr", "10.0.0.0/8", "--exclude-user", "id -u", "15006 is the outbound port already"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    assert_eq!(text.lines().count(), 1);
    let both = Command::new(binaries::proxy()).args(["intercept", "--remove", "--check"]).output().unwrap();
    assert_eq!(both.status.code(), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_that_interception_takes_is_printed() {
    if !possible(&PROGRAMS) {
        return;
    }
    let dir = TempDir::new().unwrap();
    let pair = Pair::new(dir.path()).await;
    let start = Instant::now();
    pair.intercept(MANY);
    tools::note(&format!("FIGURE intercept: {} ms to make all rules", start.elapsed().as_millis()));
    assert_eq!(pair.outbound(APP, "10.77.0.2:5432"), Arrived::Direct);
    wait::until("rules", wait::DEADLINE, || {
        pair.app.output(&format!("leno-proxy intercept {MANY} --check")).status.success()
    })
    .await;
}
