//! Handshakes between the crate's own configurations, with good and bad certificates on either side.
#![allow(clippy::unwrap_used, missing_docs)]

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Duration;

use leno_certs::csr::{self, Csr};
use leno_certs::{Authority, CertError, Identity, Key, KeyKind, Lineage, SpiffeId, TrustBundle, tls, verify};
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection};
use time::OffsetDateTime;

const DAY: Duration = Duration::from_secs(86_400);

fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

fn authority(trust_domain: &str) -> Authority {
    Authority::generate(trust_domain, now() - 30 * DAY, 3650 * DAY).unwrap()
}

fn bundle(authority: &Authority) -> TrustBundle {
    TrustBundle::new(authority.trust_domain(), vec![authority.root_der().to_vec()])
}

fn identity(authority: &Authority, id: &SpiffeId, from: OffsetDateTime, to: OffsetDateTime) -> Identity {
    let key = Key::generate().unwrap();
    let leaf = authority.issue(&key, id, &[], from, to).unwrap();
    Identity::new(vec![leaf, authority.root_der().to_vec()], key).unwrap()
}

fn web(authority: &Authority) -> Identity {
    let id = SpiffeId::new(authority.trust_domain(), "default", "web").unwrap();
    identity(authority, &id, now() - DAY, now() + DAY)
}

