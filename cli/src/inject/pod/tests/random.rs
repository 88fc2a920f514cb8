//! Random objects in random handwriting: block and flow, any indentation, comments, quotes, blank lines, line ends.

use fastrand::Rng;
use serde_json::{Value, json};

use super::{invariants, options, values};
use crate::inject::pod::inject;

fn pick<T: Clone>(rng: &mut Rng, of: &[T]) -> T {
    of[rng.usize(..of.len())].clone()
}

fn probe(rng: &mut Rng) -> Value {
    let mut probe = match rng.u8(..4) {
        0 => {
            json!({"httpGet": {"path": pick(rng, &["/", "/a b", "/é", "/$(X)?y={z}", "#"]), "port": pick(rng, &[json!(80), json!("http")])}})
        }
        1 => json!({"tcpSocket": {"port": 5432, "host": "db"}}),
        2 => json!({"grpc": {"port": 9000}}),
        _ => json!({"exec": {"command": ["true"]}}),
    };
    if let (true, Some(get)) = (rng.bool(), probe.get_mut("httpGet")) {
        get["httpHeaders"] = json!([{"name": "X", "value": pick(rng, &["it's", "\"quoted\"", "a: b", "# c", ""])}]);
        get["scheme"] = json!("HTTPS");
    }
    if rng.bool() {
        probe["periodSeconds"] = json!(rng.u8(1..90));
        probe["timeoutSeconds"] = json!(rng.u8(1..9));
    }
    probe
}

fn container(rng: &mut Rng, name: String) -> Value {
    let mut container = json!({"name": name, "image": "i:1", "ports": [{"name": "http", "containerPort": 8080}]});
    for key in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if rng.bool() {
            container[key] = probe(rng);
        }
    }
    if rng.bool() {
        container["args"] = json!([pick(rng, &["- a", "# leno:begin", "x\ny", "", "plain", "{{ t }}", "null", "1"])]);
    }
    if rng.bool() {
        container["env"] = json!([{"name": "A", "value": "# leno:was|b\n# leno:end"}]);
    }
    container
}

fn object(rng: &mut Rng) -> Value {
    let mut spec = json!({});
    let mut list = |rng: &mut Rng, key: &str, least: usize| {
        let n = rng.usize(least..4);
        spec[key] = (0..n).map(|i| container(rng, format!("{}{i}", key[..1].to_lowercase()))).collect();
    };
    list(rng, "containers", 1);
    if rng.bool() {
        list(rng, "initContainers", 0);
    }
    match rng.u8(..3) {
        0 => spec["volumes"] = json!([]),
        1 => spec["volumes"] = json!([{"name": "v", "emptyDir": {}}, {"name": "w", "configMap": {"name": "c"}}]),
        _ => {}
    }
    let template = json!({"metadata": {"labels": {"app": "web", "x.y/z": "e9"}}, "spec": spec});
    match rng.u8(..5) {
        0 => {
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "labels": {"app": "p"}}, "spec": template["spec"]})
        }
        1 => json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "c"},
            "spec": {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": template}}}}),
        2 => {
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"a": "# leno:begin\nb\n"}})
        }
        3 => json!({"apiVersion": "v1", "kind": "List", "items": [
            {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j"}, "spec": {"template": template}}]}),
        _ => json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
            "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": template}}),
    }
}

/// Writes values as a person might.
struct Hand<'r> {
    rng: &'r mut Rng,
    /// Out of this many collections one is in brackets.
    flow: u32,
    step: usize,
    indented_lists: bool,
}

