//! The accept loop: bounded, and not ended by an error.

use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use leno_runtime::drain::DrainWatch;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::http::Room;
use crate::upstream::set_options;

/// Connections of one listener and worker that are open at once. Further ones wait in the kernel's queue.
pub const MOST_CONNECTIONS: usize = 10_000;
/// When all places are taken: how long to wait for some before others are asked to make room.
const FULL: Duration = Duration::from_millis(200);
/// When the process is out of file descriptors: how long to wait for some to come back.
const EXHAUSTED: Duration = Duration::from_millis(50);

/// Accepts until the drain starts; each connection is served by a task of its own on this thread.
pub async fn accept_loop<F>(
    listener: std::net::TcpListener,
    drain: DrainWatch,
    serve: impl Fn(TcpStream, SocketAddr) -> F,
) where
    F: Future<Output = ()> + 'static,
{
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "a listener cannot be served");
            return;
        }
    };
    let (places, room) = (Arc::new(Semaphore::new(MOST_CONNECTIONS)), Rc::new(Room::default()));
    loop {
        let place = tokio::select! {
            place = place(&places, &room) => place,
            () = drain.signaled() => return,
        };
        let Some(place) = place else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = drain.signaled() => return,
        };
        match accepted {
            // A connection that is gone already fails here; its task would find out too.
            Ok((stream, peer)) if set_options(&stream).is_ok() => {
                let served = room.within(serve(stream, peer));
                tokio::task::spawn_local(async move {
                    served.await;
                    drop(place);
                });
            }
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(EXHAUSTED).await;
            }
        }
    }
}

/// A place for one more connection; where there is none, those that are idle make room.
async fn place(places: &Arc<Semaphore>, room: &Room) -> Option<OwnedSemaphorePermit> {
    if let Ok(place) = places.clone().try_acquire_owned() {
        return Some(place);
    }
    loop {
        room.make();
        if let Ok(place) = tokio::time::timeout(FULL, places.clone().acquire_owned()).await {
            return place.ok();
        }
    }
}
