//! The resources as they came, with their versions: what a reconnect tells the server, and what goes to disk.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use leno_proto::resource::TYPE_URLS;
use prost_types::Any;

/// Most bytes of resources that are held, their names included. A sidecar that needs more is asked for more than one
/// machine's traffic can use; the resource that would go beyond is refused by name.
pub(super) const MOST_BYTES: usize = 64 * 1024 * 1024;
/// Longest version; the control plane's have 16 characters.
const MOST_VERSION: usize = 128;

/// Type URL and name.
pub(super) type Key = (&'static str, String);

/// One resource as it came.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Raw {
    pub version: String,
    pub any: Arc<Any>,
}

/// Everything that the server has said.
#[derive(Debug, Default, Clone)]
pub(super) struct Held {
    present: BTreeMap<Key, Raw>,
    /// Names that the server said do not exist.
    absent: BTreeSet<Key>,
    bytes: usize,
}

/// The stream's own spelling of a type URL, if it is one of ours.
pub(super) fn known_type(type_url: &str) -> Option<&'static str> {
    TYPE_URLS.iter().find(|url| **url == type_url).copied()
}

fn size(key: &Key, raw: &Raw) -> usize {
    key.1.len() + raw.version.len() + raw.any.type_url.len() + raw.any.value.len()
}

impl Held {
    /// Whether a resource may be held in place of what is there now.
    pub fn admits(&self, key: &Key, raw: &Raw) -> Result<(), String> {
        if raw.version.len() > MOST_VERSION {
            return Err(format!("its version has {} characters, at most {MOST_VERSION} are taken", raw.version.len()));
        }
        let before = self.present.get(key).map_or(0, |old| size(key, old));
        if self.bytes - before + size(key, raw) > MOST_BYTES {
            return Err(format!("it would bring what this sidecar holds above {} MiB", MOST_BYTES >> 20));
        }
        Ok(())
    }

    pub fn insert(&mut self, key: Key, raw: Raw) {
        self.remove(&key);
        self.bytes += size(&key, &raw);
        self.present.insert(key, raw);
    }

    /// Notes that the server said that the name does not exist.
    pub fn set_absent(&mut self, key: Key) {
        self.remove(&key);
        self.absent.insert(key);
    }

    /// Forgets the name altogether.
    pub fn remove(&mut self, key: &Key) {
        if let Some(old) = self.present.remove(key) {
            self.bytes -= size(key, &old);
        }
        self.absent.remove(key);
    }

    /// Whether the server has answered for this name.
    pub fn knows(&self, key: &Key) -> bool {
        self.present.contains_key(key) || self.absent.contains(key)
    }

    /// Every name that the server has answered for.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.present.keys().chain(&self.absent)
    }

    /// What is held of one type: name to version.
    pub fn versions(&self, type_url: &'static str) -> BTreeMap<String, String> {
        self.iter()
            .filter(|(key, _)| key.0 == type_url)
            .map(|(key, raw)| (key.1.clone(), raw.version.clone()))
            .collect()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Key, &Raw)> {
        self.present.iter()
    }

    pub fn absent(&self) -> impl Iterator<Item = &Key> {
        self.absent.iter()
    }

    /// Bytes of everything held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(bytes: usize) -> Raw {
        Raw { version: "1".into(), any: Arc::new(Any { type_url: TYPE_URLS[0].into(), value: vec![0; bytes] }) }
    }

    #[test]
    fn no_more_than_the_bound_is_held() {
        let mut held = Held::default();
        let (a, b) = ((TYPE_URLS[0], "a".to_owned()), (TYPE_URLS[0], "b".to_owned()));
        let most = raw(MOST_BYTES - 2 - TYPE_URLS[0].len());
        assert_eq!(held.admits(&a, &most), Ok(()));
        held.insert(a.clone(), most.clone());
        assert!(held.admits(&b, &raw(0)).is_err());
        // Its own replacement is not counted twice.
        assert_eq!(held.admits(&a, &most), Ok(()));
        held.set_absent(a.clone());
        assert_eq!((held.bytes(), held.knows(&a), held.admits(&b, &most)), (0, true, Ok(())));
        held.remove(&a);
        assert!(!held.knows(&a));
    }

    #[test]
    fn an_overlong_version_is_refused() {
        let long = Raw { version: "v".repeat(MOST_VERSION + 1), ..raw(1) };
        assert!(Held::default().admits(&(TYPE_URLS[0], "a".to_owned()), &long).is_err());
    }
}
