//! What is refused, each with its line and a word of what to do; nothing of it panics.

use super::*;

fn problems(text: &str) -> Vec<Problem> {
    match inject(text, "c.yml", &options()) {
        Err(problems) => problems,
        Ok(done) => panic!("it was taken\n{}", done.text),
    }
}

/// A service `web` with more fields, which begin in line 4.
fn web(fields: &str) -> String {
    format!("services:\n  web:\n    image: web\n{fields}")
}

/// A text, the line that is wrong in it, and a part of what to do.
type Case = (String, u32, &'static str);

fn check(cases: Vec<Case>) {
    let mut wrong = String::new();
    for (text, line, todo) in cases {
        let found = problems(&text);
        let fits = |p: &Problem| p.is_error() && p.line == line && format!("{} {}", p.message, p.hint).contains(todo);
        if !found.iter().any(fits) || found.iter().any(|p| p.is_error() && p.hint.is_empty()) {
            wrong.push_str(&format!("line {line}, {todo:?}\n{text}\n{found:#?}\n"));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn what_a_pod_cannot_have_is_refused_at_its_line_with_what_to_do() {
    check(vec![
        (web("    network_mode: host\n"), 4, "publish its ports"),
        (web("    network_mode: none\n"), 4, "leno.dev/inject"),
        (web("    network_mode: bridge\n"), 4, "remove network_mode"),
        (web("    network_mode: 'service:db'\n"), 4, "of the other one"),
        (web("    network_mode: 'container:x'\n"), 4, "of the other one"),
        (web("    ports:\n      - '80:80'\n      - '15008:15008'\n"), 6, "another port"),
        (web("    ports: ['15000-15010:15000-15010']\n"), 4, "another port"),
        (web("    ports:\n      - target: 15053\n        published: 53\n"), 5, "another port"),
        (web("    expose: [15001]\n"), 4, "another port"),
        (web("    ports: ['15012:80']\n"), 4, "another port of the host"),
        (web("    ports: ['a:b']\n"), 4, "8080:80"),
        (web("    ports: '80:80'\n"), 4, "a list"),
        (web("    networks: front\n"), 4, "a list of texts or a map"),
        (web("    depends_on: db\n"), 4, "a list of texts or a map"),
        (web("    hostname: [a]\n"), 4, "a text"),
        (web("    labels: 7\n"), 4, "key: \"value\""),
        (web("    ports: !reset []\n"), 4, "docker-compose config"),
        (web("    scale: 3\n"), 4, "web-2:"),
        (web("    deploy:\n      replicas: 2\n"), 4, "leno.dev/service: \"web\""),
        (web("    deploy: {mode: global}\n"), 4, "deploy.mode"),
        (web("    extends: {file: a.yml, service: base}\n"), 4, "anchor"),
        (web("    pid: host\n"), 4, "share-pid"),
        (web("    user: '15008:1'\n"), 4, "another user"),
        (web("    platform: windows/amd64\n"), 4, "leno.dev/inject"),
    ]);
}

#[test]
fn a_wrong_label_is_refused_at_its_line_with_what_to_do() {
    check(vec![
        (web("    labels: {leno.dev/injekt: 'false'}\n"), 4, "did you mean leno.dev/inject?"),
        (web("    labels: ['leno.dev/colour=red']\n"), 4, "known are"),
        (web("    labels:\n      leno.dev/inject: maybe\n"), 5, "write \"true\""),
        (web("    labels: {leno.dev/ports: 'http'}\n"), 4, "http=8080"),
        (web("    labels: {leno.dev/ports: 'http=80,http=81'}\n"), 4, "twice"),
        (web("    labels: {leno.dev/ports: 'grpc=80/h2c'}\n"), 4, "appProtocol"),
        (web("    labels: {leno.dev/ports: 'x=15008'}\n"), 4, "another one"),
        (web("    labels: {leno.dev/exclude-ports: '80-70'}\n"), 4, "3306,8000-8999"),
        (web("    labels: {leno.dev/service: 'A b'}\n"), 4, "a-z"),
        (web("    labels: {leno.dev/labels: 'v2'}\n"), 4, "version=v2"),
        (web("    labels: {leno.dev/ports: '${PORT}'}\n"), 4, "the value itself"),
        (web("    labels: {leno.dev/job: 'true', leno.dev/share-pid: 'false'}\n"), 4, "share-pid"),
    ]);
}

#[test]
fn a_file_that_cannot_be_edited_is_refused_at_its_line_with_what_to_do() {
    check(vec![
        (web("  web-pod:\n    image: x\n"), 4, "rename"),
        (web("  web-sidecar:\n    image: x\n"), 4, "rename"),
        (web("  leno-control-plane:\n    image: x\n"), 4, "rename"),
        (web("  Web:\n    image: x\n"), 4, "another one"),
        (web("  \"a b\":\n    image: x\n"), 4, "a-z"),
        (web("  db:\n"), 4, "image:"),
        (web("  db: [a]\n"), 4, "image:"),
        (web("secrets:\n  default.web:\n    file: x\n"), 5, "rename"),
        (web("secrets: [a]\n"), 4, "a map"),
        (web("    <<: 7\n"), 4, "<<: *anchor"),
        (web("    x: &a\n      y: *a\n"), 5, "write the value out"),
        (web("    x: *nothing\n"), 4, "anchor"),
        (web("    image: again\n"), 4, "remove one"),
        (web("    command: |\n      # leno:was|x\n"), 5, "may begin"),
        (web("---\nservices: {}\n"), 5, "file of its own"),
        (web("    # leno:end\n"), 4, "remove this line"),
        (web("    x: a\u{7}b\n"), 4, "plain text"),
        (web("    x: a\r    y: b\n"), 4, "line ends"),
        (web("\tx: a\n"), 4, "spaces"),
        ("services: {web: {image: a}}\n".to_owned(), 1, "block style"),
        ("{\"services\": {\"web\": {\"image\": \"a\"}}}".to_owned(), 1, "block style"),
        ("x: &s\n  web: {image: a}\nservices: *s\n".to_owned(), 3, "block style"),
        ("x: &s\n  web: {image: a}\nservices:\n  <<: *s\n".to_owned(), 4, "name: *anchor"),
        ("services:\n".to_owned(), 1, "name:"),
        ("- services\n".to_owned(), 1, "services:"),
        ("web:\n  image: a\n".to_owned(), 1, "version 1"),
        (String::new(), 1, "services:"),
        ("services:\n  a:\n    image: [\n".to_owned(), 4, "brackets"),
    ]);
}

#[test]
fn a_service_outside_the_mesh_does_not_use_parts_of_one_inside() {
    let outside =
        |fields: &str| web(&format!("  x:\n    image: x\n    labels: {{leno.dev/inject: 'false'}}\n{fields}"));
    for (fields, todo) in [
        ("    network_mode: 'service:web'\n", "too"),
        ("    links: [web]\n", "remove the link"),
        ("    extends: web\n", "anchor"),
        ("    extends: {service: web}\n", "anchor"),
    ] {
        let found = problems(&outside(fields));
        assert!(found.iter().any(|p| p.line == 7 && p.hint.contains(todo)), "{fields}: {found:#?}");
    }
    injected_text(&outside(
        "    network_mode: host\n    extends: {service: web, file: b.yml}\n    ports: ['15008:1']\n",
    ));
}

#[test]
fn all_problems_are_said_at_once() {
    let found =
        problems(&web("    network_mode: host\n    scale: 2\n    user: 15008\n  db:\n    image: x\n    pid: host\n"));
    assert_eq!(found.iter().map(|p| p.line).collect::<Vec<_>>(), [4, 5, 6, 9]);
}

#[test]
fn what_an_app_could_undo_is_warned_of() {
    let text = web("    privileged: true\n    cap_add: [NET_ADMIN, cap_sys_admin, CHOWN]\n    ports: ['80:80']\n");
    let done = inject(&text, "c.yml", &options()).unwrap();
    assert_eq!(done.warnings.iter().map(|p| p.line).collect::<Vec<_>>(), [4, 5, 5, 6], "{:#?}", done.warnings);
    let open = web("    ports: ['80:80']\n    labels: {leno.dev/exclude-inbound-ports: '80'}\n");
    assert!(inject(&open, "c.yml", &options()).unwrap().warnings.is_empty());
}

#[test]
fn size_nesting_and_repetition_are_bounded() {
    let deep = web(&format!("    x: {}1{}\n", "[".repeat(100), "]".repeat(100)));
    assert!(problems(&deep)[0].message.contains("64 levels"));
    let mut laughs = "x0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n".to_owned();
    for n in 1..10 {
        let items = vec![format!("*a{}", n - 1); 10].join(", ");
        laughs.push_str(&format!("x{n}: &a{n} [{items}]\n"));
    }
    assert!(problems(&(laughs + &web("")))[0].message.contains("repeated aliases"));
    let services =
        |n: usize| (0..n).fold("services:\n".to_owned(), |text, i| text + &format!("  s{i}: {{image: a}}\n"));
    round(&services(service::MOST_SERVICES));
    assert!(problems(&services(service::MOST_SERVICES + 1))[0].message.contains("500 services"));
    let large = web(&format!("    x: {}\n", "y".repeat(MOST_FILE_BYTES - 1000)));
    assert!(problems(&large)[0].message.contains("with the sidecars"));
}

#[test]
fn an_anchor_that_would_be_lost_outside_of_services_is_refused_at_its_alias() {
    let found = problems("services:\n  web:\n    image: a\n    ports: &p ['80:80']\nx-ports: *p\n");
    assert!(found.iter().any(|p| p.line == 5 && p.message.contains("line 4")), "{found:#?}");
}
