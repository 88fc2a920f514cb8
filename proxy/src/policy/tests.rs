//! Cases, and a comparison with a literal reading of docs/authorization.md.

mod claims;
mod literal;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use leno_proto::v1;
use serde_json::json;

use super::*;
use crate::model::posture;

const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn rules(policies: Vec<v1::AuthorizationPolicy>) -> Rules {
    rules_with(policies, PROVIDERS.map(|name| v1::JwtProvider { name: name.into(), ..Default::default() }).into())
}

/// For rules that look at tokens which are given and not signed.
const PROVIDERS: [&str; 2] = ["shop/p", "shop/q"];

fn provider(name: &str) -> JwtProvider {
    JwtProvider {
        name: name.to_owned(),
        issuer: String::new(),
        audiences: vec![],
        algorithms: vec![],
        keys: Default::default(),
        places: vec![],
    }
}

fn rules_with(policies: Vec<v1::AuthorizationPolicy>, jwt_providers: Vec<v1::JwtProvider>) -> Rules {
    let wire = v1::SidecarConfig { authorization: policies, jwt_providers, ..v1::SidecarConfig::default() };
    Rules::of(&posture(&wire).unwrap().authorization.unwrap(), &[("app".to_owned(), "web".to_owned())].into())
}

fn policy(action: v1::authorization_policy::Action, rules: Vec<v1::AuthorizationRule>) -> v1::AuthorizationPolicy {
    v1::AuthorizationPolicy {
        name: "shop/p".into(),
        action: action.into(),
        whole_namespace: true,
        selectors: vec![],
        rules,
    }
}

fn rule(from: Vec<v1::CallerMatch>, to: Vec<v1::RequestMatch>) -> v1::AuthorizationRule {
    v1::AuthorizationRule { name: "0".into(), from, to }
}

fn caller(any: &[&str], none: &[&str]) -> v1::CallerMatch {
    let all_of = if any.is_empty() { vec![] } else { vec![v1::Identities { any_of: texts(any) }] };
    v1::CallerMatch { all_of, none_of: texts(none) }
}

fn fields(fields: &[(&str, &str)]) -> HeaderMap {
    let field = |(name, value): &(&str, &str)| {
        (name.parse::<HeaderName>().unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap())
    };
    fields.iter().map(field).collect()
}

/// `allowed`, `denied`, `unclear` or `bad token`.
fn ask(rules: &Rules, who: Option<&str>, path: &str, headers: &[(&str, &str)]) -> &'static str {
    let headers = fields(headers);
    let http = AskedHttp { method: &Method::GET, path, host: Some("web"), headers: &headers, tokens: &NoTokens };
    word(rules.for_caller(who, "cluster.local").decide(&Asked { port: 80, http: Some(http) }))
}

