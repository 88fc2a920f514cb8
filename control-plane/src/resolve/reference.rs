//! References to Secrets and ConfigMaps. Whether a reference is permitted is looked at first, so that nobody learns what
//! exists in a namespace that granted nothing.

use std::sync::Arc;

use super::Problem;
use crate::model::{Authorities, GATEWAY_GROUP, KeyPair, Kind, Mesh, Name, ObjectRef};

/// Whether an object of this kind and namespace may refer to what it names.
fn permitted(mesh: &Mesh, (kind, own): (Kind, &Name), to: &ObjectRef) -> Result<(), Problem> {
    if mesh.may_refer((GATEWAY_GROUP, kind.as_str()), &own.namespace, (&to.group, &to.kind, &to.name)) {
        return Ok(());
    }
    let message =
        format!("no ReferenceGrant in {} lets this {kind} refer to {} {}", to.name.namespace, to.kind, to.name);
    Err(Problem::new("RefNotPermitted", message))
}

/// The certificate and key of a Secret; `invalid` is the reason when it has none.
pub(super) fn key_pair(
    mesh: &Mesh,
    owner: (Kind, &Name),
    to: &ObjectRef,
    invalid: &'static str,
) -> Result<Arc<KeyPair>, Problem> {
    permitted(mesh, owner, to)?;
    let ObjectRef { group, kind, name } = to;
    if !group.is_empty() || kind != "Secret" {
        return Err(Problem::new(invalid, format!("{kind} of group {group:?} holds no certificates; name a Secret")));
    }
    let secret = mesh.secrets.get(name).ok_or_else(|| Problem::new(invalid, format!("there is no Secret {name}")))?;
    let pair = secret.key_pair.as_ref();
    pair.cloned().map_err(|why| Problem::new(invalid, format!("the Secret {name} holds no key pair: {why}")))
}

/// Why authorities could not be taken.
pub(super) struct AuthorityReasons {
    pub invalid: &'static str,
    pub kind: &'static str,
}

/// The certificates of a ConfigMap or a Secret.
pub(super) fn authorities(
    mesh: &Mesh,
    owner: (Kind, &Name),
    to: &ObjectRef,
    reasons: &AuthorityReasons,
) -> Result<Authorities, Problem> {
    permitted(mesh, owner, to)?;
    let ObjectRef { group, kind, name } = to;
    let found = match (group.as_str(), kind.as_str()) {
        ("", "ConfigMap") => mesh.config_maps.get(name).map(|map| &map.authorities),
        ("", "Secret") => mesh.secrets.get(name).map(|secret| &secret.authorities),
        _ => {
            let message = format!("{kind} of group {group:?} holds no authorities; name a ConfigMap or a Secret");
            return Err(Problem::new(reasons.kind, message));
        }
    };
    let found = found.ok_or_else(|| Problem::new(reasons.invalid, format!("there is no {kind} {name}")))?;
    let found = found.as_ref();
    found
        .cloned()
        .map_err(|why| Problem::new(reasons.invalid, format!("the {kind} {name} holds no authorities: {why}")))
}
