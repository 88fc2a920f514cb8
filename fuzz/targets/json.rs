//! The JSON that tokens, key sets and trust bundles are made of: what is taken is what every other reader makes of it, and names nothing
//! twice at any depth.
#![no_main]

use leno_fuzz::json;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|bytes: &[u8]| {
    let usual = serde_json::from_slice::<Value>(bytes);
    let Some(taken) = json::object(bytes) else { return };
    assert_eq!(usual.ok(), Some(Value::Object(taken.clone())), "another reader takes it for something else");
    // Written again it is taken again. (A fraction may come back as its neighbour.)
    let again = Value::Object(taken).to_string();
    assert!(json::object(again.as_bytes()).is_some(), "{again}");
});
