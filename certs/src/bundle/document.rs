//! A trust domain's roots as they are told to others: the SPIFFE bundle format (SPIFFE Trust Domain and Bundle, section 4), a JSON
//! Web Key Set with a key for each root.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Map, Value, json};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::public_key::PublicKey;

use crate::jwt::strict;
use crate::{CertError, verify};

/// Longest document that is looked at, in bytes.
pub const MOST_BYTES: usize = 64 * 1024;
/// Most roots of a document.
pub const MOST_ROOTS: usize = 16;
/// What a key is for that vouches for X.509-SVIDs.
const USE: &str = "x509-svid";

/// What a document says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Root certificates, DER. None: the domain vouches for nobody any more.
    pub roots: Vec<Vec<u8>>,
    /// How soon it wants to be asked again.
    pub refresh_hint: Option<Duration>,
    /// Another number with each change.
    pub sequence: Option<u64>,
}

/// Why a text is no bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InvalidDocument {
    /// It is longer than [`MOST_BYTES`].
    TooLong,
    /// It is no `{"keys": […]}`, or names a member twice.
    NoSet,
    /// It has more than [`MOST_ROOTS`].
    TooMany,
    /// One of its keys for X.509-SVIDs, by number, has no certificate of an authority.
    Key(usize, &'static str),
}

impl fmt::Display for InvalidDocument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "it has more than {MOST_BYTES} bytes"),
            Self::NoSet => f.write_str("it is no SPIFFE bundle, {\"keys\": [...]}"),
            Self::TooMany => write!(f, "it has more than {MOST_ROOTS} roots"),
            Self::Key(number, why) => write!(f, "keys[{number}]: {why}"),
        }
    }
}

impl std::error::Error for InvalidDocument {}

impl Document {
    /// Reads one. Keys for other uses, as JWT-SVIDs, are left out, as the format asks for.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(json: &[u8]) -> Result<Self, InvalidDocument> {
        if json.len() > MOST_BYTES {
            return Err(InvalidDocument::TooLong);
        }
        let object = strict::object(json).ok_or(InvalidDocument::NoSet)?;
        let keys = object.get("keys").and_then(Value::as_array).ok_or(InvalidDocument::NoSet)?;
        let for_us = keys.iter().enumerate().filter(|(_, key)| key.get("use").and_then(Value::as_str) == Some(USE));
        let mut roots = Vec::new();
        for (number, key) in for_us {
            if roots.len() == MOST_ROOTS {
                return Err(InvalidDocument::TooMany);
            }
            roots.push(root(key).map_err(|why| InvalidDocument::Key(number, why))?);
        }
        let number = |name: &str| object.get(name).and_then(Value::as_u64);
        let refresh_hint = number("spiffe_refresh_hint").filter(|seconds| *seconds > 0).map(Duration::from_secs);
        Ok(Self { roots, refresh_hint, sequence: number("spiffe_sequence") })
    }

    /// As it is served, a line a key.
    ///
    /// # Errors
    /// A root is unreadable, or its key of a kind that JSON Web Keys have no name for.
    pub fn to_json(&self) -> Result<String, CertError> {
        let mut object = Map::new();
        if let Some(sequence) = self.sequence {
            object.insert("spiffe_sequence".to_owned(), json!(sequence));
        }
        if let Some(hint) = self.refresh_hint {
            object.insert("spiffe_refresh_hint".to_owned(), json!(hint.as_secs()));
        }
        let keys = self.roots.iter().map(|root| key(root)).collect::<Result<Vec<_>, _>>()?;
        object.insert("keys".to_owned(), Value::Array(keys));
        serde_json::to_string_pretty(&object).map_err(|why| CertError::Malformed(why.to_string()))
    }
}

fn root(key: &Value) -> Result<Vec<u8>, &'static str> {
    let chain = key.get("x5c").and_then(Value::as_array).ok_or("it has no x5c")?;
    let [Value::String(text)] = chain.as_slice() else { return Err("its x5c is not one certificate") };
    let der = STANDARD.decode(text).map_err(|_| "its x5c is no base64")?;
    match verify::is_authority(&der) {
        Ok(true) => Ok(der),
        Ok(false) => Err("its certificate is none of an authority"),
        Err(_) => Err("its certificate cannot be read"),
    }
}

/// The public key's own members are there for readers that ask for them (RFC 7517); the certificate says the same.
fn key(root: &[u8]) -> Result<Value, CertError> {
    let malformed = |what: &str| CertError::Malformed(what.to_owned());
    let (_, certificate) = X509Certificate::from_der(root).map_err(|why| CertError::Malformed(why.to_string()))?;
    let of_key = certificate.public_key();
    let mut key = match of_key.parsed().map_err(|why| CertError::Malformed(why.to_string()))? {
        PublicKey::EC(point) => {
            let point = point.data();
            let (curve, length) = match point.len() {
                65 => ("P-256", 32),
                97 => ("P-384", 48),
                133 => ("P-521", 66),
                _ => return Err(malformed("the root's curve has no name among JSON Web Keys")),
            };
            let (x, y) = point[1..].split_at(length);
            json!({"kty": "EC", "crv": curve, "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y)})
        }
        PublicKey::RSA(rsa) => {
            let short = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(&bytes[bytes.iter().take_while(|b| **b == 0).count()..]);
            json!({"kty": "RSA", "n": short(rsa.modulus), "e": short(rsa.exponent)})
        }
        _ if of_key.algorithm.algorithm.to_id_string() == ED25519 => {
            json!({"kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode(&of_key.subject_public_key.data)})
        }
        _ => return Err(malformed("the root's key has no name among JSON Web Keys")),
    };
    key["use"] = json!(USE);
    key["x5c"] = json!([STANDARD.encode(root)]);
    Ok(key)
}

/// RFC 8410, section 3.
const ED25519: &str = "1.3.101.112";
