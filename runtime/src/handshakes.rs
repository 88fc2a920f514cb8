//! TLS handshakes of one port: what a stranger can make us compute and hold, so there is a bound on how many are under way. Whoever
//! comes when all places are taken gets the oldest one. An honest client needs a round trip or two; one that stalls is the
//! oldest before long, so that stalled ones keep nobody waiting, however many there are.

use std::collections::VecDeque;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

/// Those that are under way.
#[derive(Debug)]
pub struct Handshakes {
    most: usize,
    within: Duration,
    places: Mutex<Places>,
}

#[derive(Debug, Default)]
struct Places {
    next: u64,
    /// In the order in which they began. Whoever loses the sender loses its place.
    taken: VecDeque<(u64, oneshot::Sender<()>)>,
}

impl Handshakes {
    /// No more than `most` at once, each of which may take so long.
    pub fn new(most: usize, within: Duration) -> Self {
        Self { most, within, places: Mutex::default() }
    }

    /// Makes one.
    ///
    /// # Errors
    /// Its own, or `TimedOut`: it has taken too long, or its place was needed.
    pub async fn shake<T>(&self, handshake: impl Future<Output = io::Result<T>>) -> io::Result<T> {
        let (_place, lost) = self.place();
        tokio::select! {
            biased;
            shaken = handshake => shaken,
            _ = lost => Err(io::Error::new(io::ErrorKind::TimedOut, "newer handshakes needed its place")),
            () = tokio::time::sleep(self.within) => {
                Err(io::Error::new(io::ErrorKind::TimedOut, "the peer took too long"))
            }
        }
    }

    fn place(&self) -> (Place<'_>, oneshot::Receiver<()>) {
        let (keep, lost) = oneshot::channel();
        let mut places = self.lock();
        if places.taken.len() >= self.most {
            places.taken.pop_front();
        }
        let id = places.next;
        places.next += 1;
        places.taken.push_back((id, keep));
        (Place { of: self, id }, lost)
    }

    fn lock(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place, until it is dropped.
struct Place<'a> {
    of: &'a Handshakes,
    id: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut places = self.of.lock();
        if let Ok(at) = places.taken.binary_search_by_key(&self.id, |(id, _)| *id) {
            places.taken.remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::Arc;

    use super::*;

    const LONG: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn the_oldest_makes_room_when_all_places_are_taken() {
        let all = Arc::new(Handshakes::new(3, LONG));
        let stalled: Vec<_> = (0..5)
            .map(|_| {
                let all = all.clone();
                tokio::spawn(async move { all.shake(pending::<io::Result<()>>()).await })
            })
            .collect();
        // Paused time: passes once nobody has anything left to do.
        tokio::time::sleep(LONG / 2).await;
        let ended: Vec<bool> = stalled.iter().map(tokio::task::JoinHandle::is_finished).collect();
        assert_eq!(ended, [true, true, false, false, false]);
        assert_eq!(all.lock().taken.len(), 3);
        // Nobody waits for a place, and whoever is done has given it back.
        for _ in 0..10 {
            assert_eq!(all.shake(async { Ok(1) }).await.unwrap(), 1);
            assert_eq!(all.lock().taken.len(), 2);
        }
        for task in stalled {
            assert_eq!(task.await.unwrap().unwrap_err().kind(), io::ErrorKind::TimedOut);
        }
        assert!(all.lock().taken.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_stalls_is_given_up() {
        let error = Handshakes::new(1, LONG).shake(pending::<io::Result<()>>()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
