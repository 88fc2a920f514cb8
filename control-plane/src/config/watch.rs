//! Tells when the configuration folder may have changed. It may say so too often, never too seldom: the kernel's
//! events are joined by a look every few seconds, since links out of the folder, network file systems and a full
//! event queue show none.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

/// A folder is read when nothing has changed for this long …
const QUIET: Duration = Duration::from_millis(100);
/// … or when changes have gone on for this long.
const PATIENCE: Duration = Duration::from_secs(1);
/// A look without any event.
const LOOK: Duration = Duration::from_secs(3);

/// A watch on a folder.
pub struct FolderWatch {
    dir: PathBuf,
    events: mpsc::Receiver<()>,
    watcher: Option<RecommendedWatcher>,
    /// Which folder is watched: it may be removed and made anew under the same name.
    watched: Option<(u64, u64)>,
}

/// Watches `dir`. A watch that the system refuses is no error: the look every few seconds remains.
pub fn watch(dir: &Path) -> FolderWatch {
    let (_, events) = mpsc::channel(1);
    let mut watch = FolderWatch { dir: dir.to_owned(), events, watcher: None, watched: None };
    watch.begin();
    watch
}

impl FolderWatch {
    fn begin(&mut self) {
        let id = std::fs::metadata(&self.dir).ok().map(|meta| (meta.dev(), meta.ino()));
        if id == self.watched && self.watcher.is_some() {
            return;
        }
        // One is enough: it only says that something changed.
        let (sender, events) = mpsc::channel(1);
        let handler = move |event: notify::Result<notify::Event>| {
            // Reading a file is an event too, and would wake us by our own reading.
            if !event.is_ok_and(|event| event.kind.is_access()) {
                let _ = sender.try_send(());
            }
        };
        let watcher = notify::recommended_watcher(handler).and_then(|mut watcher| {
            watcher.watch(&self.dir, RecursiveMode::Recursive)?;
            Ok(watcher)
        });
        match watcher {
            Ok(watcher) => {
                self.watcher = Some(watcher);
                self.watched = id;
                self.events = events;
            }
            Err(error) => {
                tracing::debug!(dir = %self.dir.display(), %error, "no watch on the configuration folder; looking every 3 s");
                self.watcher = None;
            }
        }
    }

    /// Waits until the folder may have changed and has come to rest.
    pub async fn changed(&mut self) {
        let look = Instant::now() + LOOK;
        if self.watcher.is_none() {
            sleep_until(look).await;
            return self.begin();
        }
        if !matches!(timeout_at(look, self.events.recv()).await, Ok(Some(()))) {
            sleep_until(look).await;
            return self.begin();
        }
        let patience = Instant::now() + PATIENCE;
        loop {
            let quiet = sleep(QUIET);
            tokio::select! {
                () = quiet => return,
                () = sleep_until(patience) => return,
                event = self.events.recv() => if event.is_none() { return },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Soon enough that it was an event, not the look.
    async fn sees_a_change(watch: &mut FolderWatch) -> bool {
        tokio::time::timeout(Duration::from_secs(2), watch.changed()).await.is_ok()
    }

    #[tokio::test]
    async fn a_file_renamed_into_place_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let mut watch = watch(dir.path());
        std::fs::write(dir.path().join(".web.yaml.tmp"), "a: b").unwrap();
        std::fs::rename(dir.path().join(".web.yaml.tmp"), dir.path().join("web.yaml")).unwrap();
        assert!(sees_a_change(&mut watch).await);
    }

    #[tokio::test]
    async fn a_config_map_swap_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("..1", dir.path().join("..data")).unwrap();
        let mut watch = watch(dir.path());
        std::os::unix::fs::symlink("..2", dir.path().join("..data_tmp")).unwrap();
        std::fs::rename(dir.path().join("..data_tmp"), dir.path().join("..data")).unwrap();
        assert!(sees_a_change(&mut watch).await);
    }

    #[tokio::test]
    async fn a_folder_that_comes_later_is_seen_by_the_look() {
        let dir = tempfile::tempdir().unwrap();
        let mut watch = watch(&dir.path().join("later"));
        assert!(tokio::time::timeout(LOOK * 2, watch.changed()).await.is_ok());
    }
}