/// Runs a handshake in memory; gives what each side says of it.
fn handshake(client: ClientConfig, server: ServerConfig) -> (Result<(), rustls::Error>, Result<(), rustls::Error>) {
    let mut client = ClientConnection::new(Arc::new(client), "peer.test".try_into().unwrap()).unwrap();
    let mut server = ServerConnection::new(Arc::new(server)).unwrap();
    for _ in 0..8 {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        server.read_tls(&mut wire.as_slice()).unwrap();
        if let Err(error) = server.process_new_packets() {
            return (Ok(()), Err(error));
        }
        let mut wire = Vec::new();
        server.write_tls(&mut wire).unwrap();
        client.read_tls(&mut wire.as_slice()).unwrap();
        if let Err(error) = client.process_new_packets() {
            return (Err(error), Ok(()));
        }
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    assert_eq!(client.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    let group = client.negotiated_key_exchange_group().map(|group| group.name());
    assert_eq!(group, Some(rustls::NamedGroup::X25519MLKEM768), "what is recorded today is read by nobody later");
    assert_eq!(client.handshake_kind(), Some(rustls::HandshakeKind::Full), "and costs no second round");
    client.writer().write_all(b"hello").unwrap();
    let mut wire = Vec::new();
    client.write_tls(&mut wire).unwrap();
    assert!(!wire.windows(5).any(|w| w == b"hello"));
    server.read_tls(&mut wire.as_slice()).unwrap();
    server.process_new_packets().unwrap();
    let mut said = [0; 5];
    server.reader().read_exact(&mut said).unwrap();
    (Ok(()), Ok(()))
}

#[test]
fn two_workloads_of_one_mesh_trust_each_other() {
    let ca = authority("cluster.local");
    let client = tls::mesh_client(&web(&ca), &bundle(&ca), &[b"h2"]).unwrap();
    let server = tls::mesh_server(&web(&ca), &bundle(&ca), &[b"h2"]).unwrap();
    assert_eq!(handshake(client, server), (Ok(()), Ok(())));
}

#[test]
fn a_client_without_a_right_certificate_is_refused() {
    let ca = authority("cluster.local");
    let server = || tls::mesh_server(&web(&ca), &bundle(&ca), &[]).unwrap();
    let other = authority("cluster.local");
    let foreign = authority("elsewhere.test");
    let id = SpiffeId::new("cluster.local", "default", "web").unwrap();
    let expired = identity(&ca, &id, now() - 3 * DAY, now() - DAY);
    let early = identity(&ca, &id, now() + DAY, now() + 2 * DAY);
    let domain = SpiffeId::new("elsewhere.test", "default", "web").unwrap();
    let wrong_domain = identity(&ca, &domain, now() - DAY, now() + DAY);
    for bad in [web(&other), web(&foreign), expired, early, wrong_domain] {
        let client = tls::mesh_client(&bad, &bundle(&ca), &[]).unwrap();
        let (_, server_says) = handshake(client, server());
        assert!(server_says.is_err(), "{bad:?}");
    }
    let anonymous = tls::pem_client(&bundle(&ca).to_pem(), &[]).unwrap();
    // Its name check fails first, so it is given a server whose name it likes.
    let key = Key::generate().unwrap();
    let leaf = ca.issue(&key, &id, &["peer.test".to_owned()], now() - DAY, now() + DAY).unwrap();
    let named = Identity::new(vec![leaf, ca.root_der().to_vec()], key).unwrap();
    let server = tls::mesh_server(&named, &bundle(&ca), &[]).unwrap();
    assert_eq!(handshake(anonymous, server).1, Err(rustls::Error::NoCertificatesPresented));
}

#[test]
fn a_server_without_a_right_certificate_is_refused() {
    let ca = authority("cluster.local");
    let other = authority("cluster.local");
    let client = tls::mesh_client(&web(&ca), &bundle(&ca), &[]).unwrap();
    let server = tls::mesh_server(&web(&other), &bundle(&ca), &[]).unwrap();
    assert!(handshake(client, server).0.is_err());
}

#[test]
fn a_joining_sidecar_accepts_only_the_pinned_root() {
    let ca = authority("cluster.local");
    let server = || tls::optional_client_server(&web(&ca), &bundle(&ca), &[]).unwrap();
    let right = tls::pinned_client(bundle(&ca).root_hash(), &[]).unwrap();
    assert_eq!(handshake(right, server()), (Ok(()), Ok(())));
    let wrong = tls::pinned_client(bundle(&authority("cluster.local")).root_hash(), &[]).unwrap();
    assert!(handshake(wrong, server()).0.is_err());
}

#[test]
fn an_authority_signs_only_the_identity_that_was_proven() {
    let ca = authority("cluster.local");
    let id = SpiffeId::new("cluster.local", "default", "web").unwrap();
    let other = SpiffeId::new("cluster.local", "default", "store").unwrap();
    let key = Key::generate().unwrap();
    let request = Csr::from_der(&csr::create(&key, &id).unwrap()).unwrap();
    let lineage = Lineage::begin(None).unwrap();
    let leaf = ca.sign(&request, &id, &lineage, now() - DAY, now() + DAY).unwrap();
    assert_eq!(verify::peer_id(&leaf), Ok(id.clone()));
    assert_eq!(verify::lineage(&leaf), Some(lineage));
    assert_eq!(verify::lineage(ca.root_der()), None);
    assert!(matches!(ca.sign(&request, &other, &lineage, now(), now() + DAY), Err(CertError::WrongIdentity { .. })));
    // No leaf outlives its root.
    let long = ca.sign(&request, &id, &lineage, now(), now() + 36_500 * DAY).unwrap();
    assert_eq!(verify::not_after(&long), Ok(ca.not_after()));
}

#[test]
fn a_request_that_was_tampered_with_is_refused() {
    let id = SpiffeId::new("cluster.local", "default", "web").unwrap();
    let good = csr::create(&Key::generate().unwrap(), &id).unwrap();
    assert!(Csr::from_der(&good).is_ok());
    // SEQUENCE { what is signed: SEQUENCE, algorithm, signature }; both lengths take one byte after 0x81 or none.
    let header = |der: &[u8]| if der[1] == 0x81 { (3, usize::from(der[2])) } else { (2, usize::from(der[1])) };
    let (outer, _) = header(&good);
    let (inner, length) = header(&good[outer..]);
    let signed = outer + inner + length;
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        // Of the envelope around what is signed, a parser may be lenient; what is asked for must be the same.
        if let Ok(lenient) = Csr::from_der(&bad) {
            assert_eq!(lenient.requested(), &id, "byte {at}");
            assert!(at >= signed, "byte {at} is signed");
        }
        assert!(Csr::from_der(&good[..at]).is_err(), "cut at {at}");
    }
    assert!(Csr::from_der(&[good, vec![0]].concat()).is_err());
}

#[test]
fn an_authority_survives_being_saved() {
    let ca = authority("cluster.local");
    let again = Authority::from_parts(ca.root_der(), Key::from_pkcs8(&ca.key_pkcs8().unwrap()).unwrap()).unwrap();
    assert_eq!(again.trust_domain(), "cluster.local");
    let client = tls::mesh_client(&web(&again), &bundle(&ca), &[]).unwrap();
    let server = tls::mesh_server(&web(&ca), &bundle(&again), &[]).unwrap();
    assert_eq!(handshake(client, server), (Ok(()), Ok(())));
}

#[test]
fn a_leaf_that_is_an_authority_or_has_no_single_identity_is_none() {
    let ca = authority("cluster.local");
    assert_eq!(verify::peer_id(ca.root_der()), Err(CertError::AuthorityLeaf));
    let key = rcgen::KeyPair::generate().unwrap();
    let two = ["spiffe://cluster.local/ns/a/sa/b", "spiffe://cluster.local/ns/a/sa/c"];
    for (names, count) in [(&two[..0], 0), (&two[..], 2)] {
        let mut params = rcgen::CertificateParams::new(vec!["dns.test".to_owned()]).unwrap();
        params.subject_alt_names.extend(names.iter().map(|n| rcgen::SanType::URI((*n).try_into().unwrap())));
        let leaf = params.self_signed(&key).unwrap();
        assert_eq!(verify::peer_id(leaf.der()), Err(CertError::UriNames(count)));
    }
    assert!(verify::peer_id(b"no certificate").is_err());
}

/// A bundle of `own` that is federated with `foreign`.
fn federated(own: &Authority, foreign: &Authority) -> TrustBundle {
    let roots = vec![foreign.root_der().to_vec()];
    let foreign = leno_certs::FederatedRoots { trust_domain: foreign.trust_domain().to_owned(), roots };
    TrustBundle { federated: vec![foreign], ..bundle(own) }
}

#[test]
fn workloads_of_federated_meshes_trust_each_other_and_those_of_one_direction_alone_do_not() {
    let (east, west) = (authority("east.example"), authority("west.example"));
    let client = || tls::mesh_client(&web(&east), &federated(&east, &west), &[]).unwrap();
    let server = tls::mesh_server(&web(&west), &federated(&west, &east), &[]).unwrap();
    assert_eq!(handshake(client(), server), (Ok(()), Ok(())));
    let alone = tls::mesh_server(&web(&west), &bundle(&west), &[]).unwrap();
    assert!(handshake(client(), alone).1.is_err(), "the server was not told of the client's domain");
    let client = tls::mesh_client(&web(&east), &bundle(&east), &[]).unwrap();
    let server = tls::mesh_server(&web(&west), &federated(&west, &east), &[]).unwrap();
    assert!(handshake(client, server).0.is_err(), "the client was not told of the server's domain");
}

#[test]
fn a_root_vouches_for_its_own_domain_and_for_no_other() {
    let (east, west) = (authority("east.example"), authority("west.example"));
    let bundle = federated(&east, &west);
    let as_other = |signer: &Authority, of: &Authority| {
        identity(signer, &SpiffeId::new(of.trust_domain(), "default", "web").unwrap(), now() - DAY, now() + DAY)
    };
    for (bad, why) in [
        (as_other(&west, &east), "the foreign authority signs one of ours"),
        (as_other(&east, &west), "our authority signs a foreign one"),
        (web(&authority("west.example")), "another authority that calls itself the same"),
        (web(&authority("north.example")), "a domain that nobody is federated with"),
    ] {
        let theirs = TrustBundle { federated: bundle.federated.clone(), ..self::bundle(&east) };
        let client = tls::mesh_client(&bad, &theirs, &[]).unwrap();
        let server = tls::mesh_server(&web(&east), &bundle, &[]).unwrap();
        assert!(handshake(client, server).1.is_err(), "{why}");
        let client = tls::mesh_client(&web(&east), &bundle, &[]).unwrap();
        let server = tls::mesh_server(&bad, &theirs, &[]).unwrap();
        assert!(handshake(client, server).0.is_err(), "{why}");
    }
}

#[test]
fn the_control_plane_and_its_sidecars_believe_their_own_domain_alone() {
    let (east, west) = (authority("east.example"), authority("west.example"));
    let bundle = federated(&east, &west);
    let stranger = tls::mesh_client(&web(&west), &federated(&west, &east), &[]).unwrap();
    let server = tls::optional_client_server(&web(&east), &bundle, &[]).unwrap();
    assert!(handshake(stranger, server).1.is_err(), "a foreign workload gets no stream");
    let client = tls::control_plane_client(&web(&east), &bundle, &[]).unwrap();
    let server = tls::mesh_server(&web(&west), &federated(&west, &east), &[]).unwrap();
    assert!(handshake(client, server).0.is_err(), "a foreign workload is no control plane");
}

#[test]
fn a_foreign_root_that_cannot_be_read_takes_nobody_down() {
    let (east, west) = (authority("east.example"), authority("west.example"));
    let mut bundle = federated(&east, &west);
    bundle.federated[0].roots.insert(0, b"no certificate".to_vec());
    let server = tls::mesh_server(&web(&east), &bundle, &[]).unwrap();
    let client = tls::mesh_client(&web(&west), &federated(&west, &east), &[]).unwrap();
    assert_eq!(handshake(client, server), (Ok(()), Ok(())), "the other root holds");
    bundle.federated[0].roots.truncate(1);
    let server = tls::mesh_server(&web(&east), &bundle, &[]).unwrap();
    assert_eq!(handshake(tls::mesh_client(&web(&east), &bundle, &[]).unwrap(), server), (Ok(()), Ok(())));
}

#[test]
fn a_leaf_with_an_ed25519_key_is_asked_for_issued_and_believed() {
    let ca = authority("cluster.local");
    let id = SpiffeId::new("cluster.local", "default", "web").unwrap();
    let key = Key::generate_as(KeyKind::Ed25519).unwrap();
    let asked = Csr::from_der(&csr::create(&key, &id).unwrap()).unwrap();
    let leaf = ca.sign(&asked, &id, &Lineage::begin(None).unwrap(), now() - DAY, now() + DAY).unwrap();
    let again = Key::from_pkcs8(&key.to_pkcs8()).unwrap();
    assert_eq!(again.kind(), KeyKind::Ed25519, "as it comes back from disk");
    let identity = Identity::new(vec![leaf, ca.root_der().to_vec()], again).unwrap();
    let client = tls::mesh_client(&identity, &bundle(&ca), &[]).unwrap();
    let server = tls::mesh_server(&identity, &bundle(&ca), &[]).unwrap();
    assert_eq!(handshake(client, server), (Ok(()), Ok(())));
    let mut forged = csr::create(&key, &id).unwrap();
    *forged.last_mut().unwrap() ^= 1;
    assert!(matches!(Csr::from_der(&forged), Err(CertError::BadSignature)));
}
