//! `leno policy suggest`: the least that has to be allowed for what was observed, as YAML with its evidence.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use http::Method;
use leno_control_plane::{config, validate};
use time::OffsetDateTime;

use crate::args::Global;
use crate::client::{Edge, Edges, account, read};
use crate::failure::{Exit, Failure};
use crate::output::{self, printable, thousands};
use crate::spans::relative;

/// Which Services a policy is suggested for.
#[derive(Debug, clap::Args)]
pub struct Suggest {
    /// For these Services alone; may be given several times [default: all of the namespace that were called]
    #[arg(long = "for", value_name = "SERVICE")]
    pub services: Vec<String>,
}

pub(super) const EXAMPLES: &str = "Examples:
  leno policy suggest > policies.yaml          For each Service of the namespace that was called within a day
  leno policy suggest --for web | leno policy test -f - -f services.yaml --from frontend --to web
  leno policy suggest --for web | leno apply -f -";

/// Most entries of a list in a rule; more paths than these are one `/*`.
const MOST_PATHS: usize = 64;

/// Runs the command.
///
/// # Errors
/// The control plane could not be asked, or nothing was observed.
pub(super) async fn run(args: Suggest, global: &Global) -> Result<(), Failure> {
    let answer = super::super::client(global)?.expect(Method::GET, "/v1/edges?minutes=60", None).await?;
    let edges: Edges = read(&answer)?;
    let namespace = global.namespace();
    let called = by_service(&edges.edges, namespace);
    let names: Vec<&str> = match args.services.is_empty() {
        true => called.keys().map(String::as_str).collect(),
        false => args.services.iter().map(String::as_str).collect(),
    };
    if names.is_empty() {
        let what = format!("no call to a Service of the namespace {namespace} was observed within a day");
        return Err(Failure::new(
            Exit::Failed,
            what,
            "let the traffic that is meant run for a while, and look at `leno edges -A`",
        ));
    }
    let mut text = String::new();
    for name in names {
        let edges = called.get(name).ok_or_else(|| {
            let what = format!("no call to the Service {namespace}/{name} was observed within a day");
            Failure::new(Exit::Failed, what, "see `leno get services` and `leno edges`")
        })?;
        text.push_str(&policy(name, namespace, edges, OffsetDateTime::now_utc()));
    }
    // What is suggested has to be good as it is.
    let parsed = config::parse("suggestion", text.as_bytes());
    let checked = validate::batch(parsed.objects);
    if !parsed.problems.is_empty() || !checked.refused.is_empty() {
        let what = format!("the suggestion would be refused: {:?} {:?}", parsed.problems, checked.problems);
        return Err(Failure::new(Exit::Failed, printable(&what), "this is a mistake of leno's, please report it"));
    }
    output::exactly(&text)
}

/// By the Service's name. Workloads that two Services select count for both: a policy of one would shut out callers of the other.
fn by_service<'a>(edges: &'a [Edge], namespace: &str) -> BTreeMap<String, Vec<&'a Edge>> {
    let mut called: BTreeMap<String, Vec<&Edge>> = BTreeMap::new();
    for edge in edges.iter().filter(|edge| edge.destination.namespace == namespace) {
        for service in &edge.destination.services {
            let name = service.split_once('/').map_or(service.as_str(), |(_, name)| name);
            called.entry(name.to_owned()).or_default().push(edge);
        }
    }
    called
}

fn policy(service: &str, namespace: &str, edges: &[&Edge], now: OffsetDateTime) -> String {
    let mut text = format!(
        "# Suggested by `leno policy suggest` from what was observed within the last day; numbers are of the last hour.\n\
         apiVersion: leno.dev/v1alpha1\nkind: AuthorizationPolicy\n\
         metadata: {{name: {service}-observed, namespace: {namespace}}}\nspec:\n  \
         targetRefs: [{{group: \"\", kind: Service, name: {service}}}]\n  action: ALLOW\n"
    );
    let mut by_caller: BTreeMap<&str, Vec<&Edge>> = BTreeMap::new();
    for edge in edges.iter().filter(|edge| edge.mtls) {
        by_caller.entry(&edge.source).or_default().push(edge);
    }
    for edge in edges.iter().filter(|edge| !edge.mtls) {
        let _ = writeln!(text, "  # Not allowed: {} {}.", without_identity(edge), evidence(edge, now));
    }
    text.push_str(if by_caller.is_empty() { "  rules: []\n" } else { "  rules:\n" });
    let mut names = BTreeSet::new();
    for (source, edges) in by_caller {
        for edge in &edges {
            let _ = writeln!(text, "  # {} to port {}: {}.", account(source), edge.port, evidence(edge, now));
        }
        let _ =
            write!(text, "  - name: {}\n    from: [{}]\n    to:\n", unused(&mut names, source), from(source, edges[0]));
        merged(&edges).into_iter().for_each(|entry| text.push_str(&entry));
    }
    text.push_str("---\n");
    text
}

