//! `leno policy`: what the AuthorizationPolicies would decide, by the sidecar's own code; and what should be allowed.

mod suggest;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;

use clap::{Subcommand, ValueEnum};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use leno_control_plane::model::{Mesh, Name};
use leno_control_plane::{config, discovery, validate};
use leno_proto::v1;
use leno_proxy::model::AuthorizationRule;
use leno_proxy::policy::{Asked, AskedHttp, Decision, GivenClaims, Rules};
use serde_json::{Map, Value, json};

use super::report::print_problems;
use crate::args::Global;
use crate::client::{Problem, Status, read, segment};
use crate::failure::{Exit, Failure};
use crate::output::{self, Format, printable};
use crate::sources::Sources;

/// Try AuthorizationPolicies: who may call whom
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    pub action: Action,
}

/// What to do with policies.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Say whether a request would be let in, and which rule decides
    #[command(after_help = EXAMPLES)]
    Test(Test),
    /// Write the least that has to be allowed for what was observed, with its evidence
    #[command(after_help = suggest::EXAMPLES)]
    Suggest(suggest::Suggest),
}

/// A request that is not made.
#[derive(Debug, clap::Args)]
pub struct Test {
    /// Who calls: a service account (NAME or NAMESPACE/NAME), a SPIFFE ID, or `none` for plaintext
    #[arg(long, value_name = "CALLER")]
    pub from: String,
    /// The Service that is called; its policies and its namespace's hold
    #[arg(long, value_name = "SERVICE")]
    pub to: String,
    /// The method
    #[arg(long, default_value = "GET", value_parser = method)]
    pub method: Method,
    /// The path, as it would be sent
    #[arg(long, default_value = "/", value_name = "PATH")]
    pub path: String,
    /// The host that is asked for [default: the Service's name]
    #[arg(long, value_name = "HOST")]
    pub host: Option<String>,
    /// A header of the request; may be given several times
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = header)]
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// A claim of the request's token, which is taken as verified: NAME=VALUE, or PROVIDER:NAME=VALUE; given twice it is a list
    #[arg(long = "claim", value_name = "NAME=VALUE", value_parser = claim)]
    pub claims: Vec<Claim>,
    /// The port of the app, by its number
    #[arg(long, default_value_t = 80, value_name = "PORT")]
    pub port: u16,
    /// Not HTTP but bytes, as of a database or a WebSocket
    #[arg(long)]
    pub tcp: bool,
    /// Try what these files say, without a control plane; may be given several times
    #[arg(short, long = "file", value_name = "FILE")]
    pub file: Vec<PathBuf>,
    /// The mesh's trust domain, where files are tried
    #[arg(long, default_value = "cluster.local", value_name = "NAME")]
    pub trust_domain: String,
    /// End with 1 when it is decided otherwise
    #[arg(long, value_name = "DECISION")]
    pub expect: Option<Expected>,
}

/// What somebody counts on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Expected {
    // It is let in.
    Allow,
    // It is not.
    Deny,
}

const EXAMPLES: &str = "Examples:
  leno policy test --from frontend --to web --path /reports            What is in force
  leno policy test --from none --to web --method POST
  leno policy test --from edge --to web --path /admin --claim sub=alice --claim groups=admin
  leno policy test -f policies/ --from ops/cron --to web --expect deny In a pipeline, without a control plane";

fn method(text: &str) -> Result<Method, String> {
    Method::from_bytes(text.as_bytes()).map_err(|_| format!("{text:?} is no method"))
}

/// A claim that a token is meant to have.
#[derive(Debug, Clone, PartialEq)]
pub struct Claim {
    /// None: of every provider.
    provider: Option<String>,
    path: Vec<String>,
    value: Value,
}

