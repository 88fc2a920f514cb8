//! JSON Web Tokens (RFC 7519, RFC 8725) that others signed: the service accounts of a Kubernetes cluster, the users of an
//! identity provider. Only tokens in the compact form with one signature by a public key are known; nothing is encrypted, and
//! no symmetric key is ever used.
//!
//! What a token says of its own key (`jwk`, `jku`, `x5u`, `x5c`) is not looked at, and whatever can be read in two ways is
//! refused: a member that is there twice, padding, a `crit` that asks for something unknown.

#[cfg(test)]
mod issuer;
mod keys;
pub(crate) mod strict;
#[cfg(test)]
mod tests;

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

pub use keys::{Algorithm, InvalidKeySet, KeySet, MOST_KEY_SET_BYTES, MOST_KEYS};

/// Longest token that is looked at, in bytes.
pub const MOST_TOKEN_BYTES: usize = 8 * 1024;
/// How far another clock may be from ours, in seconds.
pub const LEEWAY: i64 = 30;

/// What a token says once its signature is known to be right.
pub type Claims = Map<String, Value>;

/// What a token has to be.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// Its `iss`, exactly.
    pub issuer: &'a str,
    /// One of these is in its `aud`. Without any, no token is right.
    pub audiences: &'a [String],
    /// It is signed by one of these.
    pub algorithms: &'a [Algorithm],
}

/// Why a token is not believed. It never repeats the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// It is longer than [`MOST_TOKEN_BYTES`].
    TooLong,
    /// It is no JWT, or one that can be read in two ways.
    Malformed(&'static str),
    /// It asks for an extension (`crit`).
    Critical,
    /// Its `alg` is not among those that are taken; `none` and those with a shared secret never are.
    Algorithm,
    /// No key of the set is named by its `kid` and made for its `alg`.
    UnknownKey,
    /// The signature is not that of the key.
    Signature,
    /// Its `iss` is another.
    Issuer,
    /// It is meant for somebody else.
    Audience,
    /// It says of no time at which it expires.
    NoExpiry,
    /// Its `exp` is over.
    Expired,
    /// Its `nbf` is to come.
    NotYet,
}

impl Refused {
    /// A stable word for logs and metrics.
    pub fn reason(self) -> &'static str {
        match self {
            Self::TooLong => "too_long",
            Self::Malformed(_) => "malformed",
            Self::Critical => "crit",
            Self::Algorithm => "algorithm",
            Self::UnknownKey => "unknown_key",
            Self::Signature => "signature",
            Self::Issuer => "issuer",
            Self::Audience => "audience",
            Self::NoExpiry => "no_expiry",
            Self::Expired => "expired",
            Self::NotYet => "not_yet_valid",
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "it has more than {MOST_TOKEN_BYTES} bytes"),
            Self::Malformed(why) => f.write_str(why),
            Self::Critical => f.write_str("it asks for an extension by `crit`, and none is known"),
            Self::Algorithm => f.write_str("it is signed by an algorithm that is not allowed"),
            Self::UnknownKey => f.write_str("it is signed by a key that is not in the issuer's set"),
            Self::Signature => f.write_str("its signature is wrong"),
            Self::Issuer => f.write_str("it is of another issuer"),
            Self::Audience => f.write_str("it is meant for another audience"),
            Self::NoExpiry => f.write_str("it has no `exp`"),
            Self::Expired => f.write_str("it has expired"),
            Self::NotYet => f.write_str("it is not valid yet"),
        }
    }
}

impl std::error::Error for Refused {}

/// The members of a JOSE header that mean something here. All others are not looked at.
#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default, deserialize_with = "is_there")]
    crit: bool,
}

/// Whatever it is, `null` too.
fn is_there<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    serde::de::IgnoredAny::deserialize(deserializer).map(|_| true)
}

