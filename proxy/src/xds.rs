//! The sidecar's side of the control plane: its identity, the stream, and what is kept on disk of both.
//!
//! ```text
//! identity   join once by token, then renew by the certificate; publishes to `tls`
//! client     one task: connect, subscribe what `state` demands, apply, publish, ACK
//! subscriber the delta protocol without input and output, so that every rule of it can be tested
//! reports    who calls the local app, told beside the stream
//! snapshot   the last good resources on disk: traffic flows before the control plane is reached
//! ```

pub mod client;
mod connect;
mod files;
mod held;
pub mod identity;
pub mod metrics;
pub mod questions;
mod repeats;
pub mod reports;
pub mod snapshot;
pub mod status;
pub mod subscriber;
mod token;

use std::sync::Arc;

use time::OffsetDateTime;

/// What time it is. It is passed in, so that a test can let half a certificate's life pass.
pub type Clock = Arc<dyn Fn() -> OffsetDateTime + Send + Sync>;

/// The system's clock.
pub fn system_clock() -> Clock {
    Arc::new(OffsetDateTime::now_utc)
}

#[cfg(test)]
pub(crate) mod testing;
