//! A request as one sidecar saw it: remembered (`leno why`), or shown as it ended (`leno tap`).

use serde::Deserialize;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SeenRequest {
    pub id: String,
    /// NAMESPACE/NAME of the workload whose sidecar saw it.
    pub sidecar: String,
    /// `outbound`: from that workload's app; `inbound`: to it.
    pub direction: String,
    /// RFC 3339.
    pub ended: String,
    pub method: String,
    pub host: String,
    pub path: String,
    /// SPIFFE ID; `none`: in plaintext; empty: the workload's own app.
    pub caller: String,
    pub service: String,
    pub rule: String,
    pub status: u16,
    pub reason: String,
    pub took_ms: f64,
    pub tries: Vec<Tried>,
    /// Another attempt was not granted.
    pub retry_denied: bool,
    pub revision: u64,
    /// Of one that was shown as it ended.
    pub tapped: Tapped,
}

/// An attempt that was no success, or the one that took long.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Tried {
    pub workload: String,
    pub address: String,
    pub status: u16,
    pub reason: String,
    pub after_ms: f64,
}

/// What is known of a request that was seen as it ended.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Tapped {
    pub endpoint: String,
    pub attempts: u32,
    /// Of the answer's body.
    pub bytes: u64,
    pub trace_id: String,
}
