//! Ways in which a configuration can be wrong.

/// How something broken comes to be in the folder.
pub enum Place {
    /// A file with this content.
    File(Vec<u8>),
    /// A symbolic link to this.
    Link(&'static str),
    /// A folder where a file should be.
    Folder,
    /// A folder with a link back up.
    Loop,
    /// A pipe, from which nobody ever writes.
    Pipe,
}

/// One mistake, and what must be said of it, beside the file's name.
pub struct Broken {
    pub file: &'static str,
    pub place: Place,
    pub says: &'static [&'static str],
}

impl std::fmt::Debug for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {:?}", self.file, self.says)
    }
}

fn file(file: &'static str, content: impl Into<Vec<u8>>, says: &'static [&'static str]) -> Broken {
    Broken { file, place: Place::File(content.into()), says }
}

/// A Service called `name` with these fields of its spec.
fn service(name: &str, spec: &str) -> String {
    format!("apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n")
}

/// An HTTPRoute called `name` on Service good-a with these rules.
fn route(name: &str, rules: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: {name}}}\nspec:\n  \
         parentRefs: [{{kind: Service, group: \"\", name: good-a}}]\n  rules:\n  - {rules}\n"
    )
}

/// Every mistake; each is in a file of its own.
pub fn all() -> Vec<Broken> {
    let mut all = files();
    all.extend(syntax());
    all.extend(shapes());
    all.extend(meanings());
    all
}

/// What is wrong with the file itself.
fn files() -> Vec<Broken> {
    vec![
        file(
            "huge.yaml",
            service("huge", "").into_bytes().into_iter().chain(vec![b'#'; 8 << 20]).collect::<Vec<_>>(),
            &["bytes"],
        ),
        file("latin1.yaml", b"apiVersion: v1\nkind: Service\nmetadata: {name: caf\xe9}\n".to_vec(), &["utf-8"]),
        file("nul.yaml", b"apiVersion: v1\nkind: Serv\0ice\n".to_vec(), &[":2:"]),
        Broken { file: "dangling.yaml", place: Place::Link("gone.yaml"), says: &["link"] },
        Broken { file: "ring.yaml", place: Place::Link("ring.yaml"), says: &["cannot be read"] },
        Broken { file: "loop", place: Place::Loop, says: &["back"] },
        Broken { file: "folder.yaml", place: Place::Folder, says: &["folder"] },
        Broken { file: "pipe.yaml", place: Place::Pipe, says: &["pipe"] },
    ]
}

/// What is no YAML, or YAML that only an attacker writes.
fn syntax() -> Vec<Broken> {
    let bomb = "a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\n\
         d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e,*e,*e,*e,*e,*e]\n";
    vec![
        file("tab.yaml", "apiVersion: v1\nkind: Service\n\tmetadata: {}\n", &[":3:"]),
        file("unclosed.yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: x\n", &["unclosed.yaml:"]),
        file("scalar.yaml", "just some words\n", &["scalar.yaml:"]),
        file("list.yaml", "- apiVersion: v1\n- kind: Service\n", &["list.yaml:"]),
        file("twice.yaml", "apiVersion: v1\nkind: Service\nkind: Service\nmetadata: {name: twice}\n", &[":3:", "kind"]),
        file("bomb.yaml", bomb, &["bomb.yaml:"]),
        file("cycle.yaml", "apiVersion: v1\nkind: Service\nmetadata: &m {name: cycle, labels: *m}\n", &["cycle.yaml:"]),
        file("deep.yaml", format!("apiVersion: v1\nkind: Service\nspec: {}", "[".repeat(100_000)), &["deep.yaml:"]),
    ]
}

/// Objects of the wrong shape.
fn shapes() -> Vec<Broken> {
    vec![
        file("version.yaml", "apiVersion: v2\nkind: Service\nmetadata: {name: x1}\n", &["apiversion", "v2"]),
        file(
            "kind.yaml",
            "apiVersion: v1\nkind: Servise\nmetadata: {name: x2}\n",
            &["Servise", "did you mean Service"],
        ),
        file(
            "later.yaml",
            "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: x3}\n",
            &["ingress", "not supported"],
        ),
        file("nameless.yaml", "apiVersion: v1\nkind: Service\nspec: {ports: [{port: 80}]}\n", &["name"]),
        file("unknown.yaml", service("x4", "portz: [{port: 80}]"), &["portz"]),
        file("integer.yaml", service("x5", "ports: [{port: eighty}]"), &["spec.ports[0].port"]),
        file("map.yaml", service("x6", "selector: [app, x]"), &["spec.selector"]),
        file(
            "our-unknown.yaml",
            "apiVersion: leno.dev/v1alpha1\nkind: Workload\nmetadata: {name: x7}\nspec: {address: 127.0.0.1, prots: {http: 80}}\n",
            &["prots", "unknown field"],
        ),
    ]
}

/// Objects that mean nothing good.
fn meanings() -> Vec<Broken> {
    let workload = |name: &str, spec: &str| {
        format!("apiVersion: leno.dev/v1alpha1\nkind: Workload\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n")
    };
    let policy = |name: &str, spec: &str| {
        format!("apiVersion: leno.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n")
    };
    vec![
        file("upper.yaml", service("Upper_Case", "ports: [{port: 80}]"), &["metadata.name"]),
        file("port-zero.yaml", service("y1", "ports: [{port: 0}]"), &["spec.ports[0].port", "0"]),
        file("label.yaml", service("y2", "selector: {app: \"not a label!\"}, ports: [{port: 80}]"), &["label"]),
        file("same-port.yaml", service("y3", "ports: [{name: a, port: 80}, {name: b, port: 80}]"), &["80"]),
        file(
            "copy-1.yaml",
            service("copied", "ports: [{port: 80}]") + "---\n" + &service("copied", "ports: [{port: 81}]"),
            &["copied"],
        ),
        file("copy-2.yaml", service("good-a", "ports: [{port: 81}]"), &["good-a", "a-good.yaml"]),
        file("weight.yaml", route("y4", "backendRefs: [{name: good-a, port: 80, weight: -1}]"), &["weight", "-1"]),
        file("heavy.yaml", route("y5", "backendRefs: [{name: good-a, port: 80, weight: 1000001}]"), &["weight"]),
        file("nowhere.yaml", route("y6", "backendRefs: [{name: not-there, port: 80}]"), &["not-there"]),
        file("portless.yaml", route("y7", "backendRefs: [{name: good-a, port: 8123}]"), &["8123"]),
        file(
            "duration.yaml",
            route("y8", "timeouts: {request: 2 parsecs}\n    backendRefs: [{name: good-a, port: 80}]"),
            &["2 parsecs"],
        ),
        file(
            "longer.yaml",
            route("y9", "timeouts: {request: 1s, backendRequest: 5s}\n    backendRefs: [{name: good-a, port: 80}]"),
            &["backendrequest"],
        ),
        file(
            "regex.yaml",
            route("y10", "matches: [{path: {type: RegularExpression, value: \"/(\"}}]"),
            &["expression"],
        ),
        file("slashless.yaml", route("y11", "matches: [{path: {type: PathPrefix, value: web}}]"), &["path"]),
        file("header.yaml", route("y12", "matches: [{headers: [{name: \"not a header\", value: x}]}]"), &["header"]),
        file("attempts.yaml", route("y13", "retry: {attempts: -3}"), &["attempts"]),
        file("address.yaml", workload("y14", "address: 300.1.2.3, ports: {http: 80}"), &["address"]),
        file("workload-port.yaml", workload("y15", "address: 127.0.0.1, ports: {http: 70000}"), &["70000"]),
        file("targetless.yaml", policy("y16", "connectTimeout: 1s"), &["targetrefs"]),
        file(
            "percent.yaml",
            policy("y17", "targetRefs: [{kind: Service, name: good-a}], retryBudget: {percent: 200}"),
            &["percent"],
        ),
    ]
}
