//! The root certificates that the machine trusts: for backends whose policy says so, and for issuers whose keys are fetched.

use std::path::PathBuf;
use std::sync::OnceLock;

/// Where distributions keep them, in one file of PEM.
const FILES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// DER. Read once, when somebody first needs them; empty when the machine has none.
pub fn system_roots() -> &'static [Vec<u8>] {
    static ROOTS: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    ROOTS.get_or_init(|| {
        // As OpenSSL and everything above it names another one.
        let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
        let files = named.into_iter().chain(FILES.iter().map(PathBuf::from));
        let text = files.into_iter().find_map(|file| std::fs::read(file).ok()).unwrap_or_default();
        let blocks = pem::parse_many(text).unwrap_or_default();
        let certificates = blocks.into_iter().filter(|block| block.tag() == "CERTIFICATE");
        certificates.map(pem::Pem::into_contents).collect()
    })
}
