//! A map that is cheap to copy and to change: shards, of which a change copies only its own.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;

use super::Resource;

/// With 10,000 names a change copies some 80 entries and a copy of the table is 128 pointers.
const SHARDS: usize = 128;

type Shard = HashMap<Arc<str>, Arc<Resource>>;

/// Resources of one type by name. A clone shares everything until one of the two changes.
#[derive(Debug, Clone)]
pub(super) struct Table {
    shards: Vec<Arc<Shard>>,
}

impl Default for Table {
    fn default() -> Self {
        Self { shards: vec![Arc::default(); SHARDS] }
    }
}

/// The shard of a name: any fixed hash serves, since names come from users who already own the mesh's configuration, and
/// the maps inside are keyed.
fn shard_of(name: &str) -> usize {
    let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(name);
    usize::try_from(hash % SHARDS as u64).unwrap_or(0)
}

impl Table {
    pub(super) fn get(&self, name: &str) -> Option<&Arc<Resource>> {
        self.shards[shard_of(name)].get(name)
    }

    /// Sets a resource, or removes it; gives its name when that changed anything.
    pub(super) fn set(&mut self, name: &str, resource: Option<Resource>) -> Option<Arc<str>> {
        let seen = |resource: &Resource| (resource.version, resource.readers.clone());
        if self.get(name).map(|old| seen(old)) == resource.as_ref().map(seen) {
            return None;
        }
        let shard = Arc::make_mut(&mut self.shards[shard_of(name)]);
        let key = shard.get_key_value(name).map_or_else(|| Arc::from(name), |(key, _)| key.clone());
        match resource {
            Some(resource) => drop(shard.insert(key.clone(), Arc::new(resource))),
            None => drop(shard.remove(name)),
        }
        Some(key)
    }

    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|s| s.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use leno_proto::v1::SidecarConfig;

    fn resource(n: u64) -> Resource {
        Resource::encode(&SidecarConfig { renew_generation: n, ..SidecarConfig::default() })
    }

    #[test]
    fn a_clone_keeps_the_old_content_and_shares_the_untouched_shards() {
        let mut new = Table::default();
        for n in 0..1000 {
            assert!(new.set(&n.to_string(), Some(resource(n + 1))).is_some());
        }
        let old = new.clone();
        assert!(new.set("7", Some(resource(99))).is_some());
        assert!(new.set("8", Some(resource(9))).is_none(), "the same content is no change");
        assert_eq!(old.get("7").unwrap().version, resource(8).version);
        assert_eq!(new.get("7").unwrap().version, resource(99).version);
        let shared = old.shards.iter().zip(&new.shards).filter(|(a, b)| Arc::ptr_eq(a, b)).count();
        assert_eq!(shared, SHARDS - 1);
        assert!(new.set("7", None).is_some());
        assert!(new.set("7", None).is_none());
        assert_eq!((old.len(), new.len()), (1000, 999));
    }
}
