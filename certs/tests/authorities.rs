//! Authorities that follow one another: what one vouches for is taken by whoever knows but its root, and what nobody would take is not taken up.
#![allow(clippy::unwrap_used, missing_docs)]

use std::sync::Arc;
use std::time::Duration;

use leno_certs::{Authority, CertError, Identity, Key, Remote, Signer, SpiffeId, TrustBundle, Zeroizing, tls, verify};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, DnValue, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType, SigningKey,
};
use rustls::{ClientConnection, ServerConnection};
use time::OffsetDateTime;

const DOMAIN: &str = "cluster.local";
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

fn hour() -> time::Duration {
    time::Duration::HOUR
}

fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

fn generated() -> Authority {
    Authority::generate(DOMAIN, now() - hour(), YEAR).unwrap()
}

fn bundle(of: &[&Authority]) -> TrustBundle {
    TrustBundle::new(DOMAIN, of.iter().map(|a| a.root_der().to_vec()).collect())
}

/// A leaf of an authority, shown with what else vouches for it.
fn identity(of: &Authority, also: &[Vec<u8>]) -> Identity {
    let (key, id) = (Key::generate().unwrap(), SpiffeId::new(DOMAIN, "shop", "web").unwrap());
    let leaf = of.issue(&key, &id, &[], now() - hour(), now() + hour()).unwrap();
    let chain = [vec![leaf], of.intermediates().to_vec(), also.to_vec()].concat();
    Identity::new(chain, key).unwrap()
}

/// Whether a client with these roots takes a server.
fn takes(client: (&Identity, &TrustBundle), server: (&Identity, &TrustBundle)) -> Result<(), rustls::Error> {
    let dialling = Arc::new(tls::mesh_client(client.0, client.1, &[b"h2"]).unwrap());
    let mut dialling = ClientConnection::new(dialling, "peer.test".try_into().unwrap()).unwrap();
    let accepting = Arc::new(tls::mesh_server(server.0, server.1, &[b"h2"]).unwrap());
    let mut accepting = ServerConnection::new(accepting).unwrap();
    for _ in 0..8 {
        let mut wire = Vec::new();
        while dialling.wants_write() {
            dialling.write_tls(&mut wire).unwrap();
        }
        let mut rest = wire.as_slice();
        while !rest.is_empty() {
            accepting.read_tls(&mut rest).unwrap();
            accepting.process_new_packets()?;
        }
        let mut wire = Vec::new();
        while accepting.wants_write() {
            accepting.write_tls(&mut wire).unwrap();
        }
        let mut rest = wire.as_slice();
        while !rest.is_empty() {
            dialling.read_tls(&mut rest).unwrap();
            dialling.process_new_packets()?;
        }
    }
    assert!(!dialling.is_handshaking() && !accepting.is_handshaking());
    Ok(())
}

#[test]
fn while_roots_overlap_old_and_new_leaves_take_each_other_whatever_of_the_roots_each_end_knows() {
    let (old, new) = (generated(), generated());
    let vouched = [old.vouch_for(&new, now()).unwrap()];
    let (first, second) = (identity(&old, &[]), identity(&new, &vouched));
    let (ours, both, theirs) = (bundle(&[&old]), bundle(&[&old, &new]), bundle(&[&new]));
    // Who has not got the new root yet takes new leaves by the old one's word.
    for (client, server) in [(&ours, &ours), (&ours, &both), (&both, &ours), (&both, &both)] {
        takes((&first, client), (&second, server)).unwrap();
        takes((&second, client), (&first, server)).unwrap();
    }
    takes((&second, &theirs), (&second, &theirs)).unwrap();
    assert!(takes((&second, &theirs), (&first, &both)).is_err(), "the old root is retired");
    assert!(takes((&first, &ours), (&identity(&new, &[]), &both)).is_err(), "nobody vouches for it");
    assert_eq!(verify::authority_key_id(&second.chain[0]).unwrap(), new.key_id());
    assert_ne!(new.key_id(), old.key_id());
}

/// An authority as operators make them, by other tools than ours.
struct Made {
    params: CertificateParams,
    der: Vec<u8>,
    key: KeyPair,
}

impl Made {
    fn by(issuer: Option<&Self>, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let mut params = CertificateParams::default();
        let organization = DnValue::PrintableString("Example Corp".try_into().unwrap());
        params.distinguished_name.push(DnType::OrganizationName, organization);
        params.distinguished_name.push(DnType::CommonName, if issuer.is_some() { "Mesh CA" } else { "Example Root" });
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = now() - hour();
        params.not_after = now() + YEAR;
        change(&mut params);
        let der = match issuer {
            None => params.self_signed(&key).unwrap(),
            Some(by) => params.signed_by(&key, &Issuer::from_params(&by.params, &by.key)).unwrap(),
        };
        Self { params, der: der.der().to_vec(), key }
    }