fn without_identity(edge: &Edge) -> String {
    if edge.source == "others" {
        return "callers for whom a sidecar had no more room, see `leno edges`:".to_owned();
    }
    format!("{}, which calls in plaintext and has no identity:", edge.source)
}

/// Numbers of requests are of the last hour; the time is when it was last seen.
fn evidence(edge: &Edge, now: OffsetDateTime) -> String {
    let what = if edge.protocol == "http" { "requests" } else { "connections" };
    let failed = if edge.failures > 0 { format!(", {} failed", thousands(edge.failures)) } else { String::new() };
    let (first, last) = (relative(&edge.first_seen, now), relative(&edge.last_seen, now));
    printable(&format!("{} {what}{failed}; first {first}, last {last}", thousands(edge.requests)))
}

fn from(source: &str, edge: &Edge) -> String {
    let trust_domain =
        |id: &str| id.strip_prefix("spiffe://").and_then(|rest| rest.split('/').next()).map(str::to_owned);
    if trust_domain(source) == trust_domain(&edge.destination.identity) {
        format!("{{serviceAccounts: [{}]}}", account(source))
    } else {
        format!("{{identities: [{}]}}", quoted(source))
    }
}

/// The name of a rule: the caller's account, with a number where two namespaces have the same.
fn unused(names: &mut BTreeSet<String>, source: &str) -> String {
    let account = account(source);
    let plain = account.rsplit_once('/').map_or(account.as_str(), |(_, name)| name);
    let mut numbered = (2..).map(|n| format!("{plain}-{n}"));
    let mut name = plain.to_owned();
    while !names.insert(name.clone()) {
        name = numbered.next().unwrap_or_default();
    }
    name
}

/// Alike workloads of several versions have edges of their own to the same port.
fn merged(edges: &[&Edge]) -> Vec<String> {
    let mut by_port: BTreeMap<(u16, bool), Vec<&Edge>> = BTreeMap::new();
    for edge in edges {
        by_port.entry((edge.port, edge.protocol == "http")).or_default().push(edge);
    }
    by_port
        .into_iter()
        .flat_map(|((port, http), edges)| if http { of_http(port, &edges) } else { of_bytes(port) })
        .collect()
}

fn of_bytes(port: u16) -> Vec<String> {
    vec![format!("    - ports: [{port}]\n")]
}

/// One entry for each set of methods, with the paths that were asked for by just these.
fn of_http(port: u16, edges: &[&Edge]) -> Vec<String> {
    let mut methods: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for seen in edges.iter().flat_map(|edge| &edge.paths) {
        methods.entry(&seen.path).or_default().insert(&seen.method);
    }
    if methods.is_empty() {
        return vec![format!(
            "    # Nothing was answered well yet.\n    - {{methods: [GET], paths: [/], ports: [{port}]}}\n"
        )];
    }
    let all: BTreeSet<&str> = methods.values().flatten().copied().collect();
    // A rule that names paths refuses those that can be read in two ways.
    let unclear = methods.contains_key("?");
    if unclear || edges.iter().any(|edge| edge.more_paths) || methods.len() > MOST_PATHS {
        let why = if unclear {
            "Some paths can be read in two ways, which rules with paths refuse"
        } else {
            "There are too many paths"
        };
        return vec![format!(
            "    # {why}: narrow this by hand.\n    - {{methods: [{}], ports: [{port}]}}\n",
            list(all)
        )];
    }
    let mut by_methods: BTreeMap<BTreeSet<&str>, Vec<&str>> = BTreeMap::new();
    for (path, methods) in methods {
        by_methods.entry(methods).or_default().push(path);
    }
    let entry = |(methods, paths)| {
        format!("    - {{methods: [{}], paths: [{}], ports: [{port}]}}\n", list(methods), list(paths))
    };
    by_methods.into_iter().map(entry).collect()
}

