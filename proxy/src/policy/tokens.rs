//! The tokens of requests. A token that was believed is remembered until it expires, so that the next request with it costs a hash and
//! no signature. One that is not believed is not remembered: whoever sends such tokens pushes nobody's out.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue};
use leno_certs::jwt::{self, Claims, Expected, LEEWAY, MOST_TOKEN_BYTES, Refused};
use sha2::{Digest, Sha256};

use super::{Shown, Tokens};
use crate::model::{JwtProvider, TokenPlace};

/// Most tokens that one worker remembers.
const MOST_TOKENS: usize = 1024;
/// Most bytes of them. What is kept of a token is a few times as large.
const MOST_BYTES: usize = 1024 * 1024;

/// The tokens that one worker has believed. It is for one set of issuers: with another one it has to be emptied.
#[derive(Debug, Default)]
pub struct TokenCache {
    known: RefCell<HashMap<[u8; 32], Rc<Believed>>>,
    bytes: Cell<usize>,
}

/// What a token says, by the issuers that vouch for it.
#[derive(Debug)]
struct Believed {
    /// Names of the issuers; one token may be right for several, as for two that differ in the audience.
    by: Vec<String>,
    claims: Rc<Claims>,
    /// Seconds since 1970.
    until: i64,
    bytes: usize,
}

/// A token, and what it says if it is to be believed.
type Looked<'a> = (&'a str, Option<Rc<Believed>>);

/// One request's tokens.
#[derive(Debug)]
pub struct RequestTokens<'a> {
    cache: &'a TokenCache,
    providers: &'a [Arc<JwtProvider>],
    headers: &'a HeaderMap,
    now: i64,
    /// What was found out last, and of which token: several conditions ask for the same.
    last: RefCell<Option<Looked<'a>>>,
}

impl TokenCache {
    /// The tokens of a request. `providers` are all issuers that may vouch for one, `now` is in seconds since 1970.
    pub fn of<'a>(&'a self, providers: &'a [Arc<JwtProvider>], headers: &'a HeaderMap, now: i64) -> RequestTokens<'a> {
        RequestTokens { cache: self, providers, headers, now, last: RefCell::default() }
    }

    /// Forgets everything, as when keys have changed.
    pub fn clear(&self) {
        self.known.borrow_mut().clear();
        self.bytes.set(0);
    }

    /// How many tokens it remembers, and their bytes.
    #[cfg(test)]
    pub(super) fn sizes(&self) -> (usize, usize) {
        (self.known.borrow().len(), self.bytes.get())
    }

    fn get(&self, hash: &[u8; 32], now: i64) -> Option<Rc<Believed>> {
        self.known.borrow().get(hash).filter(|known| known.until > now).cloned()
    }

    fn put(&self, hash: [u8; 32], believed: &Rc<Believed>, now: i64) {
        let mut known = self.known.borrow_mut();
        let full = |known: &HashMap<_, _>, bytes: usize| known.len() >= MOST_TOKENS || bytes > MOST_BYTES;
        if full(&known, self.bytes.get() + believed.bytes) {
            known.retain(|_, one| one.until > now);
            self.bytes.set(known.values().map(|one| one.bytes).sum());
        }
        while full(&known, self.bytes.get() + believed.bytes) {
            // Any one: their hashes are in no order that somebody could choose.
            let Some(out) = known.keys().next().copied() else { break };
            let gone = known.remove(&out).map_or(0, |one| one.bytes);
            self.bytes.set(self.bytes.get() - gone);
        }
        let before = known.insert(hash, believed.clone()).map_or(0, |one| one.bytes);
        self.bytes.set(self.bytes.get() + believed.bytes - before);
    }
}

impl<'a> RequestTokens<'a> {
    fn believe(&self, token: &'a str) -> Option<Rc<Believed>> {
        if let Some((last, believed)) = &*self.last.borrow()
            && *last == token
        {
            return believed.clone();
        }
        let believed = if token.len() > MOST_TOKEN_BYTES { None } else { self.look_up(token) };
        *self.last.borrow_mut() = Some((token, believed.clone()));
        believed
    }

    fn look_up(&self, token: &str) -> Option<Rc<Believed>> {
        let hash: [u8; 32] = Sha256::digest(token).into();
        if let Some(known) = self.cache.get(&hash, self.now) {
            return Some(known);
        }
        let believed = Rc::new(self.verify(token)?);
        self.cache.put(hash, &believed, self.now);
        Some(believed)
    }

    fn verify(&self, token: &str) -> Option<Believed> {
        let (mut by, mut claims, mut until) = (Vec::new(), None, i64::MAX);
        let mut why = Refused::Issuer;
        for provider in self.providers.iter().filter(|provider| !provider.issuer.is_empty()) {
            let JwtProvider { issuer, audiences, algorithms, keys, .. } = &**provider;
            match jwt::verify(token, keys, &Expected { issuer, audiences, algorithms }, self.now) {
                Ok(said) => {
                    let expires = jwt::time(&said, "exp").ok().flatten()?;
                    until = until.min(expires.saturating_add(LEEWAY));
                    by.push(provider.name.clone());
                    claims = Some(said);
                }
                Err(refused) => why = refused,
            }
        }
        let Some(claims) = claims else {
            tracing::debug!(reason = why.reason(), "a token is not believed: {why}");
            return None;
        };
        Some(Believed { by, claims: Rc::new(claims), until, bytes: token.len() })
    }
}

impl Tokens for RequestTokens<'_> {
    fn shown(&self, provider: &JwtProvider) -> Shown {
        let token = match token_of(provider, self.headers) {
            Found::None => return Shown::Nothing,
            Found::Unclear => return Shown::Bad,
            Found::One(token) => token,
        };
        let Some(believed) = self.believe(token) else { return Shown::Bad };
        if believed.by.contains(&provider.name) {
            return Shown::Claims(believed.claims.clone());
        }
        let vouches = |other: &&Arc<JwtProvider>| {
            believed.by.contains(&other.name)
                && matches!(token_of(other, self.headers), Found::One(theirs) if theirs == token)
        };
        // Somebody vouches for it who takes tokens from there: then it is one, but says nothing for this issuer.
        if self.providers.iter().any(|other| vouches(&other)) { Shown::Nothing } else { Shown::Bad }
    }
}

enum Found<'h> {
    None,
    One(&'h str),
    /// Several readers could take different ones.
    Unclear,
}

/// A header that is there twice, or tokens in two headers, are not clear: the app may read another one than we do.
fn token_of<'h>(provider: &JwtProvider, headers: &'h HeaderMap) -> Found<'h> {
    let mut found = Found::None;
    for place in &provider.places {
        let mut lines = headers.get_all(&place.name).iter();
        let Some(line) = lines.next() else { continue };
        if lines.next().is_some() {
            return Found::Unclear;
        }
        found = match (read(place, line), found) {
            (None, found) => found,
            (Some(Some(token)), Found::None) => Found::One(token),
            (Some(_), _) => return Found::Unclear,
        };
    }
    found
}

/// None: it holds something else than a token. Some(None): what stands after the prefix is no text.
fn read<'h>(place: &TokenPlace, line: &'h HeaderValue) -> Option<Option<&'h str>> {
    let (begin, rest) = line.as_bytes().split_at_checked(place.prefix.len())?;
    if !begin.eq_ignore_ascii_case(place.prefix.as_bytes()) {
        return None;
    }
    let rest = rest.trim_ascii_start();
    if rest.is_empty() { None } else { Some(std::str::from_utf8(rest).ok()) }
}
