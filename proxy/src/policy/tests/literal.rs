//! The sentences of docs/authorization.md, one after the other and without any index.

use serde_json::Value;

use super::*;

pub(super) fn decide(policies: &[v1::AuthorizationPolicy], who: Option<&str>, asked: &Asked<'_>) -> &'static str {
    let foreign = who.is_some_and(|who| !who.starts_with("spiffe://t/"));
    let looks = policies.iter().any(|policy| {
        policy.rules.iter().any(|rule| {
            let broad = policy.action() != Allow;
            let named = rule.from.iter().any(|from| !from.all_of.is_empty() && is_from(from, who, broad));
            let from = rule.from.is_empty() || rule.from.iter().any(|from| is_from(from, who, broad));
            (if foreign && !broad { named } else { from })
                && rule.to.iter().any(|to| !to.paths.is_empty() || !to.not_paths.is_empty())
        })
    });
    if looks && asked.http.is_some_and(|http| reading::path(http.path).is_none()) {
        return "unclear";
    }
    let matching = |action, broad: bool| {
        let rules = policies.iter().filter(|policy| policy.action() == action).flat_map(|policy| &policy.rules);
        let of_rule = |rule: &v1::AuthorizationRule| {
            let from = match foreign && !broad {
                true => rule.from.iter().any(|from| !from.all_of.is_empty() && is_from(from, who, broad)),
                false => rule.from.is_empty() || rule.from.iter().any(|from| is_from(from, who, broad)),
            };
            let to = if rule.to.is_empty() { Some(Match::Yes) } else { None };
            let to = to.or_else(|| rule.to.iter().map(|to| is_to(to, asked, broad)).max()).unwrap();
            if from { to } else { Match::No }
        };
        rules.map(of_rule).max().unwrap_or(Match::No)
    };
    let has_allow = foreign || policies.iter().any(|policy| policy.action() == Allow);
    match (matching(Deny, true), matching(Allow, false)) {
        (Match::Yes, _) => "denied",
        (Match::BadToken, _) => "bad token",
        (Match::No, _) if !has_allow => "allowed",
        (Match::No, Match::Yes) => "allowed",
        (Match::No, Match::BadToken) => "bad token",
        (Match::No, Match::No) => "denied",
    }
}

/// Whether something matches; or that only a token could tell which nobody vouches for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Match {
    No,
    BadToken,
    Yes,
}

fn is_from(from: &v1::CallerMatch, who: Option<&str>, broad: bool) -> bool {
    let Some(who) = who else { return broad && from.all_of.is_empty() };
    let is = |text: &String| text.strip_suffix('*').map_or(text == who, |start| who.starts_with(start));
    from.all_of.iter().all(|ids| ids.any_of.iter().any(is)) && !from.none_of.iter().any(is)
}

fn is_to(to: &v1::RequestMatch, asked: &Asked<'_>, broad: bool) -> Match {
    let rest = v1::RequestMatch { claims: vec![], ..to.clone() };
    match asked.http {
        None if !broad && !to.claims.is_empty() => Match::No,
        _ if !is_but_for_claims(&rest, asked, broad) => Match::No,
        None => Match::Yes,
        Some(http) => to.claims.iter().map(|claim| is_claim(claim, http.tokens, broad)).min().unwrap_or(Match::Yes),
    }
}

fn is_claim(condition: &v1::ClaimCondition, tokens: &dyn Tokens, broad: bool) -> Match {
    let is = |holds: bool| if holds { Match::Yes } else { Match::No };
    let exception = condition.values.is_empty() && !condition.not_values.is_empty();
    let claims = match tokens.shown(&provider(&condition.provider)) {
        Shown::Bad => return Match::BadToken,
        Shown::Nothing => return is(broad && exception),
        Shown::Claims(claims) => claims,
    };
    let Some(name) = condition.path.first() else { return Match::Yes };
    let mut value = claims.get(name).cloned().unwrap_or_default();
    for step in &condition.path[1..] {
        value = value.get(step).cloned().unwrap_or_default();
    }
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        _ => None,
    };
    let all: Vec<String> = match &value {
        Value::Array(all) => all.iter().filter_map(text).collect(),
        Value::String(list) if name == "scope" && condition.path.len() == 1 => {
            list.split(' ').filter(|one| !one.is_empty()).map(str::to_owned).collect()
        }
        one => text(one).into_iter().collect(),
    };
    if condition.values.is_empty() && condition.not_values.is_empty() {
        return is(!value.is_null());
    }
    let fold = |text: &str, broad: bool| if broad { text.to_ascii_lowercase() } else { text.to_owned() };
    let among = |patterns: &[String], broad: bool| {
        all.iter().any(|value| {
            patterns.iter().any(|pattern| match pattern.strip_suffix('*') {
                Some(start) => fold(value, broad).starts_with(&fold(start, broad)),
                None => fold(value, broad) == fold(pattern, broad),
            })
        })
    };
    is((condition.values.is_empty() || among(&condition.values, broad))
        && (condition.not_values.is_empty() || !among(&condition.not_values, !broad)))
}

