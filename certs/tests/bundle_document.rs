//! The SPIFFE bundle format, written and read.
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::Duration;

use leno_certs::Authority;
use leno_certs::bundle_document::{Document, InvalidDocument, MOST_BYTES, MOST_ROOTS};
use serde_json::{Value, json};
use time::OffsetDateTime;

fn root() -> Vec<u8> {
    let now = OffsetDateTime::now_utc();
    Authority::generate("west.example", now, Duration::from_secs(86_400)).unwrap().root_der().to_vec()
}

fn document() -> Document {
    Document { roots: vec![root(), root()], refresh_hint: Some(Duration::from_secs(300)), sequence: Some(7) }
}

fn value() -> Value {
    serde_json::from_str(&document().to_json().unwrap()).unwrap()
}

fn read(value: &Value) -> Result<Document, InvalidDocument> {
    Document::parse(value.to_string().as_bytes())
}

#[test]
fn what_is_written_is_read_again_and_has_the_members_that_the_format_names() {
    let document = document();
    assert_eq!(Document::parse(document.to_json().unwrap().as_bytes()), Ok(document.clone()));
    let value: Value = serde_json::from_str(&document.to_json().unwrap()).unwrap();
    assert_eq!((&value["spiffe_sequence"], &value["spiffe_refresh_hint"]), (&json!(7), &json!(300)));
    let key = &value["keys"][0];
    assert_eq!((&key["use"], &key["kty"], &key["crv"]), (&json!("x509-svid"), &json!("EC"), &json!("P-256")));
    assert_eq!((key["x"].as_str().unwrap().len(), key["y"].as_str().unwrap().len()), (43, 43), "32 bytes each");
    assert_eq!(key["x5c"].as_array().unwrap().len(), 1);
}

#[test]
fn keys_for_other_uses_are_left_out_and_no_keys_mean_nobody() {
    let mut value = value();
    let keys = value["keys"].as_array_mut().unwrap();
    keys.push(json!({"kty": "EC", "use": "jwt-svid", "kid": "a"}));
    keys.push(json!({"kty": "unheard of"}));
    assert_eq!(read(&value).unwrap().roots.len(), 2);
    let nobody = read(&json!({"keys": []})).unwrap();
    assert_eq!(nobody, Document { roots: vec![], refresh_hint: None, sequence: None });
}

#[test]
fn what_is_no_bundle_is_refused_and_says_where() {
    let with = |key: Value| {
        let mut value = value();
        value["keys"][1] = key;
        read(&value).unwrap_err()
    };
    let key = value()["keys"][0].clone();
    let edited = |x5c: Value| {
        let mut key = key.clone();
        key["x5c"] = x5c;
        key
    };
    assert_eq!(with(json!({"use": "x509-svid"})), InvalidDocument::Key(1, "it has no x5c"));
    let one = key["x5c"][0].clone();
    assert_eq!(with(edited(json!([one, one]))), InvalidDocument::Key(1, "its x5c is not one certificate"));
    assert_eq!(with(edited(json!(["!"]))), InvalidDocument::Key(1, "its x5c is no base64"));
    assert_eq!(with(edited(json!(["AAAA"]))), InvalidDocument::Key(1, "its certificate cannot be read"));
    for no_set in ["", "[]", "{}", "{\"keys\": {}}", "{\"keys\": [], \"keys\": []}"] {
        assert_eq!(Document::parse(no_set.as_bytes()), Err(InvalidDocument::NoSet), "{no_set}");
    }
    assert_eq!(Document::parse(&vec![b' '; MOST_BYTES + 1]), Err(InvalidDocument::TooLong));
    let many = |n: usize| read(&json!({"keys": vec![key.clone(); n]})).map(|d| d.roots.len());
    assert_eq!((many(MOST_ROOTS), many(MOST_ROOTS + 1)), (Ok(MOST_ROOTS), Err(InvalidDocument::TooMany)));
}
