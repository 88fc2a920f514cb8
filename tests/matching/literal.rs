//! The specification's text about matches and their precedence, sentence by sentence, without a thought for speed.

use serde_json::{Value, json};

/// An HTTPRoute or a GRPCRoute.
#[derive(Debug, Clone)]
pub struct Route {
    pub grpc: bool,
    pub name: String,
    /// Seconds since 1970.
    pub created: u32,
    pub rules: Vec<Vec<Match>>,
}

#[derive(Debug, Clone, Default)]
pub struct Match {
    pub path: Option<Path>,
    pub method: Option<&'static str>,
    pub headers: Vec<(&'static str, &'static str)>,
    pub query: Vec<(&'static str, &'static str)>,
    /// Service and method.
    pub grpc: Option<(Option<&'static str>, Option<&'static str>)>,
}

#[derive(Debug, Clone, Copy)]
pub enum Path {
    Exact(&'static str),
    Prefix(&'static str),
}

#[derive(Debug, Clone)]
pub struct Request {
    pub method: &'static str,
    pub path: &'static str,
    pub query: &'static str,
    pub headers: Vec<(&'static str, &'static str)>,
    pub grpc: bool,
}

/// The rule that takes a request.
pub struct Hit {
    pub resource: String,
    pub rule: String,
    /// Several matches were equal but for their routes' age and name, or their place.
    pub tied: bool,
}

impl Route {
    pub fn resource(&self) -> String {
        format!("{}/default/{}", if self.grpc { "GRPCRoute" } else { "HTTPRoute" }, self.name)
    }

    /// As a user writes it.
    pub fn written(&self) -> String {
        let rules: Vec<Value> = self.rules.iter().enumerate().map(|(n, matches)| rule(n, matches)).collect();
        let created = format!("1970-01-01T00:00:{:02}Z", self.created);
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": if self.grpc { "GRPCRoute" } else { "HTTPRoute" },
            "metadata": {"name": self.name, "creationTimestamp": created},
            "spec": {"parentRefs": [{"group": "", "kind": "Service", "name": "web"}], "rules": rules},
        })
        .to_string()
    }
}

fn rule(n: usize, matches: &[Match]) -> Value {
    let matches: Vec<Value> = matches.iter().map(Match::written).collect();
    json!({"name": format!("r{n}"), "matches": matches, "backendRefs": [{"name": "web", "port": 80}]})
}

impl Match {
    fn written(&self) -> Value {
        let list = |values: &[(&str, &str)]| -> Vec<Value> {
            values.iter().map(|(name, value)| json!({"name": name, "value": value})).collect()
        };
        let mut written = json!({"headers": list(&self.headers)});
        if let Some((service, method)) = self.grpc {
            written["method"] = json!({"service": service, "method": method});
            // A null is no value.
            written["method"].as_object_mut().unwrap().retain(|_, value| !value.is_null());
            return written;
        }
        if let Some(method) = self.method {
            written["method"] = json!(method);
        }
        match self.path {
            Some(Path::Exact(path)) => written["path"] = json!({"type": "Exact", "value": path}),
            Some(Path::Prefix(path)) => written["path"] = json!({"type": "PathPrefix", "value": path}),
            None => {}
        }
        if !self.query.is_empty() {
            written["queryParams"] = json!(list(&self.query));
        }
        written
    }

    /// "Multiple match types are ANDed together".
    fn holds(&self, request: &Request) -> bool {
        self.path_holds(request.path)
            && self.grpc_holds(request.path)
            && self.method.is_none_or(|method| method == request.method)
            && self.headers().iter().all(|(name, value)| header(request, name).as_deref() == Some(*value))
            && self.query.iter().all(|(name, value)| parameter(request.query, name) == Some(*value))
    }

    /// "Matches based on a URL path prefix split by `/`", element by element; a trailing `/` is ignored.
    fn path_holds(&self, path: &str) -> bool {
        match self.path {
            None => true,
            Some(Path::Exact(wanted)) => wanted == path,
            Some(Path::Prefix(prefix)) => {
                let elements = |path: &str| -> Vec<String> { path.split('/').map(str::to_owned).collect() };
                let wanted = elements(prefix.trim_end_matches('/'));
                elements(path).starts_with(&wanted)
            }
        }
    }

