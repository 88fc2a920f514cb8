//! The shapes of the REST API's answers that people are shown. Unknown fields are left alone: an older tool works with a newer
//! control plane.

use http::StatusCode;
use leno_control_plane::config;
use serde::Deserialize;
use serde_json::Value;

use super::Answer;
use crate::failure::{Exit, Failure};
use crate::output::{count, printable};

/// What an apply, delete or rollback did.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Changed {
    /// The revision that is now in force.
    pub revision: u64,
    /// An object each.
    pub changes: Vec<Change>,
    /// What was refused.
    pub problems: Vec<Problem>,
    /// Who has it, when the call waited.
    pub wait: Option<Wait>,
}

/// What happened to one object.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Change {
    /// `created`, `configured`, `unchanged` or `deleted`.
    pub action: String,
    /// As the user writes it, `HTTPRoute`.
    pub kind: String,
    /// Empty for a kind that has none.
    pub namespace: String,
    /// The object's name.
    pub name: String,
}

/// One thing that is wrong with what the user wrote.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Problem {
    /// As the user named the file.
    pub file: String,
    /// From 1; 0 when not known.
    pub line: u64,
    /// From 1; 0 when not known.
    pub column: u64,
    /// `HTTPRoute default/web`, or empty.
    pub object: String,
    /// The path of the field, `spec.rules[0].backendRefs`, or empty.
    pub field: String,
    /// What is wrong.
    pub message: String,
    /// What to do; may be empty.
    pub hint: Option<String>,
    /// `error` (the object is refused) or `warning`.
    pub severity: String,
}

impl Problem {
    /// Whether something is refused because of it.
    pub fn is_error(&self) -> bool {
        self.severity != "warning"
    }
}

impl From<&config::Problem> for Problem {
    fn from(found: &config::Problem) -> Self {
        Self {
            file: found.file.clone(),
            line: found.line.into(),
            column: found.column.into(),
            object: found.object.clone(),
            field: found.field.clone(),
            message: found.message.clone(),
            hint: Some(found.hint.clone()),
            severity: if found.is_error() { "error" } else { "warning" }.to_owned(),
        }
    }
}

/// How far a revision came.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Wait {
    /// Sidecars that were to have it.
    pub concerned: u64,
    /// Those that have it in force.
    pub acked: u64,
    /// Those that refused it.
    pub nacked: Vec<Nack>,
    /// Those that had not said anything when the time was over.
    pub missing: Vec<String>,
}

/// A sidecar that refused a revision.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Nack {
    /// The workload.
    pub sidecar: String,
    /// Its words.
    pub reason: String,
}

/// The error body of every call.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ErrorBody {
    error: Error,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Error {
    message: String,
    hint: Option<String>,
}

impl Answer {
    /// Reads the body as `T`.
    ///
    /// # Errors
    /// The body is something else: the other end is no control plane of this version.
    pub fn read<T: for<'a> Deserialize<'a>>(&self) -> Result<T, Failure> {
        read(&self.body)
    }

    /// The failure that this answer describes.
    pub fn into_failure(self) -> Failure {
        let exit = if self.status.is_server_error() && self.status != StatusCode::GATEWAY_TIMEOUT {
            Exit::Unreachable
        } else {
            Exit::Failed
        };
        let (message, hint) = self.words();
        Failure::new(exit, message, hint)
    }

    /// The failure for a credential that is not good (enough).
    pub(super) fn denied(self, authority: &str) -> Failure {
        let (message, hint) = self.words();
        let hint = if hint.is_empty() {
            "import the control plane's STATE_DIR/admin.yaml again: leno context import FILE".to_owned()
        } else {
            hint
        };
        Failure::new(Exit::Denied, format!("the control plane at {authority} refuses the credential: {message}"), hint)
    }

    fn words(&self) -> (String, String) {
        let body: ErrorBody = serde_json::from_value(self.body.clone()).unwrap_or_default();
        let message = match (&self.body, body.error.message) {
            (Value::String(text), _) => format!("the control plane answered {}: {}", self.status, printable(text)),
            (_, message) if message.is_empty() => format!("the control plane answered {}", self.status),
            (_, message) => printable(&message),
        };
        // The API speaks of its own calls; people here have commands.
        let hint = body.error.hint.unwrap_or_default().replace("GET /v1/objects/", "leno get ");
        (message, printable(&hint))
    }
}

/// Reads a part of an answer as `T`.
pub(crate) fn read<T: for<'a> Deserialize<'a>>(body: &Value) -> Result<T, Failure> {
    T::deserialize(body).map_err(|e| {
        let what = format!("the control plane's answer is not understood: {e}");
        Failure::new(Exit::Failed, what, "use the leno of the same version as the control plane (leno --version)")
    })
}

