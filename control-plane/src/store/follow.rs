//! Keeps the store at what the configuration folder says.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::watch;

use super::{Store, StoreError};
use crate::config::{self, FolderWatch, Problem};
use leno_runtime::drain::DrainWatch;

/// Follows a folder: once with [`Follower::sync`] at the start, then with [`Follower::run`].
pub struct Follower {
    store: Store,
    dir: PathBuf,
    watch: FolderWatch,
    problems: watch::Sender<Arc<Vec<Problem>>>,
    /// Problems that were logged, so that each is said once and not every few seconds.
    said: BTreeSet<String>,
}

impl Follower {
    /// A follower of a folder. The watch begins now, so that no change after the first reading is missed.
    pub fn new(store: Store, dir: &Path) -> Self {
        let watch = config::watch(dir);
        Self { store, dir: dir.to_owned(), watch, problems: watch::Sender::default(), said: BTreeSet::new() }
    }

    /// The problems and warnings of the folder as it was last read.
    pub fn problems(&self) -> watch::Receiver<Arc<Vec<Problem>>> {
        self.problems.subscribe()
    }

    /// Reads the folder once. A folder that cannot be read is a problem, not an error: what was good stays in force.
    ///
    /// # Errors
    /// The store fails.
    pub async fn sync(&mut self) -> Result<(), StoreError> {
        let dir = self.dir.clone();
        let read = tokio::task::spawn_blocking(move || config::read_folder(&dir)).await;
        let problems = match read {
            Ok(Ok(folder)) => {
                let done = self.store.sync_folder(folder).await?;
                if done.applied.is_changed() {
                    tracing::info!(revision = done.applied.revision, dir = %self.dir.display(), "configuration folder applied");
                }
                done.problems
            }
            Ok(Err(error)) => {
                let hint = "make it readable; until then what was applied stays in force";
                vec![Problem::of_file(self.dir.to_string_lossy(), error.to_string(), hint)]
            }
            Err(error) => return Err(StoreError::Interrupted(error.to_string())),
        };
        self.log(&problems);
        self.problems.send_if_modified(|last| {
            let changed = **last != problems;
            if changed {
                *last = Arc::new(problems);
            }
            changed
        });
        Ok(())
    }

    fn log(&mut self, problems: &[Problem]) {
        let lines: BTreeSet<String> = problems.iter().map(ToString::to_string).collect();
        for problem in problems {
            if self.said.contains(&problem.to_string()) {
                continue;
            }
            if problem.is_error() {
                tracing::error!(%problem, "refused");
            } else {
                tracing::warn!(%problem, "taken");
            }
        }
        self.said = lines;
    }

    /// Reads the folder whenever it may have changed, until the control plane drains.
    pub async fn run(mut self, drain: DrainWatch) {
        loop {
            tokio::select! {
                () = drain.signaled() => return,
                () = self.watch.changed() => {}
            }
            if let Err(error) = self.sync().await {
                tracing::error!(%error, "the configuration folder cannot be applied; trying again");
            }
        }
    }
}