/// Whether a text looks like a JWT: three parts that are not empty, without saying whether they are right.
pub fn is_meant_by(text: &str) -> bool {
    let parts: Vec<&str> = text.trim().splitn(4, '.').collect();
    parts.len() == 3 && parts.iter().all(|part| !part.is_empty()) && parts[0].starts_with("ey")
}

/// What a token is known by: the hash of what is signed. A hash of the whole would not do, since whoever has a token with an ECDSA signature
/// can make another one of it with another signature that is as right.
///
/// # Errors
/// It has no signed part.
pub fn fingerprint(token: &str) -> Result<[u8; 32], Refused> {
    let (signed, _) = token.rsplit_once('.').ok_or(Refused::Malformed("it does not have three parts"))?;
    Ok(Sha256::digest(signed).into())
}

/// Believes a token, or says why not. `now` is in seconds since 1970.
///
/// # Errors
/// It is not right in every way.
pub fn verify(token: &str, keys: &KeySet, expected: &Expected<'_>, now: i64) -> Result<Claims, Refused> {
    if token.len() > MOST_TOKEN_BYTES {
        return Err(Refused::TooLong);
    }
    let three = Refused::Malformed("it does not have three parts");
    let (signed, signature) = token.rsplit_once('.').ok_or(three)?;
    let (header, payload) = signed.split_once('.').filter(|(_, payload)| !payload.contains('.')).ok_or(three)?;
    let decode = |part: &str| {
        URL_SAFE_NO_PAD.decode(part).map_err(|_| Refused::Malformed("a part is not base64url without padding"))
    };
    let header: Header = serde_json::from_slice(&decode(header)?)
        .map_err(|_| Refused::Malformed("its header is no JOSE header, or says something twice"))?;
    if header.crit {
        return Err(Refused::Critical);
    }
    let algorithm = Algorithm::parse(&header.alg).filter(|one| expected.algorithms.contains(one));
    let algorithm = algorithm.ok_or(Refused::Algorithm)?;
    keys.verify(algorithm, header.kid.as_deref(), signed.as_bytes(), &decode(signature)?)?;
    // Nothing of the payload is read before somebody has vouched for it.
    let claims = strict::object(&decode(payload)?)
        .ok_or(Refused::Malformed("its claims are no JSON object, or say something twice"))?;
    check(&claims, expected, now)?;
    Ok(claims)
}

fn check(claims: &Claims, expected: &Expected<'_>, now: i64) -> Result<(), Refused> {
    if claims.get("iss").and_then(Value::as_str) != Some(expected.issuer) {
        return Err(Refused::Issuer);
    }
    let ours = |value: &Value| value.as_str().is_some_and(|said| expected.audiences.iter().any(|ours| ours == said));
    let meant = match claims.get("aud") {
        Some(Value::Array(all)) => all.iter().any(ours),
        Some(one) => ours(one),
        None => false,
    };
    if !meant {
        return Err(Refused::Audience);
    }
    let expires = time(claims, "exp")?.ok_or(Refused::NoExpiry)?;
    if expires <= now.saturating_sub(LEEWAY) {
        return Err(Refused::Expired);
    }
    match time(claims, "nbf")? {
        Some(begins) if begins > now.saturating_add(LEEWAY) => Err(Refused::NotYet),
        _ => Ok(()),
    }
}

/// A claim that is a point in time (NumericDate): seconds since 1970, perhaps with a fraction.
///
/// # Errors
/// It is there and is none.
pub fn time(claims: &Claims, name: &str) -> Result<Option<i64>, Refused> {
    const MOST: f64 = 1e15;
    let wrong = Refused::Malformed("one of its times is no number of seconds");
    match claims.get(name) {
        None => Ok(None),
        Some(Value::Number(number)) => match number.as_f64() {
            // Within this range the conversion is exact to a second.
            Some(seconds) if seconds.abs() < MOST => Ok(Some(seconds.floor() as i64)),
            _ => Err(wrong),
        },
        Some(_) => Err(wrong),
    }
}
