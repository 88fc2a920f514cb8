//! Certificates that nobody should trust, and some that everybody should. Shared by the tests of handshakes in memory and of the real
//! ports.

use std::sync::Arc;

use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, ExtendedKeyUsagePurpose as Eku,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose as Ku, NameConstraints, PKCS_ECDSA_P256_SHA256,
    PKCS_ECDSA_P384_SHA384, PKCS_ED25519, SanType,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use time::{Duration, OffsetDateTime};

pub const MESH: &str = "cluster.local";
const WEB: &str = "spiffe://cluster.local/ns/default/sa/web";

fn uri(text: &str) -> SanType {
    SanType::URI(Ia5String::try_from(text).unwrap())
}

/// An authority that signs whatever it is asked to.
pub struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pub der: CertificateDer<'static>,
}

impl Ca {
    pub fn root() -> Self {
        let key = KeyPair::generate().unwrap();
        let params = Self::params(MESH, BasicConstraints::Unconstrained);
        let der = params.self_signed(&key).unwrap().der().clone();
        Self { issuer: Issuer::new(params, key), der }
    }

    /// One whose root and key, PKCS#8, exist already.
    #[allow(dead_code, reason = "for the tests of real ports")]
    pub fn of(root: &[u8], key: &[u8]) -> Self {
        let (der, key) = (CertificateDer::from(root.to_vec()), KeyPair::try_from(key).unwrap());
        Self { issuer: Issuer::from_ca_cert_der(&der, key).unwrap(), der }
    }

    fn params(name: &str, constraints: BasicConstraints) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(constraints);
        params.key_usages = vec![Ku::KeyCertSign, Ku::CrlSign];
        params.not_before = OffsetDateTime::now_utc() - Duration::days(1);
        params.not_after = OffsetDateTime::now_utc() + Duration::days(1);
        params
    }

    /// An authority below this one.
    fn below(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = Self::params(name, BasicConstraints::Unconstrained);
        change(&mut params);
        let der = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        Self { issuer: Issuer::new(params, key), der }
    }

    /// A leaf as it should be, with one thing changed.
    pub fn leaf(&self, change: impl FnOnce(&mut CertificateParams)) -> Shown {
        self.leaf_of(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap(), change)
    }

    fn leaf_of(&self, key: KeyPair, change: impl FnOnce(&mut CertificateParams)) -> Shown {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![uri(WEB)];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![Ku::DigitalSignature];
        params.extended_key_usages = vec![Eku::ServerAuth, Eku::ClientAuth];
        params.not_before = OffsetDateTime::now_utc() - Duration::hours(1);
        params.not_after = OffsetDateTime::now_utc() + Duration::hours(1);
        change(&mut params);
        let der = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        Shown { chain: vec![der], key }
    }
}

/// What a peer shows, and the key by which it proves that it is its own.
pub struct Shown {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: KeyPair,
}

impl Shown {
    fn with(mut self, more: &[&Ca]) -> Self {
        self.chain.extend(more.iter().map(|ca| ca.der.clone()));
        self
    }

    /// As it is, whatever rustls would say of it.
    pub fn unchecked(&self) -> Arc<SingleCertAndKey> {
        let key = PrivateKeyDer::try_from(self.key.serialize_der()).unwrap();
        let key = aws_lc_rs::sign::any_supported_type(&key).unwrap();
        Arc::new(CertifiedKey::new(self.chain.clone(), key).into())
    }

    /// Changes the bytes of the leaf.
    fn bytes(mut self, change: impl FnOnce(&mut Vec<u8>)) -> Self {
        let mut der = self.chain[0].to_vec();
        change(&mut der);
        self.chain[0] = der.into();
        self
    }
}

/// Trusts everybody: the one who shows a bad certificate does not look at the other's.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

pub fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// A client that shows this and looks at nothing.
pub fn client(shown: &Shown) -> ClientConfig {
    ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_client_cert_resolver(shown.unchecked())
}

