use clap::Parser;

use super::*;

fn settings(extra: &[&str]) -> Result<Settings, Problems> {
    let base = ["leno-proxy", "--control-plane", "127.0.0.1:15010", "--service", "web", "--state-dir", "/tmp/none"];
    Settings::try_from(Args::try_parse_from(base.iter().chain(extra)).unwrap())
}

#[test]
fn defaults_are_those_of_the_contract() {
    let s = settings(&[]).unwrap();
    assert_eq!((s.namespace.as_str(), s.service_account.as_str()), ("default", "web"));
    assert_eq!(s.labels, [("app".to_owned(), "web".to_owned())].into());
    assert_eq!(s.mesh_addr, ":15008");
    assert_eq!(s.http_proxy_addr, "127.0.0.1:15001");
    assert_eq!(s.admin_addr, "127.0.0.1:15000");
    assert_eq!((s.health_addr.as_str(), s.probes), (":15020", None));
    assert_eq!((s.workers, s.drain_timeout, s.join_timeout), (1, Duration::from_secs(30), Duration::from_secs(10)));
}

#[test]
fn ports_upstreams_and_labels_are_read() {
    let s = settings(&[
        "--port",
        "http=127.0.0.1:8080",
        "--port",
        "8081=[::1]:8081",
        "--upstream",
        "Web.default:80=127.0.0.1:0",
        "--upstream",
        "10.0.0.1:80=[::1]:0",
        "--label",
        "version=v1",
        "--label",
        "app=other",
    ])
    .unwrap();
    assert_eq!(s.ports[0], PortSpec { name: "http".into(), host: "127.0.0.1".into(), port: 8080 });
    assert_eq!(s.ports[1], PortSpec { name: "8081".into(), host: "::1".into(), port: 8081 });
    assert_eq!(s.upstreams[0].asked(), "web.default:80");
    assert_eq!(s.upstreams[1].listen, "[::1]:0");
    assert_eq!(s.labels.get("app").map(String::as_str), Some("other"));
}

#[test]
fn all_problems_are_told_at_once() {
    let problems = settings(&[
        "--namespace",
        "Bad_Name",
        "--port",
        "http",
        "--upstream",
        "web=1",
        "--label",
        "x",
        "--mesh-addr",
        "nonsense",
        "--drain-timeout",
        "soon",
        "--workers",
        "0",
        "--advertise-addr",
        "0.0.0.0",
        "--output",
        "xml",
        "--probes",
        "{",
        "--health-addr",
        "everywhere",
    ])
    .unwrap_err()
    .to_string();
    let flags = [
        "--namespace",
        "--port",
        "--upstream",
        "--label",
        "--mesh-addr",
        "--drain-timeout",
        "--workers",
        "--advertise-addr",
        "--output",
        "--probes",
        "--health-addr",
    ];
    for flag in flags {
        assert!(problems.contains(&format!("{flag}: ")), "{flag} in {problems}");
    }
}

#[test]
fn a_port_without_authentication_is_only_opened_on_loopback() {
    for flag in ["--http-proxy-addr", "--admin-addr"] {
        for addr in ["0.0.0.0:1", ":1", "10.0.0.1:1"] {
            let problems = settings(&[flag, addr]).unwrap_err().to_string();
            assert!(problems.contains(flag) && problems.contains("open to other machines"), "{problems}");
        }
    }
    assert!(settings(&["--upstream", "web:80=:8080"]).is_err());
    assert_eq!(settings(&["--admin-addr", "localhost:0"]).unwrap().admin_addr, "127.0.0.1:0");
}

#[test]
fn a_gateway_and_its_places_are_read() {
    assert_eq!(settings(&[]).unwrap().gateway, None);
    let flags = ["--gateway", "edge.public", "--gateway-listen", "80=127.0.0.1:0", "--gateway-listen", "443=:8443"];
    let gateway = settings(&flags).unwrap().gateway.unwrap();
    assert_eq!(gateway.name, "edge.public");
    assert_eq!(gateway.listen, [(80, "127.0.0.1:0".to_owned()), (443, ":8443".to_owned())].into());
    for (flags, words) in [
        (&["--gateway-listen", "80=:80"][..], "--gateway"),
        (&["--gateway", "Edge"], "no name of a Gateway"),
        (&["--gateway", "edge", "--gateway-listen", ":80"], "no PORT=ADDR"),
        (&["--gateway", "edge", "--gateway-listen", "0=:80"], "no PORT=ADDR"),
        (&["--gateway", "edge", "--gateway-listen", "80=:1", "--gateway-listen", "80=:2"], "given twice"),
        (&["--gateway", "edge", "--transparent"], "no app whose traffic"),
    ] {
        let problems = settings(flags).unwrap_err().to_string();
        assert!(problems.contains(words), "{flags:?}: {problems}");
    }
}

#[test]
fn a_token_and_a_token_file_exclude_each_other() {
    let base = ["leno-proxy", "--control-plane", "x:1", "--service", "web", "--state-dir", "s"];
    assert!(Args::try_parse_from(base.iter().chain(&["--token", "t", "--token-file", "f"])).is_err());
    let s = settings(&["--token", "leno1.secret"]).unwrap();
    assert!(!format!("{s:?}").contains("secret"));
}

#[test]
fn more_labels_than_can_be_registered_are_refused() {
    let labels: Vec<String> = (0..64).map(|n| format!("--label=l{n}=v")).collect();
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    assert!(settings(&labels[..63]).is_ok());
    assert!(settings(&labels).is_err());
}

