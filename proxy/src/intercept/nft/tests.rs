//! With the kernel itself, in network namespaces of their own.

use std::net::IpAddr;

use rustix::thread::UnshareFlags;

use super::*;
use crate::intercept::compare::differences;
use crate::settings::{Cidr, PortRange, Redirection, Selection};

/// Its successor is unsafe for the sake of UnshareFlags::FILES, which is not used here.
#[allow(deprecated)]
fn leave_network() -> rustix::io::Result<()> {
    rustix::thread::unshare(UnshareFlags::NEWNET)
}

/// Runs `test` on a thread with a network namespace of its own. Says so when that takes a right that is not there.
fn alone(test: impl FnOnce() + Send + 'static) {
    let run = move || match leave_network() {
        Ok(()) => test(),
        Err(why) => {
            assert!(std::env::var("LENO_NO_SKIP").as_deref() != Ok("1"), "no network namespace: {why}");
            eprintln!("SKIPPED: no network namespace can be made: {why}");
        }
    };
    std::thread::spawn(run).join().unwrap();
}

fn server() -> [IpAddr; 1] {
    ["127.0.0.11".parse().unwrap()]
}

fn assert_is(nft: &mut Nft, wanted: &Table) {
    let found = nft.read().unwrap();
    assert_eq!(differences(wanted, found.as_ref()), Vec::<String>::new());
}

/// As many entries everywhere as the command line takes.
fn largest() -> Redirection {
    let ports = |n: u16| (1..=64).map(|k| PortRange { first: n * 100 + k, last: n * 100 + k + 1 }).collect::<Vec<_>>();
    let cidrs =
        |n: u16| (0..64).map(|k| format!("2001:db8:{n:x}:{:x}::/63", k * 2).parse().unwrap()).collect::<Vec<Cidr>>();
    let interfaces = |n: u16| (0..64).map(|k| format!("interface{n}{k}").parse().unwrap()).collect::<Vec<_>>();
    Redirection {
        exclude_users: (1..=64).collect(),
        outbound_ports: Selection { include: ports(1), exclude: ports(2) },
        inbound_ports: Selection { include: ports(3), exclude: ports(4) },
        cidrs: Selection { include: cidrs(1), exclude: cidrs(2) },
        interfaces: Selection { include: interfaces(1), exclude: interfaces(2) },
        ..Redirection::default()
    }
}

#[test]
fn the_largest_table_is_put_in_force_read_back_replaced_and_removed() {
    alone(|| {
        let mut nft = Nft::open().unwrap();
        assert_eq!(nft.read().unwrap(), None);
        let largest = Table::new(&largest(), &["2001:db8::1".parse().unwrap(); 8]);
        nft.replace(&largest).unwrap();
        assert_is(&mut nft, &largest);
        let plain = Table::new(&Redirection::default(), &server());
        for _ in 0..2 {
            nft.replace(&plain).unwrap();
            assert_is(&mut nft, &plain);
        }
        for _ in 0..2 {
            nft.remove().unwrap();
            assert_eq!(nft.read().unwrap(), None);
        }
    });
}

#[test]
fn a_transaction_with_one_bad_message_changes_nothing() {
    alone(|| {
        let mut nft = Nft::open().unwrap();
        let old = Table::new(&Redirection::default(), &server());
        nft.replace(&old).unwrap();
        let new = Table::new(&Redirection { outbound_port: 4, ..Redirection::default() }, &server());
        for wrong in ["no such chain", "no such expression"] {
            let mut parts = replacement(&new);
            let bad = match wrong {
                "no such chain" => new_rule("nowhere", &new.chains[0].rules[0]),
                _ => {
                    let expressions = expr::encode(&[Expr::Other("leno_unknown".into())]);
                    let rule = Attributes::default().text(1, TABLE).text(2, "output").nest(4, &expressions);
                    (Step::Rule, message(NEW_RULE, CREATE | APPEND).with(&rule))
                }
            };
            let end = parts.len() - 1;
            parts.insert(end, bad);
            let failed = nft.transact(parts).unwrap_err();
            assert_eq!(failed.why, Errno::NOENT, "{wrong}");
            assert_is(&mut nft, &old);
        }
        // The socket is good for more after a refusal.
        nft.replace(&new).unwrap();
        assert_is(&mut nft, &new);
    });
}