/// What is shown, and the code by which it is refused.
pub fn cases(root: &Ca) -> Vec<(&'static str, Shown, &'static str)> {
    let days = |from: i64, to: i64| {
        move |params: &mut CertificateParams| {
            params.not_before = OffsetDateTime::now_utc() + Duration::days(from);
            params.not_after = OffsetDateTime::now_utc() + Duration::days(to);
        }
    };
    let named = |text: &'static str| move |params: &mut CertificateParams| params.subject_alt_names = vec![uri(text)];
    let names = |names: Vec<SanType>| move |params: &mut CertificateParams| params.subject_alt_names = names;
    let dns = |text: &str| SanType::DnsName(Ia5String::try_from(text).unwrap());
    let usages = |usages: Vec<Ku>| move |params: &mut CertificateParams| params.key_usages = usages;
    let purposes = |purposes: Vec<Eku>| move |params: &mut CertificateParams| params.extended_key_usages = purposes;
    let constrained = |params: &mut CertificateParams| {
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![GeneralSubtree::DnsName("example.com".into())],
            excluded_subtrees: vec![],
        });
    };
    let long = format!("spiffe://cluster.local/ns/default/sa/{}", "a".repeat(2048));
    let critical = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999, 1], vec![5, 0]);
    let other = Ca::root();
    let below = root.below("below", |_| {});
    let expired_below = root.below("below", days(-9, -8));
    let short_below = root.below("below", |params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)));
    let no_ca_below = root.below("below", |params| params.is_ca = IsCa::ExplicitNoCa);
    let no_signer_below = root.below("below", |params| params.key_usages = vec![Ku::DigitalSignature]);
    let deep = below.below("deep", |_| {});
    let too_deep = short_below.below("deep", |_| {});
    let named_below = root.below("below", constrained);
    let mut deepest = vec![root.below("d0", |_| {})];
    for n in 1..12 {
        deepest.push(deepest[n - 1].below(&format!("d{n}"), |_| {}));
    }
    let chain_of_all: Vec<&Ca> = deepest.iter().rev().collect();
    let swapped = Shown { key: KeyPair::generate().unwrap(), ..root.leaf(|_| {}) };

    vec![
        // As they should be.
        ("a good leaf", root.leaf(|_| {}), "accepted"),
        ("a good leaf below an intermediate", below.leaf(|_| {}).with(&[&below]), "accepted"),
        ("a good leaf below two", deep.leaf(|_| {}).with(&[&deep, &below]), "accepted"),
        (
            "a good leaf of P-384",
            root.leaf_of(KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap(), |_| {}),
            "accepted",
        ),
        ("a good leaf of Ed25519", root.leaf_of(KeyPair::generate_for(&PKCS_ED25519).unwrap(), |_| {}), "accepted"),
        ("a DNS name besides the ID", root.leaf(names(vec![uri(WEB), dns("web")])), "accepted"),
        ("another account of the mesh", root.leaf(named("spiffe://cluster.local/ns/a/sa/b")), "accepted"),
        // Time.
        ("expired", root.leaf(days(-9, -8)), "certificate_expired"),
        ("not yet valid", root.leaf(days(8, 9)), "certificate_not_yet_valid"),
        ("ends before it begins", root.leaf(days(1, -1)), "certificate_expired"),
        ("below an expired intermediate", expired_below.leaf(|_| {}).with(&[&expired_below]), "certificate_expired"),
        // Who signed it.
        ("another authority's", other.leaf(|_| {}), "certificate_untrusted"),
        ("another authority's, with its root", other.leaf(|_| {}).with(&[&other]), "certificate_untrusted"),
        ("another authority's, with our root", other.leaf(|_| {}).with(&[root]), "certificate_untrusted"),
        ("below an intermediate that is not shown", below.leaf(|_| {}), "certificate_untrusted"),
        ("below what is no authority", no_ca_below.leaf(|_| {}).with(&[&no_ca_below]), "not_an_authority"),
        ("below what may not sign", no_signer_below.leaf(|_| {}).with(&[&no_signer_below]), "wrong_key_usage"),
        (
            "below more than a path length allows",
            too_deep.leaf(|_| {}).with(&[&too_deep, &short_below]),
            "path_too_long",
        ),
        ("below more than anybody needs", deepest[11].leaf(|_| {}).with(&chain_of_all), "path_too_long"),
        (
            "outside of a name constraint",
            named_below.leaf(names(vec![uri(WEB), dns("evil.org")])).with(&[&named_below]),
            "name_constraint",
        ),
        (
            "with a signature that was changed",
            root.leaf(|_| {}).bytes(|der| *der.last_mut().unwrap() ^= 1),
            "certificate_untrusted",
        ),
        // What it says of its holder.
        ("no name", root.leaf(names(vec![])), "no_identity"),
        ("a DNS name only", root.leaf(names(vec![dns("web.default")])), "no_identity"),
        ("a DNS name that looks like an ID", root.leaf(names(vec![dns("cluster.local")])), "no_identity"),
        ("an IP address only", root.leaf(names(vec![SanType::IpAddress([127, 0, 0, 1].into())])), "no_identity"),
        (
            "an e-mail address only",
            root.leaf(names(vec![SanType::Rfc822Name(Ia5String::try_from("a@b").unwrap())])),
            "no_identity",
        ),
        ("the ID twice", root.leaf(names(vec![uri(WEB), uri(WEB)])), "several_identities"),
        ("two IDs", root.leaf(names(vec![uri(WEB), uri("spiffe://cluster.local/ns/a/sa/b")])), "several_identities"),
        ("an ID and a web page", root.leaf(names(vec![uri("https://a/"), uri(WEB)])), "several_identities"),
        ("a web page", root.leaf(named("https://cluster.local/ns/default/sa/web")), "malformed_identity"),
        ("another scheme's case", root.leaf(named("SPIFFE://cluster.local/ns/default/sa/web")), "malformed_identity"),
        (
            "a trust domain in capitals",
            root.leaf(named("spiffe://CLUSTER.LOCAL/ns/default/sa/web")),
            "malformed_identity",
        ),
        ("the trust domain alone", root.leaf(named("spiffe://cluster.local")), "malformed_identity"),
        ("no trust domain", root.leaf(named("spiffe:///ns/default/sa/web")), "malformed_identity"),
        ("a path of another shape", root.leaf(named("spiffe://cluster.local/web")), "malformed_identity"),
        ("a segment too many", root.leaf(named("spiffe://cluster.local/ns/default/sa/web/x")), "malformed_identity"),
        ("an empty segment", root.leaf(named("spiffe://cluster.local/ns//sa/web")), "malformed_identity"),
        ("dots for a segment", root.leaf(named("spiffe://cluster.local/ns/../sa/web")), "malformed_identity"),
        ("a slash at the end", root.leaf(named("spiffe://cluster.local/ns/default/sa/web/")), "malformed_identity"),
        ("a user", root.leaf(named("spiffe://root@cluster.local/ns/default/sa/web")), "malformed_identity"),
        ("a port", root.leaf(named("spiffe://cluster.local:80/ns/default/sa/web")), "malformed_identity"),
        ("a query", root.leaf(named("spiffe://cluster.local/ns/default/sa/web?a")), "malformed_identity"),
        ("a fragment", root.leaf(named("spiffe://cluster.local/ns/default/sa/web#a")), "malformed_identity"),
        ("percent-encoding", root.leaf(named("spiffe://cluster.local/ns/default/sa/w%65b")), "malformed_identity"),
        ("a zero byte", root.leaf(named("spiffe://cluster.local/ns/default/sa/web\0.evil")), "malformed_identity"),
        ("a space", root.leaf(named("spiffe://cluster.local/ns/default/sa/web ")), "malformed_identity"),
        ("a line's end", root.leaf(named("spiffe://cluster.local/ns/default/sa/web\r\n")), "malformed_identity"),
        ("more than 2,048 bytes", root.leaf(names(vec![uri(&long)])), "malformed_identity"),
        ("another trust domain", root.leaf(named("spiffe://other.domain/ns/default/sa/web")), "wrong_trust_domain"),
        (
            "a trust domain below ours",
            root.leaf(named("spiffe://a.cluster.local/ns/default/sa/web")),
            "wrong_trust_domain",
        ),
        (
            "a trust domain that begins as ours",
            root.leaf(named("spiffe://cluster.local.evil/ns/default/sa/web")),
            "wrong_trust_domain",
        ),
        // What it may be used for.
        (
            "an authority",
            root.leaf(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
            "authority_leaf",
        ),
        ("the root itself", Shown { chain: vec![root.der.clone()], key: copy(root.issuer.key()) }, "authority_leaf"),
        ("an intermediate", Shown { chain: vec![below.der.clone()], key: copy(below.issuer.key()) }, "authority_leaf"),
        ("may sign certificates", root.leaf(usages(vec![Ku::DigitalSignature, Ku::KeyCertSign])), "wrong_key_usage"),
        ("may sign revocations", root.leaf(usages(vec![Ku::DigitalSignature, Ku::CrlSign])), "wrong_key_usage"),
        ("may not sign handshakes", root.leaf(usages(vec![Ku::KeyAgreement])), "wrong_key_usage"),
        ("for code only", root.leaf(purposes(vec![Eku::CodeSigning])), "wrong_purpose"),
        ("for mail only", root.leaf(purposes(vec![Eku::EmailProtection])), "wrong_purpose"),
        // What cannot be read.
        (
            "a critical extension that nobody knows",
            root.leaf(|params| {
                let mut critical = critical;
                critical.set_criticality(true);
                params.custom_extensions.push(critical);
            }),
            "unknown_extension",
        ),
        ("half of one", root.leaf(|_| {}).bytes(|der| der.truncate(der.len() / 2)), "certificate_malformed"),
        ("bytes behind it", root.leaf(|_| {}).bytes(|der| der.push(0)), "certificate_malformed"),
        ("nothing", root.leaf(|_| {}).bytes(Vec::clear), "certificate_malformed"),
        ("noise", root.leaf(|_| {}).bytes(|der| der.fill(0x30)), "certificate_malformed"),
        // The key.
        ("somebody else's", swapped, "certificate_untrusted"),
    ]
}

fn copy(key: &KeyPair) -> KeyPair {
    KeyPair::try_from(key.serialize_der()).unwrap()
}
