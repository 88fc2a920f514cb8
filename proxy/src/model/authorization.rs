//! Who may call the local app, as the control plane says it.

use std::collections::BTreeMap;
use std::sync::Arc;

use leno_proto::v1;

use super::convert::InvalidResource;
use super::jwt::{self, JwtProvider};

/// One policy of the sidecar's namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthorizationPolicy {
    /// What becomes of what it matches.
    pub action: AuthorizationAction,
    /// It is for every workload of the namespace, …
    whole_namespace: bool,
    /// … or for those that have all labels of one of these.
    selectors: Vec<BTreeMap<String, String>>,
    /// Any of them.
    pub rules: Vec<Arc<AuthorizationRule>>,
}

/// What becomes of a request that a rule matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthorizationAction {
    /// It may pass, unless another policy denies it.
    Allow,
    /// It is refused.
    Deny,
    /// It is counted.
    Audit,
}

/// Matches when one of `from` does, or there is none, and one of `to` does, or there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthorizationRule {
    /// NAMESPACE/NAME of its policy.
    pub policy: String,
    /// Its name or number.
    pub name: String,
    /// Who calls.
    pub from: Vec<CallerMatch>,
    /// What is asked for.
    pub to: Vec<RequestMatch>,
}

/// Patterns of identities: of each list of the first one has to match, and of the second none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallerMatch {
    /// One of each.
    pub all_of: Vec<Vec<Pattern>>,
    /// None.
    pub none_of: Vec<Pattern>,
}

/// What is one of these, when there are any, and none of those.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Among<T> {
    /// Empty: anything.
    pub one_of: Vec<T>,
    /// None of these.
    pub none_of: Vec<T>,
}

/// What is asked for; every field has to match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestMatch {
    /// As they travel.
    pub methods: Among<String>,
    /// Decoded.
    pub paths: Among<Pattern>,
    /// Lower case.
    pub hosts: Among<Pattern>,
    /// The app's.
    pub ports: Among<u16>,
    /// All of them.
    pub headers: Vec<HeaderCondition>,
    /// All of them.
    pub claims: Vec<ClaimCondition>,
}

/// What the token of a provider says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimCondition {
    /// Whose tokens.
    pub provider: Arc<JwtProvider>,
    /// Where the claim is, from outside to inside; empty: a token has to be there.
    pub path: Vec<String>,
    /// The claim; when both lists are empty it only has to be there.
    pub values: Among<Pattern>,
}

/// What a header of the request is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderCondition {
    /// Its name.
    pub name: http::HeaderName,
    /// Its value; when both lists are empty it only has to be there.
    pub values: Among<Pattern>,
}

/// What a text has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pattern {
    /// This.
    Exact(String),
    /// It begins so.
    Begins(String),
    /// It ends so, and has something before.
    Ends(String),
    /// A path and all that is below it.
    Below(String),
}

impl AuthorizationPolicy {
    /// Whether it is meant for a workload with these labels.
    pub fn is_for(&self, labels: &BTreeMap<String, String>) -> bool {
        let has_all = |selector: &BTreeMap<String, String>| {
            !selector.is_empty() && selector.iter().all(|(key, value)| labels.get(key) == Some(value))
        };
        self.whole_namespace || self.selectors.iter().any(has_all)
    }
}

impl AuthorizationRule {
    /// The issuers whose tokens it looks at.
    pub fn providers(&self) -> impl Iterator<Item = &Arc<JwtProvider>> {
        self.to.iter().flat_map(|to| &to.claims).map(|claim| &claim.provider)
    }

    /// Whether what it says depends on a path.
    pub fn looks_at_paths(&self) -> bool {
        self.to.iter().any(|to| !to.paths.one_of.is_empty() || !to.paths.none_of.is_empty())
    }
}

/// Wire to model. What cannot be understood is refused as a whole, and what was in force stays: to leave out one condition would
/// let in more, or fewer, than anybody wrote.
pub(super) fn policies(wire: &v1::SidecarConfig) -> Result<Arc<[AuthorizationPolicy]>, InvalidResource> {
    let providers = jwt::providers(&wire.jwt_providers)?;
    wire.authorization.iter().map(|said| policy(said, &providers)).collect()
}

