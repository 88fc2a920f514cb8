use std::net::IpAddr;

use super::compare::differences;
use super::expr::{self, Expr};
use super::netlink::Attrs;
use super::nft::{FoundChain, FoundTable};
use super::rules::Table;
use crate::settings::{Redirection, Selection};

fn list<T: std::str::FromStr<Err = String>>(items: &[&str]) -> Vec<T> {
    items.iter().map(|item| item.parse().unwrap()).collect()
}

fn only<T: std::str::FromStr<Err = String>>(include: &[&str], exclude: &[&str]) -> Selection<T> {
    Selection { include: list(include), exclude: list(exclude) }
}

/// A redirection that says something about everything.
fn everything() -> Redirection {
    Redirection {
        exclude_users: vec![0, 77],
        outbound_ports: only(&["80", "8000-8999"], &["5432", "1-20"]),
        cidrs: only(&["10.0.0.0/8", "0.0.0.0/0", "2001:db8::/33"], &["192.0.2.7", "fd00::/8", "172.16.0.0/12"]),
        interfaces: only(&["eth*", "eth0"], &["docker0"]),
        inbound_ports: only(&["8080"], &["9100-9200"]),
        ..Redirection::default()
    }
}

fn servers() -> Vec<IpAddr> {
    ["127.0.0.11", "2001:db8::53"].map(|ip| ip.parse().unwrap()).to_vec()
}

/// The table as the kernel would report it, through the encoding and back.
fn found(table: &Table) -> FoundTable {
    let rules = |chain: &super::rules::Chain| {
        chain.rules.iter().map(|rule| expr::decode(Attrs(expr::encode(&expr::lower(rule)).encoded()))).collect()
    };
    let chains = table.chains.iter().map(|chain| FoundChain {
        name: chain.name.clone(),
        base: chain.base.map(Ok),
        accepts: true,
        rules: rules(chain),
    });
    FoundTable { dormant: false, chains: chains.collect() }
}

#[test]
fn the_default_rules_are_these() {
    let text = Table::new(&Redirection::default(), &servers()[..1]).to_string();
    let expected = "\
table inet leno {
	chain output {
		type nat hook output priority -120; policy accept;
		meta skuid 15008 return
		tcp flags ack return
		ip daddr 127.0.0.11 udp dport 53 redirect to :15053
		ip daddr 127.0.0.11 tcp dport 53 redirect to :15053
		ip daddr 240.240.0.0/16 meta l4proto tcp redirect to :15001
		ip6 daddr fd6c:656e:6f00::/48 meta l4proto tcp redirect to :15001
		oifname \"lo\" return
		ip6 daddr fe80::/10 return
		meta l4proto tcp redirect to :15001
	}

	chain prerouting {
		type nat hook prerouting priority -80; policy accept;
		iifname \"lo\" return
		fib daddr type != local return
		tcp flags ack return
		tcp dport 15001 redirect to :15006
		tcp dport 15053 redirect to :15006
		tcp dport 15008 return
		tcp dport 15020 return
		meta l4proto tcp redirect to :15006
	}

	chain refuse {
		type filter hook output priority 20; policy accept;
		ip daddr 240.240.0.0/16 meta l4proto tcp reject with tcp reset
		ip6 daddr fd6c:656e:6f00::/48 meta l4proto tcp reject with tcp reset
		ip daddr 240.240.0.0/16 drop
		ip6 daddr fd6c:656e:6f00::/48 drop
	}
}
";
    assert_eq!(text, expected);
}

