//! What the user writes: YAML (and JSON, which is YAML) from a folder or from the REST API, read into located, typed
//! objects. Nothing in here knows what an object means; `validate` does.

mod decode;
mod field;
mod folder;
mod hint;
mod kinds;
mod node;
mod object;
mod own;
mod problem;
mod scalar;
mod watch;
mod whole;
mod yaml;

pub use field::FieldPath;
pub use folder::{Folder, FolderError, read as read_folder};
pub use hint::nearest as nearest_word;
pub use kinds::{UnknownKind, api_version, kind_from_word};
pub use node::Node;
pub use object::{Object, Parsed, Spec, parse};
pub use own::{
    Abort, AccessLog, AdaptiveConcurrency, CircuitBreaker, Fault, FaultHeader, Hedge, JwtProviderSpec,
    OutlierDetection, RateLimit, RetryBudget, RetryRules, TargetRef, Tracing, TrafficPolicySpec, WorkloadSpec,
    WrittenJwks, WrittenPlace,
};
pub use own::{AuthorizationPolicySpec, AuthorizationRule, CallerMatch, ClaimCondition, HeaderCondition, RequestMatch};
pub use own::{Empty, GrpcCheck, HashKey, HealthCheck, HttpCheck, LoadBalancing};
pub use own::{FederatedTrustDomainSpec, WrittenProfile};
pub use problem::{Problem, Severity};
pub use watch::{FolderWatch, watch};

/// Most bytes of one file.
pub const MOST_FILE_BYTES: usize = 1 << 20;

#[cfg(test)]
mod tests;
