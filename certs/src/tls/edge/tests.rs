use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use rustls::{ClientConnection, ServerConnection};

use super::*;

struct Ca {
    der: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

fn ca() -> Ca {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let der = params.self_signed(&key).unwrap().der().to_vec();
    Ca { der, issuer: Issuer::new(params, key) }
}

fn leaf(ca: &Ca, names: &[&str], uri: Option<&str>) -> EdgeCertificate {
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.subject_alt_names.extend(uri.map(|uri| SanType::URI(uri.try_into().unwrap())));
    let certificate = params.signed_by(&key, &ca.issuer).unwrap();
    EdgeCertificate::new(vec![certificate.der().to_vec()], &key.serialize_der()).unwrap()
}

/// Shakes hands in memory; gives the leaf that the client saw.
fn shake(client: ClientConfig, server: ServerConfig, name: &str) -> Result<Vec<u8>, Error> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
    let mut server = ServerConnection::new(Arc::new(server)).unwrap();
    while client.is_handshaking() || server.is_handshaking() {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        server.read_tls(&mut bytes.as_slice()).unwrap();
        server.process_new_packets()?;
        let mut bytes = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        client.read_tls(&mut bytes.as_slice()).unwrap();
        client.process_new_packets()?;
    }
    Ok(client.peer_certificates().unwrap()[0].to_vec())
}

fn backend<'a>(roots: &'a [Vec<u8>], hostname: &'a str, names: &'a [BackendName]) -> Backend<'a> {
    Backend { hostname, roots, names, client: None }
}

#[test]
fn the_certificate_is_picked_by_the_server_name_and_the_first_where_none_fits() {
    let ca = ca();
    let (one, wild) = (leaf(&ca, &["one.example.com"], None), leaf(&ca, &["*.example.com"], None));
    let roots = [ca.der.clone()];
    let seen = |asked: &str, expects: &str| {
        let client = backend_client(&backend(&roots, expects, &[]), &[]).unwrap();
        shake(client, edge_server(&[one.clone(), wild.clone()], None, &[]).unwrap(), asked)
    };
    assert_eq!(seen("one.example.com", "one.example.com").unwrap(), one.leaf());
    assert_eq!(seen("two.example.com", "two.example.com").unwrap(), wild.leaf());
    assert_eq!(seen("ONE.example.com", "one.example.com").unwrap(), one.leaf());
    // More labels than the wildcard's one.
    assert_eq!(seen("a.two.example.com", "one.example.com").unwrap(), one.leaf());
    assert!(seen("two.example.com", "one.example.org").is_err());
}

#[test]
fn a_backend_is_who_one_of_its_names_says() {
    let ca = ca();
    let own = leaf(&ca, &["db.example.com"], Some("spiffe://mesh/db"));
    let roots = [ca.der.clone()];
    let dns = |name: &str| vec![BackendName::Dns(name.to_owned())];
    let uri = |uri: &str| vec![BackendName::Uri(uri.to_owned())];
    for (names, good) in [
        (vec![], false),
        (dns("db.example.com"), true),
        (dns("other.example.com"), false),
        (dns("*.example.com"), false),
        (uri("spiffe://mesh/db"), true),
        (uri("spiffe://mesh/d"), false),
    ] {
        let client = backend_client(&backend(&roots, "front.example.com", &names), &[]).unwrap();
        let shaken = shake(client, edge_server(std::slice::from_ref(&own), None, &[]).unwrap(), "front.example.com");
        assert_eq!(shaken.is_ok(), good, "{names:?}");
    }
    let stranger = [super::tests::ca().der];
    let client = backend_client(&backend(&stranger, "db.example.com", &[]), &[]).unwrap();
    assert!(shake(client, edge_server(&[own], None, &[]).unwrap(), "db.example.com").is_err());
}

#[test]
fn clients_show_what_they_are_asked_for_unless_it_is_optional() {
    let (ca, stranger) = (ca(), ca());
    let own = leaf(&ca, &["web.example.com"], None);
    let roots = [ca.der.clone()];
    let (good, bad) = (leaf(&ca, &["c"], None), leaf(&stranger, &["c"], None));
    for (client, strict) in [(None, false), (Some(&good), true), (Some(&bad), false)] {
        for optional in [false, true] {
            let clients = EdgeClients { roots: vec![ca.der.clone()], optional };
            let server = edge_server(std::slice::from_ref(&own), Some(&clients), &[]).unwrap();
            let config = Backend { client, ..backend(&roots, "web.example.com", &[]) };
            let shaken = shake(backend_client(&config, &[]).unwrap(), server, "web.example.com");
            assert_eq!(shaken.is_ok(), strict || optional, "{client:?} {optional}");
        }
    }
}

#[test]
fn what_is_no_pair_is_refused_and_nothing_secret_is_shown() {
    let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let certificate = CertificateParams::new(vec!["a".to_owned()]).unwrap().self_signed(&key).unwrap();
    let chain = || vec![certificate.der().to_vec()];
    assert!(EdgeCertificate::new(chain(), &other.serialize_der()).is_err());
    assert!(EdgeCertificate::new(chain(), b"nonsense").is_err());
    assert!(EdgeCertificate::new(vec![], &key.serialize_der()).is_err());
    assert!(EdgeCertificate::new(vec![b"nonsense".to_vec()], &key.serialize_der()).is_err());
    let good = EdgeCertificate::new(chain(), &key.serialize_der()).unwrap();
    assert_eq!(format!("{good:?}"), r#"EdgeCertificate { names: ["a"], .. }"#);
    assert!(edge_server(&[], None, &[]).is_err());
}