/// `file:line:column: field: message`, and the hint on a line of its own, as compilers print them.
pub fn problem_text(problem: &Problem) -> String {
    let mut text = printable(&problem.file);
    if problem.line > 0 {
        text.push_str(&format!(":{}", problem.line));
        if problem.column > 0 {
            text.push_str(&format!(":{}", problem.column));
        }
    }
    for part in [&problem.object, &problem.field] {
        if !part.is_empty() {
            text.push_str(": ");
            text.push_str(&printable(part));
        }
    }
    text.push_str(if problem.is_error() { ": " } else { ": warning: " });
    text.push_str(&printable(&problem.message));
    if let Some(hint) = problem.hint.as_deref().filter(|h| !h.is_empty()) {
        text.push_str("\n  hint: ");
        text.push_str(&printable(hint));
    }
    text
}

impl Wait {
    /// One line that says how far it came.
    pub fn summary(&self, revision: u64) -> String {
        if self.concerned == 0 {
            return format!("no sidecar is concerned by revision {revision}");
        }
        let have = if self.concerned == 1 { "has" } else { "have" };
        format!("{}/{} {have} revision {revision}", self.acked, count(self.concerned, "sidecar"))
    }
}

impl Change {
    /// `httproute.gateway.networking.k8s.io/web`, as kubectl names objects.
    pub fn object(&self) -> String {
        let group = match self.kind.as_str() {
            "HTTPRoute" | "GRPCRoute" | "TCPRoute" | "TLSRoute" | "ReferenceGrant" | "Gateway" | "GatewayClass"
            | "ListenerSet" | "BackendTLSPolicy" => ".gateway.networking.k8s.io",
            "EndpointSlice" => ".discovery.k8s.io",
            "Workload" | "TrafficPolicy" | "AuthorizationPolicy" | "JwtProvider" | "FederatedTrustDomain" => {
                ".leno.dev"
            }
            _ => "",
        };
        format!("{}{group}/{}", self.kind.to_lowercase(), printable(&self.name))
    }

    /// The line for people.
    pub fn text(&self, revision: u64, dry_run: bool) -> String {
        let mut place = if dry_run { "dry run".to_owned() } else { format!("revision {revision}") };
        if !self.namespace.is_empty() && self.namespace != "default" {
            place = format!("namespace {}, {place}", printable(&self.namespace));
        }
        format!("{} {} ({place})", self.object(), self.action)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_change_is_told_as_kubectl_tells_it() {
        let mut change = Change {
            action: "configured".into(),
            kind: "HTTPRoute".into(),
            namespace: "default".into(),
            name: "web".into(),
        };
        assert_eq!(change.text(12, false), "httproute.gateway.networking.k8s.io/web configured (revision 12)");
        change.namespace = "shop".into();
        assert_eq!(
            change.text(12, true),
            "httproute.gateway.networking.k8s.io/web configured (namespace shop, dry run)"
        );
        change.kind = "Service".into();
        assert_eq!(change.object(), "service/web");
        change.kind = "TrafficPolicy".into();
        assert_eq!(change.object(), "trafficpolicy.leno.dev/web");
    }

    #[test]
    fn a_problem_names_file_line_field_and_hint() {
        let problem = Problem {
            file: "a.yaml".into(),
            line: 3,
            column: 7,
            object: "HTTPRoute default/web".into(),
            field: "spec.rules[0]".into(),
            message: "no".into(),
            hint: Some("yes".into()),
            severity: "error".into(),
        };
        assert_eq!(problem_text(&problem), "a.yaml:3:7: HTTPRoute default/web: spec.rules[0]: no\n  hint: yes");
        let bare = Problem { file: "b".into(), message: "is empty".into(), ..Problem::default() };
        assert_eq!(problem_text(&bare), "b: is empty");
        let warning = Problem { severity: "warning".into(), ..bare };
        assert_eq!(problem_text(&warning), "b: warning: is empty");
    }

    #[test]
    fn progress_is_counted_in_sidecars() {
        let wait = Wait { concerned: 3, acked: 3, ..Wait::default() };
        assert_eq!(wait.summary(12), "3/3 sidecars have revision 12");
        assert_eq!(Wait::default().summary(2), "no sidecar is concerned by revision 2");
        assert_eq!(Wait { concerned: 1, ..Wait::default() }.summary(2), "0/1 sidecar has revision 2");
    }

    #[test]
    fn an_error_body_becomes_words_and_a_missing_one_is_survived() {
        let body = json!({"error": {"code": "NotFound", "message": "there is no\x1bweb", "hint": "see GET /v1/objects/Service"}});
        let failure = Answer { status: StatusCode::NOT_FOUND, body }.into_failure();
        assert_eq!(failure.to_string(), "error: there is no?web\nhint: see leno get Service");
        let failure = Answer { status: StatusCode::BAD_GATEWAY, body: Value::Null }.into_failure();
        assert_eq!(failure.exit(), Exit::Unreachable);
        assert!(failure.to_string().contains("502"));
    }

    #[test]
    fn a_newer_control_planes_fields_are_ignored_and_missing_ones_default() {
        let changed: Changed = read(&json!({"revision": 4, "new": 1, "changes": [{"action": "created"}]})).unwrap();
        assert_eq!((changed.revision, changed.changes.len()), (4, 1));
        assert!(read::<Changed>(&json!("text")).is_err());
    }
}
