//! Our table in the kernel: replaced, removed and read in transactions of nf_tables. A transaction applies whole or not at
//! all, and packets see the table before it or the one after it.

use rustix::io::Errno;

use super::expr::{self, Expr};
use super::netlink::{ACK, APPEND, Attributes, Attrs, CREATE, Message, Refused, Socket};
use super::rules::{Base, Chain, Hook, Rule, TABLE, Table};

/// NFNL_SUBSYS_NFTABLES, the upper half of every message type here.
const NFTABLES: u16 = 10;
/// NFNL_MSG_BATCH_BEGIN and NFNL_MSG_BATCH_END, of no subsystem.
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;

const NEW_TABLE: u16 = NFTABLES << 8;
const GET_TABLE: u16 = NFTABLES << 8 | 1;
const DELETE_TABLE: u16 = NFTABLES << 8 | 2;
const NEW_CHAIN: u16 = NFTABLES << 8 | 3;
const GET_CHAIN: u16 = NFTABLES << 8 | 4;
const NEW_RULE: u16 = NFTABLES << 8 | 6;
const GET_RULE: u16 = NFTABLES << 8 | 7;

/// NFPROTO_INET: IPv4 and IPv6.
const INET: u8 = 1;
/// The length of struct nfgenmsg, before the attributes of every message.
const HEAD: usize = 4;
/// NFT_TABLE_F_DORMANT: the table is there and does nothing.
const DORMANT: u32 = 1;
/// NF_ACCEPT.
const ACCEPT: u32 = 1;

/// What the kernel was about when it refused, for [`super::failure`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Opening the socket, or the transaction as a whole.
    Whole,
    /// The table.
    Table,
    /// A chain.
    Chain,
    /// A rule that redirects, asks the routing table, or refuses.
    Redirect,
    /// See above.
    Fib,
    /// See above.
    Reject,
    /// Any other rule.
    Rule,
    /// A route.
    Route,
}

/// A step that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failed {
    /// The step.
    pub step: Step,
    /// What the kernel said.
    pub why: Errno,
}

/// A message and what it is about.
type Part = (Step, Message);

fn message(kind: u16, flags: u16) -> Message {
    Message::new(kind, flags, &[INET, 0, 0, 0])
}

fn batch(kind: u16) -> Part {
    // The subsystem stands in the head, in network byte order.
    let [high, low] = NFTABLES.to_be_bytes();
    (Step::Whole, Message::new(kind, 0, &[0, 0, high, low]))
}

fn table(kind: u16, flags: u16) -> Part {
    (Step::Table, message(kind, flags).with(&Attributes::default().text(1, TABLE)))
}

fn hook_number(hook: Hook) -> u32 {
    match hook {
        Hook::Prerouting => 0,
        Hook::Output => 3,
    }
}

fn new_chain(chain: &Chain) -> Part {
    let mut attributes = Attributes::default().text(1, TABLE).text(3, &chain.name);
    if let Some(base) = chain.base {
        let hook = Attributes::default().be32(1, hook_number(base.hook)).be32(2, base.priority.cast_unsigned());
        attributes = attributes.nest(4, &hook).be32(5, ACCEPT).text(7, base.kind);
    }
    (Step::Chain, message(NEW_CHAIN, CREATE).with(&attributes))
}

fn new_rule(chain: &str, rule: &Rule) -> Part {
    let expressions = expr::lower(rule);
    let step = if expressions.contains(&Expr::Redirect) {
        Step::Redirect
    } else if expressions.contains(&Expr::DestinationType) {
        Step::Fib
    } else if expressions.contains(&Expr::Reset) {
        Step::Reject
    } else {
        Step::Rule
    };
    let attributes = Attributes::default().text(1, TABLE).text(2, chain).nest(4, &expr::encode(&expressions));
    (step, message(NEW_RULE, CREATE | APPEND).with(&attributes))
}

/// The transaction that puts `wanted` in the place of whatever our table was.
fn replacement(wanted: &Table) -> Vec<Part> {
    let mut parts = vec![batch(BATCH_BEGIN)];
    // A table that is not there cannot be deleted, so it is made first. What is made again below is another one.
    parts.extend([table(NEW_TABLE, CREATE), table(DELETE_TABLE, 0), table(NEW_TABLE, CREATE)]);
    parts.extend(wanted.chains.iter().map(new_chain));
    for chain in &wanted.chains {
        parts.extend(chain.rules.iter().map(|rule| new_rule(&chain.name, rule)));
    }
    parts.push(batch(BATCH_END));
    parts
}

fn removal() -> Vec<Part> {
    vec![batch(BATCH_BEGIN), table(NEW_TABLE, CREATE), table(DELETE_TABLE, 0), batch(BATCH_END)]
}

