//! What a token says, compared with what a rule wants of it.
//!
//! A claim that is a list matches by any of its values, as one that is a list in a text (`scope`) does: who is in a group is in it,
//! whatever else he is in. Broadly, case does not matter.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;

use leno_certs::jwt::Claims;
use serde_json::Value;

use super::is_among;
use crate::model::{ClaimCondition, JwtProvider};

/// What a request shows of one issuer.
#[derive(Debug, Clone)]
pub enum Shown {
    /// No token, or one that another issuer vouches for.
    Nothing,
    /// One that nobody vouches for.
    Bad,
    /// What the issuer vouches for.
    Claims(Rc<Claims>),
}

/// What a request shows of its user. It is asked only when a decision depends on it.
pub trait Tokens: fmt::Debug {
    /// Its token of this issuer.
    fn shown(&self, provider: &JwtProvider) -> Shown;
}

/// A request without a token.
#[derive(Debug)]
pub struct NoTokens;

impl Tokens for NoTokens {
    fn shown(&self, _: &JwtProvider) -> Shown {
        Shown::Nothing
    }
}

/// Claims that are given and not proven, to try policies with. By the provider's name.
#[derive(Debug, Default)]
pub struct GivenClaims(pub BTreeMap<String, Rc<Claims>>);

impl Tokens for GivenClaims {
    fn shown(&self, provider: &JwtProvider) -> Shown {
        self.0.get(&provider.name).map_or(Shown::Nothing, |claims| Shown::Claims(claims.clone()))
    }
}

/// Claims that hold several values in one text, separated by spaces (RFC 8693, 4.2).
const LISTS: [&str; 2] = ["scope", "scp"];

/// Whether all conditions hold. When that depends on a token that nobody vouches for, `bad` is set and they do not.
pub(super) fn all(conditions: &[ClaimCondition], tokens: &dyn Tokens, bad: &Cell<bool>, broad: bool) -> bool {
    let mut depends = false;
    for condition in conditions {
        match tokens.shown(&condition.provider) {
            Shown::Bad => depends = true,
            Shown::Nothing if broad && is_exception(condition) => {}
            Shown::Claims(claims) if holds(condition, &claims, broad) => {}
            Shown::Nothing | Shown::Claims(_) => return false,
        }
    }
    if depends {
        bad.set(true);
    }
    !depends
}

/// Who shows no token is denied what all but some are; nobody is let in for not being somebody without having shown who he is.
fn is_exception(condition: &ClaimCondition) -> bool {
    condition.values.one_of.is_empty() && !condition.values.none_of.is_empty()
}

fn holds(condition: &ClaimCondition, claims: &Claims, broad: bool) -> bool {
    let Some((first, rest)) = condition.path.split_first() else { return true };
    let found = rest.iter().try_fold(claims.get(first), |value, step| Some(value?.as_object()?.get(step)));
    let value = found.flatten().filter(|value| !value.is_null());
    if condition.values.is_empty() {
        return value.is_some();
    }
    let is_list = rest.is_empty() && LISTS.contains(&first.as_str());
    let values = value.map(|value| values(value, is_list)).unwrap_or_default();
    is_among(&condition.values, broad, |patterns, broad| {
        values.iter().any(|value| patterns.iter().any(|pattern| pattern.is(value.as_bytes(), broad)))
    })
}

/// An object has none: there is no one way to compare it.
fn values(value: &Value, is_list: bool) -> Vec<Cow<'_, str>> {
    match value {
        Value::String(text) if is_list => text.split(' ').filter(|part| !part.is_empty()).map(Cow::Borrowed).collect(),
        Value::String(text) => vec![Cow::Borrowed(text)],
        Value::Bool(_) | Value::Number(_) => vec![Cow::Owned(value.to_string())],
        Value::Array(all) => all.iter().filter(|one| !one.is_array()).flat_map(|one| values(one, false)).collect(),
        Value::Null | Value::Object(_) => vec![],
    }
}
