//! The wanted table as pure data: chains of rules, made of what is to be redirected. What each rule is for stands here and
//! nowhere else; [`super::expr`] makes the kernel's language of it and [`super::text`] that of people.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::settings::{Cidr, Interface, PortRange, Redirection};

/// Virtual IPv4 addresses of mesh services.
pub const VIRTUAL_V4: Cidr = Cidr { address: IpAddr::V4(Ipv4Addr::new(240, 240, 0, 0)), prefix: 16 };
/// Virtual IPv6 addresses of mesh services.
pub const VIRTUAL_V6: Cidr =
    Cidr { address: IpAddr::V6(Ipv6Addr::new(0xfd6c, 0x656e, 0x6f00, 0, 0, 0, 0, 0)), prefix: 48 };
/// IPv6 link-local addresses.
const LINK_LOCAL: Cidr = Cidr { address: IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0)), prefix: 10 };

/// The name of our table, of the family `inet`: for IPv4 and IPv6 together.
pub const TABLE: &str = "leno";

/// Before Docker's own redirection of DNS (-100), after connection tracking (-200) and mangling (-150).
const OUTBOUND_PRIORITY: i32 = -120;
/// After others' redirections of ports (-100): a port that Docker or the host's owner leads somewhere else goes there.
const INBOUND_PRIORITY: i32 = -80;
/// After the host's firewall (0), which may have its own opinion first.
const REFUSE_PRIORITY: i32 = 20;

/// Transport protocols.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// One condition of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Match {
    /// The socket's user.
    User(u32),
    /// The interface it leaves by.
    Leaves(Interface),
    /// The interface it came by.
    Comes(Interface),
    /// The destination is no address of this namespace.
    NotLocal,
    /// The destination.
    To(Cidr),
    /// The transport protocol.
    Is(Transport),
    /// The destination port.
    Port(Transport, PortRange),
    /// The connection has begun already: every TCP packet but a connection's first has ACK set.
    Begun,
}

/// What happens to what a rule matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on as if this chain were not there.
    Return,
    /// Another chain decides.
    Goto(String),
    /// It goes to this port of the sidecar.
    Redirect(u16),
    /// The connection is refused.
    Reset,
    /// It is not sent; the sender's system call fails.
    Drop,
}

/// Conditions, all of which must hold, and what happens then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The conditions.
    pub matches: Vec<Match>,
    /// What happens.
    pub verdict: Verdict,
}

/// Where packets enter a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// What arrives.
    Prerouting,
    /// What local processes send.
    Output,
}

/// What makes a chain one that packets come to by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Base {
    /// `nat`, which changes destinations, or `filter`.
    pub kind: &'static str,
    /// Where.
    pub hook: Hook,
    /// In which order with other chains there.
    pub priority: i32,
}

/// Rules in their order. What no rule matches is accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// The name.
    pub name: String,
    /// None for a chain that only others lead to.
    pub base: Option<Base>,
    /// The rules.
    pub rules: Vec<Rule>,
}

/// The whole table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// A chain stands after those that it leads to.
    pub chains: Vec<Chain>,
}

fn rule(matches: impl IntoIterator<Item = Match>, verdict: Verdict) -> Rule {
    Rule { matches: matches.into_iter().collect(), verdict }
}

fn tcp_port(port: u16) -> Match {
    Match::Port(Transport::Tcp, PortRange { first: port, last: port })
}

fn loopback() -> Interface {
    Interface { name: "lo".to_owned(), prefix: false }
}

impl Table {
    /// The table for `wanted`, with the nameservers that programs here ask.
    pub fn new(wanted: &Redirection, nameservers: &[IpAddr]) -> Self {
        let mut chains = Vec::new();
        let outbound = outbound(wanted, nameservers, &mut chains);
        let inbound = inbound(wanted, &mut chains);
        let base = |kind, hook, priority| Some(Base { kind, hook, priority });
        let chain = |name: &str, base, rules| Chain { name: name.to_owned(), base, rules };
        chains.push(chain("output", base("nat", Hook::Output, OUTBOUND_PRIORITY), outbound));
        chains.push(chain("prerouting", base("nat", Hook::Prerouting, INBOUND_PRIORITY), inbound));
        chains.push(chain("refuse", base("filter", Hook::Output, REFUSE_PRIORITY), refuse()));
        Self { chains }
    }
}

