//! What a sidecar joins with, from `--token` or `--token-file`. Three kinds:
//!
//! - Join tokens, good once: `leno1.<id>.<secret>.<SHA-256 of the root certificate, hex>`. The hash is what makes the first contact
//!   safe: the sidecar gives the secret to nobody but the owner of that root.
//! - Join secrets, shared beforehand: see [`JoinSecret`].
//! - Tokens of Kubernetes service accounts, which are JWTs. They name no root, so `--control-plane-ca` has to.

use std::fmt;
use std::fs;

use leno_certs::{JoinSecret, Zeroizing, jwt};

use crate::settings::TokenSource;

/// Longest token that is looked at, in bytes; one of ours has 133.
const MOST_BYTES: usize = 1024;

/// What proves who the sidecar is. It has no `Debug`, since it is a secret.
pub(super) enum JoinToken {
    /// A token that is good for one join.
    Once(OnceToken),
    /// A secret that the control plane knows, too.
    Shared(JoinSecret),
    /// The token of a service account.
    ServiceAccount(Zeroizing<String>),
}

/// A well-formed join token. It has no `Debug`, since it is a secret.
pub(super) struct OnceToken {
    /// As it is shown to the control plane.
    pub text: String,
    /// SHA-256 of the root certificate that the control plane must lead to.
    pub root_sha256: [u8; 32],
}

/// Why a token cannot be used. The token itself is not repeated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum InvalidToken {
    /// It is no token of ours.
    Malformed(&'static str),
    /// Its file cannot be read.
    Unreadable(String),
}

impl fmt::Display for InvalidToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(why) => write!(f, "the join token is malformed: {why}"),
            Self::Unreadable(why) => write!(f, "the token file {why}"),
        }
    }
}

impl JoinToken {
    /// Reads the token from where the settings say.
    pub fn read(source: &TokenSource) -> Result<Self, InvalidToken> {
        match source {
            TokenSource::Text(text) => Self::parse(text),
            TokenSource::File(path) => {
                let text = fs::read_to_string(path);
                let text = text.map_err(|why| InvalidToken::Unreadable(format!("{}: {why}", path.display())))?;
                Self::parse(Zeroizing::new(text).trim())
            }
        }
    }

    fn parse(text: &str) -> Result<Self, InvalidToken> {
        use InvalidToken::Malformed;
        if jwt::is_meant_by(text) && text.len() <= jwt::MOST_TOKEN_BYTES {
            return Ok(Self::ServiceAccount(Zeroizing::new(text.to_owned())));
        }
        if text.len() > MOST_BYTES {
            return Err(Malformed("it is too long"));
        }
        if JoinSecret::is_meant_by(text) {
            return JoinSecret::parse(text).map(Self::Shared).map_err(|why| Malformed(why.reason()));
        }
        OnceToken::parse(text).map(Self::Once)
    }

    /// The root that it names; only a token that is good once names one.
    pub fn root_sha256(&self) -> Option<[u8; 32]> {
        match self {
            Self::Once(token) => Some(token.root_sha256),
            Self::Shared(_) | Self::ServiceAccount(_) => None,
        }
    }
}

impl OnceToken {
    fn parse(text: &str) -> Result<Self, InvalidToken> {
        use InvalidToken::Malformed;
        let parts: Vec<&str> = text.split('.').collect();
        let [version, id, secret, root] = parts[..] else {
            return Err(Malformed("it does not have four parts"));
        };
        if version != "leno1" {
            return Err(Malformed("it begins with neither leno1 nor leno2, and is no token of a service account"));
        }
        if id.len() != 16 || id.bytes().any(|b| !b.is_ascii_hexdigit()) {
            return Err(Malformed("its id is not 16 hexadecimal digits"));
        }
        if secret.is_empty() || secret.bytes().any(|b| !(b.is_ascii_alphanumeric() || b == b'-' || b == b'_')) {
            return Err(Malformed("its secret is not base64url"));
        }
        let root_sha256 = hash(root).ok_or(Malformed("its hash of the root is not 64 hexadecimal digits"))?;
        Ok(Self { text: text.to_owned(), root_sha256 })
    }
}

/// 64 hexadecimal digits as 32 bytes.
pub(super) fn hash(text: &str) -> Option<[u8; 32]> {
    let mut hash = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (n, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * n..2 * n + 2)?, 16).ok()?;
    }
    Some(hash)
}

/// 32 bytes as 64 hexadecimal digits.
pub(super) fn hex(hash: &[u8; 32]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> String {
        format!("leno1.0123456789abcdef.c2VjcmV0LXNlY3JldA.{}", "ab".repeat(32))
    }

    #[test]
    fn a_token_tells_which_root_to_trust() {
        let token = JoinToken::parse(&good()).map_err(|e| e.to_string()).unwrap();
        assert_eq!(token.root_sha256().map(|hash| (hash, hex(&hash))), Some(([0xab; 32], "ab".repeat(32))));
    }

    #[test]
    fn a_shared_secret_is_told_from_a_token_and_names_no_root() {
        let secret = JoinSecret::generate().unwrap();
        let token = JoinToken::parse(&secret.to_text()).map_err(|e| e.to_string()).unwrap();
        assert!(matches!(&token, JoinToken::Shared(read) if read.id() == secret.id()));
        assert_eq!(token.root_sha256(), None);
    }

    #[test]
    fn the_token_of_a_service_account_is_told_from_ours_and_names_no_root() {
        let jwt = format!("eyJhbGciOiJSUzI1NiJ9.{}.c2ln", "a".repeat(2_000));
        let token = JoinToken::parse(&jwt).map_err(|e| e.to_string()).unwrap();
        assert!(matches!(&token, JoinToken::ServiceAccount(text) if **text == jwt));
        assert_eq!(token.root_sha256(), None);
        let long = format!("eyJhbGciOiJSUzI1NiJ9.{}.c2ln", "a".repeat(jwt::MOST_TOKEN_BYTES));
        assert!(JoinToken::parse(&long).is_err());
    }

    #[test]
    fn a_malformed_token_is_refused_without_being_repeated() {
        let good = good();
        let wrong = [
            String::new(),
            "leno1".into(),
            "leno2.0123456789abcdef.AAAA".into(),
            good.replace("leno1", "leno2"),
            good.replace("0123", "012"),
            good.replace("c2V", "c*V"),
            good.replace("abab", "xyab"),
            format!("{good}00"),
            format!("{good}.x"),
            "a".repeat(MOST_BYTES + 1),
        ];
        for text in wrong {
            let why = JoinToken::parse(&text).err().map(|e| e.to_string()).expect(&text);
            assert!(text.is_empty() || !why.contains(&text), "{why}");
        }
    }

    #[test]
    fn a_token_file_may_end_with_a_line_break() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        assert!(matches!(JoinToken::read(&TokenSource::File(path.clone())), Err(InvalidToken::Unreadable(_))));
        fs::write(&path, format!("{}\n", good())).unwrap();
        assert!(JoinToken::read(&TokenSource::File(path)).is_ok());
    }
}
