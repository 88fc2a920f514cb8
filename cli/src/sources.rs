//! The files that `-f` names: files, folders with all that is below them, and `-` for standard input.

use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::client::Problem;
use crate::failure::{Exit, Failure};

/// The largest file that is sent, in bytes: the control plane takes no larger one.
const LARGEST: u64 = leno_control_plane::config::MOST_FILE_BYTES as u64;
/// The most files of one call.
const MOST: usize = 10_000;
/// How deep folders may lie in each other. Links that lead in a circle end here at the latest.
const DEEPEST: usize = 32;

/// One file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// As the user would name it.
    pub name: String,
    /// The text.
    pub content: String,
}

/// What was read, and what could not be read. The readable files are used all the same: one bad file is refused by name.
#[derive(Debug, Default)]
pub struct Sources {
    /// In the order given, and by name in a folder.
    pub files: Vec<Source>,
    /// A file each.
    pub problems: Vec<Problem>,
}

impl Sources {
    /// Reads everything that `paths` name.
    ///
    /// # Errors
    /// A path does not exist or cannot be read at all, or there is nothing to read.
    pub fn read(paths: &[PathBuf]) -> Result<Self, Failure> {
        let mut sources = Self::default();
        for path in paths {
            if path.as_os_str() == "-" {
                sources.add("<stdin>", read_limited(std::io::stdin().lock()));
            } else if path.is_dir() {
                sources.folder(path, 0).map_err(|e| cannot_read(path, &e))?;
            } else if let Err(e) = std::fs::metadata(path) {
                return Err(cannot_read(path, &e));
            } else {
                sources.file(path);
            }
        }
        if sources.files.is_empty() && sources.problems.is_empty() {
            let names: Vec<String> = paths.iter().map(|p| p.display().to_string()).collect();
            let what = format!("there is no .yaml, .yml or .json file in {}", names.join(", "));
            return Err(Failure::new(Exit::Failed, what, "name a file or a folder with -f"));
        }
        Ok(sources)
    }

    fn file(&mut self, path: &Path) {
        let content = std::fs::File::open(path).and_then(read_limited);
        self.add(&path.display().to_string(), content);
    }

    fn add(&mut self, name: &str, content: std::io::Result<String>) {
        match content {
            _ if self.files.len() >= MOST => {
                if self.files.len() == MOST && !self.problems.iter().any(|p| p.message.starts_with("more than")) {
                    self.refuse(name, format!("more than {MOST} files were named"), "apply them in several calls");
                }
            }
            Ok(content) => self.files.push(Source { name: name.to_owned(), content }),
            Err(e) => self.refuse(name, e.to_string(), ""),
        }
    }

    fn refuse(&mut self, name: &str, message: String, hint: &str) {
        self.problems.push(Problem {
            file: name.to_owned(),
            message,
            hint: Some(hint.to_owned()),
            ..Problem::default()
        });
    }

    fn folder(&mut self, folder: &Path, depth: usize) -> std::io::Result<()> {
        let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)?.filter_map(|e| e.ok().map(|e| e.path())).collect();
        paths.sort();
        for path in paths {
            let hidden = path.file_name().is_some_and(|n| n.as_encoded_bytes().starts_with(b"."));
            if hidden {
                continue;
            }
            if path.is_dir() {
                // A linked folder is not entered: it may lead back here.
                if path.is_symlink() || depth >= DEEPEST {
                    continue;
                }
                if let Err(e) = self.folder(&path, depth + 1) {
                    self.refuse(&path.display().to_string(), e.to_string(), "");
                }
            } else if path.extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "json") {
                self.file(&path);
            }
        }
        Ok(())
    }

    /// As the REST API takes them.
    pub fn to_json(&self) -> Value {
        self.files.iter().map(|s| json!({"name": s.name, "content": s.content})).collect()
    }
}

fn cannot_read(path: &Path, why: &std::io::Error) -> Failure {
    Failure::new(
        Exit::Failed,
        format!("cannot read {}: {why}", path.display()),
        "give a file, a folder, or - for standard input",
    )
}

fn read_limited(reader: impl Read) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    reader.take(LARGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST {
        return Err(std::io::Error::other(format!("the file is larger than {} MiB", LARGEST >> 20)));
    }
    String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        std::io::Error::other(format!("the file is not UTF-8 text (byte {at})"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_read_with_all_below_in_order_and_without_what_is_hidden_or_foreign() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        std::fs::create_dir_all(root.join("sub")).unwrap();
        for name in ["b.yaml", "a.yml", "sub/c.json", ".hidden.yaml", "README.md"] {
            std::fs::write(root.join(name), name).unwrap();
        }
        std::os::unix::fs::symlink(root, root.join("sub/loop")).unwrap();
        let sources = Sources::read(&[root.to_owned()]).unwrap();
        let contents: Vec<&str> = sources.files.iter().map(|s| s.content.as_str()).collect();
        assert_eq!(contents, ["a.yml", "b.yaml", "sub/c.json"]);
        assert!(sources.problems.is_empty());
    }

    #[test]
    fn an_unreadable_file_is_refused_by_name_and_the_others_are_read() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("bad.yaml"), b"a: \xff").unwrap();
        std::fs::write(dir.path().join("good.yaml"), "a: 1").unwrap();
        let large = std::fs::File::create(dir.path().join("large.yaml")).unwrap();
        large.set_len(LARGEST + 1).unwrap();
        let sources = Sources::read(&[dir.path().to_owned()]).unwrap();
        assert_eq!(sources.files.len(), 1);
        let messages: Vec<&str> = sources.problems.iter().map(|p| p.message.as_str()).collect();
        assert_eq!(messages, ["the file is not UTF-8 text (byte 3)", "the file is larger than 1 MiB"]);
    }

    #[test]
    fn nothing_to_read_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Sources::read(&[dir.path().to_owned()]).is_err());
        assert!(Sources::read(&[dir.path().join("absent.yaml")]).is_err());
    }
}