/// What the app sends.
fn outbound(wanted: &Redirection, nameservers: &[IpAddr], chains: &mut Vec<Chain>) -> Vec<Rule> {
    let capture = Verdict::Redirect(wanted.outbound_port);
    // The sidecar's own, which else would come back to it for ever.
    let mut rules = vec![rule([Match::User(wanted.uid)], Verdict::Return)];
    rules.extend(wanted.exclude_users.iter().map(|user| rule([Match::User(*user)], Verdict::Return)));
    // Connections from before these rules: where nothing tracked connections until now, their next packet counts as a new
    // connection, and leading that to the sidecar would break them.
    rules.push(rule([Match::Begun], Verdict::Return));
    // Before loopback is left alone: a nameserver may be there, such as Docker's 127.0.0.11.
    if let Some(port) = wanted.dns_port {
        let dns = PortRange { first: 53, last: 53 };
        for server in nameservers.iter().map(|server| Match::To(Cidr::host(*server))) {
            for transport in [Transport::Udp, Transport::Tcp] {
                rules.push(rule([server.clone(), Match::Port(transport, dns)], Verdict::Redirect(port)));
            }
        }
    }
    // Nothing but the sidecar can answer there, so no choice of ports, networks or interfaces counts.
    for services in [VIRTUAL_V4, VIRTUAL_V6] {
        rules.push(rule([Match::To(services), Match::Is(Transport::Tcp)], capture.clone()));
    }
    // Loopback, and every address of the namespace itself: what is sent there leaves by lo, too.
    rules.push(rule([Match::Leaves(loopback())], Verdict::Return));
    // They mean something only together with an interface, which a redirected connection does not tell any more.
    rules.push(rule([Match::To(LINK_LOCAL)], Verdict::Return));
    let excluded = (wanted.interfaces.exclude.iter().cloned().map(Match::Leaves))
        .chain(wanted.cidrs.exclude.iter().copied().map(Match::To))
        .chain(wanted.outbound_ports.exclude.iter().map(|ports| Match::Port(Transport::Tcp, *ports)));
    rules.extend(excluded.map(|what| rule([what], Verdict::Return)));
    let included = [
        ("interfaces", wanted.interfaces.include.iter().cloned().map(Match::Leaves).collect()),
        ("networks", wanted.cidrs.include.iter().copied().map(Match::To).collect()),
        ("ports", wanted.outbound_ports.include.iter().map(|ports| Match::Port(Transport::Tcp, *ports)).collect()),
    ];
    rules.extend(only("outbound", included, capture, chains));
    rules
}

/// What others send to the app.
fn inbound(wanted: &Redirection, chains: &mut Vec<Chain>) -> Vec<Rule> {
    let capture = Verdict::Redirect(wanted.inbound_port);
    let mut rules = vec![
        // What was sent here by ourselves has been looked at on its way out.
        rule([Match::Comes(loopback())], Verdict::Return),
        // What is only forwarded, as a host does it for its containers, is not for the app.
        rule([Match::NotLocal], Verdict::Return),
        rule([Match::Begun], Verdict::Return),
    ];
    // From outside our own ports are no way in, whatever is excluded: the sidecar sees where they were meant to go, and
    // refuses them.
    for port in [Some(wanted.outbound_port), wanted.dns_port].into_iter().flatten() {
        rules.push(rule([tcp_port(port)], capture.clone()));
    }
    for port in [wanted.mesh_port, wanted.health_port] {
        rules.push(rule([tcp_port(port)], Verdict::Return));
    }
    let excluded = (wanted.interfaces.exclude.iter().cloned().map(Match::Comes))
        .chain(wanted.inbound_ports.exclude.iter().map(|ports| Match::Port(Transport::Tcp, *ports)));
    rules.extend(excluded.map(|what| rule([what], Verdict::Return)));
    let included = [
        ("interfaces", wanted.interfaces.include.iter().cloned().map(Match::Comes).collect()),
        ("ports", wanted.inbound_ports.include.iter().map(|ports| Match::Port(Transport::Tcp, *ports)).collect()),
    ];
    rules.extend(only("inbound", included, capture, chains));
    rules
}

/// What still goes to a virtual address, because it is no TCP or of a user that is left alone, finds nobody there: that is
/// said at once, instead of by a timeout.
fn refuse() -> Vec<Rule> {
    let services = [VIRTUAL_V4, VIRTUAL_V6];
    let reset = services.map(|to| rule([Match::To(to), Match::Is(Transport::Tcp)], Verdict::Reset));
    let drop = services.map(|to| rule([Match::To(to)], Verdict::Drop));
    reset.into_iter().chain(drop).collect()
}

/// The last rules of a direction: `capture` for what is of every list that is not empty. Each list leads to a chain with
/// the next one, so their number adds up instead of multiplying.
fn only<const N: usize>(
    direction: &str,
    included: [(&str, Vec<Match>); N],
    capture: Verdict,
    chains: &mut Vec<Chain>,
) -> Vec<Rule> {
    let mut last: Option<(String, Vec<Rule>)> = None;
    for (what, list) in included.into_iter().rev().filter(|(_, list)| !list.is_empty()) {
        let verdict = match last.take() {
            Some((name, rules)) => {
                chains.push(Chain { name: name.clone(), base: None, rules });
                Verdict::Goto(name)
            }
            None => capture.clone(),
        };
        let tcp = |one: Match| match one {
            Match::Port(..) => vec![one],
            // Where a redirection follows, the protocol must be known.
            other if verdict == capture => vec![other, Match::Is(Transport::Tcp)],
            other => vec![other],
        };
        let rules = list.into_iter().map(|one| rule(tcp(one), verdict.clone())).collect();
        last = Some((format!("{direction}_{what}"), rules));
    }
    last.map_or_else(|| vec![rule([Match::Is(Transport::Tcp)], capture)], |(_, rules)| rules)
}
