//! The parts of the demo that stand for a user's own programs, each a process of its own: a web server, a store, a frontend.
//! Two more keep the demo tidy: `guard` and `janitor`.

mod frontend;
mod guard;
mod janitor;
mod store;
mod web;

use std::ffi::OsString;
use std::io::{BufRead, Write};
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Subcommand;
use serde_json::Value;
use tokio::sync::mpsc;

pub use janitor::PREFIX as JANITOR_PREFIX;

use crate::failure::{Exit, Failure};
use crate::reactor::block_on;

/// Which part to be.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    app: App,
}

/// The parts. All addresses are bound on loopback with a port of the system's choice, and printed in the ready line.
#[derive(Debug, Subcommand)]
enum App {
    /// An HTTP server that says which version it is, and can be broken
    Web {
        #[arg(long)]
        version: String,
        #[arg(long)]
        instance: String,
    },
    /// A key-value store that speaks lines over TCP
    Store,
    /// Calls web and store all the time, and prints what came of it
    Frontend {
        /// The HTTP proxy port of the sidecar
        #[arg(long)]
        proxy: SocketAddr,
        /// The sidecar's local port that leads to the store
        #[arg(long)]
        store: SocketAddr,
        /// HTTP requests a second
        #[arg(long)]
        rate: u32,
    },
    /// Becomes PROGRAM, which ends when the demo does
    Guard {
        /// Process id of the demo
        #[arg(long)]
        parent: u32,
        program: OsString,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Removes FOLDER when standard input ends
    Janitor { folder: PathBuf },
}

/// Is that part until it is told to end.
///
/// # Errors
/// A port cannot be bound, or a program cannot be started.
pub fn run(args: Args) -> Result<(), Failure> {
    match args.app {
        App::Web { version, instance } => {
            end_with_standard_input();
            block_on(web::run(version, instance))
        }
        App::Store => {
            end_with_standard_input();
            block_on(store::run())
        }
        App::Frontend { proxy, store, rate } => {
            let commands = lines_of_standard_input();
            block_on(frontend::run(proxy, store, rate, commands))
        }
        App::Guard { parent, program, args } => guard::run(parent, &program, &args),
        App::Janitor { folder } => janitor::run(&folder),
    }
}

/// The demo holds the other end of standard input: when it is gone, whatever became of it, so is its app.
fn end_with_standard_input() {
    std::thread::spawn(|| {
        for _ in std::io::stdin().lock().lines().map_while(Result::ok) {}
        std::process::exit(0);
    });
}

/// The commands that arrive on standard input. Its end is the end of the process, as above.
fn lines_of_standard_input() -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel(16);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                break;
            }
        }
        std::process::exit(0);
    });
    receiver
}

/// Prints one line of JSON. A demo that does not read any more has gone.
fn say(value: &Value) {
    let mut stdout = std::io::stdout().lock();
    if writeln!(stdout, "{value}").and_then(|()| stdout.flush()).is_err() {
        std::process::exit(0);
    }
}

/// Binds a port on loopback.
async fn listen() -> Result<(tokio::net::TcpListener, SocketAddr), Failure> {
    let bound = async {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        Ok::<_, std::io::Error>((listener, address))
    };
    bound.await.map_err(|e| Failure::new(Exit::Failed, format!("cannot listen on 127.0.0.1: {e}"), ""))
}