fn word(decision: Decision<'_>) -> &'static str {
    match decision {
        Decision::Allowed(_) => "allowed",
        Decision::DeniedBy(_) | Decision::NotAllowed => "denied",
        Decision::UnclearPath => "unclear",
        Decision::BadToken => "bad token",
    }
}

use v1::authorization_policy::Action::{Allow, Audit, Deny};

#[test]
fn without_policies_everybody_is_allowed_and_an_allow_without_rules_allows_nobody() {
    assert_eq!(ask(&rules(vec![]), None, "/a//b", &[]), "allowed");
    assert!(rules(vec![]).is_open());
    let nobody = rules(vec![policy(Allow, vec![])]);
    assert_eq!(ask(&nobody, Some(WEB), "/", &[]), "denied");
    assert!(nobody.for_caller(Some(WEB), "cluster.local").shut_out());
    let other = v1::AuthorizationPolicy {
        whole_namespace: false,
        selectors: vec![v1::WorkloadSelector { labels: [("app".to_owned(), "store".to_owned())].into() }],
        ..policy(Allow, vec![])
    };
    assert!(rules(vec![other]).is_open(), "it is for other workloads");
}

#[test]
fn a_deny_goes_before_every_allow() {
    let all = policy(Allow, vec![rule(vec![], vec![])]);
    let deny = policy(Deny, vec![rule(vec![caller(&[WEB], &[])], vec![])]);
    let rules = rules(vec![all, deny]);
    assert_eq!(ask(&rules, Some(WEB), "/", &[]), "denied");
    assert_eq!(ask(&rules, Some("spiffe://cluster.local/ns/shop/sa/web2"), "/", &[]), "allowed");
    assert_eq!(ask(&rules, Some("spiffe://cluster.local/ns/shop/sa/WEB"), "/", &[]), "allowed", "another identity");
}

#[test]
fn identities_match_whole_segments() {
    let shop = rules(vec![policy(Allow, vec![rule(vec![caller(&["spiffe://cluster.local/ns/shop/*"], &[])], vec![])])]);
    for (id, expected) in [
        (WEB, "allowed"),
        ("spiffe://cluster.local/ns/shop-evil/sa/web", "denied"),
        ("spiffe://cluster.local/ns/evil/sa/shop", "denied"),
        ("spiffe://evil.cluster.local/ns/shop/sa/web", "denied"),
        ("spiffe://cluster.local.evil/ns/shop/sa/web", "denied"),
    ] {
        assert_eq!(ask(&shop, Some(id), "/", &[]), expected, "{id}");
    }
}

#[test]
fn who_shows_no_identity_is_let_in_by_no_source_and_denied_by_exceptions() {
    let not_b = vec![caller(&[], &["spiffe://cluster.local/ns/b/*"])];
    let allow = rules(vec![policy(Allow, vec![rule(not_b.clone(), vec![])])]);
    assert_eq!((ask(&allow, Some(WEB), "/", &[]), ask(&allow, None, "/", &[])), ("allowed", "denied"));
    let deny = rules(vec![policy(Deny, vec![rule(not_b, vec![])])]);
    assert_eq!((ask(&deny, Some(WEB), "/", &[]), ask(&deny, None, "/", &[])), ("denied", "denied"));
    assert_eq!(ask(&deny, Some("spiffe://cluster.local/ns/b/sa/x"), "/", &[]), "allowed");
}

fn paths(paths: &[&str]) -> Vec<v1::AuthorizationRule> {
    vec![rule(vec![], vec![v1::RequestMatch { paths: texts(paths), ..v1::RequestMatch::default() }])]
}

#[test]
fn a_path_is_denied_in_every_spelling_and_allowed_in_one() {
    let deny = rules(vec![policy(Deny, paths(&["/admin", "/secret/*"]))]);
    let allow = rules(vec![policy(Allow, paths(&["/admin", "/secret/*"]))]);
    for (path, denied, allowed) in [
        ("/admin", "denied", "allowed"),
        ("/%61dmin", "denied", "allowed"),
        ("/admin/", "denied", "denied"),
        ("/ADMIN", "denied", "denied"),
        ("/administrator", "allowed", "denied"),
        ("/secret", "denied", "allowed"),
        ("/secret/a/b", "denied", "allowed"),
        ("/Secret/a", "denied", "denied"),
        ("/secretly", "allowed", "denied"),
        ("//admin", "unclear", "unclear"),
        ("/./admin", "unclear", "unclear"),
        ("/x/../admin", "unclear", "unclear"),
        ("/x/%2e%2e/admin", "unclear", "unclear"),
        ("/admin;v=1", "unclear", "unclear"),
        ("/admin%2fusers", "unclear", "unclear"),
        ("/admin%252f", "unclear", "unclear"),
        ("/admin\\", "unclear", "unclear"),
        ("/admin%00", "unclear", "unclear"),
        ("/adm%c0%afin", "unclear", "unclear"),
    ] {
        assert_eq!((ask(&deny, None, path, &[]), ask(&allow, None, path, &[])), (denied, allowed), "{path}");
    }
}

fn header(name: &str, values: &[&str], not_values: &[&str]) -> Vec<v1::AuthorizationRule> {
    let condition = v1::HeaderCondition { name: name.into(), values: texts(values), not_values: texts(not_values) };
    vec![rule(vec![], vec![v1::RequestMatch { headers: vec![condition], ..v1::RequestMatch::default() }])]
}

#[test]
fn of_several_values_one_is_enough_to_deny_and_all_are_needed_to_allow() {
    let deny = rules(vec![policy(Deny, header("x-role", &["guest"], &[]))]);
    let allow = rules(vec![policy(Allow, header("x-role", &["admin", "op*"], &[]))]);
    for (sent, denied, allowed) in [
        (&[][..], "allowed", "denied"),
        (&[("x-role", "admin")][..], "allowed", "allowed"),
        (&[("x-role", "operator")], "allowed", "allowed"),
        (&[("x-role", "guest")], "denied", "denied"),
        (&[("x-role", "admin"), ("x-role", "guest")], "denied", "denied"),
        (&[("x-role", "guest"), ("x-role", "admin")], "denied", "denied"),
        (&[("x-role", "admin, guest")], "denied", "denied"),
        (&[("x-role", "Guest")], "denied", "denied"),
        (&[("x-role", "ADMIN")], "allowed", "denied"),
        (&[("x-role", "guest\u{e9}")], "allowed", "denied"),
    ] {
        assert_eq!((ask(&deny, None, "/", sent), ask(&allow, None, "/", sent)), (denied, allowed), "{sent:?}");
    }
    let exception = rules(vec![policy(Deny, header("x-role", &[], &["admin"]))]);
    assert_eq!(ask(&exception, None, "/", &[("x-role", "admin")]), "allowed");
    assert_eq!(ask(&exception, None, "/", &[("x-role", "admin"), ("x-role", "guest")]), "denied");
    assert_eq!(ask(&exception, None, "/", &[]), "denied", "it is not admin");
}

#[test]
fn of_bytes_that_nobody_reads_every_request_may_be_in_them() {
    let opaque = Asked { port: 80, http: None };
    assert_eq!(word(rules(vec![policy(Deny, paths(&["/admin"]))]).decide(&opaque)), "denied");
    assert_eq!(word(rules(vec![policy(Allow, paths(&["/admin"]))]).decide(&opaque)), "denied");
    let port = |ports: &[u32]| {
        vec![rule(vec![], vec![v1::RequestMatch { ports: ports.to_vec(), ..v1::RequestMatch::default() }])]
    };
    assert_eq!(word(rules(vec![policy(Allow, port(&[80]))]).decide(&opaque)), "allowed");
    assert_eq!(word(rules(vec![policy(Deny, port(&[81]))]).decide(&opaque)), "allowed");
}

#[test]
fn an_audit_decides_nothing_and_says_what_it_would_have_denied() {
    let audit = rules(vec![policy(Audit, paths(&["/admin"]))]);
    assert_eq!(ask(&audit, Some(WEB), "/admin", &[]), "allowed");
    let headers = HeaderMap::new();
    let would = |path| {
        let http = AskedHttp { method: &Method::GET, path, host: None, headers: &headers, tokens: &NoTokens };
        audit.audited(&Asked { port: 80, http: Some(http) }).map(|rule| rule.policy.clone()).collect::<Vec<_>>()
    };
    assert_eq!((would("/admin"), would("/")), (vec!["shop/p".to_owned()], vec![]));
}

/// Draws from small sets, so that things meet.
struct Draw(fastrand::Rng);

impl Draw {
    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.0.usize(..of.len())]
    }

    fn some(&mut self, of: &[&str], odds: u32) -> Vec<String> {
        if self.0.u32(..odds) > 0 {
            return vec![];
        }
        (0..self.0.usize(1..3)).map(|_| self.one(of).to_owned()).collect()
    }

    fn rule(&mut self) -> v1::AuthorizationRule {
        const IDS: [&str; 6] = [
            "spiffe://t/ns/a/sa/x",
            "spiffe://t/ns/a/*",
            "spiffe://t/ns/b/*",
            "spiffe://t/*",
            "spiffe://u/*",
            "spiffe://t/ns/a/sa/X",
        ];
        let from = (0..self.0.usize(..3)).map(|_| {
            let all_of = (0..self.0.usize(..3)).map(|_| v1::Identities { any_of: self.some(&IDS, 1) }).collect();
            v1::CallerMatch { all_of, none_of: self.some(&IDS, 3) }
        });
        let from = from.collect();
        let to = (0..self.0.usize(..3)).map(|_| self.request()).collect();
        rule(from, to)
    }

    fn request(&mut self) -> v1::RequestMatch {
        if self.0.u32(..4) == 0 {
            let claims = (0..self.0.usize(1..3)).map(|_| self.claim()).collect();
            return v1::RequestMatch { claims, ..v1::RequestMatch::default() };
        }
        const PATHS: [&str; 7] = ["/", "/a", "/a/", "/a/*", "/a/b", "/*", "/A/b/*"];
        const HOSTS: [&str; 4] = ["web", "*.example.com", "a.example.com", "example.com"];
        const VALUES: [&str; 4] = ["1", "2", "a*", "A"];
        let headers = (0..self.0.usize(..2)).map(|_| v1::HeaderCondition {
            name: self.one(&["x", "y"]).into(),
            values: self.some(&VALUES, 2),
            not_values: self.some(&VALUES, 3),
        });
        let headers = headers.collect();
        let ports = |of: Vec<String>| of.iter().map(|port| port.parse().unwrap()).collect();
        v1::RequestMatch {
            methods: self.some(&["GET", "POST"], 3),
            not_methods: self.some(&["GET", "POST"], 6),
            paths: self.some(&PATHS, 2),
            not_paths: self.some(&PATHS, 5),
            hosts: self.some(&HOSTS, 4),
            not_hosts: self.some(&HOSTS, 6),
            ports: ports(self.some(&["80", "81"], 4)),
            not_ports: ports(self.some(&["80", "81"], 6)),
            headers,
            claims: (0..self.0.usize(..5).saturating_sub(2)).map(|_| self.claim()).collect(),
        }
    }

    fn claim(&mut self) -> v1::ClaimCondition {
        const VALUES: [&str; 5] = ["a", "b*", "A", "true", "*"];
        let path: &[&str] = [&[][..], &["sub"], &["groups"], &["scope"], &["deep", "in"]][self.0.usize(..5)];
        let named = !path.is_empty();
        v1::ClaimCondition {
            provider: self.one(&PROVIDERS).into(),
            path: texts(path),
            values: if named { self.some(&VALUES, 2) } else { vec![] },
            not_values: if named { self.some(&VALUES, 3) } else { vec![] },
        }
    }

    fn tokens(&mut self) -> Drawn {
        Drawn(PROVIDERS.map(|name| (name, self.token())).into())
    }

    fn token(&mut self) -> Shown {
        match self.0.usize(..8) {
            0 | 1 => Shown::Nothing,
            2 | 3 => Shown::Bad,
            _ => {
                let value = |draw: &mut Self| match draw.0.usize(..6) {
                    0 => json!(["a", "B", 1]),
                    1 => json!("a b"),
                    2 => json!(true),
                    3 => json!({"in": ["bc", "A"]}),
                    4 => json!(null),
                    _ => json!(draw.one(&["a", "A", "bb", ""])),
                };
                let claims = ["sub", "groups", "scope", "deep"].map(|name| (name.to_owned(), value(self)));
                Shown::Claims(std::rc::Rc::new(claims.into_iter().collect()))
            }
        }
    }
}

