//! Rules in the kernel's language: each is a list of expressions that load something into a register, compare it and go on
//! or not. Numbers are those of linux/netfilter/nf_tables.h. Only expressions are used that Linux 5.4 has.

use std::cmp::Ordering;
use std::net::IpAddr;

use super::netlink::{Attributes, Attrs};
use super::rules::{Match, Rule, Transport, Verdict};
use crate::settings::{Cidr, Interface};

/// The register of the verdict, NFT_REG_VERDICT.
const VERDICT: u32 = 0;
/// The register that everything is loaded into, NFT_REG_1: 16 bytes.
const REGISTER: u32 = 1;
/// NFT_RETURN, NFT_GOTO and NF_DROP.
const RETURN: i32 = -5;
const GOTO: i32 = -4;
const DROP: i32 = 0;
/// NF_NAT_RANGE_PROTO_SPECIFIED: the port is changed, too.
const WITH_PORT: u32 = 2;
/// NFTA_LIST_ELEM.
const LIST_ELEMENT: u16 = 1;

/// What NFT_META_… loads.
const META_IIFNAME: u32 = 6;
const META_OIFNAME: u32 = 7;
const META_SKUID: u32 = 10;
const META_NFPROTO: u32 = 15;
const META_L4PROTO: u32 = 16;

/// NFT_PAYLOAD_NETWORK_HEADER and NFT_PAYLOAD_TRANSPORT_HEADER.
const NETWORK: u32 = 1;
const TRANSPORT: u32 = 2;

/// NFT_CMP_EQ, NEQ, LTE and GTE.
const EQUAL: u32 = 0;
const UNEQUAL: u32 = 1;
const AT_MOST: u32 = 3;
const AT_LEAST: u32 = 5;

/// One expression. What the kernel may report and we never use is [`Expr::Other`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expr {
    /// Loads a property of the packet.
    Meta(u32),
    /// Loads `len` bytes at `offset` of a header.
    Payload { base: u32, offset: u32, len: u32 },
    /// Keeps only the bits of the mask.
    Mask(Vec<u8>),
    /// Goes on when the register compares so to the bytes.
    Compare { op: u32, data: Vec<u8> },
    /// Loads the type of the destination address.
    DestinationType,
    /// Loads bytes.
    Load(Vec<u8>),
    /// Ends with a verdict, and a chain for GOTO.
    End(i32, Option<String>),
    /// Redirects to the port in the register.
    Redirect,
    /// Answers with RST.
    Reset,
    /// Something that no rule of ours has, by its name.
    Other(String),
}

/// The expressions of a rule.
pub fn lower(rule: &Rule) -> Vec<Expr> {
    let mut expressions: Vec<Expr> = rule.matches.iter().flat_map(lower_match).collect();
    match &rule.verdict {
        Verdict::Return => expressions.push(Expr::End(RETURN, None)),
        Verdict::Goto(chain) => expressions.push(Expr::End(GOTO, Some(chain.clone()))),
        Verdict::Drop => expressions.push(Expr::End(DROP, None)),
        Verdict::Redirect(port) => {
            expressions.push(Expr::Load(port.to_be_bytes().to_vec()));
            expressions.push(Expr::Redirect);
        }
        Verdict::Reset => expressions.push(Expr::Reset),
    }
    expressions
}

fn equal(data: impl Into<Vec<u8>>) -> Expr {
    Expr::Compare { op: EQUAL, data: data.into() }
}

fn lower_match(one: &Match) -> Vec<Expr> {
    match one {
        Match::User(user) => vec![Expr::Meta(META_SKUID), equal(user.to_ne_bytes())],
        Match::Leaves(interface) => vec![Expr::Meta(META_OIFNAME), equal(name(interface))],
        Match::Comes(interface) => vec![Expr::Meta(META_IIFNAME), equal(name(interface))],
        // RTN_LOCAL.
        Match::NotLocal => {
            vec![Expr::DestinationType, Expr::Compare { op: UNEQUAL, data: 2u32.to_ne_bytes().to_vec() }]
        }
        Match::To(cidr) => destination(cidr),
        Match::Is(transport) => is(*transport),
        Match::Port(transport, ports) => {
            let mut expressions = is(*transport);
            expressions.push(Expr::Payload { base: TRANSPORT, offset: 2, len: 2 });
            let (first, last) = (ports.first.to_be_bytes().to_vec(), ports.last.to_be_bytes().to_vec());
            if first == last {
                expressions.push(equal(first));
            } else {
                expressions.push(Expr::Compare { op: AT_LEAST, data: first });
                expressions.push(Expr::Compare { op: AT_MOST, data: last });
            }
            expressions
        }
        Match::Begun => {
            let mut expressions = is(Transport::Tcp);
            // The flags of TCP, and ACK among them.
            expressions.push(Expr::Payload { base: TRANSPORT, offset: 13, len: 1 });
            expressions.push(Expr::Mask(vec![0x10]));
            expressions.push(Expr::Compare { op: UNEQUAL, data: vec![0] });
            expressions
        }
    }
}

fn is(transport: Transport) -> Vec<Expr> {
    let number = match transport {
        Transport::Tcp => 6,
        Transport::Udp => 17,
    };
    vec![Expr::Meta(META_L4PROTO), equal([number])]
}

/// A whole name is compared with the zeros after it, the beginning of one without.
fn name(interface: &Interface) -> Vec<u8> {
    let mut bytes = interface.name.as_bytes().to_vec();
    if !interface.prefix {
        bytes.resize(16, 0);
    }
    bytes
}