    fn signer(&self) -> Signer {
        Signer::Here(Key::from_pkcs8(&Zeroizing::new(self.key.serialize_der())).unwrap())
    }
}

#[test]
fn an_intermediate_of_the_operators_own_is_taken_up_and_the_root_before_vouches_for_it() {
    let old = generated();
    let root = Made::by(None, |_| {});
    let mesh = Made::by(Some(&root), |_| {});
    let taken = Authority::import(vec![mesh.der.clone(), root.der.clone()], mesh.signer(), DOMAIN, now()).unwrap();
    let vouched = [old.vouch_for(&taken, now()).unwrap()];
    let (first, second) = (identity(&old, &[]), identity(&taken, &vouched));
    let (ours, theirs) = (bundle(&[&old]), bundle(&[&taken]));
    takes((&first, &ours), (&second, &bundle(&[&old, &taken]))).unwrap();
    takes((&second, &theirs), (&second, &theirs)).unwrap();
    // The same from what is kept of it.
    let again = Authority::restore(vec![mesh.der.clone(), root.der.clone()], mesh.signer(), DOMAIN).unwrap();
    takes((&identity(&again, &[]), &theirs), (&second, &theirs)).unwrap();
    // A root that signs itself is one, too.
    let alone = Authority::import(vec![root.der.clone()], root.signer(), DOMAIN, now()).unwrap();
    takes((&identity(&alone, &[]), &bundle(&[&alone])), (&second, &theirs)).unwrap();
}

#[test]
fn what_a_peer_would_refuse_is_not_taken_up() {
    let root = Made::by(None, |_| {});
    let unfit = |made: &Made, chain: Vec<Vec<u8>>| Authority::import(chain, made.signer(), DOMAIN, now()).err();
    let by = |change: fn(&mut CertificateParams)| {
        let made = Made::by(Some(&root), change);
        unfit(&made, vec![made.der.clone(), root.der.clone()])
    };
    assert_eq!(by(|p| p.is_ca = IsCa::ExplicitNoCa), Some(CertError::NoAuthority));
    assert!(matches!(by(|p| p.key_usages = vec![KeyUsagePurpose::DigitalSignature]), Some(CertError::KeyUsage(_))));
    assert!(matches!(by(|p| p.not_after = now() + hour() / 2), Some(CertError::EndsSoon(_))));
    assert!(matches!(by(|p| p.not_before = now() + hour()), Some(CertError::Malformed(_))), "not valid yet");
    let elsewhere = |p: &mut CertificateParams| {
        p.subject_alt_names = vec![SanType::URI("spiffe://elsewhere".try_into().unwrap())];
    };
    assert!(matches!(by(elsewhere), Some(CertError::WrongTrustDomain { .. })));
    // One that allows none below it.
    let short = Made::by(Some(&root), |p| p.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)));
    let below = Made::by(Some(&short), |_| {});
    assert!(unfit(&below, vec![below.der.clone(), short.der.clone(), root.der.clone()]).is_some());
    // The key of another, the root of another, and nothing.
    let (mesh, other) = (Made::by(Some(&root), |_| {}), Made::by(None, |_| {}));
    assert!(unfit(&other, vec![mesh.der.clone(), root.der.clone()]).is_some());
    assert!(unfit(&mesh, vec![mesh.der.clone(), other.der.clone()]).is_some());
    assert!(unfit(&mesh, Vec::new()).is_some());
    assert!(unfit(&mesh, vec![b"no certificate".to_vec()]).is_some());
}

struct Elsewhere(KeyPair);

impl Remote for Elsewhere {
    fn sign(&self, message: &[u8]) -> std::io::Result<Vec<u8>> {
        SigningKey::sign(&self.0, message).map_err(std::io::Error::other)
    }
}

#[test]
fn who_holds_the_key_elsewhere_signs_as_well() {
    let root = Made::by(None, |_| {});
    let Made { der, key, .. } = Made::by(Some(&root), |_| {});
    let signer = Signer::remote(&der, Arc::new(Elsewhere(key))).unwrap();
    let authority = Authority::import(vec![der, root.der], signer, DOMAIN, now()).unwrap();
    assert!(authority.key_pkcs8().is_none());
    let (who, roots) = (identity(&authority, &[]), bundle(&[&authority]));
    takes((&who, &roots), (&who, &roots)).unwrap();
}