fn is_but_for_claims(to: &v1::RequestMatch, asked: &Asked<'_>, broad: bool) -> bool {
    let port = u32::from(asked.port);
    if (!to.ports.is_empty() && !to.ports.contains(&port)) || to.not_ports.contains(&port) {
        return false;
    }
    let Some(http) = asked.http else {
        let plain = v1::RequestMatch { ports: vec![], not_ports: vec![], ..to.clone() };
        return broad || plain == v1::RequestMatch::default();
    };
    let fold = |text: &str, broad: bool| if broad { text.to_ascii_lowercase() } else { text.to_owned() };
    let method = |all: &[String], broad| all.iter().any(|m| fold(m, broad) == fold(http.method.as_str(), broad));
    let path = reading::path(http.path).unwrap_or_default().into_owned();
    let paths = |all: &[String], broad: bool| {
        let bare = |path: &str| {
            let bare = path.strip_suffix('/').filter(|bare| !bare.is_empty() && broad).unwrap_or(path);
            fold(bare, broad)
        };
        all.iter().any(|pattern| match pattern.strip_suffix("/*") {
            Some(above) => {
                let (above, path) = (fold(above, broad), fold(&path, broad));
                path == above || path.starts_with(&format!("{above}/"))
            }
            None => bare(pattern) == bare(&path),
        })
    };
    let host = http.host.map(|host| reading::host(host).into_owned());
    let hosts = |all: &[String]| {
        let host = host.clone().unwrap_or_default();
        all.iter().any(|pattern| match pattern.strip_prefix('*') {
            Some(end) => host.len() > end.len() && host.ends_with(end),
            None => *pattern == host,
        })
    };
    let no_host = host.is_none() && (!to.hosts.is_empty() || !to.not_hosts.is_empty());
    (to.methods.is_empty() || method(&to.methods, broad))
        && !method(&to.not_methods, !broad)
        && (to.paths.is_empty() || paths(&to.paths, broad))
        && (to.not_paths.is_empty() || !paths(&to.not_paths, !broad))
        && if no_host { broad } else { (to.hosts.is_empty() || hosts(&to.hosts)) && !hosts(&to.not_hosts) }
        && to.headers.iter().all(|condition| is_header(condition, http.headers, broad))
}

fn is_header(condition: &v1::HeaderCondition, headers: &HeaderMap, broad: bool) -> bool {
    let lines: Vec<String> = headers
        .get_all(condition.name.as_str())
        .iter()
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        .collect();
    let is = |value: &str, all: &[String], broad: bool| {
        let fold = |text: &str| if broad { text.to_ascii_lowercase() } else { text.to_owned() };
        all.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(start) => fold(value).starts_with(&fold(start)),
            None => fold(pattern) == fold(value),
        })
    };
    let among = |all: &[String], broad: bool| {
        if broad {
            let parts = lines.iter().flat_map(|line| line.split(',').map(str::trim).chain([line.as_str()]));
            parts.into_iter().any(|part| is(part, all, true))
        } else {
            !lines.is_empty() && lines.iter().all(|line| is(line, all, false))
        }
    };
    if condition.values.is_empty() && condition.not_values.is_empty() {
        return !lines.is_empty();
    }
    (condition.values.is_empty() || among(&condition.values, broad))
        && (condition.not_values.is_empty() || !among(&condition.not_values, !broad))
}
