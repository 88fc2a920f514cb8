//! `leno.dev/v1alpha1` AuthorizationPolicy. What could be taken in two ways is refused here, so that nobody believes in a rule
//! that means something else.

use leno_certs::SpiffeId;

use super::check::Check;
use crate::config::{
    AuthorizationPolicySpec, AuthorizationRule as WrittenRule, CallerMatch as WrittenCaller,
    ClaimCondition as WrittenClaim, FieldPath, HeaderCondition as WrittenHeader, RequestMatch as WrittenRequest,
};
use crate::model::{
    Among, AuthorizationAction, AuthorizationPolicy, AuthorizationRule, CallerMatch, ClaimCondition, HeaderCondition,
    RequestMatch,
};

/// Most targets of a policy, as the Gateway API's own policies have.
const MOST_TARGETS: usize = 16;
/// Most rules of a policy.
const MOST_RULES: usize = 1000;
/// Most entries of every other list.
const MOST_ENTRIES: usize = 64;
/// Most bytes of a value.
const MOST_BYTES: usize = 1024;

const ACTIONS: [(&str, AuthorizationAction); 3] =
    [("ALLOW", AuthorizationAction::Allow), ("DENY", AuthorizationAction::Deny), ("AUDIT", AuthorizationAction::Audit)];

pub(super) fn check(check: &mut Check<'_>, spec: &AuthorizationPolicySpec) -> AuthorizationPolicy {
    let path = FieldPath::of("spec");
    let action = ACTIONS.iter().find(|(word, _)| *word == spec.action).map(|(_, action)| *action);
    if action.is_none() {
        check.error(&path.key("action"), format!("{:?} is no action", spec.action), "write ALLOW, DENY or AUDIT");
    }
    let (targets, of_namespace) = targets(check, &path.key("targetRefs"), spec);
    let written = spec.rules.as_deref().unwrap_or_default();
    let at = path.key("rules");
    check.most(&at, written.len(), MOST_RULES);
    let rules = written.iter().take(MOST_RULES).enumerate().map(|(n, written)| rule(check, &at.index(n), n, written));
    let rules: Vec<AuthorizationRule> = rules.collect();
    let action = action.unwrap_or(AuthorizationAction::Deny);
    if rules.is_empty() && action != AuthorizationAction::Allow {
        check.warn(&at, format!("a policy with action {} and no rule does nothing", spec.action), "add a rule");
    }
    AuthorizationPolicy { action, targets, of_namespace, rules }
}

fn targets(check: &mut Check<'_>, path: &FieldPath, spec: &AuthorizationPolicySpec) -> (Vec<String>, bool) {
    let (mut services, mut of_namespace) = (Vec::new(), false);
    if spec.target_refs.is_empty() {
        check.error(path, "a policy is attached to something", "write `targetRefs: [{kind: Service, name: web}]`");
    }
    check.most(path, spec.target_refs.len(), MOST_TARGETS);
    for (n, target) in spec.target_refs.iter().take(MOST_TARGETS).enumerate() {
        let at = path.index(n);
        if target.section_name.is_some() {
            check.error(
                &at.key("sectionName"),
                "a policy is for all ports of a workload",
                "write `to: [{ports: [8080]}]` in the rules",
            );
        }
        match (target.group.as_str(), target.kind.as_str()) {
            ("", "Service") => {
                check.dns_label(&at.key("name"), &target.name);
                services.push(target.name.clone());
            }
            ("", "Namespace") => {
                let own = check.key().name.namespace.clone();
                if target.name != own {
                    let message = format!("a policy in {own} cannot be attached to the namespace {:?}", target.name);
                    check.error(&at.key("name"), message, format!("write `name: {own}`, or move the policy there"));
                }
                of_namespace = true;
            }
            (group, kind) => {
                let message = format!("an AuthorizationPolicy of {kind} {group:?} is not supported");
                check.error(&at, message, "write `group: \"\", kind: Service` or `kind: Namespace`");
            }
        }
    }
    (services, of_namespace)
}

fn rule(check: &mut Check<'_>, path: &FieldPath, number: usize, written: &WrittenRule) -> AuthorizationRule {
    let name = match &written.name {
        Some(name) => {
            check.dns_label(&path.key("name"), name);
            name.clone()
        }
        None => number.to_string(),
    };
    let from = entries(check, &path.key("from"), written.from.as_deref(), caller);
    let to = entries(check, &path.key("to"), written.to.as_deref(), request);
    AuthorizationRule { name, from, to }
}

