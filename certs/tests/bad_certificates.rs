//! Certificates that nobody should trust, shown by a client to a server of the mesh and by a server to a client: each is refused
//! with its own code.
#![allow(clippy::unwrap_used, missing_docs)]

mod bad;

use std::io;
use std::sync::Arc;

use bad::{Ca, MESH, Shown, cases, provider};
use leno_certs::{TrustBundle, tls};
use rustls::{ClientConfig, ClientConnection, Error, ServerConfig, ServerConnection};

/// Runs a handshake in memory to the first error: the client's, the server's, or none.
fn run(client: ClientConfig, server: ServerConfig) -> (Option<Error>, Option<Error>) {
    let mut client = ClientConnection::new(Arc::new(client), "peer.test".try_into().unwrap()).unwrap();
    let mut server = ServerConnection::new(Arc::new(server)).unwrap();
    for _ in 0..8 {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let mut rest = wire.as_slice();
        while !rest.is_empty() {
            server.read_tls(&mut rest).unwrap();
            if let Err(error) = server.process_new_packets() {
                return (None, Some(error));
            }
        }
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let mut rest = wire.as_slice();
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            if let Err(error) = client.process_new_packets() {
                return (Some(error), None);
            }
        }
    }
    (None, None)
}

struct Mesh {
    root: Ca,
    bundle: TrustBundle,
}

impl Mesh {
    fn new() -> Self {
        let root = Ca::root();
        let bundle = TrustBundle::new(MESH, vec![root.der.to_vec()]);
        Self { root, bundle }
    }

    /// A good identity of this mesh.
    fn own(&self) -> leno_certs::Identity {
        let shown = self.root.leaf(|_| {});
        let key = leno_certs::Key::from_pkcs8(&shown.key.serialize_der()).unwrap();
        leno_certs::Identity::new(shown.chain.iter().map(|der| der.to_vec()).collect(), key).unwrap()
    }

    /// How a server of the mesh refuses a client that shows this.
    fn as_client(&self, shown: &Shown) -> &'static str {
        let server = tls::mesh_server(&self.own(), &self.bundle, &[]).unwrap();
        code(run(bad::client(shown), server).1)
    }

    /// How a client of the mesh refuses a server that shows this.
    fn as_server(&self, shown: &Shown) -> &'static str {
        let client = tls::mesh_client(&self.own(), &self.bundle, &[]).unwrap();
        let server = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(shown.unchecked());
        code(run(client, server).0)
    }
}

fn code(error: Option<Error>) -> &'static str {
    error.map_or("accepted", |error| tls::refusal(&io::Error::new(io::ErrorKind::InvalidData, error)))
}

#[test]
fn each_bad_certificate_is_refused_with_its_own_code_on_either_side() {
    let mesh = Mesh::new();
    let cases = cases(&mesh.root);
    assert!(cases.iter().filter(|(_, _, code)| *code != "accepted").count() >= 50);
    let mut wrong = Vec::new();
    for (what, shown, expected) in &cases {
        let found = (mesh.as_client(shown), mesh.as_server(shown));
        if found != (*expected, *expected) {
            wrong.push(format!("{what}: {found:?}, not {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}
