//! Join secrets, shared beforehand between a workload and the control plane: `leno2.<id: 16 hex>.<secret: 32 bytes, base64url>`.
//!
//! Unlike a join token, such a secret is made before there is any control plane, so it cannot carry the hash of the root.
//! Each side proves to the other that it knows the secret, by HMAC-SHA256 (RFC 2104), and the secret itself never travels: the
//! control plane first, over its root and a nonce of the sidecar's; then the sidecar, over its signing request.

use std::fmt;

use aws_lc_rs::{hmac, rand};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use crate::CertError;

/// Bytes of the nonce that a control plane's proof is over.
pub const NONCE_BYTES: usize = 32;

const PREFIX: &str = "leno2";
const SECRET_BYTES: usize = 32;
const ID_DIGITS: usize = 16;
/// Longest text that is looked at; a secret has 66 bytes.
const MOST_BYTES: usize = 256;
/// One label for each direction, so that no proof of one can be shown as one of the other.
const ROOT_LABEL: &[u8] = b"leno root proof v1\0";
const JOIN_LABEL: &[u8] = b"leno join proof v1\0";

/// A join secret. It has no `Debug`, so that it cannot end up in a log, and is wiped when dropped.
pub struct JoinSecret {
    id: String,
    secret: Zeroizing<[u8; SECRET_BYTES]>,
}

/// Why a text is no join secret. It never repeats the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidSecret(&'static str);

impl InvalidSecret {
    /// The same as [`fmt::Display`] shows, as text that lives for ever.
    pub fn reason(self) -> &'static str {
        self.0
    }
}

impl fmt::Display for InvalidSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for InvalidSecret {}

