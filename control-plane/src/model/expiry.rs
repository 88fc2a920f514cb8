//! Certificates that users have put into the mesh, and when they end.

use leno_certs::verify;
use time::OffsetDateTime;

use super::{Mesh, Name};

/// Most that are told of at a time; those that end first.
const MOST: usize = 100;

/// What ends within this time is told of.
pub const SOON: time::Duration = time::Duration::days(30);

/// Something that ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expiring {
    /// `Secret shop/edge (tls.crt)`
    pub what: String,
    pub at: OffsetDateTime,
}

/// What ends before `until`, the soonest first: key pairs of Secrets, and the authorities that Secrets and ConfigMaps hold.
pub fn before(mesh: &Mesh, until: OffsetDateTime) -> Vec<Expiring> {
    let mut found = Vec::new();
    for (name, secret) in &mesh.secrets {
        if let Ok(pair) = &secret.key_pair {
            look(&mut found, "Secret", name, "tls.crt", &pair.chain, until);
        }
        if let Ok(authorities) = &secret.authorities {
            look(&mut found, "Secret", name, "ca.crt", authorities, until);
        }
    }
    for (name, map) in &mesh.config_maps {
        if let Ok(authorities) = &map.authorities {
            look(&mut found, "ConfigMap", name, "ca.crt", authorities, until);
        }
    }
    found.sort_by(|a, b| (a.at, &a.what).cmp(&(b.at, &b.what)));
    found.truncate(MOST);
    found
}

/// The first of some certificates to end.
fn look(
    found: &mut Vec<Expiring>,
    kind: &str,
    name: &Name,
    field: &str,
    certificates: &[Vec<u8>],
    until: OffsetDateTime,
) {
    let ends = certificates.iter().filter_map(|der| verify::not_after(der).ok()).min();
    if let Some(at) = ends.filter(|at| *at < until) {
        found.push(Expiring { what: format!("{kind} {name} ({field})"), at });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use leno_certs::Authority;

    use super::*;
    use crate::model::{ConfigMap, Secret};

    #[test]
    fn what_ends_soon_is_named_with_its_place_the_soonest_first_and_no_more_than_the_bound() {
        let now = OffsetDateTime::now_utc();
        let day = Duration::from_secs(24 * 3600);
        let root = |days: u32| Authority::generate("a", now - day, day * (days + 1)).unwrap().root_der().to_vec();
        let secret = |days: &[u32]| Secret {
            key_pair: Err("none".to_owned()),
            authorities: Ok(Arc::new(days.iter().map(|days| root(*days)).collect())),
        };
        let mut mesh = Mesh::default();
        mesh.secrets.insert(Name::new("a", "far"), secret(&[99]));
        mesh.secrets.insert(Name::new("a", "near"), secret(&[99, 3]));
        let map = ConfigMap { authorities: Ok(Arc::new(vec![root(2)])), jwks: Err("none".to_owned()) };
        mesh.config_maps.insert(Name::new("b", "roots"), map);
        let found: Vec<String> = before(&mesh, now + 30 * day).into_iter().map(|one| one.what).collect();
        assert_eq!(found, ["ConfigMap b/roots (ca.crt)", "Secret a/near (ca.crt)"]);
        let many = secret(&[1]);
        mesh.secrets.extend((0..200).map(|n| (Name::new("c", n.to_string()), many.clone())));
        assert_eq!(before(&mesh, now + 30 * day).len(), MOST);
    }
}