#[derive(Debug)]
struct Drawn(BTreeMap<&'static str, Shown>);

impl Tokens for Drawn {
    fn shown(&self, provider: &JwtProvider) -> Shown {
        self.0[provider.name.as_str()].clone()
    }
}

#[test]
fn a_million_random_decisions_are_those_of_a_literal_reading() {
    const CALLERS: [&str; 5] =
        ["", "spiffe://t/ns/a/sa/x", "spiffe://t/ns/b/sa/x", "spiffe://u/ns/a/sa/x", "spiffe://t/ns/ab/sa/x"];
    const ASKED: [&str; 12] =
        ["/", "/a", "/a/", "/A", "/a/b", "/a/b/c", "/ab", "/A/B/x", "/%61", "//a", "/a/../b", "/a;x"];
    let mut draw = Draw(fastrand::Rng::with_seed(7));
    let mut seen = BTreeMap::<&str, u32>::new();
    for _ in 0..50_000 {
        let policies: Vec<_> = (0..draw.0.usize(..4))
            .map(|_| {
                let action = [Allow, Deny, Audit][draw.0.usize(..3)];
                policy(action, (0..draw.0.usize(..3)).map(|_| draw.rule()).collect())
            })
            .collect();
        let rules = rules(policies.clone());
        for _ in 0..20 {
            let who = Some(draw.one(&CALLERS)).filter(|who| !who.is_empty());
            let method = [Method::GET, Method::POST, Method::from_bytes(b"get").unwrap()][draw.0.usize(..3)].clone();
            let mut sent = HeaderMap::new();
            for _ in 0..draw.0.usize(..4) {
                let name: HeaderName = draw.one(&["x", "y"]).parse().unwrap();
                sent.append(name, HeaderValue::from_static(["1", "2", "a", "A", "ab", "1, 2", ""][draw.0.usize(..7)]));
            }
            let host = Some(draw.one(&["web", "WEB:80", "a.example.com", "example.com.", ""]));
            let host = host.filter(|host| !host.is_empty());
            let tokens = draw.tokens();
            let http = AskedHttp { method: &method, path: draw.one(&ASKED), host, headers: &sent, tokens: &tokens };
            let asked = Asked { port: [80, 81][draw.0.usize(..2)], http: draw.0.bool().then_some(http) };
            let expected = literal::decide(&policies, who, &asked);
            let found = rules.for_caller(who, "t");
            assert_eq!(word(found.decide(&asked)), expected, "{policies:#?} {who:?} {asked:?}");
            assert!(!found.shut_out() || expected != "allowed", "{policies:#?} {who:?} {asked:?}");
            *seen.entry(expected).or_default() += 1;
        }
    }
    assert!(seen.len() == 4 && seen.values().all(|n| *n > 9_000), "the cases are worth something: {seen:?}");
}

#[test]
fn a_caller_of_a_federated_domain_is_let_in_by_an_allow_that_names_it_and_by_no_other() {
    const FOREIGN: &str = "spiffe://west.example/ns/shop/sa/web";
    let ours = Some(WEB);
    let rules = |policies| rules(policies);
    let open = rules(vec![]);
    assert_eq!((ask(&open, ours, "/", &[]), ask(&open, Some(FOREIGN), "/", &[])), ("allowed", "denied"));
    assert!(open.for_caller(Some(FOREIGN), "cluster.local").shut_out());
    let anybody = rules(vec![policy(Allow, vec![rule(vec![], vec![])])]);
    assert_eq!((ask(&anybody, ours, "/", &[]), ask(&anybody, Some(FOREIGN), "/", &[])), ("allowed", "denied"));
    let all_but = rules(vec![policy(Allow, vec![rule(vec![caller(&[], &["spiffe://cluster.local/ns/a/*"])], vec![])])]);
    assert_eq!((ask(&all_but, ours, "/", &[]), ask(&all_but, Some(FOREIGN), "/", &[])), ("allowed", "denied"));
    let named = rules(vec![policy(Allow, vec![rule(vec![caller(&["spiffe://west.example/*"], &[])], vec![])])]);
    assert_eq!((ask(&named, ours, "/", &[]), ask(&named, Some(FOREIGN), "/", &[])), ("denied", "allowed"));
    // Neither a name that only begins alike, nor one that has ours in it.
    for stranger in ["spiffe://cluster.local.evil/ns/a/sa/b", "spiffe://evil/ns/cluster.local/sa/b", "cluster.local"] {
        assert_eq!(ask(&open, Some(stranger), "/", &[]), "denied", "{stranger}");
    }
}
