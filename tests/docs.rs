//! The documents that are printed from the programs say what the programs say. `LENO_BLESS=1 cargo test --test docs` writes them.

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
