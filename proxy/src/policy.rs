//! Who may call the local app: which rules matter for a caller, and what they decide of a request (docs/authorization.md).
//!
//! What could be read in two ways is taken so that nobody gets in by it. A DENY compares *broadly* (any case, any of several
//! values), an ALLOW *narrowly* (as written, every value), and an exception (`not…`) the other way round.
//!
//! A condition on what a token says is looked at last, and only where all else of its entry matches: only then is a signature verified.

mod claims;
mod index;
pub mod pattern;
mod reading;
#[cfg(test)]
mod tests;
mod tokens;

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;

use http::{HeaderMap, Method};

use self::index::Indexed;
use crate::model::{
    Among, AuthorizationAction, AuthorizationPolicy, AuthorizationRule, CallerMatch, HeaderCondition, JwtProvider,
    Pattern, RequestMatch, is_foreign,
};

pub use claims::{GivenClaims, NoTokens, Shown, Tokens};
pub use tokens::{RequestTokens, TokenCache};

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Of the app.
    pub port: u16,
    /// None: an opaque connection, or bytes that nobody has read.
    pub http: Option<AskedHttp<'a>>,
}

/// A request's head.
#[derive(Debug, Clone, Copy)]
pub struct AskedHttp<'a> {
    /// Its method.
    pub method: &'a Method,
    /// As it came, without the query.
    pub path: &'a str,
    /// As it came, with its port if it has one; None: it names none.
    pub host: Option<&'a str>,
    /// Its fields.
    pub headers: &'a HeaderMap,
    /// What it shows of its user.
    pub tokens: &'a dyn Tokens,
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision<'a> {
    /// It may pass: an ALLOW's rule matches it, or there is no ALLOW.
    Allowed(Option<&'a AuthorizationRule>),
    /// A DENY's rule matches it.
    DeniedBy(&'a AuthorizationRule),
    /// There are ALLOWs, and none matches it.
    NotAllowed,
    /// Rules look at paths, and this one can be read in two ways.
    UnclearPath,
    /// What decides depends on a token, and the request's is not to be believed.
    BadToken,
}

/// The rules that hold for a workload, or for one caller of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    deny: Indexed,
    /// None: no ALLOW holds, so everything is allowed that is not denied.
    allow: Option<Indexed>,
    audit: Vec<Arc<AuthorizationRule>>,
    looks_at_paths: bool,
    looks_at_claims: bool,
    /// All issuers that some rule for the workload looks at, by name.
    providers: Arc<[Arc<JwtProvider>]>,
}

impl Rules {
    /// Of all policies those for a workload with these labels.
    pub fn of(policies: &[AuthorizationPolicy], labels: &BTreeMap<String, String>) -> Self {
        let (mut deny, mut allow, mut audit) = (Vec::new(), None, Vec::new());
        for policy in policies.iter().filter(|policy| policy.is_for(labels)) {
            let into = match policy.action {
                AuthorizationAction::Allow => allow.get_or_insert_default(),
                AuthorizationAction::Deny => &mut deny,
                AuthorizationAction::Audit => &mut audit,
            };
            into.extend(policy.rules.iter().cloned());
        }
        let (deny, allow) = (Indexed::new(deny), allow.map(Indexed::new));
        let mut rules = Self { deny, allow, audit, ..Self::default() };
        let mut providers: Vec<Arc<JwtProvider>> = rules.all().flat_map(|rule| rule.providers()).cloned().collect();
        providers.sort_by(|one, other| one.name.cmp(&other.name));
        providers.dedup();
        rules.providers = providers.into();
        rules.counted()
    }

    /// Those that can match what this caller asks for; None: one that proved no identity. A connection has one caller, so this is
    /// asked once for all of its requests. A caller of another trust domain than ours is let in by an ALLOW that names it,
    /// and by no other: what was written for all of a mesh was not written for its neighbours.
    pub fn for_caller(&self, caller: Option<&str>, trust_domain: &str) -> Self {
        let foreign = caller.is_some_and(|id| is_foreign(id, trust_domain));
        let is_of = |rule: &AuthorizationRule, broad: bool| {
            if foreign && !broad {
                return rule.from.iter().any(|from| !from.all_of.is_empty() && is_caller(from, caller, broad));
            }
            rule.from.is_empty() || rule.from.iter().any(|from| is_caller(from, caller, broad))
        };
        let of = |rules: &Indexed, broad: bool| {
            Indexed::new(rules.iter().filter(|rule| is_of(rule, broad)).cloned().collect())
        };
        let rules = Self {
            deny: of(&self.deny, true),
            allow: self.allow.as_ref().map(|rules| of(rules, false)).or_else(|| foreign.then(Indexed::default)),
            audit: self.audit.iter().filter(|rule| is_of(rule, true)).cloned().collect(),
            looks_at_paths: false,
            looks_at_claims: false,
            providers: self.providers.clone(),
        };
        rules.counted()
    }