/// A list that is there and empty could mean 'everything' or 'nothing', so it is refused.
fn entries<W, T>(
    check: &mut Check<'_>,
    path: &FieldPath,
    written: Option<&[W]>,
    mut read: impl FnMut(&mut Check<'_>, &FieldPath, &W) -> T,
) -> Vec<T> {
    let Some(written) = written else { return Vec::new() };
    if written.is_empty() {
        check.error(path, "an empty list could mean everything or nothing", "remove the field, or write an entry");
    }
    check.most(path, written.len(), MOST_ENTRIES);
    written.iter().take(MOST_ENTRIES).enumerate().map(|(n, entry)| read(check, &path.index(n), entry)).collect()
}

type Written<'a> = (Option<&'a [String]>, Option<&'a [String]>);

/// A field and the one that begins with `not`.
fn among(
    check: &mut Check<'_>,
    path: &FieldPath,
    fields: (&str, &str),
    written: Written<'_>,
    read: fn(&mut Check<'_>, &FieldPath, &str) -> String,
) -> Among<String> {
    let mut read = |check: &mut Check<'_>, path: &FieldPath, text: &String| read(check, path, text);
    Among {
        one_of: entries(check, &path.key(fields.0), written.0, &mut read),
        none_of: entries(check, &path.key(fields.1), written.1, &mut read),
    }
}

fn caller(check: &mut Check<'_>, path: &FieldPath, w: &WrittenCaller) -> CallerMatch {
    if *w == WrittenCaller::default() {
        check.error(path, "an empty entry could mean everyone or nobody", "remove `from`, or write a field");
    }
    let identities = (w.identities.as_deref(), w.not_identities.as_deref());
    let accounts = (w.service_accounts.as_deref(), w.not_service_accounts.as_deref());
    let namespaces = (w.namespaces.as_deref(), w.not_namespaces.as_deref());
    let domains = (w.trust_domains.as_deref(), w.not_trust_domains.as_deref());
    CallerMatch {
        identities: among(check, path, ("identities", "notIdentities"), identities, identity),
        service_accounts: among(check, path, ("serviceAccounts", "notServiceAccounts"), accounts, account),
        namespaces: among(check, path, ("namespaces", "notNamespaces"), namespaces, label),
        trust_domains: among(check, path, ("trustDomains", "notTrustDomains"), domains, domain),
    }
}

/// A SPIFFE ID. A `*` stands for whole segments only: `…/ns/shop*` would be `shop-of-somebody-else`, too.
fn identity(check: &mut Check<'_>, path: &FieldPath, text: &str) -> String {
    let whole = match text.strip_suffix("/*") {
        None => text.to_owned(),
        // The rest that makes it an ID, by the segments that there are: `spiffe:`, nothing, the trust domain …
        Some(start) => match start.split('/').count() {
            3 => format!("{start}/ns/x/sa/x"),
            5 => format!("{start}/sa/x"),
            _ => format!("{start}/x"),
        },
    };
    if SpiffeId::parse(&whole).is_err() {
        let hint = "write spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/NAME, or its beginning and `/*`";
        check.error(path, format!("{text:?} is no SPIFFE ID"), hint);
    }
    text.to_owned()
}

fn account(check: &mut Check<'_>, path: &FieldPath, text: &str) -> String {
    let own = check.key().name.namespace.clone();
    let (namespace, name) = text.split_once('/').unwrap_or((&own, text));
    check.dns_label(path, namespace);
    check.dns_subdomain(path, name);
    format!("{namespace}/{name}")
}

fn label(check: &mut Check<'_>, path: &FieldPath, text: &str) -> String {
    check.dns_label(path, text);
    text.to_owned()
}

fn domain(check: &mut Check<'_>, path: &FieldPath, text: &str) -> String {
    if SpiffeId::new(text, "x", "x").is_err() {
        check.error(path, format!("{text:?} is no trust domain"), "write it as in spiffe://TRUST-DOMAIN/…");
    }
    text.to_owned()
}

fn request(check: &mut Check<'_>, path: &FieldPath, w: &WrittenRequest) -> RequestMatch {
    if *w == WrittenRequest::default() {
        check.error(path, "an empty entry could mean every request or none", "remove `to`, or write a field");
    }
    let methods = (w.methods.as_deref(), w.not_methods.as_deref());
    let paths = (w.paths.as_deref(), w.not_paths.as_deref());
    let hosts = (w.hosts.as_deref(), w.not_hosts.as_deref());
    RequestMatch {
        methods: among(check, path, ("methods", "notMethods"), methods, method),
        paths: among(check, path, ("paths", "notPaths"), paths, http_path),
        hosts: among(check, path, ("hosts", "notHosts"), hosts, host),
        ports: Among {
            one_of: entries(check, &path.key("ports"), w.ports.as_deref(), port),
            none_of: entries(check, &path.key("notPorts"), w.not_ports.as_deref(), port),
        },
        headers: entries(check, &path.key("headers"), w.headers.as_deref(), header),
        claims: entries(check, &path.key("claims"), w.claims.as_deref(), claim),
    }
}

fn port(check: &mut Check<'_>, path: &FieldPath, number: &i64) -> u16 {
    check.port(path, *number).unwrap_or_default()
}

fn method(check: &mut Check<'_>, path: &FieldPath, text: &str) -> String {
    if http::Method::from_bytes(text.as_bytes()).is_err() || text.bytes().any(|b| b.is_ascii_lowercase()) {
        check.error(path, format!("{text:?} is no method"), "write it in capitals, as GET");
    }
    text.to_owned()
}

/// As a request's path is compared: decoded, with one reading.
fn http_path(check: &mut Check<'_>, path: &FieldPath, text: &str) -> String {
    let plain = text.strip_suffix("/*").unwrap_or(text);
    let wrong = if !text.starts_with('/') {
        Some("begins with /")
    } else if plain.contains('*') {
        Some("has a `*` only as its whole last segment")
    } else if plain.contains(['%', '\\', ';', '?', '#']) || plain.chars().any(char::is_control) {
        Some("has none of % \\ ; ? # and no control character: it is compared with the decoded path of a request")
    } else if plain.contains("//") || plain.split('/').any(|segment| segment == "." || segment == "..") {
        Some("has no empty segment and none of . and ..")
    } else {
        None
    };
    if let Some(wrong) = wrong {
        check.error(path, format!("a path {wrong}"), "write /a/b, or /a/* for /a and all below");
    }
    short(check, path, text);
    text.to_owned()
}

fn host(check: &mut Check<'_>, path: &FieldPath, text: &str) -> String {
    check.dns_subdomain(path, text.strip_prefix("*.").unwrap_or(text));
    text.to_owned()
}

fn header(check: &mut Check<'_>, path: &FieldPath, w: &WrittenHeader) -> HeaderCondition {
    let name = http::HeaderName::try_from(w.name.as_str());
    let at = path.key("name");
    match &name {
        Err(_) => check.error(&at, format!("{:?} is no name of a header", w.name), "correct it"),
        Ok(name) if *name == http::header::HOST => {
            check.error(&at, "the host is no header everywhere", "write `hosts`");
        }
        Ok(_) => {}
    }
    let values = (w.values.as_deref(), w.not_values.as_deref());
    HeaderCondition {
        name: name.map(|name| name.to_string()).unwrap_or_default(),
        values: among(check, path, ("values", "notValues"), values, value),
    }
}

fn claim(check: &mut Check<'_>, path: &FieldPath, w: &WrittenClaim) -> ClaimCondition {
    check.dns_subdomain(&path.key("provider"), &w.provider);
    let values = (w.values.as_deref(), w.not_values.as_deref());
    let at = path.key("name");
    let claim = match w.name.as_deref() {
        None => Some(Vec::new()),
        Some("") => None,
        Some(name) => pointer(name),
    };
    if claim.is_none() {
        check.error(&at, "is no claim", "write a name as `groups`, or a JSON Pointer as `/realm_access/roles`");
    }
    if w.name.is_none() && values != (None, None) {
        check.error(&at, "values of which claim?", "write its name");
    }
    short(check, &at, w.name.as_deref().unwrap_or_default());
    ClaimCondition {
        provider: w.provider.clone(),
        path: claim.unwrap_or_default(),
        values: among(check, path, ("values", "notValues"), values, claim_value),
    }
}

/// A name is one step, whatever is in it; what begins with `/` is a JSON Pointer (RFC 6901).
fn pointer(name: &str) -> Option<Vec<String>> {
    let Some(steps) = name.strip_prefix('/') else { return Some(vec![name.to_owned()]) };
    let step = |step: &str| {
        let mut rest = step;
        while let Some((_, escaped)) = rest.split_once('~') {
            rest = escaped.strip_prefix(['0', '1'])?;
        }
        Some(step.replace("~1", "/").replace("~0", "~"))
    };
    steps.split('/').map(step).collect()
}

fn claim_value(check: &mut Check<'_>, path: &FieldPath, text: &str) -> String {
    if text.strip_suffix('*').unwrap_or(text).contains('*') {
        check.error(path, format!("{text:?} has a `*` inside"), "a `*` may stand at the end alone");
    }
    short(check, path, text);
    text.to_owned()
}

fn value(check: &mut Check<'_>, path: &FieldPath, text: &str) -> String {
    let plain = text.strip_suffix('*').unwrap_or(text);
    if plain.contains('*') || http::HeaderValue::from_str(plain).is_err() || plain.trim() != plain {
        let hint = "write visible characters; a `*` may stand at the end";
        check.error(path, format!("{text:?} is no value of a header"), hint);
    }
    short(check, path, text);
    text.to_owned()
}

fn short(check: &mut Check<'_>, path: &FieldPath, text: &str) {
    if text.len() > MOST_BYTES {
        check.error(path, format!("has {} bytes; at most {MOST_BYTES} are taken", text.len()), "shorten it");
    }
}

#[cfg(test)]
mod tests {
    use crate::config;
    use crate::validate;

    fn problems(yaml: &str) -> Vec<String> {
        let checked = validate::batch(config::parse("a.yaml", yaml.as_bytes()).objects);
        checked.problems.into_iter().map(|problem| problem.message).collect()
    }

    #[test]
    fn the_policy_of_the_documentation_is_one() {
        let page = include_str!("../../../docs/authorization.md");
        let yaml = page.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        assert_eq!(problems(yaml), [""; 0]);
    }

    #[test]
    fn a_claim_is_a_name_or_a_pointer() {
        let policy = |claims: &str| {
            problems(&format!(
                "{{apiVersion: leno.dev/v1alpha1, kind: AuthorizationPolicy, metadata: {{name: p}}, spec: {{action: ALLOW, \
                 targetRefs: [{{kind: Service, name: web}}], rules: [{{to: [{{claims: [{{{claims}}}]}}]}}]}}}}"
            ))
        };
        for good in [
            "provider: id",
            "provider: id, name: sub",
            "provider: id, name: 'https://example.com/roles', values: [a, 'b*', '*']",
            "provider: id, name: /a~1b/c~0d, notValues: [x]",
        ] {
            assert_eq!(policy(good), [""; 0], "{good}");
        }
        for bad in [
            "provider: ''",
            "provider: 'A b'",
            "provider: id, name: ''",
            "provider: id, name: /a~2",
            "provider: id, name: /a~",
            "provider: id, values: [a]",
            "provider: id, name: a, values: []",
            "provider: id, name: a, values: ['a*b']",
        ] {
            assert_eq!(policy(bad).len(), 1, "{bad}");
        }
        assert_eq!(super::pointer("/a~1b/c~0d/~01"), Some(vec!["a/b".into(), "c~d".into(), "~1".into()]));
        assert_eq!(super::pointer("a/b.c"), Some(vec!["a/b.c".into()]));
    }

    #[test]
    fn a_star_in_an_identity_stands_for_whole_segments() {
        let policy = |identity: &str| {
            problems(&format!(
                "{{apiVersion: leno.dev/v1alpha1, kind: AuthorizationPolicy, metadata: {{name: p}}, spec: {{action: DENY, \
                 targetRefs: [{{kind: Service, name: web}}], rules: [{{from: [{{identities: ['{identity}']}}]}}]}}}}"
            ))
        };
        for good in ["t/*", "t/ns/a/*", "t/ns/a/sa/*", "t/ns/a/sa/b"] {
            assert_eq!(policy(&format!("spiffe://{good}")), [""; 0], "{good}");
        }
        for bad in ["*", "/*", "t*", "t/ns/*", "t/ns/a*", "t/ns/a/sa/b/*", "t/ns/a/sa/b*", "t/*/a", "t", "T/*", "t//*"]
        {
            assert_eq!(policy(&format!("spiffe://{bad}")).len(), 1, "{bad}");
        }
        assert_eq!(policy("*").len(), 1);
        assert_eq!(policy("https://t/*").len(), 1);
    }
}