#[test]
fn durations_are_those_of_the_gateway_api() {
    assert_eq!(parse_duration("1m30s"), Ok(Duration::from_secs(90)));
    assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
    for wrong in ["", "5", "s", "-1s", "1d", "1.5s", "123456s"] {
        assert!(parse_duration(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_workload_keeps_its_name_over_restarts_and_two_folders_differ() {
    let s = settings(&[]).unwrap();
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let name = |dir: &tempfile::TempDir| StateDir::open(dir.path()).unwrap().workload_name(&s).unwrap();
    let first = name(&a);
    assert!(first.starts_with("web-") && first.len() == 12, "{first}");
    assert_eq!(name(&a), first);
    assert_ne!(name(&b), first);
}

#[test]
fn a_state_folder_in_use_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let held = StateDir::open(dir.path()).unwrap();
    let failure = StateDir::open(dir.path()).unwrap_err().to_string();
    assert!(failure.contains("in use by another leno-proxy"), "{failure}");
    drop(held);
    assert!(StateDir::open(dir.path()).is_ok());
}

#[test]
fn explicit_use_stays_the_default_and_interception_takes_its_ports_from_the_listeners() {
    let s = settings(&[]).unwrap();
    assert_eq!((s.interception, s.exit_with_app), (None, false));
    assert_eq!(
        (s.inbound_addr.as_str(), s.dns_addr.as_str(), s.health_addr.as_str()),
        (":15006", "127.0.0.1:15053", ":15020")
    );
    let there = settings(&["--transparent"]).unwrap().interception.unwrap();
    assert_eq!(there, Interception { apply: false, redirection: Redirection::default() });
    let flags = ["--intercept", "--inbound-addr", ":1006", "--dns-addr", "[::1]:1053", "--mesh-addr", "127.0.0.1:1008"];
    let more = ["--exclude-cidr", "10.0.0.0/8,fd00::/8", "--exclude-cidr", "192.0.2.1", "--sidecar-uid", "7"];
    let made = settings(&[&flags[..], &more].concat()).unwrap().interception.unwrap();
    let r = made.redirection;
    assert!(made.apply);
    assert_eq!((r.outbound_port, r.inbound_port, r.mesh_port, r.dns_port), (15001, 1006, 1008, Some(1053)));
    assert_eq!((r.cidrs.exclude.len(), r.uid, r.gid), (3, 7, 7));
    let quiet = settings(&["--transparent", "--no-dns"]).unwrap().interception.unwrap();
    assert_eq!(quiet.redirection.dns_port, None);
}

#[test]
fn interception_that_cannot_be_is_refused_with_what_to_do() {
    for (flags, words) in [
        (&["--intercept", "--mesh-addr", ":0"][..], "the mesh port: 0 is no port that rules can lead to"),
        (&["--intercept", "--inbound-addr", ":15001"], "15001 is the outbound port already"),
        (&["--intercept", "--exclude-user", "root"], "`id -u NAME`"),
        (&["--exclude-outbound-ports", "80"], "`leno-proxy intercept`"),
        (&["--transparent", "--exclude-outbound-ports", "80"], "`leno-proxy intercept`"),
        (&["--transparent", "--dns-addr", ":15053"], "--dns-addr"),
        (&["--intercept", "--sidecar-uid", "0"], "--sidecar-uid"),
    ] {
        let problems = settings(flags).unwrap_err().to_string();
        assert!(problems.contains(words), "{flags:?}: {problems}");
    }
    // Port zero is well where others make the rules.
    assert!(settings(&["--transparent", "--mesh-addr", ":0"]).is_ok());
    let both =
        ["leno-proxy", "--transparent", "--intercept", "--control-plane", "a:1", "--service", "a", "--state-dir", "a"];
    assert!(Args::try_parse_from(both).is_err());
}

#[test]
fn subcommands_take_none_of_the_sidecars_flags() {
    let parse = |line: &[&str]| Cli::try_parse_from([&["leno-proxy"], line].concat());
    assert!(matches!(parse(&["intercept", "--check", "--no-dns"]), Ok(Cli::Intercept(args)) if args.check));
    assert!(matches!(parse(&["wait", "--timeout", "0s"]), Ok(Cli::Wait(args)) if args.timeout == "0s"));
    assert!(matches!(parse(&["hold"]), Ok(Cli::Hold(args)) if !args.until_apps_end));
    let serve = ["--control-plane", "127.0.0.1:1", "--service", "web", "--state-dir", "s"];
    assert!(matches!(parse(&serve), Ok(Cli::Serve(_))));
    assert!(parse(&[&serve[..], &["hold"]].concat()).is_err());
    assert!(parse(&[]).is_err());
    assert!(parse(&["intercept", "--control-plane", "127.0.0.1:1"]).is_err());
}

#[test]
fn a_connection_may_be_any_age_or_a_second_at_least() {
    let age = |text| settings(&["--max-connection-age", text]).map(|settings| settings.max_connection_age);
    assert_eq!(settings(&[]).unwrap().max_connection_age, Some(Duration::from_secs(3600)));
    assert_eq!(age("0s").unwrap(), None);
    assert_eq!(age("1s").unwrap(), Some(Duration::from_secs(1)));
    assert!(age("999ms").unwrap_err().to_string().contains("--max-connection-age"));
}
