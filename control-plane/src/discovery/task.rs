//! The one task that runs the engine.

use std::sync::Arc;

use leno_runtime::drain::DrainWatch;
use tokio::sync::watch;

use super::{Engine, Globals, World};
use crate::model::{Committed, Revocations};
use crate::registry::Live;

/// Where what has to outlive the process is kept; blocks on the disk.
pub trait Record: Send + 'static {
    /// What was kept.
    fn load(&self) -> Option<Vec<u8>>;
    /// Keeps it.
    fn save(&self, record: &[u8]);
}

/// Starts discovery. The first world is there when this returns, so no session ever sees an empty one. `record` is that of the
/// virtual addresses.
pub fn spawn(
    record: impl Record,
    mut committed: watch::Receiver<Arc<Committed>>,
    mut live: watch::Receiver<Arc<Live>>,
    mut globals: watch::Receiver<Globals>,
    mut revocations: watch::Receiver<Arc<Revocations>>,
    drain: DrainWatch,
) -> watch::Receiver<Arc<World>> {
    let mut engine = Engine::new(record.load().as_deref());
    update(&mut engine, &mut committed, &mut live, &mut globals, &mut revocations);
    save(&mut engine, &record);
    let (publish, worlds) = watch::channel(engine.world());
    tokio::spawn(async move {
        loop {
            let open = tokio::select! {
                open = committed.changed() => open.is_ok(),
                open = live.changed() => open.is_ok(),
                open = globals.changed() => open.is_ok(),
                open = revocations.changed() => open.is_ok(),
                () = publish.closed() => false,
                () = drain.signaled() => false,
            };
            if !open {
                return;
            }
            if let Some(world) = update(&mut engine, &mut committed, &mut live, &mut globals, &mut revocations) {
                save(&mut engine, &record);
                publish.send_replace(world);
            }
        }
    });
    worlds
}

/// Written before anybody can have seen the address. It is rare (two names of one hash) and small, so the task waits for the
/// disk.
fn save(engine: &mut Engine, record: &impl Record) {
    if let Some(unsaved) = engine.take_unsaved() {
        record.save(&unsaved);
    }
}

fn update(
    engine: &mut Engine,
    committed: &mut watch::Receiver<Arc<Committed>>,
    live: &mut watch::Receiver<Arc<Live>>,
    globals: &mut watch::Receiver<Globals>,
    revocations: &mut watch::Receiver<Arc<Revocations>>,
) -> Option<Arc<World>> {
    // Cloned out, so that no sender waits on the engine.
    let (committed, live, globals) =
        (committed.borrow_and_update().clone(), live.borrow_and_update().clone(), globals.borrow_and_update().clone());
    // After the revision: where that is seen, so is the revocation that it is.
    engine.revoke(revocations.borrow_and_update().clone());
    engine.update(&committed, &live, &globals)
}
