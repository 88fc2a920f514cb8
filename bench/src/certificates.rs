//! Certificates for the peers: one authority, a client and a server, as PEM files in a folder.

use std::path::Path;

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use time::{Duration, OffsetDateTime};

/// The name that the server's certificate carries and the client verifies.
pub const SERVER_NAME: &str = "b.mesh.test";

/// Writes `ca.crt`, the client's `a.crt`, `a.key` and the server's `b.crt`, `b.key`; `a.pem` and `b.pem` are certificate and
/// key in one file, as HAProxy reads them. ECDSA P-256, as Leno's own.
pub fn write(dir: &Path) -> Result<()> {
    let key = KeyPair::generate()?;
    let mut params = parameters("Benchmark CA")?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    save(dir, "ca.crt", &params.self_signed(&key)?.pem())?;
    let issuer = Issuer::new(params, key);
    for (name, server) in [("a", false), ("b", true)] {
        let mut params = CertificateParams::new(vec![format!("{name}.mesh.test")])?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![if server { ExtendedKeyUsagePurpose::ServerAuth } else { ExtendedKeyUsagePurpose::ClientAuth }];
        dates(&mut params);
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &issuer)?.pem();
        save(dir, &format!("{name}.crt"), &certificate)?;
        save(dir, &format!("{name}.key"), &key.serialize_pem())?;
        save(dir, &format!("{name}.pem"), &(certificate + &key.serialize_pem()))?;
    }
    Ok(())
}

fn parameters(name: &str) -> Result<CertificateParams> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, name);
    dates(&mut params);
    Ok(params)
}

fn dates(params: &mut CertificateParams) {
    let now = OffsetDateTime::now_utc();
    params.not_before = now - Duration::hours(1);
    params.not_after = now + Duration::days(1);
}

fn save(dir: &Path, name: &str, text: &str) -> Result<()> {
    std::fs::write(dir.join(name), text).with_context(|| format!("write {name}"))
}
