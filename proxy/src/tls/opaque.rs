//! The first byte of an opaque connection between two sidecars, from the one that has the app: whether the app was reached.
//! The caller's sidecar sends nothing before it, so that an app which is down is an endpoint that can be replaced by another,
//! and not a connection that breaks.

use crate::error::Reason;

const REACHED: u8 = 0;
const APP_CONNECT_FAILED: u8 = 1;
const UNKNOWN_PORT: u8 = 2;
const RATE_LIMITED: u8 = 3;
const DENIED: u8 = 4;
const REVOKED: u8 = 5;

/// The byte for how reaching the app went.
pub fn encode(reached: Result<(), Reason>) -> u8 {
    match reached {
        Ok(()) => REACHED,
        Err(Reason::UnknownPort) => UNKNOWN_PORT,
        Err(Reason::RateLimited) => RATE_LIMITED,
        Err(Reason::Denied) => DENIED,
        Err(Reason::Revoked) => REVOKED,
        Err(_) => APP_CONNECT_FAILED,
    }
}

/// What the byte says.
///
/// # Errors
/// Why the app was not reached.
pub fn decode(byte: u8) -> Result<(), Reason> {
    match byte {
        REACHED => Ok(()),
        APP_CONNECT_FAILED => Err(Reason::AppConnectFailed),
        UNKNOWN_PORT => Err(Reason::UnknownPort),
        RATE_LIMITED => Err(Reason::RateLimited),
        DENIED => Err(Reason::Denied),
        REVOKED => Err(Reason::Revoked),
        // Of a newer sidecar: whatever it is, the app has seen nothing.
        _ => Err(Reason::ConnectFailed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_byte_says_whether_and_why_not() {
        let failed =
            [Reason::AppConnectFailed, Reason::UnknownPort, Reason::RateLimited, Reason::Denied, Reason::Revoked];
        for reached in failed.map(Err).into_iter().chain([Ok(())]) {
            assert_eq!(decode(encode(reached)), reached);
        }
        assert_eq!(decode(200), Err(Reason::ConnectFailed));
    }
}
