use serde_json::json;

use super::*;

/// The problems of a file as `line: field: message; hint`.
fn problems(text: &str) -> Vec<String> {
    let parsed = parse("x.yaml", text.as_bytes());
    let all = parsed.problems.iter().chain(parsed.objects.iter().flat_map(|o| &o.problems));
    all.map(|p| format!("{}: {}: {}; {}", p.line, p.field, p.message, p.hint)).collect()
}

fn has(text: &str, parts: &[&str]) {
    let found = problems(text);
    assert!(
        found.iter().any(|p| parts.iter().all(|part| p.contains(part))),
        "{parts:?} not in {found:#?} of\n{}",
        &text[..text.len().min(400)]
    );
}

const ROUTE: &str = "apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web}
spec:
  parentRefs: [{group: '', kind: Service, name: web}]
  rules:
  - backendRefs:
    - {name: web-v1, port: 80}
";

#[test]
fn objects_of_many_documents_and_lists_are_read_with_their_namespace() {
    let text = "---\n---\napiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Service, metadata: {name: a}, spec: {ports: [{port: 80}]}}\n\
        - {apiVersion: v1, kind: Service, metadata: {name: b, namespace: shop}, spec: {ports: [{port: 80}]}}\n---\n\
        {\"apiVersion\": \"v1\", \"kind\": \"Namespace\", \"metadata\": {\"name\": \"shop\"}}\n...\n---\n# nothing\n";
    let parsed = parse("x.yaml", text.as_bytes());
    assert!(parsed.problems.is_empty(), "{:?}", parsed.problems);
    let keys: Vec<String> = parsed.objects.iter().map(|o| o.key.to_string()).collect();
    assert_eq!(keys, ["Service default/a", "Service shop/b", "Namespace shop"]);
    assert_eq!(parsed.objects[0].value["metadata"]["namespace"], "default");
    assert!(parsed.objects.iter().all(|o| o.typed.is_some() && o.problems.is_empty()));
}

#[test]
fn json_indented_with_tabs_is_read() {
    let text = "{\n\t\"apiVersion\": \"v1\",\n\t\"kind\": \"Service\",\n\t\"metadata\": {\n\t\t\"name\": \"a\"\n\t},\n\t\"spec\": {\"ports\": [{\"port\": 80}]}\n}\n";
    assert_eq!(problems(text), Vec::<String>::new());
}

#[test]
fn what_an_api_server_adds_is_taken_and_not_stored() {
    let text = "apiVersion: v1\nkind: Service\nmetadata:\n  name: web\n  uid: 12-34\n  resourceVersion: '7'\n  creationTimestamp: '2024-01-01T00:00:00Z'\n  \
        managedFields: [{manager: kubectl, operation: Update}]\n  labels: {a: b}\nspec: {ports: [{port: 80}]}\nstatus: {loadBalancer: {}}\n";
    let parsed = parse("x.yaml", text.as_bytes());
    assert_eq!(problems(text), Vec::<String>::new());
    assert_eq!(
        parsed.objects[0].value,
        json!({"apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "web", "namespace": "default", "creationTimestamp": "2024-01-01T00:00:00Z", "labels": {"a": "b"}},
            "spec": {"ports": [{"port": 80}]}})
    );
}

#[test]
fn an_unknown_field_is_named_with_its_line_and_the_one_that_was_meant() {
    has(
        &ROUTE.replace("backendRefs", "backendRef"),
        &["7: spec.rules[0].backendRef: unknown field", "did you mean backendRefs?"],
    );
    has(
        &ROUTE.replace("port: 80}", "port: 80, wieght: 1}"),
        &["8: spec.rules[0].backendRefs[0].wieght", "did you mean weight?"],
    );
    has(&ROUTE.replace("{name: web}", "{name: web, lables: {}}"), &["3: metadata.lables", "did you mean labels?"]);
    has(&ROUTE.replace("spec:", "specs: {}\nspec:"), &["4: specs: unknown field", "did you mean spec?"]);
    // `percent` is a word of another kind, so it is no hint here.
    has(&ROUTE.replace("port: 80}", "port: 80, percen: 1}"), &["percen: unknown field", "remove it"]);
}

#[test]
fn every_wrong_value_and_unknown_field_of_an_object_is_named_at_once() {
    let text = ROUTE.to_owned()
        + "    - {name: 1, port: x}\n    - {port: 80, foo: 1}\n    - {name: ok, port: 80, weight: '3'}\n    bar: 2\n  hostnames: [a, 5, b, 6]\n";
    let found = problems(&text);
    for part in [
        "9: spec.rules[0].backendRefs[1].name: invalid type: integer `1`, expected a string; put it in quotes",
        "9: spec.rules[0].backendRefs[1].port: invalid type",
        "10: spec.rules[0].backendRefs[2].name: is required and missing",
        "10: spec.rules[0].backendRefs[2].foo: unknown field",
        "11: spec.rules[0].backendRefs[3].weight: invalid type",
        "12: spec.rules[0].bar: unknown field",
        "13: spec.hostnames[1]: invalid type",
        "13: spec.hostnames[3]: invalid type",
    ] {
        assert!(found.iter().any(|p| p.contains(part)), "{part} not in {found:#?}");
    }
    assert_eq!(found.len(), 8, "{found:#?}");
}

#[test]
fn an_enum_is_hinted_at() {
    let text = ROUTE.replace("- backendRefs", "- matches: [{path: {type: exact, value: /a}}]\n    backendRefs");
    has(
        &text,
        &["7: spec.rules[0].matches[0].path.type: unknown variant `exact`", "did you mean Exact?", "PathPrefix"],
    );
}

