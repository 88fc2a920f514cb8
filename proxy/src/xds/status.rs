//! How the stream is doing, for the admin port and for the start of the process.

use time::OffsetDateTime;

/// State of the stream, as last seen.
#[derive(Debug, Clone, Default)]
pub struct Status {
    /// A stream is open.
    pub connected: bool,
    /// Since when it is open, or since when it is not.
    pub since: Option<OffsetDateTime>,
    /// The server has answered at least once since the process started.
    pub answered: bool,
    /// Why the last attempt or stream ended.
    pub last_error: Option<String>,
    /// The server said that this identity may not have a stream: trying again changes nothing.
    pub refused: Option<String>,
    /// When a response was last acknowledged.
    pub last_ack: Option<OffsetDateTime>,
    /// The last refusal of ours.
    pub last_nack: Option<Nack>,
}

/// A response of which something was refused.
#[derive(Debug, Clone)]
pub struct Nack {
    /// When.
    pub at: OffsetDateTime,
    /// Every refused resource with its reason.
    pub reason: String,
}