/// `NAME=VALUE`, or `PROVIDER:NAME=VALUE`; a name that begins with `/` is a JSON Pointer.
fn claim(text: &str) -> Result<Claim, String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    let (provider, name) = match name.split_once(':') {
        // Names of claims may be URLs.
        Some((provider, rest)) if !rest.starts_with("//") => (Some(provider.to_owned()), rest),
        _ => (None, name),
    };
    let path = match name.strip_prefix('/') {
        Some(steps) => steps.split('/').map(|step| step.replace("~1", "/").replace("~0", "~")).collect(),
        None => vec![name.to_owned()],
    };
    if name.is_empty() {
        return Err("write the name of the claim, as in sub=alice".to_owned());
    }
    Ok(Claim { provider, path, value: Value::String(value.to_owned()) })
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("write NAME: VALUE")?;
    let name = name.trim().parse().map_err(|_| format!("{name:?} is no name of a header"))?;
    let value = value.trim().parse().map_err(|_| format!("{value:?} is no value of a header"))?;
    Ok((name, value))
}

/// Runs the command.
///
/// # Errors
/// The policies could not be read, or decide otherwise than expected.
pub async fn run(args: Args, global: &Global) -> Result<(), Failure> {
    let test = match args.action {
        Action::Test(test) => test,
        Action::Suggest(suggest) => return suggest::run(suggest, global).await,
    };
    let (mesh, trust_domain) = match test.file.is_empty() {
        true => in_force(global).await?,
        false => (written(&test.file)?, test.trust_domain.clone()),
    };
    let answer = decide(&test, &mesh, &trust_domain, global.namespace())?;
    match global.output {
        Format::Table => output::line(answer.text())?,
        format => output::value(&answer.value(), format)?,
    }
    match test.expect {
        Some(expected) if (expected == Expected::Allow) != answer.allowed => {
            Err(Failure::new(Exit::Failed, "it is decided otherwise than expected", ""))
        }
        _ => Ok(()),
    }
}

/// What a control plane has of the namespace.
async fn in_force(global: &Global) -> Result<(Mesh, String), Failure> {
    let client = super::client(global)?;
    let status: Status = read(&client.expect(Method::GET, "/v1/status", None).await?)?;
    let mut objects = Vec::new();
    for kind in ["services", "authorizationpolicies", "jwtproviders"] {
        let path = format!("/v1/objects/{kind}?namespace={}", segment(global.namespace()));
        let answer = client.expect(Method::GET, &path, None).await?;
        for object in answer["items"].as_array().into_iter().flatten() {
            objects.extend(config::parse("control plane", object.to_string().as_bytes()).objects);
        }
    }
    Ok((mesh_of(objects)?, status.control_plane.trust_domain))
}

fn written(files: &[PathBuf]) -> Result<Mesh, Failure> {
    let Sources { files, mut problems } = Sources::read(files)?;
    let mut objects = Vec::new();
    for source in &files {
        let parsed = config::parse(&source.name, source.content.as_bytes());
        objects.extend(parsed.objects);
        problems.extend(read::<Vec<Problem>>(&json!(parsed.problems))?);
    }
    if print_problems(problems.iter()) > 0 {
        return Err(Failure::new(Exit::Failed, "the files have problems", ""));
    }
    mesh_of(objects)
}

fn mesh_of(objects: Vec<config::Object>) -> Result<Mesh, Failure> {
    let checked = validate::batch(objects);
    if !checked.refused.is_empty() {
        print_problems(read::<Vec<Problem>>(&json!(checked.problems))?.iter());
        return Err(Failure::new(Exit::Failed, "some objects would be refused", ""));
    }
    let mut mesh = Mesh::default();
    checked.valid.iter().for_each(|object| object.put_into(&mut mesh, 0));
    Ok(mesh)
}

struct Answer {
    allowed: bool,
    why: &'static str,
    /// The rule that decides.
    rule: Option<(String, String)>,
    /// Rules of AUDITs that match.
    audited: Vec<(String, String)>,
}

impl Answer {
    fn text(&self) -> String {
        let word = if self.allowed { "allowed" } else { "denied" };
        let rule = |(policy, rule): &(String, String)| {
            format!("rule {} of AuthorizationPolicy {}", printable(rule), printable(policy))
        };
        let by = self.rule.as_ref().map_or_else(|| self.why.to_owned(), |by| format!("{}: {}", self.why, rule(by)));
        let audited = self.audited.iter().map(|by| format!("\naudited: {}", rule(by)));
        format!("{word}: {by}{}", audited.collect::<String>())
    }