    fn grpc_holds(&self, path: &str) -> bool {
        let Some((service, method)) = self.grpc else { return true };
        let parts: Vec<&str> = path.splitn(3, '/').collect();
        let [_, of, called] = parts[..] else { return false };
        service.is_none_or(|service| service == of) && method.is_none_or(|method| method == called)
    }

    /// "Subsequent entries with an equivalent header name MUST be ignored."
    fn headers(&self) -> Vec<(String, &'static str)> {
        let mut found: Vec<(String, &str)> = Vec::new();
        for (name, value) in &self.headers {
            let name = name.to_lowercase();
            if found.iter().all(|(other, _)| *other != name) {
                found.push((name, value));
            }
        }
        found
    }

    fn prefix_characters(&self) -> usize {
        match self.path {
            Some(Path::Prefix(prefix)) => prefix.trim_end_matches('/').chars().count(),
            _ => 0,
        }
    }
}

/// A header that was sent several times is one list (RFC 9110, 5.3).
fn header(request: &Request, name: &str) -> Option<String> {
    let values: Vec<&str> =
        request.headers.iter().filter(|(n, _)| n.to_lowercase() == name).map(|(_, value)| *value).collect();
    (!values.is_empty()).then(|| values.join(","))
}

/// Of a repeated parameter the first.
fn parameter(query: &'static str, name: &str) -> Option<&'static str> {
    query.split('&').filter_map(|pair| pair.split_once('=')).find(|(n, _)| *n == name).map(|(_, value)| value)
}

struct Candidate<'a> {
    route: &'a Route,
    rule: usize,
    matched: &'a Match,
}

/// Keeps those for which the largest number is found.
fn largest<'a>(candidates: Vec<Candidate<'a>>, number: impl Fn(&Candidate<'a>) -> usize) -> Vec<Candidate<'a>> {
    let most = candidates.iter().map(&number).max().unwrap_or(0);
    candidates.into_iter().filter(|candidate| number(candidate) == most).collect()
}

/// The rule that takes a request.
pub fn read(routes: &[Route], request: &Request) -> Option<Hit> {
    // "If multiple routes with different types both bind to the same Service and Port pair, only a single route type should be
    // applied": GRPCRoute before HTTPRoute (GEP-1426). A GRPCRoute matches gRPC requests.
    let grpc = routes.iter().any(|route| route.grpc);
    let applied = routes.iter().filter(|route| route.grpc == grpc);
    let mut left: Vec<Candidate<'_>> = Vec::new();
    for route in applied.filter(|_| !grpc || request.grpc) {
        for (rule, matches) in route.rules.iter().enumerate() {
            left.extend(matches.iter().map(|matched| Candidate { route, rule, matched }));
        }
    }
    left.retain(|candidate| candidate.matched.holds(request));
    if grpc {
        left = largest(left, |c| c.matched.grpc.and_then(|(service, _)| service).map_or(0, |s| s.chars().count()));
        left = largest(left, |c| c.matched.grpc.and_then(|(_, method)| method).map_or(0, |m| m.chars().count()));
        left = largest(left, |c| c.matched.headers().len());
    } else {
        // "'Exact' path match."
        left = largest(left, |c| usize::from(matches!(c.matched.path, Some(Path::Exact(_)))));
        // "'Prefix' path match with largest number of characters."
        left = largest(left, |c| c.matched.prefix_characters());
        // "Method match."
        left = largest(left, |c| usize::from(c.matched.method.is_some()));
        // "Largest number of header matches."
        left = largest(left, |c| c.matched.headers().len());
        // "Largest number of query param matches."
        left = largest(left, |c| c.matched.query.len());
    }
    let tied = left.len() > 1;
    // "The oldest Route based on creation timestamp."
    left = largest(left, |c| usize::MAX - c.route.created as usize);
    // "The Route appearing first in alphabetical order by '{namespace}/{name}'."
    let first = left.iter().map(|c| c.route.name.clone()).min();
    left.retain(|c| Some(&c.route.name) == first.as_ref());
    // "The FIRST matching rule (in list order)".
    let rule = left.iter().map(|c| c.rule).min()?;
    let route = left.first()?.route;
    Some(Hit { resource: route.resource(), rule: format!("r{rule}"), tied })
}
