//! The configuration file of the tool: named contexts and which one is current.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{API_VERSION, Context};
use crate::failure::{Exit, Failure};

/// `$XDG_CONFIG_HOME/leno/config.yaml` (XDG Base Directory Specification; `~/.config` when it is not set). Holds credentials,
/// so it is readable by its owner only.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    api_version: String,
    kind: String,
    /// Name of the context that is used when none is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<String>,
    /// All contexts by name.
    #[serde(default)]
    pub contexts: BTreeMap<String, Context>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            api_version: API_VERSION.to_owned(),
            kind: "Config".to_owned(),
            current: None,
            contexts: BTreeMap::new(),
        }
    }
}

/// Where the configuration file is, whether it exists or not.
///
/// # Errors
/// Neither XDG_CONFIG_HOME nor HOME is set.
pub fn config_path() -> Result<PathBuf, Failure> {
    // The specification: a relative path in the variable is to be ignored.
    let xdg = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|p| p.is_absolute());
    let home = || std::env::var_os("HOME").filter(|h| !h.is_empty()).map(|h| PathBuf::from(h).join(".config"));
    xdg.or_else(home).map(|base| base.join("leno").join("config.yaml")).ok_or_else(|| {
        Failure::new(
            Exit::Config,
            "there is no place for the configuration file: neither XDG_CONFIG_HOME nor HOME is set",
            "set one of them, or give a context with --context FILE",
        )
    })
}

impl Config {
    /// Reads the user's file; an absent one is empty.
    ///
    /// # Errors
    /// It exists but cannot be read or understood.
    pub fn load() -> Result<Self, Failure> {
        Self::read(&config_path()?)
    }

    fn read(path: &Path) -> Result<Self, Failure> {
        let wrong = |why: String| {
            let what = format!("cannot read the configuration file {}: {why}", path.display());
            Failure::new(Exit::Config, what, "correct it, or remove it and run leno context import FILE again")
        };
        match std::fs::read_to_string(path) {
            Ok(text) if text.trim().is_empty() => Ok(Self::default()),
            Ok(text) => serde_yaml_ng::from_str(&text).map_err(|e| wrong(e.to_string())),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(e) => Err(wrong(e.to_string())),
        }
    }

    /// Writes the user's file, mode 0600, in one step.
    ///
    /// # Errors
    /// The folder or the file cannot be written.
    pub fn save(&self) -> Result<PathBuf, Failure> {
        let path = config_path()?;
        self.write(&path).map_err(|e| {
            let what = format!("cannot write the configuration file {}: {e}", path.display());
            Failure::new(Exit::Config, what, "make its folder writable, or set XDG_CONFIG_HOME to one that is")
        })?;
        Ok(path)
    }

    fn write(&self, path: &Path) -> std::io::Result<()> {
        let folder = path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder)?;
        let text = serde_yaml_ng::to_string(self).map_err(std::io::Error::other)?;
        // A temporary file is 0600 from its creation, and the rename is atomic: no reader sees half of it.
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    }

    /// The context called `name`.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn named(&self, name: &str) -> Result<Context, Failure> {
        self.contexts.get(name).cloned().ok_or_else(|| {
            let names: Vec<&str> = self.contexts.keys().map(String::as_str).collect();
            let todo = match names.as_slice() {
                [] => "import one with leno context import FILE".to_owned(),
                names => format!("there are: {}", names.join(", ")),
            };
            Failure::new(Exit::Config, format!("there is no context called {name}"), todo)
        })
    }

    /// The current context.
    ///
    /// # Errors
    /// None is current.
    pub fn current(&self) -> Result<Context, Failure> {
        match &self.current {
            Some(name) => self.named(name),
            None => Err(Failure::new(
                Exit::Config,
                "no control plane was chosen",
                "give --context STATE_DIR/admin.yaml (or LENO_CONTEXT), or keep it with leno context import FILE",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn config() -> Config {
        let context: Context = serde_yaml_ng::from_str(super::super::tests::EXAMPLE).unwrap();
        Config { current: Some("a".into()), contexts: [("a".to_owned(), context)].into(), ..Config::default() }
    }

    #[test]
    fn the_file_is_private_and_reads_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("leno/config.yaml");
        config().write(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let read = Config::read(&path).unwrap();
        assert_eq!(read.current().unwrap().server, "https://127.0.0.1:15012");
    }

    #[test]
    fn an_absent_file_is_empty_and_a_broken_one_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Config::read(&dir.path().join("none")).unwrap().contexts.is_empty());
        let broken = dir.path().join("broken");
        std::fs::write(&broken, "contexts: 5\n").unwrap();
        assert_eq!(Config::read(&broken).unwrap_err().exit(), Exit::Config);
    }

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        let failure = config().named("b").unwrap_err();
        assert!(failure.to_string().contains("there are: a"), "{failure}");
    }
}
