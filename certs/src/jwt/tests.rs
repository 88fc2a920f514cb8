use aws_lc_rs::hmac;
use serde_json::json;

use super::issuer::{Issuer, base64url};
use super::*;

const NOW: i64 = 1_800_000_000;
const ISSUER: &str = "https://issuer.example";

fn claims() -> Value {
    json!({"iss": ISSUER, "aud": "leno", "sub": "me", "exp": NOW + 600, "nbf": NOW - 1})
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

fn without(name: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(name);
    claims
}

fn ask_for(token: &str, jwks: &str, algorithms: &[Algorithm]) -> Result<Claims, Refused> {
    let audiences = ["other".to_owned(), "leno".to_owned()];
    let expected = Expected { issuer: ISSUER, audiences: &audiences, algorithms };
    verify(token, &KeySet::parse(jwks.as_bytes()).unwrap(), &expected, NOW)
}

fn ask(token: &str, jwks: &str) -> Result<Claims, Refused> {
    ask_for(token, jwks, &Algorithm::ALL)
}

/// A token of RFC 7515, A.3: made by others, in another decade.
#[test]
fn the_token_of_the_specification_is_right() {
    let jwks = r#"{"keys":[{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
                  "y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}"#;
    let token = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.\
                 DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
    let keys = KeySet::parse(jwks.as_bytes()).unwrap();
    let (audiences, algorithms) = (["leno".to_owned()], [Algorithm::Es256]);
    let expected = Expected { issuer: "joe", audiences: &audiences, algorithms: &algorithms };
    assert_eq!(verify(token, &keys, &expected, 1_300_000_000), Err(Refused::Audience), "its signature is right");
}

#[test]
fn a_token_of_each_kind_of_key_is_right_and_one_that_was_changed_is_not() {
    for issuer in [Issuer::es256("a"), Issuer::rs256("a"), Issuer::ed25519("a")] {
        let token = issuer.sign(&claims());
        assert_eq!(ask(&token, &issuer.jwks()).unwrap()["sub"], "me", "{}", issuer.algorithm());
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let (header, _) = signed.split_once('.').unwrap();
        let forged = format!("{header}.{}.{signature}", base64url(with("sub", json!("root")).to_string()));
        assert_eq!(ask(&forged, &issuer.jwks()), Err(Refused::Signature));
        assert_eq!(ask(&format!("{signed}.{}", base64url([0; 64])), &issuer.jwks()), Err(Refused::Signature));
        assert_eq!(ask(&format!("{signed}."), &issuer.jwks()), Err(Refused::Signature));
    }
    let rsa = Issuer::rs256("a");
    for alg in ["PS256", "RS512"] {
        assert!(ask(&rsa.sign_as(&json!({"alg": alg, "kid": "a"}), &claims()), &rsa.jwks()).is_ok(), "{alg}");
    }
}

#[test]
fn without_a_signature_or_by_a_shared_secret_nothing_is_believed() {
    let issuer = Issuer::rs256("a");
    for alg in ["none", "None", "NONE", "nOnE", ""] {
        let header = json!({"alg": alg, "kid": "a"}).to_string();
        let token = format!("{}.{}.", base64url(header), base64url(claims().to_string()));
        assert_eq!(ask(&token, &issuer.jwks()), Err(Refused::Algorithm), "{alg:?}");
    }
    // The public key taken for a shared secret, in every form that somebody may have at hand.
    let modulus = issuer.jwk()["n"].as_str().unwrap().to_owned();
    for secret in [modulus.as_bytes(), issuer.jwks().as_bytes(), b""] {
        let signed = format!("{}.{}", base64url(r#"{"alg":"HS256","kid":"a"}"#), base64url(claims().to_string()));
        let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), signed.as_bytes());
        assert_eq!(ask(&format!("{signed}.{}", base64url(mac)), &issuer.jwks()), Err(Refused::Algorithm));
    }
}

#[test]
fn an_algorithm_that_is_not_pinned_or_not_the_keys_own_is_refused() {
    let (rsa, ec) = (Issuer::rs256("a"), Issuer::es256("a"));
    assert_eq!(ask_for(&rsa.sign(&claims()), &rsa.jwks(), &[Algorithm::Es256]), Err(Refused::Algorithm));
    assert_eq!(ask_for(&rsa.sign(&claims()), &rsa.jwks(), &[]), Err(Refused::Algorithm));
    // The header says RS256, the key of that kid is of a curve, and the other way round.
    assert_eq!(ask(&ec.sign_as(&json!({"alg": "RS256", "kid": "a"}), &claims()), &ec.jwks()), Err(Refused::UnknownKey));
    assert_eq!(
        ask(&rsa.sign_as(&json!({"alg": "ES256", "kid": "a"}), &claims()), &rsa.jwks()),
        Err(Refused::UnknownKey)
    );
    // The key says that it is for another one.
    let mut jwk = rsa.jwk();
    jwk["alg"] = json!("PS256");
    assert_eq!(ask(&rsa.sign(&claims()), &json!({"keys": [jwk]}).to_string()), Err(Refused::UnknownKey));
}

#[test]
fn a_kid_chooses_among_the_keys_of_the_set_and_does_nothing_else() {
    let issuer = Issuer::es256("a");
    for kid in ["b", "../../etc/passwd", "/dev/null", "https://evil.example/keys", "' OR 1=1 --", "A", "a\u{0}"] {
        let token = issuer.sign_as(&json!({"alg": "ES256", "kid": kid}), &claims());
        assert_eq!(ask(&token, &issuer.jwks()), Err(Refused::UnknownKey), "{kid:?}");
    }
    assert!(ask(&issuer.sign_as(&json!({"alg": "ES256"}), &claims()), &issuer.jwks()).is_ok(), "it names none");
    for kid in [json!(1), json!(["a"]), json!({"a": 1})] {
        let token = issuer.sign_as(&json!({"alg": "ES256", "kid": kid}), &claims());
        assert!(matches!(ask(&token, &issuer.jwks()), Err(Refused::Malformed(_))), "{kid}");
    }
    // Several keys of one name are all tried, but not without end.
    let others: Vec<Issuer> = (0..4).map(|_| Issuer::es256("a")).collect();
    let set = |first: usize| {
        let keys: Vec<Value> = others[..first].iter().chain([&issuer]).map(Issuer::jwk).collect();
        json!({ "keys": keys }).to_string()
    };
    assert!(ask(&issuer.sign(&claims()), &set(3)).is_ok());
    assert_eq!(ask(&issuer.sign(&claims()), &set(4)), Err(Refused::Signature));
}

#[test]
fn a_key_that_a_token_brings_along_is_not_looked_at() {
    let (issuer, evil) = (Issuer::es256("a"), Issuer::es256("evil"));
    let header = |extra: (&str, Value)| {
        let mut header = json!({"alg": "ES256", "kid": "a"});
        header[extra.0] = extra.1;
        header
    };
    for extra in [
        ("jwk", evil.jwk()),
        ("jku", json!("https://evil.example/jwks.json")),
        ("x5u", json!("https://evil.example/cert.pem")),
        ("x5c", json!(["MIIB"])),
    ] {
        let forged = evil.sign_as(&header(extra.clone()), &claims());
        assert_eq!(ask(&forged, &issuer.jwks()), Err(Refused::Signature), "{}", extra.0);
        assert!(ask(&issuer.sign_as(&header(extra), &claims()), &issuer.jwks()).is_ok());
    }
}

#[test]
fn an_extension_that_must_be_understood_is_not() {
    let issuer = Issuer::es256("a");
    for crit in [json!(["b64"]), json!(["exp"]), json!([]), json!(null), json!("x")] {
        let header = json!({"alg": "ES256", "kid": "a", "b64": false, "crit": crit});
        assert_eq!(ask(&issuer.sign_as(&header, &claims()), &issuer.jwks()), Err(Refused::Critical), "{crit}");
    }
}

#[test]
fn issuer_audience_and_times_have_to_be_right() {
    let issuer = Issuer::es256("a");
    for (claims, expected) in [
        (with("iss", json!("https://issuer.example/")), Err(Refused::Issuer)),
        (with("iss", json!("HTTPS://issuer.example")), Err(Refused::Issuer)),
        (with("iss", json!([ISSUER])), Err(Refused::Issuer)),
        (without("iss"), Err(Refused::Issuer)),
        (with("aud", json!("lenox")), Err(Refused::Audience)),
        (with("aud", json!([])), Err(Refused::Audience)),
        (with("aud", json!(["a", 1, null])), Err(Refused::Audience)),
        (with("aud", json!({"leno": true})), Err(Refused::Audience)),
        (without("aud"), Err(Refused::Audience)),
        (with("aud", json!(["a", "leno"])), Ok(())),
        (without("exp"), Err(Refused::NoExpiry)),
        (with("exp", json!(NOW - LEEWAY)), Err(Refused::Expired)),
        (with("exp", json!(NOW - LEEWAY + 1)), Ok(())),
        (with("exp", json!((NOW + 1) as f64 + 0.5)), Ok(())),
        (with("nbf", json!(NOW + LEEWAY + 1)), Err(Refused::NotYet)),
        (with("nbf", json!(NOW + LEEWAY)), Ok(())),
        (without("nbf"), Ok(())),
    ] {
        assert_eq!(ask(&issuer.sign(&claims), &issuer.jwks()).map(|_| ()), expected, "{claims}");
    }
    for exp in [json!("1900000000"), json!(null), json!(1e300), json!([NOW])] {
        let refused = ask(&issuer.sign(&with("exp", exp.clone())), &issuer.jwks());
        assert!(matches!(refused, Err(Refused::Malformed(_))), "{exp}");
    }
    let expected = Expected { issuer: ISSUER, audiences: &[], algorithms: &Algorithm::ALL };
    let keys = KeySet::parse(issuer.jwks().as_bytes()).unwrap();
    assert_eq!(verify(&issuer.sign(&claims()), &keys, &expected, NOW), Err(Refused::Audience), "for nobody");
}

#[test]
fn what_can_be_read_in_two_ways_is_refused() {
    let issuer = Issuer::es256("a");
    let good = claims().to_string();
    let twice = good.replace(r#""sub":"me""#, r#""sub":"me","sub":"root""#);
    let deep = good.replace(r#""sub":"me""#, r#""sub":"me","a":{"b":[{"c":1,"c":2}]}"#);
    let header = r#"{"alg":"ES256","kid":"a"}"#;
    for (header, claims) in [
        (header, twice.as_str()),
        (header, &deep),
        (r#"{"alg":"ES256","alg":"none"}"#, &good),
        (r#"{"alg":"ES256","kid":"a","kid":"b"}"#, &good),
        (header, &format!("{good}{good}")),
        (header, "[]"),
        (header, "null"),
        (header, ""),
        ("", &good),
        (header, &"[".repeat(2_000)),
    ] {
        let refused = ask(&issuer.sign_raw(header, claims), &issuer.jwks());
        assert!(matches!(refused, Err(Refused::Malformed(_))), "{header} {claims} {refused:?}");
    }
    let token = issuer.sign(&claims());
    for wrong in [
        String::new(),
        "..".to_owned(),
        token.replace('.', ""),
        format!("{token}."),
        format!(".{token}"),
        format!("{token}="),
        format!("{token}\n"),
        format!(" {token}"),
        token.replacen('.', "=.", 1),
        token.replacen('e', "\u{e9}", 1),
    ] {
        assert!(matches!(ask(&wrong, &issuer.jwks()), Err(Refused::Malformed(_))), "{wrong}");
    }
}

#[test]
fn a_token_has_a_longest_length() {
    let issuer = Issuer::es256("a");
    let of = |pad: usize| issuer.sign(&with("pad", json!("x".repeat(pad))));
    let pad = (5_000..7_000).find(|pad| of(*pad).len() > MOST_TOKEN_BYTES - 4).unwrap();
    assert!(of(pad).len() <= MOST_TOKEN_BYTES && ask(&of(pad), &issuer.jwks()).is_ok());
    assert_eq!(ask(&of(pad + 20), &issuer.jwks()), Err(Refused::TooLong));
}

#[test]
fn of_a_set_only_public_keys_for_signatures_are_taken() {
    let (ec, rsa) = (Issuer::es256("a"), Issuer::rs256("b"));
    let changed = |jwk: Value, name: &str, value: Value| {
        let mut jwk = jwk;
        jwk[name] = value;
        jwk
    };
    let useless = [
        json!({"kty": "oct", "k": "c2VjcmV0", "kid": "a"}),
        changed(ec.jwk(), "use", json!("enc")),
        changed(ec.jwk(), "key_ops", json!(["sign"])),
        changed(ec.jwk(), "alg", json!("HS256")),
        changed(ec.jwk(), "crv", json!("secp256k1")),
        changed(ec.jwk(), "x", json!("AAAA")),
        changed(rsa.jwk(), "n", json!("AQAB")),
        changed(rsa.jwk(), "e", json!("AQABAQAB")),
        changed(rsa.jwk(), "n", json!("not base64url!")),
        changed(ec.jwk(), "kid", json!("k".repeat(600))),
        json!("x"),
    ];
    for key in &useless {
        let set = KeySet::parse(json!({"keys": [key]}).to_string().as_bytes());
        assert!(matches!(set, Err(InvalidKeySet::NoKey(_))), "{key}");
    }
    let keys: Vec<&Value> = useless.iter().collect();
    let mut with_good = json!({ "keys": keys });
    with_good["keys"].as_array_mut().unwrap().push(ec.jwk());
    assert_eq!(KeySet::parse(with_good.to_string().as_bytes()).unwrap().len(), 1);
    for none in ["", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":[],"keys":[]}"#, "\u{feff}{}"] {
        assert_eq!(KeySet::parse(none.as_bytes()), Err(InvalidKeySet::NoSet), "{none}");
    }
    assert!(matches!(KeySet::parse(br#"{"keys":[]}"#), Err(InvalidKeySet::NoKey(_))));
    let many = |n: usize| json!({"keys": vec![ec.jwk(); n]}).to_string();
    assert_eq!(KeySet::parse(many(MOST_KEYS).as_bytes()).unwrap().len(), MOST_KEYS);
    assert_eq!(KeySet::parse(many(MOST_KEYS + 1).as_bytes()), Err(InvalidKeySet::TooMany));
    assert_eq!(KeySet::parse(&vec![b' '; MOST_KEY_SET_BYTES + 1]), Err(InvalidKeySet::TooLong));
}

#[test]
fn another_signature_of_the_same_token_is_the_same_token() {
    let issuer = Issuer::es256("a");
    let (header, claims) = (r#"{"alg":"ES256","kid":"a"}"#, claims().to_string());
    let (one, other) = (issuer.sign_raw(header, &claims), issuer.sign_raw(header, &claims));
    assert_ne!(one, other, "ECDSA draws a number for each");
    assert_eq!(fingerprint(&one), fingerprint(&other));
    assert_ne!(fingerprint(&one), fingerprint(&issuer.sign_raw(header, "{}")));
    assert!(is_meant_by(&one) && is_meant_by(&format!("{one}\n")));
    for no in ["", "leno1.a.b.c", "leno2.a.b", "a.b.c", "ey.b", "ey.b.c.d", "ey..c"] {
        assert!(!is_meant_by(no), "{no}");
    }
}

/// Nothing a caller sends makes it panic.
#[test]
fn any_bytes_are_an_answer() {
    let issuer = Issuer::es256("a");
    let (token, jwks) = (issuer.sign(&claims()), issuer.jwks());
    for at in 0..token.len() {
        for byte in ["", ".", "A", "\u{e9}"] {
            let mut changed = token.clone();
            changed.replace_range(at..=at, byte);
            let outcome = ask(&changed, &jwks);
            assert!(outcome.is_err() || changed == token, "{changed}");
        }
    }
}
