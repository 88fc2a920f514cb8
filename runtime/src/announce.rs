//! The one line on standard output that says that a program serves.

use std::fmt::Write as _;
use std::io::Write as _;
use std::str::FromStr;

use serde_json::{Map, Value};

/// How a program speaks to whoever started it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Output {
    /// For people.
    #[default]
    Text,
    /// For machines.
    Json,
}

impl FromStr for Output {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            other => Err(format!("{other:?} is neither text nor json")),
        }
    }
}

/// Prints `ready k=v …`, or with JSON `{"event":"ready","k":v,…}`. A closed standard output is no reason to stop serving.
pub fn ready(output: Output, fields: &[(&str, Value)]) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{}", line(output, fields));
    let _ = out.flush();
}

fn line(output: Output, fields: &[(&str, Value)]) -> String {
    match output {
        Output::Text => fields.iter().fold("ready".to_owned(), |mut line, (key, value)| {
            let _ = match value {
                Value::String(text) => write!(line, " {key}={text}"),
                other => write!(line, " {key}={other}"),
            };
            line
        }),
        Output::Json => {
            let mut object = Map::new();
            object.insert("event".to_owned(), Value::from("ready"));
            object.extend(fields.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
            Value::Object(object).to_string()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ready_line_has_the_shape_of_the_contract() {
        let fields = [("xds", Value::from("127.0.0.1:15010")), ("upstreams", serde_json::json!({"web:80": "[::1]:1"}))];
        assert_eq!(line(Output::Text, &fields), r#"ready xds=127.0.0.1:15010 upstreams={"web:80":"[::1]:1"}"#);
        let json: Value = serde_json::from_str(&line(Output::Json, &fields)).unwrap();
        assert_eq!(json["event"], "ready");
        assert_eq!(json["upstreams"]["web:80"], "[::1]:1");
    }
}