fn destination(cidr: &Cidr) -> Vec<Expr> {
    // NFPROTO_IPV4 or NFPROTO_IPV6; where the destination stands in the header, and its bytes.
    let (family, offset, bytes) = match cidr.address {
        IpAddr::V4(ip) => (2, 16, ip.octets().to_vec()),
        IpAddr::V6(ip) => (10, 24, ip.octets().to_vec()),
    };
    let mut expressions = vec![Expr::Meta(META_NFPROTO), equal([family])];
    if cidr.prefix == 0 {
        return expressions;
    }
    // Whole bytes are compared as they are. Else the whole address is masked: nft shows no other form as a network.
    let odd = cidr.prefix % 8;
    let count = if odd == 0 { usize::from(cidr.prefix / 8) } else { bytes.len() };
    let bytes: Vec<u8> = bytes.into_iter().take(count).collect();
    expressions.push(Expr::Payload { base: NETWORK, offset, len: u32::try_from(count).unwrap_or_default() });
    if odd != 0 {
        let full = usize::from(cidr.prefix / 8);
        let mask = (0..count).map(|n| match n.cmp(&full) {
            Ordering::Less => 0xff,
            Ordering::Equal => 0xff << (8 - odd),
            Ordering::Greater => 0,
        });
        expressions.push(Expr::Mask(mask.collect()));
    }
    expressions.push(equal(bytes));
    expressions
}

/// NFTA_DATA_VALUE.
fn value(data: &[u8]) -> Attributes {
    Attributes::default().bytes(1, data)
}

/// The list NFTA_RULE_EXPRESSIONS.
pub fn encode(expressions: &[Expr]) -> Attributes {
    expressions.iter().fold(Attributes::default(), |list, expression| {
        let (name, data) = encode_one(expression);
        list.nest(LIST_ELEMENT, &Attributes::default().text(1, name).nest(2, &data))
    })
}

fn encode_one(expression: &Expr) -> (&str, Attributes) {
    let empty = Attributes::default();
    match expression {
        Expr::Meta(key) => ("meta", empty.be32(1, REGISTER).be32(2, *key)),
        Expr::Payload { base, offset, len } => {
            ("payload", empty.be32(1, REGISTER).be32(2, *base).be32(3, *offset).be32(4, *len))
        }
        Expr::Mask(mask) => {
            let len = u32::try_from(mask.len()).unwrap_or(u32::MAX);
            let xor = value(&vec![0; mask.len()]);
            let data = empty.be32(1, REGISTER).be32(2, REGISTER).be32(3, len).nest(4, &value(mask)).nest(5, &xor);
            ("bitwise", data)
        }
        Expr::Compare { op, data } => ("cmp", empty.be32(1, REGISTER).be32(2, *op).nest(3, &value(data))),
        // NFT_FIB_RESULT_ADDRTYPE of NFTA_FIB_F_DADDR.
        Expr::DestinationType => ("fib", empty.be32(1, REGISTER).be32(2, 3).be32(3, 2)),
        Expr::Load(data) => ("immediate", empty.be32(1, REGISTER).nest(2, &value(data))),
        Expr::End(code, chain) => {
            let verdict = Attributes::default().be32(1, code.cast_unsigned());
            let verdict = chain.iter().fold(verdict, |verdict, chain| verdict.text(2, chain));
            ("immediate", empty.be32(1, VERDICT).nest(2, &Attributes::default().nest(2, &verdict)))
        }
        Expr::Redirect => ("redir", empty.be32(1, REGISTER).be32(2, REGISTER).be32(3, WITH_PORT)),
        // NFT_REJECT_TCP_RST.
        Expr::Reset => ("reject", empty.be32(1, 1).bytes(2, &[0])),
        Expr::Other(name) => (name, empty),
    }
}

/// The expressions in a list as the kernel reports it.
pub fn decode(list: Attrs<'_>) -> Vec<Expr> {
    let element = |(_, element)| {
        let element = Attrs(element);
        let name = element.text(1).unwrap_or_default();
        decode_one(&name, element.nested(2)).unwrap_or(Expr::Other(name))
    };
    list.iter().filter(|(kind, _)| *kind == LIST_ELEMENT).map(element).collect()
}

/// Nothing for what no rule of ours has.
fn decode_one(name: &str, data: Attrs<'_>) -> Option<Expr> {
    let number = |kind| data.be32(kind);
    let bytes = |kind| data.nested(kind).get(1).map(<[u8]>::to_vec);
    let ours = |kind| (number(kind) == Some(REGISTER)).then_some(());
    match name {
        "meta" => ours(1).and_then(|()| number(2)).map(Expr::Meta),
        "payload" => {
            ours(1)?;
            Some(Expr::Payload { base: number(2)?, offset: number(3)?, len: number(4)? })
        }
        "bitwise" => {
            ours(1).and(ours(2))?;
            // NFTA_BITWISE_OP: of its operations only the first, masking, is ours.
            let masking = number(6).is_none_or(|op| op == 0) && bytes(5)?.iter().all(|byte| *byte == 0);
            bytes(4).filter(|_| masking).map(Expr::Mask)
        }
        "cmp" => {
            ours(1)?;
            Some(Expr::Compare { op: number(2)?, data: bytes(3)? })
        }
        "fib" => (ours(1).is_some() && number(2) == Some(3) && number(3) == Some(2)).then_some(Expr::DestinationType),
        "immediate" if number(1) == Some(VERDICT) => {
            let verdict = data.nested(2).nested(2);
            Some(Expr::End(verdict.be32(1)?.cast_signed(), verdict.text(2)))
        }
        "immediate" => ours(1).and_then(|()| bytes(2)).map(Expr::Load),
        "redir" => ours(1).and(ours(2)).filter(|()| number(3) == Some(WITH_PORT)).map(|()| Expr::Redirect),
        "reject" => (number(1) == Some(1)).then_some(Expr::Reset),
        _ => None,
    }
}
