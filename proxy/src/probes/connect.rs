//! Reaching the app, and the check that is nothing but that.

use std::fmt;
use std::io;
use std::net::IpAddr;

use tokio::net::TcpStream;

use super::Reason;

/// Where a check goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// A name or an address, without brackets.
    pub host: String,
    pub port: u16,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// A connection to the app.
pub(super) async fn connect(to: &Target) -> Result<TcpStream, Reason> {
    let refused = |why: io::Error| format!("{to} takes no connection: {why}");
    let stream = match to.host.parse::<IpAddr>() {
        Ok(ip) => TcpStream::connect((ip, to.port)).await,
        Err(_) => TcpStream::connect((to.host.as_str(), to.port)).await,
    };
    let stream = stream.map_err(refused)?;
    // Best effort: a check is one small write.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}
