//! docs/gateway-api.md: every field of every kind of the Gateway API, and every feature name, with whether it is supported.
//!
//! `gateway_api/support.txt` says it; this program holds it against the types themselves, against the objects of
//! `gateway_api/*.yaml`, which must be taken and must have every supported field, and against one object for each field that
//! is refused, which must be refused by name. A feature that is supported names an end-to-end test that shows it, and is what a
//! GatewayClass's status says. `LENO_BLESS=1` adds rows that are missing, as supported, removes those that no type has any more,
//! and writes the page and the features of the status.

#![allow(clippy::unwrap_used)]

#[path = "gateway_api/fields.rs"]
mod fields;
#[path = "gateway_api/support.rs"]
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use leno_control_plane::config::{self, Problem};
use leno_control_plane::{status, validate};
use serde_json::Value;

use fields::{KINDS, Kind};
use support::{Row, Support};

fn here(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/gateway_api").join(file)
}

fn blessed() -> bool {
    std::env::var_os("LENO_BLESS").is_some()
}

fn support() -> Support {
    Support::parse(&std::fs::read_to_string(here("support.txt")).unwrap())
}

/// What comes of an object: the problems that refuse it.
fn errors(object: &Value) -> Vec<Problem> {
    let parsed = config::parse("object.yaml", object.to_string().as_bytes());
    let checked = validate::batch(parsed.objects);
    parsed.problems.into_iter().chain(checked.problems).filter(Problem::is_error).collect()
}

/// The objects of a kind that show what is supported.
fn examples(kind: &str) -> Vec<Value> {
    let file = here(&format!("{kind}.yaml"));
    let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let documents = serde_yaml_ng::Deserializer::from_str(&text);
    documents.map(|document| serde::Deserialize::deserialize(document).unwrap()).collect()
}

fn supported_kinds(support: &Support) -> impl Iterator<Item = (&'static Kind, &BTreeMap<String, Row>)> {
    KINDS.iter().filter_map(|kind| {
        let of = support.kinds.get(kind.name).unwrap_or_else(|| panic!("support.txt has no kind {}", kind.name));
        of.supported.then_some((kind, &of.fields))
    })
}

#[test]
fn the_page_has_every_field_of_the_types_and_no_other() {
    let mut support = support();
    let mut wrong = Vec::new();
    for kind in KINDS {
        let of = support.kinds.get_mut(kind.name).unwrap_or_else(|| panic!("support.txt has no kind {}", kind.name));
        let refused: Vec<String> =
            of.fields.iter().filter(|(_, row)| !row.supported).map(|(path, _)| path.clone()).collect();
        let below =
            |path: &str| refused.iter().any(|top| path.strip_prefix(top.as_str()).is_some_and(fields::is_below));
        let derived: BTreeSet<String> = match of.supported {
            true => (kind.fields)().into_iter().filter(|path| !below(path)).collect(),
            false => BTreeSet::new(),
        };
        let written: BTreeSet<String> = of.fields.keys().cloned().collect();
        wrong.extend(derived.difference(&written).map(|path| format!("{} {path} has no row", kind.name)));
        wrong.extend(written.difference(&derived).map(|path| format!("{} has no field {path}", kind.name)));
        of.fields.retain(|path, _| derived.contains(path));
        for path in derived {
            of.fields.entry(path).or_insert_with(Row::supported);
        }
    }
    let page = here("../../../docs/gateway-api.md");
    if blessed() {
        std::fs::write(here("support.txt"), support.to_string()).unwrap();
        std::fs::write(&page, support.page()).unwrap();
        wrong.clear();
    }
    assert!(wrong.is_empty(), "{}\nLENO_BLESS=1 mends support.txt", wrong.join("\n"));
    let written = std::fs::read_to_string(&page).unwrap_or_default();
    assert!(written == support.page(), "docs/gateway-api.md is not what support.txt says; LENO_BLESS=1 writes it anew");
}

