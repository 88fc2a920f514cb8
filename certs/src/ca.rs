//! The certificate authority: one root certificate and its key.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyUsagePurpose, SanType, SerialNumber, SubjectPublicKeyInfo,
};
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use crate::csr::{Csr, uri};
use crate::{CertError, Key, Lineage, SpiffeId, verify};

/// A root and its key.
pub struct Authority {
    root: Vec<u8>,
    key: Key,
    trust_domain: String,
    not_after: OffsetDateTime,
}

impl Authority {
    /// A new root for a trust domain, named by the URI `spiffe://TRUST-DOMAIN` (SPIFFE X.509-SVID, section 3.1).
    ///
    /// # Errors
    /// The trust domain is no valid name, or the system has no randomness.
    pub fn generate(trust_domain: &str, not_before: OffsetDateTime, life: Duration) -> Result<Self, CertError> {
        SpiffeId::new(trust_domain, "a", "a")?;
        let key = Key::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, format!("Leno root of {trust_domain}").as_str());
        params.subject_alt_names = vec![SanType::URI(format!("spiffe://{trust_domain}").as_str().try_into()?)];
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = not_before;
        params.not_after = not_before + life;
        let root = params.self_signed(&key.pair)?.der().to_vec();
        let not_after = verify::not_after(&root)?;
        Ok(Self { root, key, trust_domain: trust_domain.to_owned(), not_after })
    }

    /// Takes up a root that was made before.
    ///
    /// # Errors
    /// The certificate is unreadable or names no trust domain.
    pub fn from_parts(root_der: &[u8], key: Key) -> Result<Self, CertError> {
        let uri = verify::uri_name(root_der)?;
        let trust_domain = uri.strip_prefix("spiffe://").unwrap_or_default().to_owned();
        SpiffeId::new(&trust_domain, "a", "a")?;
        Ok(Self { root: root_der.to_vec(), key, trust_domain, not_after: verify::not_after(root_der)? })
    }

    /// The root certificate, DER.
    pub fn root_der(&self) -> &[u8] {
        &self.root
    }

    /// The root's private key, PKCS#8, DER.
    pub fn key_pkcs8(&self) -> Zeroizing<Vec<u8>> {
        self.key.to_pkcs8()
    }

    /// Whose root it is.
    pub fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    /// When the root expires.
    pub fn not_after(&self) -> OffsetDateTime {
        self.not_after
    }

    /// Signs a request for the identity that its sender has proven, as one of the leaves of a sidecar; gives the leaf, DER.
    ///
    /// # Errors
    /// The request asks for another identity than `id`.
    pub fn sign(
        &self,
        csr: &Csr,
        id: &SpiffeId,
        lineage: &Lineage,
        not_before: OffsetDateTime,
        not_after: OffsetDateTime,
    ) -> Result<Vec<u8>, CertError> {
        if csr.requested() != id {
            return Err(CertError::WrongIdentity { asked: csr.requested().to_string(), proven: id.to_string() });
        }
        let public_key = SubjectPublicKeyInfo::from_der(&csr.public_key)?;
        let serial = SerialNumber::from(lineage.serial()?);
        self.leaf(&public_key, id, &[], Some(serial), (not_before, not_after))
    }

    /// Issues a leaf for a key that is at hand, with further DNS names or IP addresses; gives it as DER.
    ///
    /// # Errors
    /// A name is neither a DNS name nor an IP address.
    pub fn issue(
        &self,
        key: &Key,
        id: &SpiffeId,
        names: &[String],
        not_before: OffsetDateTime,
        not_after: OffsetDateTime,
    ) -> Result<Vec<u8>, CertError> {
        self.leaf(&key.pair, id, names, None, (not_before, not_after))
    }

    fn leaf(
        &self,
        public_key: &impl rcgen::PublicKeyData,
        id: &SpiffeId,
        names: &[String],
        serial: Option<SerialNumber>,
        (not_before, not_after): (OffsetDateTime, OffsetDateTime),
    ) -> Result<Vec<u8>, CertError> {
        // No subject: an SVID is named by its URI alone, and rcgen then marks the names critical, as RFC 5280 4.2.1.6 asks.
        let mut params = CertificateParams::new(names.to_vec())?;
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names.insert(0, SanType::URI(uri(id)?));
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.serial_number = serial;
        params.use_authority_key_identifier_extension = true;
        params.not_before = not_before;
        params.not_after = not_after.min(self.not_after);
        let root = CertificateDer::from(self.root.as_slice());
        let issuer = Issuer::from_ca_cert_der(&root, &self.key.pair)?;
        Ok(params.signed_by(public_key, &issuer)?.der().to_vec())
    }
}