impl Hand<'_> {
    fn scalar(&mut self, value: &Value, key_column: usize) -> String {
        let Value::String(text) = value else { return value.to_string() };
        let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"/:-.".contains(&b))
            && text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
            && !["null", "true", "false"].contains(&text.as_str());
        match self.rng.u8(..3) {
            0 if plain => text.clone(),
            1 if !text.contains('\n') => format!("'{}'", text.replace('\'', "''")),
            2 if text.contains('\n') && key_column > 0 => {
                let (keep, margin) = (if text.ends_with('\n') { "|" } else { "|-" }, " ".repeat(key_column + 1));
                let lines = text.trim_end_matches('\n').split('\n').map(|line| format!("\n{margin}{line}"));
                lines.fold(keep.to_owned(), |all, line| all + &line)
            }
            _ => value.to_string(),
        }
    }

    fn in_brackets(&mut self, value: &Value) -> String {
        let space = pick(self.rng, &["", " "]);
        match value {
            Value::Object(fields) => {
                let fields: Vec<String> =
                    fields.iter().map(|(key, value)| format!("{key:?}: {}", self.in_brackets(value))).collect();
                format!("{{{space}{}{space}}}", fields.join(", "))
            }
            Value::Array(items) => {
                let items: Vec<String> = items.iter().map(|item| self.in_brackets(item)).collect();
                format!("[{space}{}{space}]", items.join(&format!(",{space}")))
            }
            scalar => self.scalar(scalar, 0),
        }
    }

    fn noise(&mut self, column: usize) -> String {
        match self.rng.u8(..8) {
            0 => "\n".to_owned(),
            1 => format!("{}# a note: {{\n", " ".repeat(column)),
            2 => "# at the margin\n".to_owned(),
            _ => String::new(),
        }
    }

    fn is_flow(&mut self, value: &Value) -> bool {
        let empty =
            value.as_object().is_some_and(serde_json::Map::is_empty) || value.as_array().is_some_and(Vec::is_empty);
        !value.is_object() && !value.is_array() || empty || self.rng.u32(..self.flow) == 0
    }

    /// The lines of a map whose keys stand at `column`; the first key's margin is left to the caller.
    fn map(&mut self, value: &Value, column: usize) -> String {
        let mut fields: Vec<(String, Value)> = value.as_object().unwrap().clone().into_iter().collect();
        self.rng.shuffle(&mut fields);
        let mut out = String::new();
        for (n, (key, value)) in fields.into_iter().enumerate() {
            if n > 0 {
                out += &self.noise(column);
                out += &" ".repeat(column);
            }
            out += &if self.rng.u8(..6) == 0 { format!("{key:?}:") } else { format!("{key}:") };
            if self.is_flow(&value) {
                let text = if value.is_string() { self.scalar(&value, column + 1) } else { self.in_brackets(&value) };
                let note = if !text.contains('\n') && self.rng.u8(..6) == 0 { "  # tail" } else { "" };
                out += &format!(" {text}{note}\n");
            } else if value.is_object() {
                let inner = column + self.step;
                out += &format!("\n{}{}", " ".repeat(inner), self.map(&value, inner));
            } else {
                out += "\n";
                out += &self.list(&value, column + if self.indented_lists { self.step } else { 0 });
            }
        }
        out
    }

    fn list(&mut self, value: &Value, column: usize) -> String {
        let mut out = String::new();
        for item in value.as_array().unwrap() {
            out += &self.noise(column);
            out += &" ".repeat(column);
            if self.is_flow(item) {
                let text = if item.is_string() { self.scalar(item, column + 1) } else { self.in_brackets(item) };
                out += &format!("- {text}\n");
            } else {
                let gap = self.rng.usize(1..4);
                out += &format!("-{}{}", " ".repeat(gap), self.map(item, column + 1 + gap));
            }
        }
        out
    }
}

fn written(rng: &mut Rng, objects: &[Value]) -> String {
    let mut text = String::new();
    for object in objects {
        let flow = pick(rng, &[2, 6, 1000]);
        let mut hand = Hand { step: rng.usize(1..5), indented_lists: rng.bool(), flow, rng };
        text += pick(hand.rng, &["---\n", "--- # next\n", "---\n# about it\n"]);
        text += &hand.map(object, 0);
    }
    let mut text = if rng.u8(..4) == 0 { text.replace('\n', "\r\n") } else { text };
    if rng.u8(..4) == 0 {
        text.truncate(text.trim_end().len());
    }
    text
}

#[test]
fn random_files_in_random_handwriting_keep_what_an_injection_promises() {
    let rounds = std::env::var("LENO_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(200);
    for seed in 0..rounds {
        let mut rng = Rng::with_seed(seed);
        let objects: Vec<Value> = (0..rng.usize(1..4)).map(|_| object(&mut rng)).collect();
        let text = written(&mut rng, &objects);
        // The generator itself is right, or the rest says nothing.
        assert_eq!(values(&text), objects, "seed {seed}:\n{text}");
        match inject(&text, "f.yaml", &options()) {
            Ok(done) => invariants::hold(&format!("seed {seed}"), &text, &done.text),
            Err(problems) => panic!("seed {seed}: {}\n{text}", super::listed(&problems)),
        }
    }
}