    fn value(&self) -> Value {
        let rule = |(policy, rule): &(String, String)| json!({"policy": policy, "rule": rule});
        json!({
            "decision": if self.allowed { "allow" } else { "deny" },
            "why": self.why,
            "rule": self.rule.as_ref().map(rule),
            "audited": self.audited.iter().map(rule).collect::<Vec<_>>(),
        })
    }
}

fn decide(test: &Test, mesh: &Mesh, trust_domain: &str, namespace: &str) -> Result<Answer, Failure> {
    let Some(service) = mesh.services.get(&Name::new(namespace, test.to.as_str())) else {
        let hint = "correct --to or --namespace; with --file the Service has to be in the files";
        return Err(Failure::new(Exit::Failed, format!("there is no Service {namespace}/{}", test.to), hint));
    };
    let authorization = discovery::authorization_told(mesh, namespace, trust_domain);
    // The claims are given, so no key is needed.
    let jwt_providers = discovery::jwt_providers_told(mesh, namespace, &BTreeMap::new());
    let wire = v1::SidecarConfig { authorization, jwt_providers, ..v1::SidecarConfig::default() };
    let posture = leno_proxy::model::posture(&wire);
    let posture = posture.map_err(|error| Failure::new(Exit::Failed, error.to_string(), ""))?;
    let rules = Rules::of(posture.authorization.as_deref().unwrap_or_default(), &service.selector);
    let caller = caller(&test.from, trust_domain, namespace)?;
    let rules = rules.for_caller(caller.as_deref(), trust_domain);
    let headers: HeaderMap = test.headers.iter().cloned().collect();
    let path = test.path.split_once('?').map_or(test.path.as_str(), |(path, _)| path);
    let host = Some(test.host.as_deref().unwrap_or(&test.to));
    let tokens = given(&test.claims, &wire.jwt_providers)?;
    let http = AskedHttp { method: &test.method, path, host, headers: &headers, tokens: &tokens };
    let asked = Asked { port: test.port, http: (!test.tcp).then_some(http) };
    let by = |rule: &AuthorizationRule| (rule.policy.clone(), rule.name.clone());
    let (allowed, why, rule) = match rules.decide(&asked) {
        Decision::Allowed(Some(rule)) => (true, "an ALLOW matches", Some(rule)),
        Decision::Allowed(None) => (true, "no ALLOW holds for the Service, and no DENY matches", None),
        Decision::DeniedBy(rule) => (false, "a DENY matches", Some(rule)),
        Decision::NotAllowed => (false, "no rule of the ALLOWs that hold for the Service matches", None),
        Decision::UnclearPath => (false, "rules look at paths, and this one can be read in two ways", None),
        Decision::BadToken => (false, "rules look at a token, and this one is not believed", None),
    };
    Ok(Answer { allowed, why, rule: rule.map(by), audited: rules.audited(&asked).map(by).collect() })
}

/// What the token says that the request is meant to have. Without a provider's name it is that of every one that the policies name.
fn given(claims: &[Claim], providers: &[v1::JwtProvider]) -> Result<GivenClaims, Failure> {
    let mut given: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    for Claim { provider, path, value } in claims {
        let meant = |name: &str| provider.as_ref().is_none_or(|meant| name.rsplit('/').next() == Some(meant));
        let mut found = false;
        for one in providers.iter().filter(|one| meant(&one.name)) {
            found = true;
            put(given.entry(one.name.clone()).or_default(), path, value.clone());
        }
        if let (false, Some(provider)) = (found, provider) {
            let what = format!("no policy names the JwtProvider {provider}");
            return Err(Failure::new(Exit::Failed, what, "correct --claim, or leave the provider out"));
        }
    }
    Ok(GivenClaims(given.into_iter().map(|(name, claims)| (name, Rc::new(claims))).collect()))
}

