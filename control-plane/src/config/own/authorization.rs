//! AuthorizationPolicy: who may call whom.

use serde::{Deserialize, Serialize};

use super::TargetRef;

/// Who may call the workloads that it is attached to.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuthorizationPolicySpec {
    /// Services, or its own Namespace.
    pub target_refs: Vec<TargetRef>,
    /// `ALLOW`, `DENY` or `AUDIT`.
    pub action: String,
    /// Any of them. Without one nothing matches: an ALLOW then allows nothing.
    #[serde(default)]
    pub rules: Option<Vec<AuthorizationRule>>,
}

/// Matches when one of `from` does and one of `to` does. What is not there matches everything.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuthorizationRule {
    /// Stands in logs and metrics; without it the rule's number.
    #[serde(default)]
    pub name: Option<String>,
    /// Who calls.
    #[serde(default)]
    pub from: Option<Vec<CallerMatch>>,
    /// What is asked for.
    #[serde(default)]
    pub to: Option<Vec<RequestMatch>>,
}

/// Who calls. All fields that are there have to match.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CallerMatch {
    /// SPIFFE IDs; the last segment may be `*`.
    #[serde(default)]
    pub identities: Option<Vec<String>>,
    /// None of these.
    #[serde(default)]
    pub not_identities: Option<Vec<String>>,
    /// `NAME` in the policy's namespace, or `NAMESPACE/NAME`, of the mesh's own trust domain.
    #[serde(default)]
    pub service_accounts: Option<Vec<String>>,
    /// None of these.
    #[serde(default)]
    pub not_service_accounts: Option<Vec<String>>,
    /// Of the mesh's own trust domain.
    #[serde(default)]
    pub namespaces: Option<Vec<String>>,
    /// None of these.
    #[serde(default)]
    pub not_namespaces: Option<Vec<String>>,
    /// Trust domains.
    #[serde(default)]
    pub trust_domains: Option<Vec<String>>,
    /// None of these.
    #[serde(default)]
    pub not_trust_domains: Option<Vec<String>>,
}

/// What is asked for. All fields that are there have to match.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestMatch {
    /// Methods, as they travel.
    #[serde(default)]
    pub methods: Option<Vec<String>>,
    /// None of these.
    #[serde(default)]
    pub not_methods: Option<Vec<String>>,
    /// Paths without percent-encoding; `/a/*` is `/a` and all below.
    #[serde(default)]
    pub paths: Option<Vec<String>>,
    /// None of these.
    #[serde(default)]
    pub not_paths: Option<Vec<String>>,
    /// Hosts without port; `*.example.com` is all below.
    #[serde(default)]
    pub hosts: Option<Vec<String>>,
    /// None of these.
    #[serde(default)]
    pub not_hosts: Option<Vec<String>>,
    /// Numbers of the app's ports.
    #[serde(default)]
    pub ports: Option<Vec<i64>>,
    /// None of these.
    #[serde(default)]
    pub not_ports: Option<Vec<i64>>,
    /// All of them.
    #[serde(default)]
    pub headers: Option<Vec<HeaderCondition>>,
    /// All of them.
    #[serde(default)]
    pub claims: Option<Vec<ClaimCondition>>,
}

/// What the request's token says. Without a name a token of the provider only has to be there, without values the claim.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClaimCondition {
    /// A JwtProvider of the policy's namespace.
    pub provider: String,
    /// A claim, or a JSON Pointer (RFC 6901) as `/realm_access/roles`.
    #[serde(default)]
    pub name: Option<String>,
    /// One of these; a `*` at the end stands for anything.
    #[serde(default)]
    pub values: Option<Vec<String>>,
    /// None of these.
    #[serde(default)]
    pub not_values: Option<Vec<String>>,
}

/// A header of the request; without values it only has to be there.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeaderCondition {
    /// Its name.
    pub name: String,
    /// One of these; a `*` at the end stands for anything.
    #[serde(default)]
    pub values: Option<Vec<String>>,
    /// None of these.
    #[serde(default)]
    pub not_values: Option<Vec<String>>,
}
