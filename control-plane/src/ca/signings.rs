//! Which authority signed the last leaf of each sidecar while a rotation is under way. A sidecar shows a new leaf only when it comes with it: until
//! then what it shows says nothing of what it has, and a rotation that was taken back would end while some have leaves of the
//! authority that is about to be forgotten.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use leno_certs::lineage::Instance;

/// By sidecar: the key that signed its last leaf; None: one is being signed. In a lone control plane's memory: one that starts again knows
/// of what sidecars show.
#[derive(Debug, Default)]
pub(super) struct Signings(Mutex<HashMap<Instance, Option<Vec<u8>>>>);

/// A leaf that is being signed.
pub(super) struct Signing<'a> {
    all: &'a Signings,
    of: Instance,
    before: Option<Vec<u8>>,
}

impl Signings {
    fn lock(&self) -> MutexGuard<'_, HashMap<Instance, Option<Vec<u8>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To be called before it is looked who signs.
    pub(super) fn begin(&self, of: Instance) -> Signing<'_> {
        let before = self.lock().insert(of, None).flatten();
        Signing { all: self, of, before }
    }

    /// Sidecars that have, or may have, a leaf of another key than this.
    pub(super) fn others(&self, key_id: &[u8]) -> Arc<HashSet<Instance>> {
        let all = self.lock();
        let others = all.iter().filter(|(_, by)| by.as_deref() != Some(key_id)).map(|(instance, _)| *instance);
        Arc::new(others.collect())
    }

    /// No rotation is under way: what was signed is not looked at. What is being signed is.
    pub(super) fn forget(&self) {
        self.lock().retain(|_, by| by.is_none());
    }
}

impl Signing<'_> {
    /// It is signed. Without a rotation nobody has to know.
    pub(super) fn done(mut self, key_id: &[u8], rotating: bool) {
        self.before = rotating.then(|| key_id.to_owned());
    }
}

impl Drop for Signing<'_> {
    fn drop(&mut self) {
        let mut all = self.all.lock();
        match self.before.take() {
            Some(by) => drop(all.insert(self.of, Some(by))),
            None => drop(all.remove(&self.of)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_have_a_leaf_of_another_key_is_known_from_the_beginning_of_a_signing_on() {
        let all = Signings::default();
        let others = |key: &[u8]| all.others(key).iter().map(|instance| instance[0]).collect::<Vec<_>>();
        let one = all.begin([1; 8]);
        assert_eq!(others(b"new"), [1], "nobody knows yet by whom");
        one.done(b"new", true);
        assert_eq!((others(b"new"), others(b"old")), (vec![], vec![1]));
        // One that fails leaves what was there.
        drop(all.begin([1; 8]));
        assert_eq!((others(b"new"), others(b"old")), (vec![], vec![1]));
        all.begin([1; 8]).done(b"old", true);
        assert_eq!(others(b"old"), [0; 0]);
        all.forget();
        assert_eq!(others(b"new"), [0; 0]);
        all.begin([2; 8]).done(b"old", false);
        assert!(all.lock().is_empty(), "without a rotation nothing is kept");
    }
}
