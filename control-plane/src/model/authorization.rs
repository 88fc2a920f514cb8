//! Who may call an app. None and empty lists: nothing was said.

/// leno.dev/v1alpha1 AuthorizationPolicy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthorizationPolicy {
    pub action: AuthorizationAction,
    /// Names of Services in the policy's own namespace.
    pub targets: Vec<String>,
    /// It is attached to its namespace.
    pub of_namespace: bool,
    pub rules: Vec<AuthorizationRule>,
}

/// What becomes of a request that a rule matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthorizationAction {
    Allow,
    Deny,
    /// It is counted, and nothing else.
    Audit,
}

/// Matches when one of `from` does, or there is none, and likewise `to`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuthorizationRule {
    /// Given, or its number.
    pub name: String,
    pub from: Vec<CallerMatch>,
    pub to: Vec<RequestMatch>,
}

/// What is one of these, and none of those.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Among<T> {
    pub one_of: Vec<T>,
    pub none_of: Vec<T>,
}

impl<T> Default for Among<T> {
    fn default() -> Self {
        Self { one_of: Vec::new(), none_of: Vec::new() }
    }
}

/// Every field has to match.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CallerMatch {
    pub identities: Among<String>,
    /// NAMESPACE/NAME
    pub service_accounts: Among<String>,
    pub namespaces: Among<String>,
    pub trust_domains: Among<String>,
}

/// Every field has to match.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RequestMatch {
    pub methods: Among<String>,
    pub paths: Among<String>,
    /// Lower case.
    pub hosts: Among<String>,
    pub ports: Among<u16>,
    pub headers: Vec<HeaderCondition>,
    pub claims: Vec<ClaimCondition>,
}

/// What the token of a provider says. Without values the claim has to be there, without a path a token has to be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClaimCondition {
    /// A JwtProvider of the policy's namespace.
    pub provider: String,
    /// Where the claim is in the token, from outside to inside.
    pub path: Vec<String>,
    pub values: Among<String>,
}

/// Without values the header has to be there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HeaderCondition {
    /// Lower case.
    pub name: String,
    pub values: Among<String>,
}
