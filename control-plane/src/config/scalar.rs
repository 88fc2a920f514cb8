//! What an unquoted YAML scalar means: the core schema of YAML 1.2 (section 10.3.2), so `no` and `on` are texts.

use serde_json::{Number, Value};

/// Why a scalar has no value in JSON.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotJson;

/// The value of an unquoted scalar.
pub(super) fn resolve(text: &str) -> Result<Value, NotJson> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Ok(Value::Null),
        "true" | "True" | "TRUE" => return Ok(Value::Bool(true)),
        "false" | "False" | "FALSE" => return Ok(Value::Bool(false)),
        _ => {}
    }
    match text.trim_start_matches(['-', '+']) {
        ".inf" | ".Inf" | ".INF" | ".nan" | ".NaN" | ".NAN" => return Err(NotJson),
        _ => {}
    }
    Ok(number(text).map_or_else(|| Value::String(text.to_owned()), Value::Number))
}

fn number(text: &str) -> Option<Number> {
    if let Some(digits) = text.strip_prefix("0o") {
        return unsigned(digits, 8);
    }
    if let Some(digits) = text.strip_prefix("0x") {
        return unsigned(digits, 16);
    }
    let body = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !body.starts_with(|c: char| c.is_ascii_digit() || c == '.') || !body.contains(|c: char| c.is_ascii_digit()) {
        return None;
    }
    if body.bytes().all(|b| b.is_ascii_digit()) {
        let text = text.strip_prefix('+').unwrap_or(text);
        if let Ok(n) = text.parse::<i64>() {
            return Some(n.into());
        }
        if let Ok(n) = text.parse::<u64>() {
            return Some(n.into());
        }
    }
    let float = body.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'));
    if float { text.parse::<f64>().ok().and_then(Number::from_f64) } else { None }
}

fn unsigned(digits: &str, radix: u32) -> Option<Number> {
    if digits.starts_with('+') {
        return None;
    }
    u64::from_str_radix(digits, radix).ok().map(Number::from)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn scalars_mean_what_the_core_schema_says() {
        let table = [
            ("", json!(null)),
            ("~", json!(null)),
            ("true", json!(true)),
            ("no", json!("no")),
            ("on", json!("on")),
            ("12", json!(12)),
            ("-3", json!(-3)),
            ("+3", json!(3)),
            ("0x1f", json!(31)),
            ("0o17", json!(15)),
            ("1.5", json!(1.5)),
            ("1e3", json!(1000.0)),
            ("1.2.3", json!("1.2.3")),
            ("127.0.0.1", json!("127.0.0.1")),
            ("2s", json!("2s")),
            ("2024-01-01", json!("2024-01-01")),
            (".", json!(".")),
            ("-", json!("-")),
            ("e3", json!("e3")),
            ("18446744073709551615", json!(u64::MAX)),
        ];
        for (text, value) in table {
            assert_eq!(resolve(text), Ok(value), "{text:?}");
        }
        assert_eq!(resolve(".inf"), Err(NotJson));
        assert_eq!(resolve("-.NaN"), Err(NotJson));
    }
}
