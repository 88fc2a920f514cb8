//! Rules that look at what a signed token says.

use leno_certs::jwt::MOST_TOKEN_BYTES;
use serde_json::Value;

use super::*;

#[path = "../../../../certs/src/jwt/issuer.rs"]
mod issuer;
use issuer::{Issuer, base64url};

const NOW: i64 = 1_800_000_000;

struct Scene {
    issuer: Issuer,
    rules: Rules,
    cache: TokenCache,
}

fn provider(name: &str, issuer: &Issuer, audience: &str) -> v1::JwtProvider {
    v1::JwtProvider {
        name: name.into(),
        issuer: "https://id.example".into(),
        audiences: texts(&[audience]),
        algorithms: texts(&["ES256", "RS256"]),
        jwks: issuer.jwks(),
        places: vec![v1::TokenPlace { name: "authorization".into(), prefix: "Bearer ".into() }],
    }
}

fn claim(path: &[&str], values: &[&str], not_values: &[&str]) -> v1::ClaimCondition {
    let (values, not_values) = (texts(values), texts(not_values));
    v1::ClaimCondition { provider: "shop/id".into(), path: texts(path), values, not_values }
}

fn claims_rule(claims: Vec<v1::ClaimCondition>) -> v1::AuthorizationRule {
    rule(vec![], vec![v1::RequestMatch { claims, ..v1::RequestMatch::default() }])
}

fn scene(policies: Vec<v1::AuthorizationPolicy>) -> Scene {
    let issuer = Issuer::es256("a");
    let rules = rules_with(policies, vec![provider("shop/id", &issuer, "shop")]);
    Scene { issuer, rules, cache: TokenCache::default() }
}

fn claims() -> Value {
    json!({"iss": "https://id.example", "aud": "shop", "exp": NOW + 600, "sub": "alice", "groups": ["staff", "admin"],
           "scope": "read write", "realm": {"roles": ["ops"]}, "age": 7, "verified": true})
}

impl Scene {
    fn ask_at(&self, headers: &[(&str, &str)], now: i64) -> &'static str {
        let headers = fields(headers);
        let rules = self.rules.for_caller(Some(WEB), "cluster.local");
        let tokens = self.cache.of(rules.providers().unwrap_or_default(), &headers, now);
        let http = AskedHttp { method: &Method::GET, path: "/", host: None, headers: &headers, tokens: &tokens };
        word(rules.decide(&Asked { port: 80, http: Some(http) }))
    }

    fn ask(&self, headers: &[(&str, &str)]) -> &'static str {
        self.ask_at(headers, NOW)
    }

    fn with(&self, token: &str) -> &'static str {
        self.ask(&[("authorization", &format!("Bearer {token}"))])
    }
}

#[test]
fn claims_of_every_shape_are_compared() {
    for (condition, allowed, denied) in [
        (claim(&[], &[], &[]), true, true),
        (claim(&["sub"], &["alice"], &[]), true, true),
        (claim(&["sub"], &["al*"], &[]), true, true),
        (claim(&["sub"], &["ALICE"], &[]), false, true),
        (claim(&["sub"], &["bob"], &[]), false, false),
        (claim(&["groups"], &["admin"], &[]), true, true),
        (claim(&["groups"], &["root", "staff"], &[]), true, true),
        (claim(&["groups"], &["staff,admin"], &[]), false, false),
        (claim(&["groups"], &[], &["admin"]), false, false),
        (claim(&["groups"], &[], &["Admin"]), false, true),
        (claim(&["groups"], &[], &["guest"]), true, true),
        (claim(&["groups"], &["staff"], &["admin"]), false, false),
        (claim(&["scope"], &["write"], &[]), true, true),
        (claim(&["scope"], &["read write"], &[]), false, false),
        (claim(&["realm", "roles"], &["ops"], &[]), true, true),
        (claim(&["realm"], &["ops"], &[]), false, false),
        (claim(&["realm"], &[], &[]), true, true),
        (claim(&["realm", "none"], &[], &[]), false, false),
        (claim(&["age"], &["7"], &[]), true, true),
        (claim(&["verified"], &["true"], &[]), true, true),
        (claim(&["none"], &[], &[]), false, false),
        (claim(&["none"], &["x"], &[]), false, false),
        (claim(&["none"], &[], &["x"]), true, true),
    ] {
        let word = |yes: bool, one, other| if yes { one } else { other };
        let allow = scene(vec![policy(Allow, vec![claims_rule(vec![condition.clone()])])]);
        assert_eq!(allow.with(&allow.issuer.sign(&claims())), word(allowed, "allowed", "denied"), "{condition:?}");
        let deny = scene(vec![policy(Deny, vec![claims_rule(vec![condition.clone()])])]);
        assert_eq!(deny.with(&deny.issuer.sign(&claims())), word(denied, "denied", "allowed"), "{condition:?}");
    }
}

