//! Room for one more: where all places of a listener are taken, connections that nothing is asked on make way, those first on which the last
//! request began the longest ago. So whoever fills a listener with idle connections keeps nobody out.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::{Future, pending};
use std::rc::Rc;

use tokio::sync::Notify;

/// How many make way at a time: a hundredth of what a listener has, so that looking for them is rare.
const AT_ONCE: usize = 100;

tokio::task_local! {
    static ROOM: Rc<Room>;
}

/// The HTTP connections of one listener and worker.
#[derive(Debug, Default)]
pub struct Room {
    /// Counts requests, and tells which connection was used later.
    turn: Cell<u64>,
    entered: Cell<u64>,
    connections: RefCell<HashMap<u64, Rc<Used>>>,
}

#[derive(Debug, Default)]
struct Used {
    /// When the last request began, in turns.
    last: Cell<u64>,
    /// Requests that have no answer yet.
    open: Cell<u32>,
    leave: Notify,
}

impl Room {
    /// Runs a connection of the listener; what it serves of HTTP enters by itself.
    pub fn within<F: Future>(self: &Rc<Self>, connection: F) -> impl Future<Output = F::Output> + use<F> {
        ROOM.scope(self.clone(), connection)
    }

    /// Asks some to end that have nothing to do. They do so without breaking anything off.
    pub fn make(&self) {
        let connections = self.connections.borrow();
        let mut idle: Vec<(u64, &Rc<Used>)> =
            connections.values().filter(|used| used.open.get() == 0).map(|used| (used.last.get(), used)).collect();
        if idle.len() > AT_ONCE {
            idle.select_nth_unstable_by_key(AT_ONCE, |(last, _)| *last);
        }
        for (_, used) in idle.into_iter().take(AT_ONCE) {
            used.leave.notify_one();
        }
    }
}

/// A connection's place in the room of its listener; none where there is no bound to be kept.
#[derive(Debug)]
pub(super) struct Place(Option<(Rc<Room>, u64, Rc<Used>)>);

impl Place {
    pub(super) fn enter() -> Self {
        let entered = ROOM.try_with(|room| {
            let (id, used) = (room.entered.get(), Rc::new(Used::default()));
            room.entered.set(id + 1);
            used.last.set(room.turn.get());
            room.connections.borrow_mut().insert(id, used.clone());
            (room.clone(), id, used)
        });
        Self(entered.ok())
    }

    /// For each request.
    pub(super) fn asked(&self) -> Asked {
        Asked(self.0.as_ref().map(|(room, _, used)| {
            let turn = room.turn.get() + 1;
            room.turn.set(turn);
            used.last.set(turn);
            used.open.set(used.open.get() + 1);
            used.clone()
        }))
    }

    /// Comes back when this connection is to make way.
    pub(super) fn leave(&self) -> impl Future<Output = ()> + use<> {
        let used = self.0.as_ref().map(|(_, _, used)| used.clone());
        async move {
            match used {
                Some(used) => used.leave.notified().await,
                None => pending().await,
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some((room, id, _)) = &self.0 {
            room.connections.borrow_mut().remove(id);
        }
    }
}

/// A request that has no answer yet.
#[derive(Debug)]
pub(super) struct Asked(Option<Rc<Used>>);

impl Drop for Asked {
    fn drop(&mut self) {
        if let Some(used) = &self.0 {
            used.open.set(used.open.get().saturating_sub(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn those_that_were_not_used_for_the_longest_make_way_and_none_that_is_busy() {
        let room = Rc::new(Room::default());
        let enter = || room.within(async { Place::enter() });
        let mut places = Vec::new();
        for _ in 0..3 * AT_ONCE {
            places.push(enter().await);
        }
        // The first hundred was used last, and one of the others is at work.
        places[..AT_ONCE].iter().for_each(|place| drop(place.asked()));
        let busy = places[AT_ONCE + 7].asked();
        let waiting: Vec<_> = places.iter().map(|place| place.leave().shared()).collect();
        waiting.iter().for_each(|leave| assert!(leave.clone().now_or_never().is_none()));
        room.make();
        let left: Vec<usize> = (0..places.len()).filter(|n| waiting[*n].clone().now_or_never().is_some()).collect();
        assert_eq!(left.len(), AT_ONCE);
        assert!(left.iter().all(|n| *n >= AT_ONCE && *n != AT_ONCE + 7), "{left:?}");
        drop((busy, places));
        assert!(room.connections.borrow().is_empty());
        room.make();
    }

    #[tokio::test]
    async fn without_a_room_nobody_has_to_leave() {
        let place = Place::enter();
        drop(place.asked());
        assert!(place.leave().now_or_never().is_none());
    }
}
