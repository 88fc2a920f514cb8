//! Who is in the mesh no more, though his certificates have not expired.

use std::collections::{BTreeMap, HashSet};

use leno_certs::Lineage;
use leno_certs::lineage::{Instance, Origin};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Name;

/// What was revoked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Target {
    /// The sidecars that have registered under the name of a workload. Others of their identity stay.
    Workload {
        name: Name,
        #[serde(serialize_with = "write", deserialize_with = "read")]
        lineages: Vec<Lineage>,
    },
    /// Everybody of a SPIFFE ID.
    Identity(String),
}

/// One revocation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Revocation {
    /// By which it is undone.
    pub id: String,
    pub target: Target,
    /// Why; may be empty.
    pub reason: String,
    /// Who revoked.
    pub by: String,
    /// Seconds since 1970.
    pub created_unix: i64,
    /// Seconds since 1970: when whatever was revoked is of no use any more. None: it holds until it is undone.
    pub expires_unix: Option<i64>,
}

/// All revocations in force.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Revocations {
    by_id: BTreeMap<String, Revocation>,
    instances: HashSet<Instance>,
    origins: HashSet<Origin>,
    identities: HashSet<String>,
}

impl FromIterator<Revocation> for Revocations {
    fn from_iter<I: IntoIterator<Item = Revocation>>(all: I) -> Self {
        let mut this = Self::default();
        for revocation in all {
            match &revocation.target {
                Target::Workload { lineages, .. } => {
                    this.instances.extend(lineages.iter().map(|lineage| lineage.instance));
                    let again = lineages.iter().map(|lineage| lineage.origin);
                    this.origins.extend(again.filter(|origin| *origin != Origin::default()));
                }
                Target::Identity(id) => drop(this.identities.insert(id.clone())),
            }
            this.by_id.insert(revocation.id.clone(), revocation);
        }
        this
    }
}

impl Revocations {
    /// Whether the holder of a certificate was revoked.
    pub fn refuse(&self, identity: &str, lineage: Option<&Lineage>) -> bool {
        self.identities.contains(identity) || lineage.is_some_and(|lineage| self.instances.contains(&lineage.instance))
    }

    /// Whether a sidecar that was revoked could join again by this.
    pub fn refuse_origin(&self, origin: &Origin) -> bool {
        self.origins.contains(origin)
    }

    /// Each of them, sorted by id.
    pub fn iter(&self) -> impl Iterator<Item = &Revocation> {
        self.by_id.values()
    }

    /// One of them.
    pub fn get(&self, id: &str) -> Option<&Revocation> {
        self.by_id.get(id)
    }

    /// Sidecars and identities: what every sidecar is told.
    pub fn count(&self) -> usize {
        self.instances.len() + self.identities.len()
    }

    /// Sidecars, sorted.
    pub fn instances(&self) -> Vec<Instance> {
        let mut all: Vec<Instance> = self.instances.iter().copied().collect();
        all.sort_unstable();
        all
    }

    /// SPIFFE IDs, sorted.
    pub fn identities(&self) -> Vec<String> {
        let mut all: Vec<String> = self.identities.iter().cloned().collect();
        all.sort_unstable();
        all
    }
}

fn write<S: Serializer>(lineages: &[Lineage], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(lineages.iter().map(ToString::to_string))
}

fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Lineage>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    texts.iter().map(|text| text.parse().map_err(serde::de::Error::custom)).collect()
}

/// A lineage that may be missing, as records have it.
pub(super) mod optional {
    use super::{Deserialize, Deserializer, Lineage, Serializer};

    pub fn serialize<S: Serializer>(lineage: &Option<Lineage>, serializer: S) -> Result<S::Ok, S::Error> {
        match lineage {
            Some(lineage) => serializer.collect_str(lineage),
            None => serializer.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Lineage>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| text.parse().map_err(serde::de::Error::custom)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workload_takes_its_sidecars_and_what_they_could_join_by_and_nobody_else() {
        let lineages = vec![Lineage { instance: [1; 8], origin: [0; 4] }, Lineage { instance: [2; 8], origin: [9; 4] }];
        let target = Target::Workload { name: Name::new("default", "web-1"), lineages: lineages.clone() };
        let revocation = Revocation {
            id: "a".to_owned(),
            target,
            reason: String::new(),
            by: "admin".to_owned(),
            created_unix: 0,
            expires_unix: None,
        };
        let text = serde_json::to_string(&revocation).unwrap();
        assert_eq!(serde_json::from_str::<Revocation>(&text).unwrap(), revocation);
        let all: Revocations = [revocation].into_iter().collect();
        let other = Lineage { instance: [3; 8], origin: [9; 4] };
        assert!(all.refuse("x", Some(&lineages[0])) && all.refuse("x", Some(&lineages[1])));
        assert!(!all.refuse("x", Some(&other)) && !all.refuse("x", None));
        assert!(all.refuse_origin(&[9; 4]) && !all.refuse_origin(&[0; 4]));
        assert_eq!(all.count(), 2);
    }
}
