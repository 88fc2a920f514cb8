//! The order of the modules (ARCHITECTURE.md, 'Layout'): a module uses only modules above it, and siblings never use each
//! other. Also: no file of 500 lines or more.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Top to bottom; the modules of one line are siblings.
const PROXY: &[&[&str]] = &[
    &["model", "error"],
    // Says which requests are written down in the words of the model.
    &["settings"],
    &["intercept", "apps"],
    &["commands"],
    &["telemetry"],
    &["tls", "detect", "policy", "balance", "resilience"],
    &["state"],
    &["upstream"],
    &["routing"],
    // Answers with what routing names and state holds.
    &["dns"],
    &["tcp"],
    // Carries what a request was upgraded to by `tcp`.
    &["http"],
    &["listener", "xds"],
    // Shows what the stream holds; answers kubelet.
    &["admin", "probes"],
    &["app"],
    &["main"],
];
const CONTROL_PLANE: &[&[&str]] = &[
    &["model"],
    &["config", "settings"],
    &["validate"],
    // What others serve.
    &["fetch"],
    &["store"],
    // Keep what outlives a restart in the store.
    &["registry", "jwks", "federation"],
    // What sidecars tell of traffic, and are asked about it.
    &["observed", "questions"],
    // What refers to what: of this, discovery makes resources and `status` conditions.
    &["resolve"],
    &["discovery", "ca", "status"],
    &["rollout", "xds"],
    &["api", "dashboard"],
    &["app"],
    &["main"],
];

/// Lines from which on a file is too long.
const TOO_LONG: usize = 500;

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace")
}

/// All Rust files below `dir`, with their text.
fn rust_files(dir: &Path) -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display())) {
        let path = entry.expect("an entry").path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).expect("a source file");
            files.push((path, text));
        }
    }
    files
}

/// The top-level module that the file `path`, relative to `src`, belongs to.
fn module_of(path: &Path) -> String {
    let first = path.iter().next().map(|part| part.to_string_lossy().into_owned()).unwrap_or_default();
    first.trim_end_matches(".rs").to_owned()
}

/// The top-level modules that `text` names by `crate::`, alone or as a group in braces, with the line's number.
fn uses(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (start, _) in text.match_indices("crate::") {
        let before = &text[..start];
        let line = before.lines().next_back().unwrap_or_default();
        if before.ends_with(|c: char| c.is_alphanumeric() || c == '_')
            || (!before.ends_with('\n') && line.trim_start().starts_with("//"))
        {
            continue;
        }
        let number = before.matches('\n').count() + 1;
        let rest = &text[start + "crate::".len()..];
        for name in group(rest) {
            found.push((number, name));
        }
    }
    found
}

/// The first names of `a::b` or of `{a::b, c::{d, e}}`.
fn group(rest: &str) -> Vec<String> {
    let word =
        |text: &str| text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let Some(inner) = rest.strip_prefix('{') else { return vec![word(rest)] };
    let (mut depth, mut names, mut begin) = (0usize, Vec::new(), 0);
    for (at, c) in inner.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                names.push(word(&inner[begin..at]));
                begin = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

/// Every use in `files` (relative to `src`) that goes against `order`.
fn violations(order: &[&[&str]], files: &[(PathBuf, String)]) -> Vec<String> {
    let mut rank = BTreeMap::new();
    for (level, modules) in order.iter().enumerate() {
        rank.extend(modules.iter().map(|module| ((*module).to_owned(), level)));
    }
    let mut wrong = Vec::new();
    for (path, text) in files {
        let module = module_of(path);
        if module == "lib" {
            continue; // Declares the modules, and uses none.
        }
        let Some(level) = rank.get(&module) else {
            wrong.push(format!("{}: the module {module} has no place in the order", path.display()));
            continue;
        };
        for (line, used) in uses(text) {
            // A name that is no module is something that the crate's root declares.
            if used != module && rank.get(&used).is_some_and(|other| other >= level) {
                wrong.push(format!("{}:{line}: {module} may not use {used}", path.display()));
            }
        }
    }
    wrong
}

fn check(name: &str, order: &[&[&str]]) {
    let src = repository().join(name).join("src");
    let files = rust_files(&src);
    let relative = |path: &Path| path.strip_prefix(&src).expect("a file of src").to_owned();
    let files: Vec<_> = files.into_iter().map(|(path, text)| (relative(&path), text)).collect();
    assert!(files.len() > 10, "{name}: only {} files were found", files.len());
    let wrong = violations(order, &files);
    assert!(wrong.is_empty(), "{name}/src:\n{}", wrong.join("\n"));
}

#[test]
fn the_sidecars_modules_use_only_modules_above_them() {
    check("proxy", PROXY);
}

#[test]
fn the_control_planes_modules_use_only_modules_above_them() {
    check("control-plane", CONTROL_PLANE);
}

#[test]
fn no_file_is_500_lines_long() {
    let long: Vec<String> = rust_files(repository())
        .into_iter()
        .filter(|(_, text)| text.lines().count() >= TOO_LONG)
        .map(|(path, text)| format!("{}: {} lines", path.display(), text.lines().count()))
        .collect();
    assert!(long.is_empty(), "{}", long.join("\n"));
}

#[test]
fn the_check_itself_finds_what_is_wrong() {
    let file = |path: &str, text: &str| (PathBuf::from(path), text.to_owned());
    let bad = [
        file("listener/mesh.rs", "use crate::xds::Client;\n"), // a sibling
        file("balance.rs", "fn f() { crate::upstream::x() }\n"), // a module below
        file("state/snapshot.rs", "use crate::{model::Route, xds::{A, B}};\n"), // one of a group
        file("extra.rs", ""),                                  // a module without a place
    ];
    let wrong = violations(PROXY, &bad);
    assert_eq!(wrong.len(), 4, "{wrong:#?}");
    assert!(wrong[2].contains("state may not use xds"), "{wrong:#?}");
    let good = [
        file("http/server.rs", "use crate::{http::x, model::{y, z}};\n// not crate::tcp\nuse other_crate::tcp;\n"),
        file("app.rs", "use crate::xds;\n"),
    ];
    assert_eq!(violations(PROXY, &good), Vec::<String>::new());
}
