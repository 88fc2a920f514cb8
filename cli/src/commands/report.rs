//! What an apply, delete or rollback prints, and how it ends.

use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::Value;

use crate::client::{Changed, Client, Problem, problem_text};
use crate::failure::{Exit, Failure};
use crate::output::{self, Format, Paint, printable};
use crate::progress::spinner;
use crate::spans::duration;

/// How long and whether to wait for the sidecars.
#[derive(Debug, Clone, clap::Args)]
pub struct WaitArgs {
    /// Wait until every sidecar concerned has the change in force
    #[arg(long)]
    pub wait: bool,
    /// How long to wait for the sidecars at most: 500ms, 30s, 5m
    #[arg(long, default_value = "30s", value_parser = duration, value_name = "TIME")]
    pub timeout: Duration,
}

/// A call that changes something.
pub struct Call<'a> {
    pub method: Method,
    pub path: &'a str,
    pub body: Option<&'a Value>,
    /// None: it does not wait.
    pub wait: Option<Duration>,
    pub dry_run: bool,
    /// What could not even be sent.
    pub unread: &'a [Problem],
    pub format: Format,
}

impl Call<'_> {
    /// Makes the call, prints what came of it, and fails unless all of it was done.
    ///
    /// # Errors
    /// The call failed, or an object was refused, or a sidecar refused or did not take it in time.
    pub async fn run(&self, client: &Client) -> Result<(), Failure> {
        let spinner = self.wait.map(|_| spinner("waiting for the sidecars"));
        let answer = client.call(self.method.clone(), self.path, self.body, self.wait.unwrap_or_default()).await;
        if let Some(spinner) = spinner {
            spinner.finish_and_clear();
        }
        let answer = answer?;
        let known = [StatusCode::CONFLICT, StatusCode::UNPROCESSABLE_ENTITY, StatusCode::GATEWAY_TIMEOUT];
        let is_outcome =
            answer.status.is_success() || known.contains(&answer.status) && answer.body.get("changes").is_some();
        if !is_outcome {
            return Err(answer.into_failure());
        }
        let changed: Changed = answer.read()?;
        if self.format != Format::Table {
            output::value(&answer.body, self.format)?;
        } else {
            self.print(&changed)?;
        }
        self.verdict(&changed, answer.status)
    }

    fn print(&self, changed: &Changed) -> Result<(), Failure> {
        for change in &changed.changes {
            output::line(change.text(changed.revision, self.dry_run))?;
        }
        match &changed.wait {
            Some(wait) if self.wait.is_some() => output::line(wait.summary(changed.revision)),
            _ => Ok(()),
        }
    }

    /// Problems go to standard error in every format.
    fn verdict(&self, changed: &Changed, status: StatusCode) -> Result<(), Failure> {
        let paint = Paint::stderr();
        let mut failed = Vec::new();
        let refused = print_problems(self.unread.iter().chain(&changed.problems));
        if refused > 0 {
            failed.push(format!(
                "{} found; the objects named keep their last good version",
                output::count(refused, "problem")
            ));
        }
        for nack in changed.wait.iter().flat_map(|w| &w.nacked) {
            eprintln!(
                "{}",
                paint.bad(&format!("{} refuses it: {}", printable(&nack.sidecar), printable(&nack.reason)))
            );
        }
        let missing: Vec<String> = changed.wait.iter().flat_map(|w| &w.missing).map(|m| printable(m)).collect();
        if changed.wait.as_ref().is_some_and(|w| !w.nacked.is_empty()) {
            failed.push("a sidecar refused the revision and keeps what it had; see leno status".to_owned());
        } else if !missing.is_empty() {
            failed.push(format!("the time is over and these sidecars have not taken it: {}", missing.join(", ")));
        }
        if failed.is_empty() && status.is_success() {
            return Ok(());
        }
        if failed.is_empty() {
            failed.push(format!("the control plane answered {status}"));
        }
        Err(Failure::new(Exit::Failed, failed.join("; "), ""))
    }
}

/// Prints problems on standard error, and gives the number of those that are errors.
pub fn print_problems<'a>(problems: impl IntoIterator<Item = &'a Problem>) -> u64 {
    let paint = Paint::stderr();
    let mut errors = 0;
    for problem in problems {
        let text = problem_text(problem);
        let shown = if problem.is_error() { paint.bad(&text) } else { paint.warn(&text) };
        eprintln!("{shown}");
        errors += u64::from(problem.is_error());
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::client::read;

    fn call(unread: &[Problem]) -> Call<'_> {
        let wait = Some(Duration::from_secs(1));
        Call { method: Method::POST, path: "/", body: None, wait, dry_run: false, unread, format: Format::Table }
    }

    fn verdict(body: Value, status: StatusCode) -> Result<(), Failure> {
        call(&[]).verdict(&read(&body).unwrap(), status)
    }

    #[test]
    fn a_call_succeeds_only_when_all_of_it_was_done() {
        assert!(verdict(json!({"revision": 1}), StatusCode::OK).is_ok());
        let refused = json!({"problems": [{"file": "a", "message": "b"}]});
        assert!(
            verdict(refused, StatusCode::UNPROCESSABLE_ENTITY).unwrap_err().to_string().contains("1 problem found")
        );
        let nacked = json!({"wait": {"nacked": [{"sidecar": "default/web", "reason": "r"}]}});
        assert!(verdict(nacked, StatusCode::CONFLICT).unwrap_err().to_string().contains("refused the revision"));
        let missing = json!({"wait": {"missing": ["default/x"]}});
        assert!(verdict(missing, StatusCode::GATEWAY_TIMEOUT).unwrap_err().to_string().contains("default/x"));
    }

    #[test]
    fn a_warning_does_not_fail_the_call() {
        let warned = json!({"problems": [{"file": "a", "message": "b", "severity": "warning"}]});
        assert!(verdict(warned, StatusCode::OK).is_ok());
    }

    #[test]
    fn a_file_that_could_not_be_read_fails_the_call_too() {
        let unread = [Problem { file: "a".into(), message: "b".into(), ..Problem::default() }];
        assert!(call(&unread).verdict(&Changed::default(), StatusCode::OK).is_err());
    }
}