type Providers = BTreeMap<String, Arc<JwtProvider>>;

fn policy(wire: &v1::AuthorizationPolicy, providers: &Providers) -> Result<AuthorizationPolicy, InvalidResource> {
    use v1::authorization_policy::Action;
    let action = match wire.action() {
        Action::Allow => AuthorizationAction::Allow,
        Action::Deny => AuthorizationAction::Deny,
        Action::Audit => AuthorizationAction::Audit,
        Action::Unspecified => {
            return Err(InvalidResource(format!("AuthorizationPolicy {}: its action is not known", wire.name)));
        }
    };
    Ok(AuthorizationPolicy {
        action,
        whole_namespace: wire.whole_namespace,
        selectors: wire.selectors.iter().map(|selector| selector.labels.clone()).collect(),
        rules: wire
            .rules
            .iter()
            .map(|said| rule(&wire.name, said, providers).map(Arc::new))
            .collect::<Result<_, _>>()?,
    })
}

fn rule(
    policy: &str,
    wire: &v1::AuthorizationRule,
    providers: &Providers,
) -> Result<AuthorizationRule, InvalidResource> {
    let request = |said: &v1::RequestMatch| request(policy, said, providers);
    Ok(AuthorizationRule {
        policy: policy.to_owned(),
        name: wire.name.clone(),
        from: wire.from.iter().map(caller).collect(),
        to: wire.to.iter().map(request).collect::<Result<_, _>>()?,
    })
}

fn caller(wire: &v1::CallerMatch) -> CallerMatch {
    let patterns = |texts: &[String]| texts.iter().map(|text| begins(text)).collect();
    CallerMatch {
        all_of: wire.all_of.iter().map(|ids| patterns(&ids.any_of)).collect(),
        none_of: patterns(&wire.none_of),
    }
}

fn request(policy: &str, wire: &v1::RequestMatch, providers: &Providers) -> Result<RequestMatch, InvalidResource> {
    let patterns = |texts: &[String], read: fn(&str) -> Pattern| texts.iter().map(|text| read(text)).collect();
    let among = |one_of: &[String], none_of: &[String], read| Among {
        one_of: patterns(one_of, read),
        none_of: patterns(none_of, read),
    };
    let ports = |numbers: &[u32]| numbers.iter().filter_map(|number| u16::try_from(*number).ok()).collect();
    let header = |said: &v1::HeaderCondition| {
        let name = said.name.parse().map_err(|_| {
            InvalidResource(format!("AuthorizationPolicy {policy}: {:?} is no name of a header", said.name))
        })?;
        Ok(HeaderCondition { name, values: among(&said.values, &said.not_values, begins) })
    };
    let claim = |said: &v1::ClaimCondition| {
        let provider = providers.get(&said.provider).cloned().ok_or_else(|| {
            InvalidResource(format!("AuthorizationPolicy {policy}: the JwtProvider {:?} was not told", said.provider))
        })?;
        let values = among(&said.values, &said.not_values, begins);
        Ok(ClaimCondition { provider, path: said.path.clone(), values })
    };
    Ok(RequestMatch {
        methods: Among { one_of: wire.methods.clone(), none_of: wire.not_methods.clone() },
        paths: among(&wire.paths, &wire.not_paths, path),
        hosts: among(&wire.hosts, &wire.not_hosts, ends),
        ports: Among { one_of: ports(&wire.ports), none_of: ports(&wire.not_ports) },
        headers: wire.headers.iter().map(header).collect::<Result<_, InvalidResource>>()?,
        claims: wire.claims.iter().map(claim).collect::<Result<_, InvalidResource>>()?,
    })
}

fn begins(text: &str) -> Pattern {
    text.strip_suffix('*').map_or_else(|| Pattern::Exact(text.to_owned()), |start| Pattern::Begins(start.to_owned()))
}

fn ends(text: &str) -> Pattern {
    text.strip_prefix('*').map_or_else(|| Pattern::Exact(text.to_owned()), |end| Pattern::Ends(end.to_owned()))
}

fn path(text: &str) -> Pattern {
    text.strip_suffix("/*").map_or_else(|| Pattern::Exact(text.to_owned()), |path| Pattern::Below(path.to_owned()))
}
