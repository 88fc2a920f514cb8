//! The documents that are printed from the programs say what the programs say. `LENO_BLESS=1 cargo test --test docs` writes them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use leno_runtime::metrics::{self, Named};
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

/// Every name of a series in the sources below a folder: what stands in the table, or is called as ours are. Tests that have a file of
/// their own, and the table itself, are left out.
fn series(folder: &str, table: &BTreeSet<String>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder}: {error}")) {
        let path = entry.expect("an entry").path();
        let of_tests = path.file_stem().is_some_and(|name| name == "tests" || name == "names");
        if of_tests {
            continue;
        }
        if path.is_dir() {
            found.extend(series(&path.display().to_string(), table));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).expect("text");
            let names = text.split('"').filter(|word| word.starts_with("leno_") || table.contains(*word));
            let is_name = |name: &&str| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_' || b.is_ascii_digit());
            found.extend(names.filter(is_name).map(str::to_owned));
        }
    }
    found
}

/// The tables of metrics, each with the heading that it stands below and the folder whose metrics it lists.
fn tables() -> [(&'static str, &'static [Named], &'static str); 2] {
    [
        ("## Sidecar\n\n", leno_proxy::telemetry::names::METRICS, "proxy/src"),
        ("## Control plane\n\n", leno_control_plane::app::names::METRICS, "control-plane/src"),
    ]
}

#[test]
fn the_page_of_metrics_is_printed_from_the_programs() {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    let written = std::fs::read_to_string(&file).expect("docs/metrics.md");
    let mut page = written.clone();
    for (heading, named, _) in tables() {
        let begin = page.find(heading).unwrap_or_else(|| panic!("{heading} is not on the page")) + heading.len();
        let end = page[begin..].find("\n\n").map_or(page.len(), |end| begin + end + 1);
        page.replace_range(begin..end, &metrics::markdown(named));
    }
    if std::env::var_os("LENO_BLESS").is_some() {
        std::fs::write(&file, &page).expect("docs/metrics.md can be written");
    } else {
        assert!(written == page, "docs/metrics.md is not what the programs count; LENO_BLESS=1 writes it anew");
    }
}

#[test]
fn everything_that_is_counted_is_in_the_table_and_everything_in_the_table_is_counted() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    for (_, named, folder) in tables() {
        let table: BTreeSet<String> = named.iter().map(|metric| metric.name.to_owned()).collect();
        assert_eq!(table.len(), named.len(), "{folder}: one row each");
        // Crates and programs are written so, too.
        let counted = series(&root.join(folder).display().to_string(), &table);
        let counted: BTreeSet<String> = counted.into_iter().filter(|name| !is_crate(name)).collect();
        assert_eq!(table, counted, "{folder}");
    }
}

fn is_crate(name: &str) -> bool {
    ["leno_proxy", "leno_control_plane", "leno_certs", "leno_runtime", "leno_proto"].contains(&name)
}
