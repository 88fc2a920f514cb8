//! What is refused, where, and what one is told to do.

use super::{injected, listed, options};
use crate::inject::pod::inject;

/// A deployment whose pod has this spec, written from line 9 on, indented by six.
fn deployment(spec: &str) -> String {
    let head = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n  selector: {matchLabels: {app: web}}\n  \
                template:\n    metadata: {labels: {app: web}}\n    spec:\n";
    spec.lines().fold(head.to_owned(), |text, line| format!("{text}      {line}\n"))
}

fn refusal(text: &str) -> String {
    match inject(text, "f.yaml", &options()) {
        Ok(done) => panic!("it was injected:\n{}", done.text),
        Err(problems) => listed(&problems),
    }
}

#[test]
fn what_a_sidecar_cannot_live_with_is_refused_with_its_line_and_what_to_do() {
    let table = [
        (
            "hostNetwork: true\ncontainers:\n- {name: a}",
            "f.yaml:9:",
            "spec.template.spec.hostNetwork",
            "leno.dev/inject",
        ),
        ("containers:\n- name: a\n  ports:\n  - containerPort: 15008", "f.yaml:12:", "for the mesh", "another port"),
        (
            "containers:\n- name: a\n  ports: [{containerPort: 15053, protocol: UDP}]",
            "f.yaml:11:",
            "DNS",
            "another port",
        ),
        (
            "initContainers:\n- {name: b, ports: [{containerPort: 15020}]}\ncontainers:\n- {name: a}",
            "f.yaml:10:",
            "health",
            "port",
        ),
        ("containers:\n- name: leno-sidecar", "f.yaml:10:", "containers[0].name", "rename"),
        ("containers:\n- {name: a}\nvolumes:\n- name: leno-state", "f.yaml:12:", "volumes[0].name", "rename"),
        (
            "securityContext: {runAsUser: 15008}\ncontainers:\n- {name: a}",
            "f.yaml:9:",
            "not intercepted",
            "another user",
        ),
        (
            "containers:\n- name: a\n  securityContext:\n    runAsUser: 15008",
            "f.yaml:12:",
            "containers[0]",
            "another user",
        ),
        ("os: {name: windows}\ncontainers:\n- {name: a}", "f.yaml:9:", "Windows", "leno.dev/inject"),
        (
            "nodeSelector: {kubernetes.io/os: windows}\ncontainers:\n- {name: a}",
            "f.yaml:9:",
            "Windows",
            "leno.dev/inject",
        ),
        ("serviceAccountName: a.b\ncontainers:\n- {name: a}", "f.yaml:9:", "identity", "63"),
        (
            "containers:\n- name: a\n  livenessProbe:\n    tcpSocket:\n      port: http",
            "f.yaml:13:",
            "no port \"http\"",
            "number",
        ),
        ("containers:\n- name: a\n  livenessProbe:\n    httpGet: {path: /}", "f.yaml:12:", "no port", "add"),
        (
            "containers:\n- name: a\n  livenessProbe: {httpGet: {port: 1}, grpc: {port: 2}}",
            "f.yaml:11:",
            "one of",
            "remove",
        ),
        (
            "containers:\n- name: a\n  livenessProbe:\n    httpGet:\n      port: 1\n      httpHeaders: [{name: a, value: \"x\\ny\"}]",
            "f.yaml:14:",
            "cannot be sent",
            "one line",
        ),
        (
            "containers:\n- name: a\n  livenessProbe: {httpGet: {port: 1, scheme: FTP}}",
            "f.yaml:11:",
            "no scheme",
            "HTTPS",
        ),
        (
            "containers:\n- name: a\n  livenessProbe: {tcpSocket: {port: 1, host: a b}}",
            "f.yaml:11:",
            "no host",
            "address",
        ),
        (
            "containers:\n- name: a\n  livenessProbe: {tcpSocket: {port: 1, new: 2}}",
            "f.yaml:11:",
            "unknown field",
            "exec",
        ),
        (
            "containers:\n- name: a\n  livenessProbe: {grpc: {port: 1}, timeoutSeconds: 4000}",
            "f.yaml:11:",
            "4000",
            "3600",
        ),
        ("containers:\n- name: a\n  lifecycle: {preStop: {httpGet: {port: 1}}}", "f.yaml:11:", "hook", "exec"),
        ("restartPolicy: Always", "f.yaml:9:", "no containers", "add"),
        ("containers: web", "f.yaml:9:", "invalid type", "list"),
        (
            "containers:\n- name: a\n  ports:\n  - containerPort: \"80\"",
            "f.yaml:12:",
            "containerPort",
            "without quotes",
        ),
        ("hostNetwork: yes\ncontainers:\n- {name: a}", "f.yaml:9:", "hostNetwork", "true or false"),
        ("containers:\n- name: a\n  name: b", "f.yaml:11:", "twice", "remove"),
        ("containers:\n- <<: {name: a}", "f.yaml:10:", "merge keys", "write the fields out"),
        ("containers: &c\n- {name: a}\ninitContainers: *c", "f.yaml:11:", "anchor", "write it out"),
        (
            "containers:\n- name: a\n  livenessProbe: &p {tcpSocket: {port: 1}}\n  readinessProbe: *p",
            "f.yaml:12:",
            "anchor",
            "write it out",
        ),
    ];
    for (spec, place, what, todo) in table {
        let said = refusal(&deployment(spec));
        let line = said.lines().find(|line| line.starts_with(place) && line.contains(what));
        assert!(line.is_some_and(|line| line.contains(todo)), "{spec}\nwants {place} {what}; {todo}\n{said}");
    }
}