    fn counted(mut self) -> Self {
        let paths = self.all().any(|rule| rule.looks_at_paths());
        let claims = self.all().any(|rule| rule.providers().next().is_some());
        (self.looks_at_paths, self.looks_at_claims) = (paths, claims);
        self
    }

    fn all(&self) -> impl Iterator<Item = &Arc<AuthorizationRule>> {
        self.deny.iter().chain(self.allow.iter().flat_map(Indexed::iter)).chain(&self.audit)
    }

    /// The issuers that may vouch for a request's token, where something depends on one; None: nothing does.
    pub fn providers(&self) -> Option<&[Arc<JwtProvider>]> {
        self.looks_at_claims.then_some(&*self.providers)
    }

    /// Whether nothing depends on what is asked for.
    pub fn is_open(&self) -> bool {
        self.deny.is_empty() && self.allow.is_none() && self.audit.is_empty()
    }

    /// What becomes of a request whose caller these rules are for.
    pub fn decide(&self, asked: &Asked<'_>) -> Decision<'_> {
        let Some(read) = self.read(asked) else { return Decision::UnclearPath };
        let path = read.http.as_ref().map(|http| http.path.as_bytes());
        if let Some(rule) = self.deny.first(path, |rule| matches(rule, &read, true)) {
            return Decision::DeniedBy(rule);
        }
        if read.bad_token.get() {
            // What it says may be what is denied.
            return Decision::BadToken;
        }
        let Some(allow) = &self.allow else { return Decision::Allowed(None) };
        match allow.first(path, |rule| matches(rule, &read, false)) {
            Some(rule) => Decision::Allowed(Some(rule)),
            None if read.bad_token.get() => Decision::BadToken,
            None => Decision::NotAllowed,
        }
    }

    /// Whether the caller these rules are for is denied whatever it asks for.
    pub fn shut_out(&self) -> bool {
        self.deny.iter().any(|rule| rule.to.is_empty()) || self.allow.as_ref().is_some_and(Indexed::is_empty)
    }

    /// The rules of AUDITs that match.
    pub fn audited<'a>(&'a self, asked: &Asked<'a>) -> impl Iterator<Item = &'a AuthorizationRule> {
        // What cannot be read is refused anyway.
        let read = if self.audit.is_empty() { None } else { self.read(asked) };
        let would = |rule: &AuthorizationRule, read: &Read<'_>| {
            read.bad_token.set(false);
            matches(rule, read, true) || read.bad_token.get()
        };
        let matching = read.map(|read| self.audit.iter().filter(move |rule| would(rule, &read)));
        matching.into_iter().flatten().map(Arc::as_ref)
    }

    /// None: rules look at its path, and that can be read in two ways.
    fn read<'a>(&self, asked: &Asked<'a>) -> Option<Read<'a>> {
        let bad_token = Cell::new(false);
        let Some(http) = asked.http else { return Some(Read { port: asked.port, http: None, bad_token }) };
        let path = if self.looks_at_paths { reading::path(http.path)? } else { Cow::Borrowed("") };
        let (method, host) = (http.method.as_str(), http.host.map(reading::host));
        let http = ReadHttp { method, path, host, headers: http.headers, tokens: http.tokens };
        Some(Read { port: asked.port, http: Some(http), bad_token })
    }
}

struct Read<'a> {
    port: u16,
    http: Option<ReadHttp<'a>>,
    /// Whether something depended on a token that is not to be believed.
    bad_token: Cell<bool>,
}

struct ReadHttp<'a> {
    method: &'a str,
    path: Cow<'a, str>,
    host: Option<Cow<'a, str>>,
    headers: &'a HeaderMap,
    tokens: &'a dyn Tokens,
}

/// Nobody is let in for not being somebody without having shown who it is; and who shows nothing is denied what all but some are.
fn is_caller(from: &CallerMatch, caller: Option<&str>, broad: bool) -> bool {
    let Some(caller) = caller else { return broad && from.all_of.is_empty() };
    let among = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.is(caller.as_bytes(), false));
    from.all_of.iter().all(|patterns| among(patterns)) && !among(&from.none_of)
}

