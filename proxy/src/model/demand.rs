//! What has to be known to serve a request. A file of its own, so that the fuzz targets of what makes one build without the rest.

/// What an app asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Demand {
    /// NAMESPACE/NAME.
    Service(String),
    /// IP:PORT, or IP for whatever port.
    Address(String),
    /// NAMESPACE/NAME of the Gateway that this sidecar serves. No app asks for it.
    Gateway(String),
}
