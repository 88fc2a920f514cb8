//! Interception: the kernel leads the TCP and DNS traffic of the network namespace to the sidecar. The rules are data
//! (`rules`), made by netlink and nothing else: no program and no library is needed. docs/interception.md says what they are
//! and how they live beside other people's.

mod compare;
mod expr;
mod failure;
mod netlink;
mod nft;
mod privileges;
mod resolv;
mod route;
mod rules;
mod text;

use std::fmt::Write as _;

use leno_runtime::failure::Failure;

use crate::settings::Redirection;
use nft::Nft;
use route::Routes;
use rules::Table;

pub use privileges::{drop_privileges, start};
pub use rules::{VIRTUAL_V4, VIRTUAL_V6};

/// The table for what is wanted, with the nameservers of this moment.
fn table(wanted: &Redirection) -> Table {
    Table::new(wanted, &resolv::nameservers())
}

/// Redirects the traffic of this thread's network namespace: all of it or, after a failure, none that was not before. What an
/// earlier call made is replaced; packets see the old rules or the new ones.
///
/// # Errors
/// What is missing, the capability or a part of the kernel, and what to do.
pub fn apply(wanted: &Redirection) -> Result<(), Failure> {
    let mut nft = Nft::open().map_err(failure::explain)?;
    let mut routes = Routes::open().map_err(failure::explain)?;
    let made = routes.add().map_err(failure::explain)?;
    nft.replace(&table(wanted)).map_err(|why| {
        // Best effort: the failure to be told is the first one.
        let _ = routes.remove(&made);
        failure::explain(why)
    })
}

/// Takes away what [`apply`] made, and nothing else. It is no failure when there is nothing.
///
/// # Errors
/// What is missing, and what to do.
pub fn remove() -> Result<(), Failure> {
    Nft::open().and_then(|mut nft| nft.remove()).map_err(failure::explain)?;
    Routes::open().and_then(|mut routes| routes.remove_all()).map_err(failure::explain)
}

/// What differs between what is wanted and what is in force, a line each; nothing when all is well.
///
/// # Errors
/// What is in force cannot be read.
pub fn check(wanted: &Redirection) -> Result<Vec<String>, Failure> {
    let found = Nft::open().and_then(|mut nft| nft.read()).map_err(failure::explain)?;
    let mut lines = compare::differences(&table(wanted), found.as_ref());
    let missing = Routes::open().and_then(|mut routes| routes.missing()).map_err(failure::explain)?;
    lines.extend(missing.iter().map(|to| format!("the route to {}/{} by lo is missing", to.address, to.prefix)));
    Ok(lines)
}

/// The rules as `nft list table inet leno` would show them, and the routes as comments.
pub fn dry_run(wanted: &Redirection) -> String {
    let mut text = table(wanted).to_string();
    for to in route::wanted() {
        let _ = writeln!(text, "# route {}/{} dev lo", to.address, to.prefix);
    }
    text
}

#[cfg(test)]
mod tests;