#[test]
fn every_supported_field_is_taken() {
    let support = support();
    for (kind, fields) in supported_kinds(&support) {
        let mut seen = BTreeSet::new();
        for object in examples(kind.name) {
            assert_eq!(object["kind"], kind.name);
            let errors = errors(&object);
            assert!(errors.is_empty(), "{}: {errors:#?}", object["metadata"]["name"]);
            fields::of_value(&object["spec"], "spec", &mut seen);
        }
        let missing: Vec<_> = fields.iter().filter(|(path, row)| row.supported && !seen.contains(*path)).collect();
        assert!(
            missing.is_empty(),
            "{}.yaml has no {:?}",
            kind.name,
            missing.iter().map(|(p, _)| p).collect::<Vec<_>>()
        );
    }
}

#[test]
fn every_refused_field_is_refused_by_name() {
    let support = support();
    for (kind, rows) in supported_kinds(&support) {
        for (path, row) in rows.iter().filter(|(_, row)| !row.supported) {
            let mut object = examples(kind.name).swap_remove(0);
            let (parent, name) = path.rsplit_once('.').unwrap();
            let at = fields::descend(&mut object, parent).unwrap_or_else(|| panic!("{}: no {parent}", kind.name));
            match &row.tried {
                Some(whole) => *at = whole.clone(),
                None => drop(at.as_object_mut().unwrap().insert(name.to_owned(), (kind.value)(path))),
            }
            let errors = errors(&object);
            let named = errors.iter().any(|problem| {
                let said = format!("{} {}", problem.field, problem.message).to_lowercase();
                fields::without_indices(&problem.field).starts_with(parent) && said.contains(&name.to_lowercase())
            });
            assert!(named, "{} {path} is not refused by name: {errors:#?}", kind.name);
        }
    }
}

#[test]
fn every_refused_kind_is_refused_by_name() {
    let support = support();
    for kind in KINDS.iter().filter(|kind| !support.kinds[kind.name].supported) {
        let object = serde_json::json!({
            "apiVersion": kind.api_version, "kind": kind.name, "metadata": {"name": "a"}, "spec": {},
        });
        let errors = errors(&object);
        assert!(errors.iter().any(|p| p.to_string().contains(kind.name)), "{}: {errors:#?}", kind.name);
    }
}

/// `ingress::tls::clients_are_asked`: whether that test is there.
fn is_a_test(path: &str) -> bool {
    let Some((modules, name)) = path.rsplit_once("::") else { return false };
    let file = here("../../../tests/e2e").join(modules.replace("::", "/")).with_extension("rs");
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let mut lines = text.lines().map(str::trim).skip_while(|line| !line.contains(&format!("fn {name}(")));
    let before = text.lines().take_while(|line| !line.contains(&format!("fn {name}("))).last().unwrap_or_default();
    lines.next().is_some() && before.trim().starts_with("#[tokio::test")
}

#[test]
fn every_supported_feature_names_a_test_that_is_there() {
    let support = support();
    for (name, row) in support.features.iter().filter(|(_, row)| row.supported) {
        let tests: Vec<&str> = row.note.split('`').skip(1).step_by(2).filter(|quoted| quoted.contains("::")).collect();
        assert!(!tests.is_empty(), "{name} names no test: write `| e2e \u{60}module::test\u{60}`");
        for test in tests {
            assert!(is_a_test(test), "{name}: there is no test {test} in tests/e2e");
        }
    }
}

#[test]
fn a_gateway_class_says_the_features_that_are_supported() {
    let support = support();
    let of_gateways = |(name, row): &(&String, &Row)| row.supported && !name.starts_with("Mesh");
    let names: Vec<&str> = support.features.iter().filter(of_gateways).map(|(name, _)| name.as_str()).collect();
    if blessed() {
        let file = here("../../src/status/features.rs");
        let text = std::fs::read_to_string(&file).unwrap();
        let (head, _) = text.split_once("= &[").unwrap();
        let list: String = names.iter().map(|name| format!("    {name:?},\n")).collect();
        std::fs::write(&file, format!("{head}= &[\n{list}];\n")).unwrap();
    } else {
        assert_eq!(status::FEATURES, names, "LENO_BLESS=1 mends src/status/features.rs");
    }
}
