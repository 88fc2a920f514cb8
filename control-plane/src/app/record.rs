//! Where discovery keeps what must outlive the process.

use crate::discovery::Record;
use crate::store::WeakStore;

const NAME: &str = "virtual-addresses";

/// The virtual addresses that do not follow from a name alone, in the store.
pub(super) struct VirtualAddresses(pub(super) WeakStore);

impl Record for VirtualAddresses {
    fn load(&self) -> Option<Vec<u8>> {
        self.0.upgrade()?.blob(NAME).unwrap_or_else(|error| {
            tracing::error!(%error, "the record of virtual addresses cannot be read; a few services may change theirs");
            None
        })
    }

    fn save(&self, record: &[u8]) {
        let Some(store) = self.0.upgrade() else { return };
        if let Err(error) = store.set_blob(NAME, record) {
            tracing::error!(%error, "the record of virtual addresses cannot be written; a few services may change theirs");
        }
    }
}
