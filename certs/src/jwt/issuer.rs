//! For tests: somebody who signs tokens. Other crates' tests include this file, so it uses nothing of this crate.
#![allow(clippy::unwrap_used, dead_code)]

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaEncoding};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// An issuer with one key.
pub struct Issuer {
    /// As its tokens and its set name it.
    pub kid: String,
    key: Key,
}

enum Key {
    Ec(EcdsaKeyPair),
    Rsa(RsaKeyPair),
    Ed(Ed25519KeyPair),
}

/// As every part of a token is written.
pub fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Issuer {
    /// One that signs by ES256.
    pub fn es256(kid: &str) -> Self {
        let key = EcdsaKeyPair::generate(&signature::ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        Self { kid: kid.to_owned(), key: Key::Ec(key) }
    }

    /// One that signs by RS256, or by another algorithm of RSA when the header says so.
    pub fn rs256(kid: &str) -> Self {
        Self { kid: kid.to_owned(), key: Key::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()) }
    }

    /// One that signs by EdDSA.
    pub fn ed25519(kid: &str) -> Self {
        Self { kid: kid.to_owned(), key: Key::Ed(Ed25519KeyPair::generate().unwrap()) }
    }

    /// The algorithm it signs by without being asked for another.
    pub fn algorithm(&self) -> &'static str {
        match self.key {
            Key::Ec(_) => "ES256",
            Key::Rsa(_) => "RS256",
            Key::Ed(_) => "EdDSA",
        }
    }

    /// Its key, as a set has it.
    pub fn jwk(&self) -> Value {
        let mut jwk = match &self.key {
            Key::Ec(key) => {
                let point = key.public_key().as_ref();
                json!({"kty": "EC", "crv": "P-256", "x": base64url(&point[1..33]), "y": base64url(&point[33..])})
            }
            Key::Rsa(key) => {
                let public = key.public_key();
                let (n, e) = (public.modulus(), public.exponent());
                json!({"kty": "RSA", "n": base64url(n.big_endian_without_leading_zero()), "e": base64url(e.big_endian_without_leading_zero())})
            }
            Key::Ed(key) => json!({"kty": "OKP", "crv": "Ed25519", "x": base64url(key.public_key().as_ref())}),
        };
        jwk["kid"] = json!(self.kid);
        jwk["use"] = json!("sig");
        jwk
    }

    /// The set that has its key alone.
    pub fn jwks(&self) -> String {
        json!({ "keys": [self.jwk()] }).to_string()
    }

    /// A token with these claims.
    pub fn sign(&self, claims: &Value) -> String {
        self.sign_as(&json!({"alg": self.algorithm(), "kid": self.kid, "typ": "JWT"}), claims)
    }

    /// A token with this header, whatever it says.
    pub fn sign_as(&self, header: &Value, claims: &Value) -> String {
        self.sign_raw(&header.to_string(), &claims.to_string())
    }

    /// A token of these texts.
    pub fn sign_raw(&self, header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", base64url(header), base64url(claims));
        format!("{signed}.{}", base64url(self.signature(header, signed.as_bytes())))
    }

    fn signature(&self, header: &str, signed: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.key {
            Key::Ec(key) => key.sign(&random, signed).unwrap().as_ref().to_vec(),
            Key::Ed(key) => key.sign(signed).as_ref().to_vec(),
            Key::Rsa(key) => {
                let padding: &'static dyn RsaEncoding = match header {
                    header if header.contains("PS256") => &signature::RSA_PSS_SHA256,
                    header if header.contains("RS512") => &signature::RSA_PKCS1_SHA512,
                    _ => &signature::RSA_PKCS1_SHA256,
                };
                let mut made = vec![0; key.public_modulus_len()];
                key.sign(padding, &random, signed, &mut made).unwrap();
                made
            }
        }
    }
}