#[test]
fn annotations_that_nobody_understands_are_refused_with_a_hint() {
    let table = [
        ("leno.dev/inject: false", "invalid type", "quotes"),
        ("leno.dev/inject: 'no'", "neither", ""),
        ("leno.dev/exclude-port: '1'", "no such annotation", "did you mean leno.dev/exclude-ports?"),
        ("leno.dev/zebra: '1'", "no such annotation", "known are leno.dev/inject"),
        ("leno.dev/service-account: web", "no such annotation", "spec.serviceAccountName"),
        ("leno.dev/job: 'true'", "no such annotation", "native sidecar"),
        ("leno.dev/service: Web_1", "no name", "63"),
        ("leno.dev/ports: 'http'", "NAME=PORT", "http=8080"),
        ("leno.dev/ports: 'a=1,a=2'", "twice", "remove"),
        ("leno.dev/ports: 'grpc=9090/h2c'", "protocol", "appProtocol"),
        ("leno.dev/exclude-ports: '80,9-1'", "9-1", "8000-8099"),
        ("leno.dev/exclude-inbound-ports: '0'", "no port", "8000-8099"),
        ("leno.dev/proxy-cpu: lots", "no amount", "50m"),
        ("leno.dev/proxy-memory: '-1Mi'", "no amount", "64Mi"),
        ("leno.dev/proxy-image: 'a b'", "no image", "TAG"),
        ("leno.dev/join-secret: 'A B'", "Secret", "token"),
    ];
    for (annotation, what, todo) in table {
        let text = format!(
            "apiVersion: v1\nkind: Pod\nmetadata:\n  name: p\n  labels: {{app: p}}\n  annotations:\n    {annotation}\nspec:\n  \
             containers: [{{name: a}}]\n"
        );
        let said = refusal(&text);
        assert!(said.starts_with("f.yaml:7:") && said.contains(what) && said.contains(todo), "{annotation}: {said}");
    }
    let around = deployment("containers:\n- {name: a}")
        .replace("{name: web}", "{name: web, annotations: {leno.dev/inject: 'false'}}");
    assert!(refusal(&around).contains("move it to spec.template.metadata.annotations"), "{}", refusal(&around));
    let label = deployment("containers:\n- {name: a}")
        .replace("{labels: {app: web}}", "{labels: {app: web, leno.dev/inject: x}}");
    assert!(refusal(&label).contains("has no effect here"));
}

