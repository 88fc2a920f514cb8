//! The public keys of an issuer: a JSON Web Key Set (RFC 7517).

use std::fmt;

use aws_lc_rs::signature::{self, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::Value;

use super::{Refused, strict};

/// Longest set that is looked at, in bytes.
pub const MOST_KEY_SET_BYTES: usize = 64 * 1024;
/// Most keys of a set.
pub const MOST_KEYS: usize = 64;
/// Most keys that one token is tried with, when several have its `kid`, or none has one.
const MOST_TRIED: usize = 4;
/// Longest `kid`.
const MOST_KID_BYTES: usize = 512;

/// How a token is signed (RFC 7518, RFC 8037). There is neither `none` nor one of the family HS, on purpose: whoever knows a public key
/// could sign by it, if it were ever taken for a shared secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    Es512,
    EdDsa,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
        Self::Es512,
        Self::EdDsa,
    ];

    /// As it is written in a token's header.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Es512 => "ES512",
            Self::EdDsa => "EdDSA",
        }
    }

    /// None: it is not known, or never taken.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str() == text)
    }

    fn of_rsa(self) -> Option<&'static RsaParameters> {
        match self {
            Self::Rs256 => Some(&signature::RSA_PKCS1_2048_8192_SHA256),
            Self::Rs384 => Some(&signature::RSA_PKCS1_2048_8192_SHA384),
            Self::Rs512 => Some(&signature::RSA_PKCS1_2048_8192_SHA512),
            Self::Ps256 => Some(&signature::RSA_PSS_2048_8192_SHA256),
            Self::Ps384 => Some(&signature::RSA_PSS_2048_8192_SHA384),
            Self::Ps512 => Some(&signature::RSA_PSS_2048_8192_SHA512),
            _ => None,
        }
    }
}

/// Why a text is no key set that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InvalidKeySet {
    /// It is longer than [`MOST_KEY_SET_BYTES`].
    TooLong,
    /// It is no `{"keys": […]}`, or names a member twice.
    NoSet,
    /// It has more than [`MOST_KEYS`].
    TooMany,
    /// None of its keys can be used; what is wrong with the first one.
    NoKey(&'static str),
}

impl fmt::Display for InvalidKeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "it has more than {MOST_KEY_SET_BYTES} bytes"),
            Self::NoSet => f.write_str("it is no JSON Web Key Set, {\"keys\": [...]}"),
            Self::TooMany => write!(f, "it has more than {MOST_KEYS} keys"),
            Self::NoKey(why) => write!(f, "it has no key that can be used: {why}"),
        }
    }
}

impl std::error::Error for InvalidKeySet {}

/// The keys of an issuer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeySet(Vec<PublicKey>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct PublicKey {
    kid: Option<String>,
    /// The one algorithm that it is for, if it says so.
    only: Option<Algorithm>,
    material: Material,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Material {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// An uncompressed point, or the 32 bytes of Ed25519, and the one algorithm of the curve.
    Curve(Algorithm, Vec<u8>),
}

/// The members that are looked at; certificates and where they could be had are not.
#[derive(Deserialize)]
struct Written {
    kty: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default, rename = "use")]
    purpose: Option<String>,
    #[serde(default)]
    key_ops: Option<Vec<String>>,
    #[serde(default)]
    alg: Option<String>,
    #[serde(default)]
    crv: Option<String>,
    #[serde(default)]
    n: Option<String>,
    #[serde(default)]
    e: Option<String>,
    #[serde(default)]
    x: Option<String>,
    #[serde(default)]
    y: Option<String>,
}

impl KeySet {
    /// Reads a set. Keys that are not for signatures, or of a kind that is not known, are left out (RFC 7517, 5).
    ///
    /// # Errors
    /// It is no set, or too large, or no key of it can be used.
    pub fn parse(json: &[u8]) -> Result<Self, InvalidKeySet> {
        if json.len() > MOST_KEY_SET_BYTES {
            return Err(InvalidKeySet::TooLong);
        }
        let keys_of = |mut set: serde_json::Map<String, Value>| set.remove("keys");
        let Some(Value::Array(written)) = strict::object(json).and_then(keys_of) else {
            return Err(InvalidKeySet::NoSet);
        };
        if written.len() > MOST_KEYS {
            return Err(InvalidKeySet::TooMany);
        }
        let mut first = None;
        let mut keys = Vec::new();
        for key in written {
            match key_of(key) {
                Ok(key) => keys.push(key),
                Err(why) => drop(first.get_or_insert(why)),
            }
        }
        if keys.is_empty() { Err(InvalidKeySet::NoKey(first.unwrap_or("it is empty"))) } else { Ok(Self(keys)) }
    }