fn list<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    words.into_iter().map(quoted).collect::<Vec<_>>().join(", ")
}

/// As YAML takes it in a list in brackets.
fn quoted(text: &str) -> String {
    let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'_' | b'.' | b'-'));
    let begins = text.starts_with(|c: char| c == '/' || c.is_ascii_alphabetic());
    if plain && begins { text.to_owned() } else { serde_json::Value::from(text).to_string() }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn edge(source: &str, port: u16, paths: &[(&str, &str)]) -> Value {
        let paths: Vec<_> = paths.iter().map(|(method, path)| json!({"method": method, "path": path})).collect();
        json!({"source": source, "mtls": source.starts_with("spiffe"), "port": port, "protocol": "http", "requests": 3,
            "destination": {"namespace": "default", "identity": "spiffe://cluster.local/ns/default/sa/web", "services": ["default/web"]},
            "firstSeen": "1970-01-01T00:00:00Z", "lastSeen": "1970-01-01T00:00:10Z", "paths": paths})
    }

    fn suggested(edges: &[Value]) -> String {
        let edges: Edges = read(&json!({"minutes": 60, "edges": edges})).unwrap();
        let text = policy(
            "web",
            "default",
            &by_service(&edges.edges, "default")["web"],
            OffsetDateTime::from_unix_timestamp(20).unwrap(),
        );
        let parsed = config::parse("x", text.as_bytes());
        let checked = validate::batch(parsed.objects);
        assert!(
            parsed.problems.is_empty() && checked.refused.is_empty(),
            "{:?} {:?}\n{text}",
            parsed.problems,
            checked.problems
        );
        text
    }

    const FRONTEND: &str = "spiffe://cluster.local/ns/default/sa/frontend";

    #[test]
    fn callers_methods_and_paths_are_allowed_as_they_were_seen_with_the_evidence_beside_them() {
        let mut tcp = edge("spiffe://cluster.local/ns/ops/sa/frontend", 6379, &[]);
        tcp["protocol"] = json!("tcp");
        let text = suggested(&[
            edge(FRONTEND, 8080, &[("GET", "/"), ("GET", "/orders/*"), ("POST", "/orders/*"), ("GET", "/a b")]),
            edge("spiffe://elsewhere.example/ns/a/sa/b", 8080, &[("GET", "/")]),
            tcp,
        ]);
        for part in [
            "  # default/frontend to port 8080: 3 requests; first 20s ago, last 10s ago.\n  - name: frontend\n    from: [{serviceAccounts: [default/frontend]}]\n",
            "    - {methods: [GET], paths: [/, \"/a b\"], ports: [8080]}\n    - {methods: [GET, POST], paths: [\"/orders/*\"], ports: [8080]}\n",
            "  - name: frontend-2\n    from: [{serviceAccounts: [ops/frontend]}]\n    to:\n    - ports: [6379]\n",
            "from: [{identities: [\"spiffe://elsewhere.example/ns/a/sa/b\"]}]",
        ] {
            assert!(text.contains(part), "{part}\nis not in\n{text}");
        }
    }

    #[test]
    fn what_cannot_be_said_narrowly_is_said_broadly_with_the_reason_and_plaintext_is_named_and_not_allowed() {
        let unclear = suggested(&[edge(FRONTEND, 80, &[("GET", "/a"), ("POST", "?")])]);
        assert!(
            unclear.contains("read in two ways") && unclear.contains("- {methods: [GET, POST], ports: [80]}"),
            "{unclear}"
        );
        let many: Vec<String> = (0..=MOST_PATHS).map(|n| format!("/p{n}")).collect();
        let many: Vec<_> = many.iter().map(|path| ("GET", path.as_str())).collect();
        let text = suggested(&[edge(FRONTEND, 80, &many)]);
        assert!(text.contains("too many paths") && text.contains("- {methods: [GET], ports: [80]}"), "{text}");
        let plaintext = suggested(&[edge("10.0.0.9", 80, &[])]);
        assert!(
            plaintext.contains("# Not allowed: 10.0.0.9, which calls in plaintext") && plaintext.contains("rules: []")
        );
    }
}