#[test]
fn what_is_included_must_be_of_every_list() {
    let text = Table::new(&everything(), &[]).to_string();
    for part in [
        "chain outbound_ports {\n\t\ttcp dport 80 redirect to :15001\n\t\ttcp dport 8000-8999 redirect to :15001\n\t}",
        "chain outbound_networks {\n\t\tip daddr 10.0.0.0/8 goto outbound_ports\n\t\tmeta nfproto ipv4 goto outbound_ports\n",
        "\t\toifname \"docker0\" return\n\t\tip daddr 192.0.2.7 return\n\t\tip6 daddr fd00::/8 return\n",
        "\t\toifname \"eth*\" goto outbound_networks\n\t\toifname \"eth0\" goto outbound_networks\n\t}",
        "\t\tiifname \"eth*\" goto inbound_ports\n",
        "chain inbound_ports {\n\t\ttcp dport 8080 redirect to :15006\n\t}",
    ] {
        assert!(text.contains(part), "{part}\n---\n{text}");
    }
    let networks = Redirection { cidrs: only(&["10.0.0.0/8"], &[]), ..Redirection::default() };
    let text = Table::new(&networks, &[]).to_string();
    assert!(text.contains("\t\tip daddr 10.0.0.0/8 meta l4proto tcp redirect to :15001\n\t}"), "{text}");
}

#[test]
fn without_dns_no_rule_is_about_it() {
    let wanted = Redirection { dns_port: None, ..Redirection::default() };
    let text = Table::new(&wanted, &servers()).to_string();
    assert!(!text.contains("dport 53 ") && !text.contains("15053"), "{text}");
}

#[test]
fn every_rule_comes_back_from_the_kernels_language() {
    for wanted in [Redirection::default(), everything()] {
        let table = Table::new(&wanted, &servers());
        assert_eq!(differences(&table, Some(&found(&table))), Vec::<String>::new());
    }
}

#[test]
fn each_difference_is_named() {
    let table = Table::new(&Redirection::default(), &servers());
    assert_eq!(differences(&table, None), ["the table inet leno is missing"]);
    let with = |change: fn(&mut FoundTable)| {
        let mut other = found(&table);
        change(&mut other);
        differences(&table, Some(&other)).join("\n")
    };
    assert!(with(|table| table.dormant = true).contains("dormant"));
    let gone = with(|table| {
        table.chains[0].rules.remove(0);
    });
    assert_eq!(gone, "the chain output lacks the rule `meta skuid 15008 return`");
    let more = with(|table| table.chains[1].rules.insert(2, vec![Expr::Other("log".into())]));
    assert_eq!(more, "the chain prerouting has a rule that was not asked for, its number 3");
    let twice = with(|table| {
        let rule = table.chains[1].rules[0].clone();
        table.chains[1].rules.push(rule);
    });
    assert!(twice.contains("number 9"), "{twice}");
    assert!(with(|table| table.chains[0].rules.swap(0, 1)).contains("another order"));
    assert!(with(|table| table.chains[0].name = "x".into()).contains("chain output is missing"));
    assert!(with(|table| table.chains[0].base = None).contains("attached nowhere instead of `type nat hook output"));
    assert!(with(|table| table.chains[2].accepts = false).contains("drops what no rule matches"));
    let elsewhere = with(|table| table.chains[0].base = Some(Err("type route hook number 3 priority 0".into())));
    assert!(elsewhere.contains("type route"), "{elsewhere}");
}

#[test]
fn expressions_that_are_not_ours_are_told_from_ours() {
    use super::netlink::Attributes;
    let element = |name: &str, data: &Attributes| {
        Attributes::default().nest(1, &Attributes::default().text(1, name).nest(2, data))
    };
    let empty = Attributes::default();
    // Another register, another operation, and something unknown.
    for (name, data) in [
        ("meta", empty.clone().be32(1, 2).be32(2, 10)),
        ("redir", empty.clone().be32(1, 1).be32(2, 1).be32(3, 6)),
        ("bitwise", empty.clone().be32(1, 1).be32(2, 1).be32(6, 1)),
        ("reject", empty.clone().be32(1, 0)),
        ("counter", empty.clone()),
        ("cmp", empty),
    ] {
        assert_eq!(expr::decode(Attrs(element(name, &data).encoded())), [Expr::Other(name.to_owned())]);
    }
}
