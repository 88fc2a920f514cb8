//! Which control plane a command talks to: a context holds its address, its root certificate and a credential.

mod file;

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use file::{Config, config_path};

use crate::failure::{Exit, Failure};

const API_VERSION: &str = "leno.dev/v1alpha1";

/// One control plane, as `STATE_DIR/admin.yaml` describes it.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Context {
    /// `leno.dev/v1alpha1`.
    pub api_version: String,
    /// `Context`.
    pub kind: String,
    /// The REST API, `https://HOST:PORT`.
    pub server: String,
    /// Where sidecars connect to, `HOST:PORT`.
    #[serde(default)]
    pub xds_address: String,
    /// The mesh's trust domain.
    #[serde(default)]
    pub trust_domain: String,
    /// The root certificate that the REST API's own certificate leads to, PEM.
    pub certificate_authority: String,
    /// The credential; sent as a bearer token.
    pub token: String,
}

/// Never shows the token.
impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("server", &self.server).field("trust_domain", &self.trust_domain).finish()
    }
}

impl Context {
    /// Reads a context file.
    ///
    /// # Errors
    /// The file cannot be read or is no context; the message says which and what to do.
    pub fn load(path: &Path) -> Result<Self, Failure> {
        let shown = path.display();
        let text = std::fs::read_to_string(path).map_err(|e| {
            Failure::new(
                Exit::Config,
                format!("cannot read the context file {shown}: {e}"),
                "the control plane writes it to STATE_DIR/admin.yaml when it starts; give that path with --context FILE or LENO_CONTEXT",
            )
        })?;
        Self::parse(&text).map_err(|why| {
            Failure::new(
                Exit::Config,
                format!("{shown} is no context: {why}"),
                "give the control plane's STATE_DIR/admin.yaml with --context FILE or LENO_CONTEXT",
            )
        })
    }

    fn parse(text: &str) -> Result<Self, String> {
        let context: Self = serde_yaml_ng::from_str(text).map_err(|e| e.to_string())?;
        if context.api_version != API_VERSION || context.kind != "Context" {
            return Err(format!("it is {} {}, not {API_VERSION} Context", context.api_version, context.kind));
        }
        Ok(context)
    }

    /// Finds the context that this call means: `--context` or `LENO_CONTEXT` (a file, or the name of a context that was
    /// imported), else the current one of the configuration file.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    pub fn find(asked: Option<&Path>) -> Result<Self, Failure> {
        let Some(asked) = asked else { return Config::load()?.current() };
        let is_name = asked.components().count() == 1 && !asked.exists();
        match asked.to_str().filter(|_| is_name).map(|name| (name, Config::load())) {
            Some((name, Ok(config))) if config.contexts.contains_key(name) => config.named(name),
            _ => Self::load(asked),
        }
    }
}

/// Where a context came from, for `leno context list`.
pub fn origin(asked: Option<&PathBuf>) -> String {
    match asked {
        Some(path) => format!("--context or LENO_CONTEXT: {}", path.display()),
        None => match config_path() {
            Ok(path) => path.display().to_string(),
            Err(_) => String::new(),
        },
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub const EXAMPLE: &str = "apiVersion: leno.dev/v1alpha1\nkind: Context\nserver: https://127.0.0.1:15012\n\
        xdsAddress: 127.0.0.1:15010\ntrustDomain: cluster.local\ncertificateAuthority: PEM\ntoken: secret-token\n";

    #[test]
    fn a_context_is_read_and_never_shows_its_token() {
        let context = Context::parse(EXAMPLE).unwrap();
        assert_eq!(context.server, "https://127.0.0.1:15012");
        assert!(!format!("{context:?}").contains("secret-token"));
    }

    #[test]
    fn another_kind_or_a_missing_field_is_named() {
        let error = Context::parse(&EXAMPLE.replace("kind: Context", "kind: Service")).unwrap_err();
        assert!(error.contains("leno.dev/v1alpha1 Service"), "{error}");
        let error = Context::parse(&EXAMPLE.replace("server:", "servers:")).unwrap_err();
        assert!(error.contains("server"), "{error}");
    }

    #[test]
    fn a_missing_file_says_where_to_get_one() {
        let failure = Context::load(Path::new("/nonexistent/admin.yaml")).unwrap_err();
        assert_eq!(failure.exit(), Exit::Config);
        assert!(failure.to_string().contains("STATE_DIR/admin.yaml"));
    }
}