#[test]
fn a_pod_that_says_no_service_is_refused() {
    let text = |metadata: &str| {
        format!("apiVersion: v1\nkind: Pod\nmetadata: {metadata}\nspec: {{containers: [{{name: a}}]}}\n")
    };
    let said = refusal(&text("{name: p}"));
    assert!(said.starts_with("f.yaml:3:") && said.contains("label app") && said.contains("leno.dev/service"), "{said}");
    assert!(refusal(&text("{name: p, labels: {app: My_App}}")).contains("leno.dev/service"));
    assert!(refusal(&text("{name: p.q, labels: {app: p}}")).contains("name of a workload"));
    assert!(refusal("apiVersion: v1\nkind: Pod\nmetadata: {name: p}\n").contains("no spec"));
    assert!(refusal("apiVersion: apps/v1\nkind: Deployment\nspec: {}\n").contains("no spec.template"));
    let old = "apiVersion: extensions/v1beta1\nkind: Deployment\nspec: {template: {}}\n";
    assert!(refusal(old).contains("write apiVersion: apps/v1"));
    assert_eq!(injected(&text("{name: p, annotations: {leno.dev/service: shop}}")).pods, 1);
}

#[test]
fn all_problems_of_a_file_are_told_at_once_and_nothing_is_injected() {
    let good = deployment("containers:\n- {name: a}");
    let bad = deployment("hostNetwork: true\ncontainers:\n- name: a\n  ports: [{containerPort: 15000}]");
    let said = refusal(&format!("{good}---\n{bad}---\n{bad}"));
    assert_eq!(said.matches("hostNetwork").count(), 2, "{said}");
    assert_eq!(said.matches("15000").count(), 2, "{said}");
}

#[test]
fn files_that_are_no_manifest_are_refused_in_bounded_time() {
    let laughs = (1..20).fold("a0: &a0 [x]\n".to_owned(), |text, n| {
        let last = n - 1;
        text + &format!(
            "a{n}: &a{n} [*a{last}, *a{last}, *a{last}, *a{last}, *a{last}, *a{last}, *a{last}, *a{last}]\n"
        )
    });
    let table = [
        ("a: &a [*a]\n".to_owned(), "alias"),
        (laughs, "aliases included"),
        ("[".repeat(10_000), ""),
        ("a: ".repeat(3) + "b\n", "not YAML"),
        ("x".repeat((1 << 20) + 1), "bytes"),
        (format!("{}\u{0}\n", deployment("containers: [{name: a}]")), "control character"),
        ("a:\n\t- b\n".to_owned(), "not YAML"),
        ("a: {b\n".to_owned(), "not YAML"),
    ];
    for (text, word) in table {
        let said = refusal(&text);
        assert!(said.contains(word), "{word}: {said}");
        assert!(said.len() < 2_000, "{}", said.len());
    }
    let templated = deployment("containers:\n- name: {{ .Values.name }}");
    assert!(refusal(&templated).contains("template"), "{}", refusal(&templated));
    // At the bound, and not over it.
    let large = format!("{}# {}\n", deployment("containers:\n- {name: a}"), "x".repeat(1 << 19));
    assert_eq!(injected(&large).pods, 1);
}

#[test]
fn a_result_that_does_not_mean_what_was_asked_for_never_leaves() {
    use crate::inject::pod::verify::same;
    let wanted = [serde_json::json!({"a": 1})];
    assert!(same("a: 1\n", "f", &wanted).is_ok());
    for text in ["a: 2\n", "a: 1\nb: 1\n", "", "a: 1\n---\na: 1\n", "a: {\n"] {
        let said = listed(&same(text, "f", &wanted).unwrap_err());
        assert!(said.contains("cannot be edited") && said.contains("block style"), "{said}");
    }
}

#[test]
fn marks_without_their_other_half_are_named_with_their_line() {
    let text = injected(&deployment("containers:\n- {name: a}")).text;
    let lines: Vec<&str> = text.lines().collect();
    let without = |word: &str| {
        lines.iter().filter(|line| !line.contains(word)).fold(String::new(), |all, line| all + line + "\n")
    };
    let said = refusal(&without("leno:end"));
    assert!(said.contains("has no end") && said.contains("restore"), "{said}");
    assert!(refusal(&without("leno:begin")).contains("without a begin"));
}