#[test]
fn who_shows_no_token_is_let_in_by_no_claim_and_denied_by_exceptions() {
    let only = |action, claims| scene(vec![policy(action, vec![claims_rule(claims)])]);
    for nothing in [&[][..], &[("authorization", "Basic YTpi")], &[("authorization", "Bearer ")], &[("cookie", "a=b")]]
    {
        for condition in [claim(&[], &[], &[]), claim(&["sub"], &["*"], &[]), claim(&["sub"], &[], &["bob"])] {
            assert_eq!(only(Allow, vec![condition.clone()]).ask(nothing), "denied", "{condition:?}");
        }
        assert_eq!(only(Deny, vec![claim(&["sub"], &["bob"], &[])]).ask(nothing), "allowed");
        assert_eq!(only(Deny, vec![claim(&["sub"], &[], &["alice"])]).ask(nothing), "denied");
    }
}

/// One for each way in which a token can be wrong: never let in where the rule would decide by it.
#[test]
fn a_token_that_is_not_to_be_believed_is_refused_by_allow_and_deny() {
    for action in [Allow, Deny] {
        // The DENY means to refuse guests; a guest whose token cannot be read must not get in by that.
        let condition = claim(&["groups"], &[if action == Allow { "admin" } else { "guest" }], &[]);
        let scene = scene(vec![policy(action, vec![claims_rule(vec![condition])])]);
        let (issuer, stranger, rsa) = (&scene.issuer, Issuer::es256("a"), Issuer::rs256("a"));
        let changed = |name: &str, value: Value| {
            let mut claims = claims();
            claims[name] = value;
            issuer.sign(&claims)
        };
        let header = |header: Value| issuer.sign_as(&header, &claims());
        let good = issuer.sign(&claims());
        let unsigned = format!("{}.{}.", base64url(r#"{"alg":"none"}"#), base64url(claims().to_string()));
        let twice = claims().to_string().replacen('{', r#"{"sub":"bob","#, 1);
        assert_eq!(scene.with(&good), "allowed");
        for (what, token) in [
            ("alg none", unsigned),
            ("alg confusion", rsa.sign(&claims())),
            ("HS256", header(json!({"alg": "HS256", "kid": "a"}))),
            ("an algorithm that is not pinned", header(json!({"alg": "ES384", "kid": "a"}))),
            ("kid traversal", header(json!({"alg": "ES256", "kid": "../../dev/null"}))),
            ("a stranger's key", stranger.sign(&claims())),
            ("an embedded key", stranger.sign_as(&json!({"alg": "ES256", "jwk": stranger.jwk()}), &claims())),
            ("jku", stranger.sign_as(&json!({"alg": "ES256", "kid": "a", "jku": "https://evil.example"}), &claims())),
            ("x5u", stranger.sign_as(&json!({"alg": "ES256", "kid": "a", "x5u": "https://evil.example"}), &claims())),
            ("crit", header(json!({"alg": "ES256", "kid": "a", "crit": ["exp"]}))),
            ("expired", changed("exp", json!(NOW - 31))),
            ("no expiry", changed("exp", json!("never"))),
            ("not yet valid", changed("nbf", json!(NOW + 31))),
            ("another audience", changed("aud", json!("bank"))),
            ("another issuer", changed("iss", json!("https://id.example.evil"))),
            ("a claim twice", issuer.sign_raw(r#"{"alg":"ES256","kid":"a"}"#, &twice)),
            ("huge", changed("pad", json!("x".repeat(MOST_TOKEN_BYTES)))),
            ("opaque", "c2VjcmV0".to_owned()),
            ("two tokens in a line", format!("{good}, Bearer {good}")),
        ] {
            assert_eq!(scene.with(&token), "bad token", "{what}");
        }
        let (one, other) = (format!("Bearer {good}"), "Bearer x".to_owned());
        for lines in [[&one, &other], [&other, &one], [&one, &one]] {
            let lines = lines.map(|line| ("authorization", line.as_str()));
            assert_eq!(scene.ask(&lines), "bad token", "the header is there twice");
        }
        assert_eq!(scene.ask(&[("authorization", "Basic YTpi"), ("authorization", &one)]), "bad token");
        assert_eq!(scene.ask(&[("authorization", "bearer \u{e9}")]), "bad token");
        assert_eq!(scene.ask(&[("authorization", &format!("bEARER  {good}"))]), "allowed", "a scheme has no case");
    }
}

#[test]
fn without_keys_or_without_its_provider_no_token_is_right() {
    let issuer = Issuer::es256("a");
    let policies = || vec![policy(Allow, vec![claims_rule(vec![claim(&[], &[], &[])])])];
    let none = v1::JwtProvider { jwks: String::new(), ..provider("shop/id", &issuer, "shop") };
    let broken = v1::JwtProvider { jwks: "{}".into(), ..provider("shop/id", &issuer, "shop") };
    let missing = v1::JwtProvider { issuer: String::new(), ..provider("shop/id", &issuer, "shop") };
    for provider in [none, broken, missing] {
        let scene = Scene {
            issuer: Issuer::es256("x"),
            rules: rules_with(policies(), vec![provider]),
            cache: TokenCache::default(),
        };
        assert_eq!(scene.with(&issuer.sign(&claims())), "bad token");
    }
}

#[test]
fn a_token_of_another_issuer_says_nothing_and_is_not_bad_when_that_is_known() {
    let (staff, guests) = (Issuer::es256("a"), Issuer::es256("b"));
    let mut of_guests = provider("shop/guests", &guests, "shop");
    of_guests.issuer = "https://guests.example".into();
    let any = |name: &str| v1::ClaimCondition { provider: name.into(), ..claim(&[], &[], &[]) };
    let policies = vec![policy(Allow, vec![claims_rule(vec![any("shop/id")]), claims_rule(vec![any("shop/guests")])])];
    let deny = v1::ClaimCondition { provider: "shop/id".into(), ..claim(&["sub"], &[], &["alice"]) };
    let both = vec![provider("shop/id", &staff, "shop"), of_guests];
    let scene = |policies| Scene {
        issuer: Issuer::es256("x"),
        rules: rules_with(policies, both.clone()),
        cache: TokenCache::default(),
    };
    let mut guest = claims();
    guest["iss"] = json!("https://guests.example");
    let scene_of_both = scene(policies.clone());
    assert_eq!(scene_of_both.with(&staff.sign(&claims())), "allowed");
    assert_eq!(scene_of_both.with(&guests.sign(&guest)), "allowed");
    assert_eq!(scene_of_both.with(&guests.sign(&claims())), "bad token", "it claims to be of the other issuer");
    // A guest has shown nothing to the issuer of staff.
    let strict = scene([policies, vec![policy(Deny, vec![claims_rule(vec![deny])])]].concat());
    assert_eq!((strict.with(&staff.sign(&claims())), strict.with(&guests.sign(&guest))), ("allowed", "denied"));
}

#[test]
fn a_token_in_two_places_is_not_clear() {
    let issuer = Issuer::es256("a");
    let mut of_two = provider("shop/id", &issuer, "shop");
    of_two.places.push(v1::TokenPlace { name: "x-token".into(), prefix: String::new() });
    let policies = vec![policy(Allow, vec![claims_rule(vec![claim(&[], &[], &[])])])];
    let scene = Scene { issuer, rules: rules_with(policies, vec![of_two]), cache: TokenCache::default() };
    let token = scene.issuer.sign(&claims());
    let bearer = format!("Bearer {token}");
    assert_eq!(scene.ask(&[("x-token", &token)]), "allowed");
    assert_eq!(scene.ask(&[("x-token", &token), ("authorization", "Basic YTpi")]), "allowed");
    assert_eq!(scene.ask(&[("x-token", &token), ("authorization", &bearer)]), "bad token");
    assert_eq!(scene.ask(&[("x-token", "x"), ("authorization", &bearer)]), "bad token");
}

#[test]
fn a_bad_token_stands_in_nobodys_way_where_nothing_depends_on_it() {
    let to = |paths: &[&str], claims| v1::RequestMatch { paths: texts(paths), claims, ..v1::RequestMatch::default() };
    let open = rule(vec![], vec![to(&["/"], vec![])]);
    let admin = rule(vec![], vec![to(&["/admin"], vec![claim(&["groups"], &["admin"], &[])])]);
    let scene_of_both = scene(vec![policy(Allow, vec![admin.clone(), open])]);
    assert_eq!(scene_of_both.with("x.y.z"), "allowed", "the rule for / asks for no token");
    assert_eq!(scene(vec![policy(Allow, vec![admin])]).with("x.y.z"), "denied", "no rule for / is there");
    // It is asked for by rules of others alone.
    let of_other =
        rule(vec![caller(&["spiffe://cluster.local/ns/b/*"], &[])], vec![to(&[], vec![claim(&[], &[], &[])])]);
    let scene_of_other = scene(vec![policy(Deny, vec![of_other])]);
    assert_eq!(scene_of_other.with("x.y.z"), "allowed");
    assert!(
        scene_of_other.rules.for_caller(Some(WEB), "cluster.local").providers().is_none(),
        "no token of this caller's is looked at"
    );
}

#[test]
fn a_token_is_remembered_until_it_expires_and_what_is_remembered_is_bounded() {
    let scene = scene(vec![policy(Allow, vec![claims_rule(vec![claim(&["sub"], &["alice"], &[])])])]);
    let token = scene.issuer.sign(&claims());
    let bearer = format!("Bearer {token}");
    assert_eq!(scene.with(&token), "allowed");
    assert_eq!(scene.cache.sizes(), (1, token.len()));
    assert_eq!(scene.with(&token), "allowed");
    assert_eq!(scene.ask_at(&[("authorization", &bearer)], NOW + 629), "allowed", "30 s for clocks");
    assert_eq!(scene.ask_at(&[("authorization", &bearer)], NOW + 630), "bad token", "also when it is remembered");
    assert_eq!(scene.with(&scene.issuer.sign_as(&json!({"alg": "none"}), &claims())), "bad token");
    assert_eq!(scene.cache.sizes().0, 1, "one that is not believed is not remembered");
    scene.cache.clear();
    for n in 0..1_500 {
        let mut claims = claims();
        claims["jti"] = json!(n);
        if n >= 1_400 {
            claims["pad"] = json!("x".repeat(5_000));
        }
        assert_eq!(scene.with(&scene.issuer.sign(&claims)), "allowed");
        let (tokens, bytes) = scene.cache.sizes();
        assert!(tokens <= 1024 && bytes <= 1024 * 1024, "{tokens} {bytes}");
    }
    let (tokens, bytes) = scene.cache.sizes();
    assert!(tokens > 100 && bytes > 500_000, "{tokens} {bytes}");
}

#[test]
fn an_audit_counts_what_a_deny_would_refuse_for_its_token() {
    let scene = scene(vec![policy(Audit, vec![claims_rule(vec![claim(&["sub"], &["bob"], &[])])])]);
    let audited = |token: &str| {
        let headers = fields(&[("authorization", &format!("Bearer {token}"))]);
        let tokens = scene.cache.of(scene.rules.providers().unwrap(), &headers, NOW);
        let http = AskedHttp { method: &Method::GET, path: "/", host: None, headers: &headers, tokens: &tokens };
        let asked = Asked { port: 80, http: Some(http) };
        (word(scene.rules.decide(&asked)), scene.rules.audited(&asked).count())
    };
    assert_eq!(audited(&scene.issuer.sign(&claims())), ("allowed", 0));
    assert_eq!(audited("x.y.z"), ("allowed", 1));
}
