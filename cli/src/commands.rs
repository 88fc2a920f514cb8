//! The commands, one file each, and what they share.

pub mod apply;
pub mod audit;
pub mod ca;
pub mod check;
pub mod completion;
pub mod context;
pub mod delete;
pub mod demo;
pub mod edges;
pub mod get;
pub mod history;
pub mod inject;
pub mod revoke;
pub mod rollback;
pub mod status;
pub mod tap;
pub mod token;
pub mod top;
pub mod uninject;
pub mod user;
pub mod validate;
pub mod why;

pub mod policy;
mod report;

use crate::args::{Cli, Command, Global};
use crate::client::Client;
use crate::context::Context;
use crate::failure::Failure;
use crate::reactor::block_on;

/// Does what the command line asks for.
///
/// # Errors
/// As the command says.
pub fn run(cli: Cli) -> Result<(), Failure> {
    let global = cli.global;
    match cli.command {
        Command::Demo(args) => demo::run(args, &global),
        Command::Apply(args) => block_on(apply::run(args, &global)),
        Command::Delete(args) => block_on(delete::run(args, &global)),
        Command::Get(args) => block_on(get::run(args, &global)),
        Command::Validate(args) => validate::run(args, &global),
        Command::Policy(args) => block_on(policy::run(args, &global)),
        Command::Check(args) => block_on(check::run(args, &global)),
        Command::Edges(args) => block_on(edges::run(args, &global)),
        Command::Top(args) => block_on(top::run(args, &global)),
        Command::Tap(args) => block_on(tap::run(args, &global)),
        Command::Why(args) => block_on(why::run(args, &global)),
        Command::Status(_) => block_on(status::run(&global)),
        Command::History(args) => block_on(history::run(args, &global)),
        Command::Rollback(args) => block_on(rollback::run(args, &global)),
        Command::User(args) => block_on(user::run(args, &global)),
        Command::Audit(args) => block_on(audit::run(args, &global)),
        Command::Revoke(args) => block_on(revoke::run(args, &global)),
        Command::Ca(args) => block_on(ca::run(args, &global)),
        Command::Token(args) => block_on(token::run(args, &global)),
        Command::Inject(args) => inject::run(args, &global),
        Command::Uninject(args) => uninject::run(args),
        Command::Context(args) => context::run(args, &global),
        Command::Completion(args) => completion::run(args),
        Command::DemoApp(args) => crate::demo::app::run(args),
    }
}

/// A client for the context that the command line means.
fn client(global: &Global) -> Result<Client, Failure> {
    Client::new(&Context::find(global.context.as_deref())?)
}
