//! The certificate authority: certificates that lead to a root, and the key that signs leaves.

mod import;
mod signer;

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyUsagePurpose, SanType, SerialNumber, SubjectPublicKeyInfo,
};
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;
use zeroize::Zeroizing;

pub use signer::{Remote, Signer};

use crate::csr::{Csr, uri};
use crate::{CertError, Key, Lineage, SpiffeId, verify};

/// What signs leaves: a certificate that may, its key, and the certificates up to the root that vouch for it.
pub struct Authority {
    /// From the one whose key signs up to, but without, the root. Empty: the root signs itself.
    intermediates: Vec<Vec<u8>>,
    root: Vec<u8>,
    signer: Signer,
    trust_domain: String,
    not_after: OffsetDateTime,
    key_id: Vec<u8>,
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
        Self::of(Vec::new(), root, Signer::Here(key), trust_domain.to_owned())
    }

    /// Takes up a root that was made before.
    ///
    /// # Errors
    /// The certificate is unreadable or names no trust domain.
    pub fn from_parts(root_der: &[u8], key: Key) -> Result<Self, CertError> {
        let uri = verify::uri_name(root_der)?;
        let trust_domain = uri.strip_prefix("spiffe://").unwrap_or_default().to_owned();
        SpiffeId::new(&trust_domain, "a", "a")?;
        Self::of(Vec::new(), root_der.to_vec(), Signer::Here(key), trust_domain)
    }

    /// Takes up certificates that somebody else has made: the one whose key signs first, the root last. What it signs is
    /// verified as a peer would, so that nothing is taken up of which a leaf would be refused.
    ///
    /// # Errors
    /// A leaf of it would be refused, and why.
    pub fn import(
        mut chain: Vec<Vec<u8>>,
        signer: Signer,
        trust_domain: &str,
        now: OffsetDateTime,
    ) -> Result<Self, CertError> {
        chain.iter().try_for_each(|certificate| import::is_authority(certificate, trust_domain))?;
        let root = chain.pop().ok_or_else(|| CertError::Malformed("no certificate was given".to_owned()))?;
        let authority = Self::of(chain, root, signer, trust_domain.to_owned())?;
        import::try_out(&authority, &authority.intermediates, &authority.root, now)?;
        Ok(authority)
    }

    /// Takes up again what [`Self::import`] has taken once.
    ///
    /// # Errors
    /// A certificate is unreadable.
    pub fn restore(mut chain: Vec<Vec<u8>>, signer: Signer, trust_domain: &str) -> Result<Self, CertError> {
        let root = chain.pop().ok_or_else(|| CertError::Malformed("no certificate was given".to_owned()))?;
        Self::of(chain, root, signer, trust_domain.to_owned())
    }

    fn of(intermediates: Vec<Vec<u8>>, root: Vec<u8>, signer: Signer, trust_domain: String) -> Result<Self, CertError> {
        let mut not_after = verify::not_after(&root)?;
        for certificate in &intermediates {
            not_after = not_after.min(verify::not_after(certificate)?);
        }
        let key_id = verify::subject_key_id(intermediates.first().unwrap_or(&root))?;
        Ok(Self { intermediates, root, signer, trust_domain, not_after, key_id })
    }

    /// The root certificate, DER.
    pub fn root_der(&self) -> &[u8] {
        &self.root
    }

    /// What is shown behind a leaf, so that it leads to the root: DER, the one that signed it first.
    pub fn intermediates(&self) -> &[Vec<u8>] {
        &self.intermediates
    }

    /// The private key, PKCS#8, DER; none when somebody else holds it.
    pub fn key_pkcs8(&self) -> Option<Zeroizing<Vec<u8>>> {
        match &self.signer {
            Signer::Here(key) => Some(key.to_pkcs8()),
            Signer::There { .. } => None,
        }
    }

    /// Whose root it is.
    pub fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    /// When the first of its certificates expires: no leaf lives longer.
    pub fn not_after(&self) -> OffsetDateTime {
        self.not_after
    }

    /// By which a leaf says who has signed it ([`verify::authority_key_id`]).
    pub fn key_id(&self) -> &[u8] {
        &self.key_id
    }

    /// Vouches for another authority: a certificate for the key by which it signs. Whoever knows but this one's root takes leaves of the
    /// other by it and [`Self::intermediates`] of this one.
    ///
    /// # Errors
    /// The other's certificate has a name that cannot be repeated, or this authority may sign leaves alone.
    pub fn vouch_for(&self, other: &Self, now: OffsetDateTime) -> Result<Vec<u8>, CertError> {
        let of = other.issuer();
        let mut params = CertificateParams::default();
        params.distinguished_name = import::subject(of)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.key_identifier_method = rcgen::KeyIdMethod::PreSpecified(other.key_id.clone());
        params.use_authority_key_identifier_extension = true;
        params.not_before = now - time::Duration::HOUR;
        params.not_after = self.not_after.min(other.not_after);
        let vouched = params.signed_by(&other.signer, &self.as_issuer()?)?.der().to_vec();
        let between = [other.intermediates(), std::slice::from_ref(&vouched), self.intermediates()].concat();
        import::try_out(other, &between, &self.root, now)?;
        Ok(vouched)
    }

    fn issuer(&self) -> &[u8] {
        self.intermediates.first().unwrap_or(&self.root)
    }

    fn as_issuer(&self) -> Result<Issuer<'static, &Signer>, CertError> {
        Ok(Issuer::from_ca_cert_der(&CertificateDer::from(self.issuer()), &self.signer)?)
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
        Ok(params.signed_by(public_key, &self.as_issuer()?)?.der().to_vec())
    }
}