fn matches(rule: &AuthorizationRule, read: &Read<'_>, broad: bool) -> bool {
    rule.to.is_empty() || rule.to.iter().any(|to| is_asked(to, read, broad))
}

fn is_asked(to: &RequestMatch, read: &Read<'_>, broad: bool) -> bool {
    if !is_among(&to.ports, broad, |ports, _| ports.contains(&read.port)) {
        return false;
    }
    let Some(http) = &read.http else {
        // It may be what is meant, for all that anybody can say.
        return broad || !looks_at_http(to);
    };
    let path = http.path.as_bytes();
    is_among(&to.methods, broad, |methods, broad| methods.iter().any(|method| same(method, http.method, broad)))
        && is_among(&to.paths, broad, |paths, broad| paths.iter().any(|pattern| pattern.is_path(path, broad)))
        && match &http.host {
            Some(host) => is_among(&to.hosts, broad, |hosts, _| hosts.iter().any(|p| p.is(host.as_bytes(), false))),
            None => broad || (to.hosts.one_of.is_empty() && to.hosts.none_of.is_empty()),
        }
        && to.headers.iter().all(|condition| has_header(condition, http.headers, broad))
        && (to.claims.is_empty() || claims::all(&to.claims, http.tokens, &read.bad_token, broad))
}

fn looks_at_http(to: &RequestMatch) -> bool {
    let RequestMatch { methods, paths, hosts, ports: _, headers, claims } = to;
    !methods.is_empty() || !paths.is_empty() || !hosts.is_empty() || !headers.is_empty() || !claims.is_empty()
}

/// `found` says whether a value is in a list, read broadly or narrowly.
fn is_among<T>(among: &Among<T>, broad: bool, found: impl Fn(&[T], bool) -> bool) -> bool {
    (among.one_of.is_empty() || found(&among.one_of, broad))
        && (among.none_of.is_empty() || !found(&among.none_of, !broad))
}

fn has_header(condition: &HeaderCondition, headers: &HeaderMap, broad: bool) -> bool {
    let HeaderCondition { name, values } = condition;
    if values.is_empty() {
        return headers.contains_key(name);
    }
    is_among(values, broad, |patterns, broad| {
        let mut lines = headers.get_all(name).iter().map(http::HeaderValue::as_bytes).peekable();
        let one = |value: &[u8]| patterns.iter().any(|pattern| pattern.is(value, broad));
        if broad {
            // Whoever reads the header as a list finds it in there.
            lines.any(|line| one(line) || line.split(|b| *b == b',').any(|part| one(part.trim_ascii())))
        } else {
            lines.peek().is_some() && lines.all(one)
        }
    })
}

fn same(one: &str, other: &str, broad: bool) -> bool {
    if broad { one.eq_ignore_ascii_case(other) } else { one == other }
}

impl<T> Among<T> {
    fn is_empty(&self) -> bool {
        self.one_of.is_empty() && self.none_of.is_empty()
    }
}

impl Pattern {
    fn is(&self, text: &[u8], broad: bool) -> bool {
        let same = |one: &[u8], other: &[u8]| if broad { one.eq_ignore_ascii_case(other) } else { one == other };
        match self {
            Self::Exact(whole) => same(whole.as_bytes(), text),
            Self::Begins(start) => text.get(..start.len()).is_some_and(|begin| same(begin, start.as_bytes())),
            Self::Ends(end) => text.len() > end.len() && same(&text[text.len() - end.len()..], end.as_bytes()),
            Self::Below(path) => match text.split_at_checked(path.len()) {
                Some((begin, rest)) => same(begin, path.as_bytes()) && (rest.is_empty() || rest[0] == b'/'),
                None => false,
            },
        }
    }

    /// Broadly, a `/` at the end makes no other path: many apps see none.
    fn is_path(&self, path: &[u8], broad: bool) -> bool {
        let bare = |path: &[u8]| path.strip_suffix(b"/").filter(|bare| broad && !bare.is_empty()).map(<[u8]>::len);
        match self {
            Self::Exact(whole) => {
                let whole = whole.as_bytes();
                let (one, other) =
                    (&whole[..bare(whole).unwrap_or(whole.len())], &path[..bare(path).unwrap_or(path.len())]);
                if broad { one.eq_ignore_ascii_case(other) } else { one == other }
            }
            pattern => pattern.is(path, broad),
        }
    }
}