    /// How many keys it has that can be used.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no token can be right.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A `kid` only ever chooses among these keys: it is compared, and never a name of a file, an address or a query. A key without one
    /// may be the one that is meant; so may all be for a token without one.
    pub(super) fn verify(
        &self,
        algorithm: Algorithm,
        kid: Option<&str>,
        signed: &[u8],
        signature: &[u8],
    ) -> Result<(), Refused> {
        let named = |key: &&PublicKey| match (kid, &key.kid) {
            (Some(kid), Some(of_key)) => kid == of_key,
            _ => true,
        };
        let mut meant = self.0.iter().filter(named).filter(|key| key.is_for(algorithm)).take(MOST_TRIED).peekable();
        if meant.peek().is_none() {
            return Err(Refused::UnknownKey);
        }
        if meant.any(|key| key.has_signed(algorithm, signed, signature)) { Ok(()) } else { Err(Refused::Signature) }
    }
}

impl PublicKey {
    fn is_for(&self, algorithm: Algorithm) -> bool {
        self.only.is_none_or(|only| only == algorithm)
            && match &self.material {
                Material::Rsa { .. } => algorithm.of_rsa().is_some(),
                Material::Curve(its, _) => *its == algorithm,
            }
    }

    fn has_signed(&self, algorithm: Algorithm, signed: &[u8], signature: &[u8]) -> bool {
        match &self.material {
            Material::Rsa { n, e } => algorithm.of_rsa().is_some_and(|parameters| {
                RsaPublicKeyComponents { n, e }.verify(parameters, signed, signature).is_ok()
            }),
            Material::Curve(_, point) => {
                let verifier: &'static dyn VerificationAlgorithm = match algorithm {
                    Algorithm::Es256 => &signature::ECDSA_P256_SHA256_FIXED,
                    Algorithm::Es384 => &signature::ECDSA_P384_SHA384_FIXED,
                    Algorithm::Es512 => &signature::ECDSA_P521_SHA512_FIXED,
                    Algorithm::EdDsa => &signature::ED25519,
                    _ => return false,
                };
                UnparsedPublicKey::new(verifier, point).verify(signed, signature).is_ok()
            }
        }
    }
}

fn key_of(json: Value) -> Result<PublicKey, &'static str> {
    let written: Written = serde_json::from_value(json).map_err(|_| "a key is no JSON Web Key")?;
    let signs = written.purpose.as_deref().is_none_or(|purpose| purpose == "sig")
        && written.key_ops.as_ref().is_none_or(|ops| ops.iter().any(|op| op == "verify"));
    if !signs {
        return Err("a key is not for signatures");
    }
    if written.kid.as_ref().is_some_and(|kid| kid.len() > MOST_KID_BYTES) {
        return Err("the kid of a key is too long");
    }
    let only = match written.alg.as_deref() {
        Some(alg) => Some(Algorithm::parse(alg).ok_or("a key is for an algorithm that is never taken")?),
        None => None,
    };
    let material = match written.kty.as_str() {
        "RSA" => rsa(number(written.n.as_ref())?, number(written.e.as_ref())?)?,
        "EC" => curve(written.crv.as_deref(), &number(written.x.as_ref())?, &number(written.y.as_ref())?)?,
        "OKP" if written.crv.as_deref() == Some("Ed25519") => {
            let x = number(written.x.as_ref())?;
            if x.len() != 32 {
                return Err("a key of Ed25519 has 32 bytes");
            }
            Material::Curve(Algorithm::EdDsa, x)
        }
        _ => return Err("a key is neither RSA, EC nor Ed25519"),
    };
    Ok(PublicKey { kid: written.kid, only, material })
}

fn number(text: Option<&String>) -> Result<Vec<u8>, &'static str> {
    URL_SAFE_NO_PAD.decode(text.ok_or("a key lacks one of its numbers")?).map_err(|_| "a number is not base64url")
}

fn rsa(n: Vec<u8>, e: Vec<u8>) -> Result<Material, &'static str> {
    let bare = |number: Vec<u8>| -> Vec<u8> { number.into_iter().skip_while(|byte| *byte == 0).collect() };
    let (n, e) = (bare(n), bare(e));
    if n.len() < 256 || n.len() > 1024 {
        return Err("an RSA key has 2,048 to 8,192 bits");
    }
    // What a verification costs grows with it; 65537 is the field's.
    if e.is_empty() || e.len() > 4 {
        return Err("the exponent of an RSA key has at most 32 bits");
    }
    Ok(Material::Rsa { n, e })
}

fn curve(name: Option<&str>, x: &[u8], y: &[u8]) -> Result<Material, &'static str> {
    let (algorithm, bytes) = match name {
        Some("P-256") => (Algorithm::Es256, 32),
        Some("P-384") => (Algorithm::Es384, 48),
        Some("P-521") => (Algorithm::Es512, 66),
        _ => return Err("the curve of a key is none of P-256, P-384 and P-521"),
    };
    if x.len() != bytes || y.len() != bytes {
        return Err("the coordinates of a key are not those of its curve");
    }
    Ok(Material::Curve(algorithm, [&[4], x, y].concat()))
}