/// A connection to nf_tables in the network namespace of this thread.
pub struct Nft(Socket);

/// A chain as the kernel reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundChain {
    /// The name.
    pub name: String,
    /// Type, hook and priority; none for a chain that only others lead to. A type or hook that we never use is described
    /// in words.
    pub base: Option<Result<Base, String>>,
    /// False when what no rule matches is dropped.
    pub accepts: bool,
    /// The rules.
    pub rules: Vec<Vec<Expr>>,
}

/// Our table as the kernel reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundTable {
    /// It does nothing at the moment.
    pub dormant: bool,
    /// Its chains, in their order.
    pub chains: Vec<FoundChain>,
}

impl Nft {
    /// Opens the connection.
    ///
    /// # Errors
    /// The kernel has no nf_tables.
    pub fn open() -> Result<Self, Failed> {
        let socket = Socket::open(Some(rustix::net::netlink::NETFILTER)).map_err(whole)?;
        Ok(Self(socket))
    }

    /// Puts `wanted` in force, in place of whatever our table was.
    ///
    /// # Errors
    /// What the kernel refused first; nothing has changed then.
    pub fn replace(&mut self, wanted: &Table) -> Result<(), Failed> {
        self.transact(replacement(wanted))
    }

    /// Takes our table away, if it is there.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn remove(&mut self) -> Result<(), Failed> {
        self.transact(removal())
    }

    fn transact(&mut self, mut parts: Vec<Part>) -> Result<(), Failed> {
        // The last one before the end of the batch: answers wait for the end, and more of them might not find room.
        let last = parts.len().saturating_sub(2);
        if let Some((_, message)) = parts.get_mut(last) {
            message.flag(ACK);
        }
        let (steps, messages): (Vec<Step>, Vec<Message>) = parts.into_iter().unzip();
        self.0.transact(&messages, last).map_err(|Refused { at, why }| {
            let step = at.and_then(|at| steps.get(at)).copied().unwrap_or(Step::Whole);
            Failed { step, why }
        })
    }

    /// Our table; none when it is not there.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(&mut self) -> Result<Option<FoundTable>, Failed> {
        let tables = self.dump(GET_TABLE, &Attributes::default())?;
        let Some(table) = tables.iter().find(|body| attributes(body).text(1).as_deref() == Some(TABLE)) else {
            return Ok(None);
        };
        let dormant = attributes(table).be32(2).is_some_and(|flags| flags & DORMANT != 0);
        let mut chains: Vec<FoundChain> = self
            .dump(GET_CHAIN, &Attributes::default())?
            .iter()
            .map(|body| attributes(body))
            .filter(|chain| chain.text(1).as_deref() == Some(TABLE))
            .map(found_chain)
            .collect();
        for body in self.dump(GET_RULE, &Attributes::default().text(1, TABLE))? {
            let rule = attributes(&body);
            // Older kernels do not filter.
            if rule.text(1).as_deref() == Some(TABLE)
                && let Some(chain) = chains.iter_mut().find(|chain| rule.text(2).as_ref() == Some(&chain.name))
            {
                chain.rules.push(expr::decode(rule.nested(4)));
            }
        }
        Ok(Some(FoundTable { dormant, chains }))
    }

    /// The messages of our family.
    fn dump(&mut self, kind: u16, filter: &Attributes) -> Result<Vec<Vec<u8>>, Failed> {
        let mut bodies = self.0.dump(message(kind, 0).with(filter)).map_err(whole)?;
        bodies.retain(|body| body.first() == Some(&INET));
        Ok(bodies)
    }
}

fn whole(why: Errno) -> Failed {
    Failed { step: Step::Whole, why }
}

fn attributes(body: &[u8]) -> Attrs<'_> {
    Attrs(body.get(HEAD..).unwrap_or_default())
}

fn found_chain(chain: Attrs<'_>) -> FoundChain {
    let hook = chain.nested(4);
    let base = hook.be32(1).map(|number| {
        let kind = chain.text(7).unwrap_or_default();
        let priority = hook.be32(2).unwrap_or_default().cast_signed();
        let hook = [Hook::Prerouting, Hook::Output].into_iter().find(|hook| hook_number(*hook) == number);
        let known = ["nat", "filter"].into_iter().find(|known| *known == kind);
        match (known, hook) {
            (Some(kind), Some(hook)) => Ok(Base { kind, hook, priority }),
            _ => Err(format!("type {kind} hook number {number} priority {priority}")),
        }
    });
    let accepts = chain.be32(5).is_none_or(|policy| policy == ACCEPT);
    FoundChain { name: chain.text(3).unwrap_or_default(), base, accepts, rules: Vec::new() }
}

#[cfg(test)]
mod tests;
