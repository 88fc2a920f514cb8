//! The documents that are printed from the programs say what the programs say. `LENO_BLESS=1 cargo test --test docs` writes them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use leno_tests::binaries;

fn help(binary: &Path, subcommand: Option<&str>) -> String {
    // A fixed width and no environment of the reader's.
    let output = Command::new(binary)
        .args(subcommand)
        .arg("--help")
        .env("COLUMNS", "120")
        .env_remove("LENO_CONTROL_PLANE")
        .env("NO_COLOR", "1")
        .output();
    let output = output.unwrap_or_else(|error| panic!("{}: {error}", binary.display()));
    assert!(output.status.success(), "{} --help", binary.display());
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn the_reference_of_flags_is_what_the_programs_print() {
    let mut page =
        String::from("# Flags\n\nPrinted from the programs; a test keeps it so. `leno` is in [cli.md](cli.md).\n");
    let proxy = [None, Some("intercept"), Some("wait"), Some("hold")].map(|subcommand| (binaries::proxy(), subcommand));
    for (binary, subcommand) in [(binaries::control_plane(), None)].into_iter().chain(proxy) {
        let name = binary.file_name().expect("a name").to_string_lossy().into_owned();
        let name = [Some(name.as_str()), subcommand].into_iter().flatten().collect::<Vec<_>>().join(" ");
        page.push_str(&format!("\n## {name}\n\n```text\n{}```\n", help(&binary, subcommand)));
    }
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/flags.md");
    if std::env::var_os("LENO_BLESS").is_some() {
        std::fs::write(&file, &page).expect("docs/flags.md can be written");
    }
    let written = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(written == page, "docs/flags.md is not what the programs print; LENO_BLESS=1 writes it anew");
}

/// Every name of a series in the sources below a folder, but for tests that have a file of their own.
fn series(folder: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder}: {error}")) {
        let path = entry.expect("an entry").path();
        let of_tests = path.file_stem().is_some_and(|name| name == "tests");
        if of_tests {
            continue;
        }
        if path.is_dir() {
            found.extend(series(&path.display().to_string()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).expect("text");
            let names = text.split('"').filter(|word| word.starts_with("leno_"));
            let is_name = |name: &&str| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_' || b.is_ascii_digit());
            found.extend(names.filter(is_name).map(str::to_owned));
        }
    }
    found
}

#[test]
fn every_series_of_the_programs_is_on_the_page_of_metrics_and_nothing_else_is() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = std::fs::read_to_string(root.join("docs/metrics.md")).expect("docs/metrics.md");
    let (sidecar, plane) = page.split_once("## Control plane").expect("two parts");
    for (part, folder) in [(sidecar, "proxy/src"), (plane, "control-plane/src")] {
        let rows = part.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
        let documented: BTreeSet<String> = rows.map(|(name, _)| name.to_owned()).collect();
        let known = series(&root.join(folder).display().to_string());
        // Crates and programs are written so, too.
        let known: BTreeSet<String> = known.into_iter().filter(|name| !is_crate(name)).collect();
        assert_eq!(documented, known, "{folder}");
    }
}

fn is_crate(name: &str) -> bool {
    ["leno_proxy", "leno_control_plane", "leno_certs", "leno_runtime", "leno_proto"].contains(&name)
}