impl JoinSecret {
    /// A new random secret.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn generate() -> Result<Self, CertError> {
        let random = |bytes: &mut [u8]| {
            rand::fill(bytes).map_err(|_| CertError::Malformed("the system gives no random bytes".to_owned()))
        };
        let mut id = [0; ID_DIGITS / 2];
        let mut secret = Zeroizing::new([0; SECRET_BYTES]);
        random(&mut id)?;
        random(&mut *secret)?;
        Ok(Self { id: id.iter().map(|byte| format!("{byte:02x}")).collect(), secret })
    }

    /// Reads a secret; white space around it is no part of it.
    ///
    /// # Errors
    /// It is no such text. That the secret has all of its 32 bytes is checked, since a shorter one could be guessed from a proof.
    pub fn parse(text: &str) -> Result<Self, InvalidSecret> {
        if text.len() > MOST_BYTES {
            return Err(InvalidSecret("it is too long"));
        }
        let parts: Vec<&str> = text.trim().split('.').collect();
        let [PREFIX, id, secret] = parts[..] else {
            return Err(InvalidSecret("it is not leno2.ID.SECRET"));
        };
        if id.len() != ID_DIGITS || !id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(InvalidSecret("its id is not 16 hexadecimal digits in lower case"));
        }
        const WRONG: InvalidSecret = InvalidSecret("its secret is not 32 bytes in base64url without padding");
        let decoded = Zeroizing::new(URL_SAFE_NO_PAD.decode(secret).map_err(|_| WRONG)?);
        let mut secret = Zeroizing::new([0; SECRET_BYTES]);
        if decoded.len() != SECRET_BYTES {
            return Err(WRONG);
        }
        secret.copy_from_slice(&decoded);
        Ok(Self { id: id.to_owned(), secret })
    }

    /// Whether a text means to be a join secret, well-formed or not.
    pub fn is_meant_by(text: &str) -> bool {
        text.trim_start().strip_prefix(PREFIX).is_some_and(|rest| rest.starts_with('.'))
    }

    /// The public part, by which the control plane finds it.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The text that [`parse`](Self::parse) reads.
    pub fn to_text(&self) -> Zeroizing<String> {
        let secret = Zeroizing::new(URL_SAFE_NO_PAD.encode(*self.secret));
        Zeroizing::new(format!("{PREFIX}.{}.{}", self.id, *secret))
    }

    /// The control plane's proof: that who knows this secret vouches for this root (its SHA-256), now.
    pub fn prove_root(&self, nonce: &[u8; NONCE_BYTES], root_sha256: &[u8; 32]) -> Vec<u8> {
        self.sign(&[ROOT_LABEL, self.id.as_bytes(), nonce, root_sha256])
    }

    /// Whether a control plane's proof is right. Takes the same time whatever is wrong.
    pub fn root_is_proven(&self, nonce: &[u8; NONCE_BYTES], root_sha256: &[u8; 32], mac: &[u8]) -> bool {
        self.fits(&[ROOT_LABEL, self.id.as_bytes(), nonce, root_sha256], mac)
    }

    /// The sidecar's proof: that who knows this secret made this signing request (PKCS#10, DER).
    pub fn prove_request(&self, csr: &[u8]) -> Vec<u8> {
        self.sign(&[JOIN_LABEL, self.id.as_bytes(), csr])
    }

    /// Whether a sidecar's proof is right. Takes the same time whatever is wrong.
    pub fn request_is_proven(&self, csr: &[u8], mac: &[u8]) -> bool {
        self.fits(&[JOIN_LABEL, self.id.as_bytes(), csr], mac)
    }

    /// Every part but the last has a fixed length, so that no two lists of parts are the same bytes.
    fn sign(&self, parts: &[&[u8]]) -> Vec<u8> {
        hmac::sign(&self.key(), &parts.concat()).as_ref().to_vec()
    }

    fn fits(&self, parts: &[&[u8]], mac: &[u8]) -> bool {
        hmac::verify(&self.key(), &parts.concat(), mac).is_ok()
    }

    fn key(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &*self.secret)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "leno2.0123456789abcdef.AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";

    fn secret() -> JoinSecret {
        JoinSecret::parse(TEXT).unwrap()
    }

    #[test]
    fn a_secret_is_read_as_it_is_written_and_each_is_another() {
        assert_eq!(*secret().to_text(), TEXT);
        assert_eq!(secret().id(), "0123456789abcdef");
        let (one, two) = (JoinSecret::generate().unwrap(), JoinSecret::generate().unwrap());
        assert!(one.to_text() != two.to_text() && one.id() != two.id());
        assert_eq!(*JoinSecret::parse(&format!(" {}\r\n", *one.to_text())).unwrap().to_text(), *one.to_text());
    }

    #[test]
    fn anything_else_is_refused_without_being_repeated() {
        for text in [
            "",
            "leno2",
            "leno2..",
            &TEXT.replace("leno2", "leno1"),
            &TEXT.replace("0123", "012"),
            &TEXT.replace("abcdef", "ABCDEF"),
            &TEXT.replace("AAEC", "A*EC"),
            &TEXT[..TEXT.len() - 4],
            &format!("{TEXT}="),
            &format!("{TEXT}.x"),
            &format!("{TEXT}AAAA"),
            &"x".repeat(MOST_BYTES + 1),
        ] {
            let why = JoinSecret::parse(text).err().expect(text).to_string();
            assert!(text.len() < 8 || !why.contains(text), "{why}");
        }
    }

    #[test]
    fn what_means_to_be_a_secret_is_told_from_other_files() {
        assert!(JoinSecret::is_meant_by(TEXT) && JoinSecret::is_meant_by("\nleno2.broken"));
        assert!(
            !JoinSecret::is_meant_by("leno2") && !JoinSecret::is_meant_by("hunter2") && !JoinSecret::is_meant_by("")
        );
    }

    #[test]
    fn a_proof_is_good_for_its_secret_its_nonce_its_root_and_its_direction_alone() {
        let (secret, other) = (secret(), JoinSecret::generate().unwrap());
        let (nonce, root) = ([1; NONCE_BYTES], [2; 32]);
        let mac = secret.prove_root(&nonce, &root);
        assert!(secret.root_is_proven(&nonce, &root, &mac));
        assert!(!secret.root_is_proven(&[3; NONCE_BYTES], &root, &mac), "a replay");
        assert!(!secret.root_is_proven(&nonce, &[3; 32], &mac), "another root");
        assert!(!other.root_is_proven(&nonce, &root, &mac), "another secret");
        assert!(!secret.root_is_proven(&nonce, &root, &mac[..31]) && !secret.root_is_proven(&nonce, &root, &[]));
        let csr = [nonce, root].concat();
        assert!(!secret.request_is_proven(&csr, &mac), "the other direction");
        let mac = secret.prove_request(&csr);
        assert!(secret.request_is_proven(&csr, &mac) && !secret.request_is_proven(&csr[1..], &mac));
        assert!(!other.request_is_proven(&csr, &mac));
    }

    /// The bytes that are signed are part of the protocol: this is what another implementation (Python's `hmac`) makes of them.
    #[test]
    fn the_proofs_are_those_of_the_protocol() {
        let hex = |mac: Vec<u8>| mac.iter().map(|b| format!("{b:02x}")).collect::<String>();
        assert_eq!(
            hex(secret().prove_root(&[1; NONCE_BYTES], &[2; 32])),
            "3446c4c973b568ba18142ee6190e3c4d523fd776c2c69024755ba91989e68dd4"
        );
        assert_eq!(
            hex(secret().prove_request(b"request")),
            "1ea6726271eee781604f0d585f5209cc761685bc537ebd4285b2392287a394b2"
        );
    }
}
