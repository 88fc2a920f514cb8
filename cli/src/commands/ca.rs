//! `leno ca`: the certificate authority, and its rotation without a restart of anything.

mod signer;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Subcommand;
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::time::Instant;

use super::apply::whole_seconds;
use crate::args::Global;
use crate::client::{Client, read};
use crate::failure::{Exit, Failure};
use crate::output::{self, Format, Table, printable};
use crate::progress;
use crate::spans::{duration, relative};

/// Between two looks at a rotation.
const LOOK: Duration = Duration::from_millis(200);
/// Largest file of certificates or a key, in bytes.
const MOST_BYTES: u64 = 256 * 1024;

/// Show the certificate authority, rotate it, or bring your own
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    pub action: Action,
}

/// How to wait for a rotation.
#[derive(Debug, clap::Args)]
pub struct Waiting {
    /// How long to wait at most until it is done; 0s: do not wait. It goes on by itself also when nobody waits
    #[arg(long, default_value = "10m", value_parser = duration, value_name = "TIME")]
    pub timeout: Duration,
}

/// How to begin.
#[derive(Debug, clap::Args)]
pub struct Beginning {
    /// Let a step go on after this time without the sidecars that are missing; they are named in the audit log
    #[arg(long, value_parser = duration, value_name = "TIME")]
    pub force_after: Option<Duration>,
    /// The key that signs now is in wrong hands: nothing that it vouches for is believed in the end, and a sidecar that is away meanwhile
    /// has to join anew
    #[arg(long)]
    pub compromised: bool,
    #[command(flatten)]
    pub waiting: Waiting,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Show who signs, how far a rotation is, and which sidecars it waits for
    #[command(after_help = EXAMPLES)]
    Status,
    /// Print the roots of this mesh as other meshes take them, in the SPIFFE bundle format: for `trustDomainBundle`
    #[command(after_help = EXAMPLES)]
    Bundle,
    /// Replace the root: makes a new one known to every sidecar, renews every leaf under it, and retires the old one
    #[command(after_help = EXAMPLES)]
    Rotate {
        #[command(flatten)]
        beginning: Beginning,
    },
    /// Let your own authority sign, which replaces the present one as a rotation does
    #[command(after_help = EXAMPLES)]
    Import {
        /// PEM: the certificate whose key signs first, then those above it, the root last
        #[arg(long, value_name = "FILE")]
        certificates: PathBuf,
        /// Its key, ECDSA P-256, PKCS#8, PEM; it is kept encrypted by the control plane
        #[arg(long, value_name = "FILE", required_unless_present = "signer", conflicts_with = "signer")]
        key: Option<PathBuf>,
        /// The Unix socket of who holds the key, on the control plane's machine (see `leno ca signer`)
        #[arg(long, value_name = "SOCKET")]
        signer: Option<PathBuf>,
        #[command(flatten)]
        beginning: Beginning,
    },
    /// Let a held rotation go on, or force its next step
    #[command(after_help = EXAMPLES)]
    Continue {
        /// Do not wait for the sidecars that are missing in this step
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// Hold a rotation where it is
    #[command(after_help = EXAMPLES)]
    Pause,
    /// Take a rotation back: the authority of before stays, or signs again
    #[command(after_help = EXAMPLES)]
    Abort {
        #[command(flatten)]
        waiting: Waiting,
    },
    /// Hold a key and sign for a control plane on this machine, so that the key is not in its process
    #[command(after_help = EXAMPLES)]
    Signer(signer::Args),
}

const EXAMPLES: &str = "Examples:
  leno ca status
  leno ca bundle > west.json
  leno ca rotate
  leno ca rotate --force-after 10m --timeout 0s
  leno ca import --certificates mesh-ca-and-root.pem --key mesh-ca.key
  leno ca signer --key mesh-ca.key --socket /run/leno/signer.sock
  leno ca import --certificates mesh-ca-and-root.pem --signer /run/leno/signer.sock
  leno ca pause && leno ca continue --force";

/// What else is to be done when a key was stolen.
const STOLEN: &str = "note: join tokens, and contexts but STATE_DIR/admin.yaml, that were given out before lead to the old root; give out new ones";

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Authority {
    phase: String,
    since: String,
    paused: bool,
    force_after_seconds: Option<u64>,
    compromised: bool,
    missing: Vec<String>,
    certificate_authority: String,
    authorities: Vec<One>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct One {
    role: String,
    origin: Option<String>,
    signer: Option<String>,
    root_sha256: String,
    intermediates: u64,
    not_after: String,
}

/// Runs the command.
///
/// # Errors
/// The control plane refuses, a rotation is not done in time, or the control plane could not be asked.
pub async fn run(args: Args, global: &Global) -> Result<(), Failure> {
    if let Action::Signer(args) = args.action {
        return signer::run(&args).await;
    }
    let client = super::client(global)?;
    let (method, path, body, timeout) = match args.action {
        Action::Status | Action::Signer(_) => {
            let answer = client.expect(Method::GET, "/v1/ca", None).await?;
            return show(&answer, global.output);
        }
        Action::Bundle => {
            let answer = client.expect(Method::GET, "/v1/ca/bundle", None).await?;
            // JSON is what it is; YAML says the same.
            let format = if global.output == Format::Yaml { Format::Yaml } else { Format::Json };
            return output::value(&answer, format);
        }
        Action::Rotate { beginning } => begin(json!({}), beginning),
        Action::Import { certificates, key, signer, beginning } => {
            let mut body = json!({"certificates": text(&certificates)?});
            if let Some(key) = key {
                body["key"] = text(&key)?.into();
            }
            if let Some(socket) = signer {
                body["signer"] = absolute(&socket)?.into();
            }
            begin(body, beginning)
        }
        Action::Continue { force, waiting } => {
            (Method::POST, "/v1/ca/rotation/advance", Some(json!({"force": force})), waiting.timeout)
        }
        Action::Pause => (Method::POST, "/v1/ca/rotation/advance", Some(json!({"pause": true})), Duration::ZERO),
        Action::Abort { waiting } => (Method::DELETE, "/v1/ca/rotation", None, waiting.timeout),
    };
    let answer = client.expect(method, path, body.as_ref()).await?;
    if timeout.is_zero() {
        return show(&answer, global.output);
    }
    follow(&client, answer, timeout, global.output).await
}

fn begin(mut body: Value, beginning: Beginning) -> (Method, &'static str, Option<Value>, Duration) {
    if let Some(after) = beginning.force_after {
        body["forceAfterSeconds"] = whole_seconds(after).into();
    }
    body["compromised"] = beginning.compromised.into();
    (Method::POST, "/v1/ca/rotation", Some(body), beginning.waiting.timeout)
}

/// Waits until nothing is under way; each step is a line on standard error.
async fn follow(client: &Client, first: Value, timeout: Duration, format: Format) -> Result<(), Failure> {
    let deadline = Instant::now() + timeout;
    let (mut answer, mut said, mut lost) = (first, String::new(), None);
    let (mut client, mut trusted, mut stolen) = (client.clone(), String::new(), false);
    let spinner = progress::spinner("");
    loop {
        let state: Authority = read(&answer)?;
        stolen |= state.compromised;
        if state.phase != said {
            let line = match state.phase.as_str() {
                "distributing" => "the next root is made known to every sidecar",
                "reissuing" => "the new authority signs, every leaf is renewed under it",
                _ => "done: the old root is believed no more",
            };
            spinner.suspend(|| eprintln!("{line}"));
            said.clone_from(&state.phase);
        }
        // Its own certificate is of the new authority in a moment.
        if state.certificate_authority != trusted {
            client = client.trusting(&state.certificate_authority)?;
            trusted.clone_from(&state.certificate_authority);
        }
        if state.phase == "idle" {
            spinner.finish_and_clear();
            if stolen {
                eprintln!("{STOLEN}");
            }
            return show(&answer, format);
        }
        let missing: Vec<String> = state.missing.iter().map(|name| printable(name)).collect();
        spinner.set_message(format!("waits for {}", some(&missing)));
        if Instant::now() >= deadline {
            spinner.finish_and_clear();
            return Err(late(&state, &missing, lost));
        }
        tokio::time::sleep(LOOK).await;
        // A control plane that starts again goes on with it; its step is on its disk.
        match client.expect(Method::GET, "/v1/ca", None).await {
            Ok(now) => (answer, lost) = (now, None),
            Err(why) => lost = Some(why),
        }
    }
}

fn late(state: &Authority, missing: &[String], lost: Option<Failure>) -> Failure {
    if let Some(why) = lost {
        return why;
    }
    let held = if state.paused { "it is held; `leno ca continue` lets it go on" } else { "it goes on by itself" };
    let what = format!("the rotation is not done yet ({}): it waits for {}", state.phase, some(missing));
    Failure::new(Exit::Failed, what, format!("{held}; see `leno ca status`, or `leno ca continue --force`"))
}

/// The first few names, and how many more.
fn some(names: &[String]) -> String {
    const SHOWN: usize = 5;
    match names.len() {
        0 => "nobody".to_owned(),
        n if n > SHOWN => format!("{} and {} more", names[..SHOWN].join(", "), n - SHOWN),
        _ => names.join(", "),
    }
}

fn show(answer: &Value, format: Format) -> Result<(), Failure> {
    if format != Format::Table {
        return output::value(answer, format);
    }
    let (state, now): (Authority, _) = (read(answer)?, OffsetDateTime::now_utc());
    let mut table = Table::new(&["ROLE", "ORIGIN", "KEY", "ROOT SHA-256", "INTERMEDIATES", "EXPIRES"]);
    for one in &state.authorities {
        let key = match (&one.signer, one.origin.is_some()) {
            (Some(socket), _) => format!("signer {socket}"),
            (None, true) => "sealed".to_owned(),
            (None, false) => String::new(),
        };
        table.row([
            one.role.clone(),
            one.origin.clone().unwrap_or_default(),
            key,
            one.root_sha256.chars().take(16).collect(),
            one.intermediates.to_string(),
            relative(&one.not_after, now),
        ]);
    }
    table.print()?;
    if state.phase == "idle" {
        return Ok(());
    }
    let missing: Vec<String> = state.missing.iter().map(|name| printable(name)).collect();
    let mut line =
        format!("rotation: {} (since {}), waits for {}", state.phase, relative(&state.since, now), some(&missing));
    if state.paused {
        line += "; held";
    }
    if let Some(seconds) = state.force_after_seconds {
        line += &format!("; a step goes on after {seconds} s whoever is missing");
    }
    if state.compromised {
        line += "; the old key is in wrong hands";
    }
    output::line(line)
}

fn text(path: &Path) -> Result<String, Failure> {
    let failed = |why: String| Failure::new(Exit::Config, format!("{}: {why}", path.display()), "give a PEM file");
    match std::fs::metadata(path) {
        Ok(file) if file.len() > MOST_BYTES => Err(failed(format!("it has more than {MOST_BYTES} bytes"))),
        _ => std::fs::read_to_string(path).map_err(|why| failed(why.to_string())),
    }
}

fn absolute(path: &Path) -> Result<String, Failure> {
    let absolute = std::path::absolute(path).map_err(|why| {
        Failure::new(Exit::Usage, format!("--signer {}: {why}", path.display()), "give its full path")
    })?;
    Ok(absolute.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_missing_is_named_and_what_to_do_is_said() {
        let names: Vec<String> = (0..7).map(|n| format!("default/web-{n}")).collect();
        assert_eq!(some(&names[..2]), "default/web-0, default/web-1");
        assert!(some(&names).ends_with("default/web-4 and 2 more"));
        let state = Authority { phase: "reissuing".into(), paused: true, ..Authority::default() };
        let text = late(&state, &names[..1], None).to_string();
        assert!(text.contains("reissuing") && text.contains("default/web-0") && text.contains("leno ca continue"));
    }
}