/// A claim that is given several times is a list.
fn put(claims: &mut Map<String, Value>, path: &[String], value: Value) {
    let Some((first, rest)) = path.split_first() else { return };
    match claims.get_mut(first) {
        Some(Value::Object(inner)) if !rest.is_empty() => put(inner, rest, value),
        Some(Value::Array(list)) if rest.is_empty() => list.push(value),
        Some(before) if rest.is_empty() => *before = json!([before.take(), value]),
        _ if rest.is_empty() => drop(claims.insert(first.clone(), value)),
        _ => {
            let mut inner = Map::new();
            put(&mut inner, rest, value);
            claims.insert(first.clone(), Value::Object(inner));
        }
    }
}

/// The SPIFFE ID that is meant; None: none.
fn caller(text: &str, trust_domain: &str, namespace: &str) -> Result<Option<String>, Failure> {
    if text == "none" {
        return Ok(None);
    }
    let id = if text.starts_with("spiffe://") {
        leno_certs::SpiffeId::parse(text)
    } else {
        let (namespace, name) = text.split_once('/').unwrap_or((namespace, text));
        leno_certs::SpiffeId::new(trust_domain, namespace, name)
    };
    let hint = "write NAME, NAMESPACE/NAME, a SPIFFE ID, or none";
    id.map(|id| Some(id.as_str().to_owned())).map_err(|error| Failure::new(Exit::Usage, error.to_string(), hint))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        test: Test,
    }

    /// With the shipped examples.
    fn said(arguments: &str) -> String {
        let examples = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples");
        let files = ["authorization.yaml", "canary.yaml", "jwt.yaml", "gateway.yaml"].map(|file| examples.join(file));
        let mesh = written(&files).ok().unwrap();
        let test = Line::parse_from(std::iter::once("test").chain(arguments.split(' '))).test;
        match decide(&test, &mesh, "cluster.local", "default") {
            Ok(answer) => answer.text(),
            Err(failure) => failure.to_string(),
        }
    }

    #[test]
    fn the_rule_that_decides_is_named() {
        let allowed = "allowed: an ALLOW matches: rule frontend-reads of AuthorizationPolicy default/web-callers";
        assert_eq!(said("--from frontend --to web"), allowed);
        assert_eq!(said("--from spiffe://cluster.local/ns/default/sa/frontend --to web"), allowed);
        let denied = "denied: no rule of the ALLOWs that hold for the Service matches";
        assert_eq!(said("--from frontend --to web --method POST"), denied);
        assert_eq!(said("--from none --to web"), denied);
        let admin = "denied: a DENY matches: rule no-admin of AuthorizationPolicy default/web-admin";
        assert_eq!(said("--from frontend --to web --path /admin/users?a=b"), admin);
        assert!(
            said("--from ops/cron --to web --path /admin/users")
                .starts_with("allowed: an ALLOW matches: rule operators")
        );
        assert!(said("--from frontend --to web --path //admin").contains("two ways"));
        assert!(said("--from frontend --to nobody").contains("there is no Service default/nobody"));
        assert!(said("--from a/b/c --to web").contains("write NAME"));
    }

    #[test]
    fn what_a_token_would_say_can_be_given() {
        let denied = "denied: no rule of the ALLOWs that hold for the Service matches";
        assert_eq!(said("--from edge --to accounts --path /accounts/7"), denied, "no token");
        let members = "allowed: an ALLOW matches: rule members of AuthorizationPolicy default/accounts-users";
        for claims in
            ["--claim groups=members", "--claim groups=other --claim groups=members", "--claim id:groups=members"]
        {
            assert_eq!(said(&format!("--from edge --to accounts --path /accounts/7 {claims}")), members, "{claims}");
        }
        assert_eq!(said("--from edge --to accounts --path /accounts/7 --claim groups=other"), denied);
        assert!(
            said("--from edge --to accounts --claim other:groups=x").contains("no policy names the JwtProvider other")
        );
        assert!(claim("groups").is_err() && claim("=x").is_err());
        assert_eq!(claim("https://a/b=c").unwrap().path, ["https://a/b"]);
        assert_eq!(claim("/a~1b/c=d").unwrap().path, ["a/b", "c"]);
    }
}