#[test]
fn identity_is_required_and_kinds_are_named() {
    has("a: b", &["1: : apiVersion is missing"]);
    has("- a", &["1: : this is no object"]);
    has("just text", &["this is no object"]);
    has("apiVersion: v1\nkind: Service\nspec: {}", &["metadata.name: the Service has no metadata.name"]);
    has("apiVersion: v1\nkind: Service\nmetadata: {name: 12}", &["3: metadata.name: must be a text"]);
    has("apiVersion: v1\nkind: UDPRoute\nmetadata: {name: a}", &["2: kind: kind UDPRoute is not supported yet"]);
    has(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}",
        &["kind \"Deployment\" is not known", "supported are"],
    );
    has(
        &ROUTE.replace("io/v1", "io/v1alpha9"),
        &["1: apiVersion: HTTPRoute has no apiVersion", "gateway.networking.k8s.io/v1"],
    );
    has("apiVersion: v1\nkind: List\nitems: 3", &["a List without a list of items"]);
    has("apiVersion: v1\nkind: Service\nmetadata: {name: a}", &["1: : spec is missing"]);
}

#[test]
fn what_is_no_yaml_is_named_with_its_line() {
    has("a: b\n\tc: d", &["2: "]);
    has("a: [1, 2", &["this is not YAML"]);
    has("a: 'b", &["this is not YAML"]);
    has("a: b: c", &["this is not YAML"]);
    has("a: 1\nb: 2\na: 3", &["3: : the key \"a\" is here twice, first in line 1"]);
    has("{a: 1, {b: c}: 2}", &["a key must be a text"]);
    has("a: *nowhere", &["1: "]);
    has("a: &x [*x]", &["1: "]);
    has("a: !ruby/object b", &["the tag"]);
    has("a: {<<: {b: c}}", &["merge keys"]);
    has("a: .inf", &["no number"].map(|_| "not a number"));
    has("a: 1\nb: x\0y", &["2: : this is not YAML: it holds the control character '\\0'"]);
    let parsed = parse("x.yaml", b"a: b\nc: \xff\xfe\n");
    assert_eq!((parsed.problems[0].line, parsed.problems[0].column), (2, 4));
    assert!(parsed.problems[0].message.contains("UTF-8"));
    assert!(parse("x.yaml", "\u{feff}".as_bytes()).problems.is_empty());
    assert!(parse("x.yaml", b"").problems.is_empty());
}

#[test]
fn objects_before_a_syntax_error_are_read_and_the_error_is_named() {
    let parsed = parse("x.yaml", format!("{ROUTE}---\na: [\n").as_bytes());
    assert_eq!(parsed.objects.len(), 1);
    assert_eq!(parsed.problems.len(), 1);
}

#[test]
fn an_alias_is_the_value_it_refers_to() {
    let text = "apiVersion: v1\nkind: Service\nmetadata: {name: &n web, labels: {app: *n}}\nspec: {selector: {app: *n}, ports: [{port: 80}]}";
    let parsed = parse("x.yaml", text.as_bytes());
    assert_eq!(parsed.objects[0].value["spec"]["selector"]["app"], "web");
}

#[test]
fn a_billion_laughs_are_refused_at_once() {
    let mut text = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n".to_owned();
    for n in 1..12 {
        let refs = vec![format!("*a{}", n - 1); 9].join(", ");
        text += &format!("a{n}: &a{n} [{refs}]\n");
    }
    let started = std::time::Instant::now();
    has(&text, &["more than 100000 values"]);
    let big = format!("a: &a {}\nb: [{}]", "x".repeat(500_000), vec!["*a"; 1000].join(","));
    has(&big, &["bytes of text"]);
    assert!(started.elapsed() < std::time::Duration::from_secs(5));
}

#[test]
fn files_beyond_the_bounds_are_refused() {
    has(&"[".repeat(100), &["nested deeper than 64"]);
    has(&format!("a:\n{}", "- b\n".repeat(100_001)), &["more than 100000 values"]);
    has(&" ".repeat(MOST_FILE_BYTES + 1), &["more than 1048576 bytes"]);
    let many = "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n".repeat(2_001);
    has(&many, &["more than 2000 objects"]);
}

/// Every one of these has cost some YAML reader its stack, its memory or minutes.
#[test]
fn hostile_files_end_soon_and_without_a_crash() {
    let most = MOST_FILE_BYTES;
    for part in [
        "[", "{", "- ", "? ", ": ", "a: ", "!", "&a ", "*a ", "'", "\"", "|\n", ">\n ", "%", "---\n", "a: b\n", "{a: ",
        "[a, ", "#", "\t", "\\", "\u{85}", "- - - ", "?\n", ":\n", "[a]: ", "!!str ",
    ] {
        let text = part.repeat(most / part.len());
        let started = std::time::Instant::now();
        let parsed = parse("x.yaml", text.as_bytes());
        let took = started.elapsed();
        assert!(took < std::time::Duration::from_secs(20), "{part:?} took {took:?}");
        assert!(parsed.problems.len() <= 100_000);
    }
}

#[test]
fn random_bytes_of_yaml_never_crash_the_reader() {
    let alphabet = "ab:-[]{}'\"&*!|>#%@`,?\n\t \\~0.<é".chars().collect::<Vec<_>>();
    let mut seed = 7_u64;
    let mut next = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed as usize
    };
    for _ in 0..20_000 {
        let length = next() % 60;
        let text: String = (0..length).map(|_| alphabet[next() % alphabet.len()]).collect();
        let _ = parse("x.yaml", text.as_bytes());
    }
    let bytes = ROUTE.as_bytes();
    for _ in 0..5_000 {
        let mut changed = bytes.to_vec();
        for _ in 0..3 {
            let at = next() % changed.len();
            changed[at] = next() as u8;
        }
        let _ = parse("x.yaml", &changed);
    }
}
