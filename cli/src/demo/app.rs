//! The programs that stand for a user's own, each a process of its own: a web server, a store, a frontend of the demo; and for
//! `examples/compose` a shop, its visitors and one request. Two more keep the demo tidy: `guard` and `janitor`.

mod call;
mod frontend;
mod guard;
mod janitor;
mod shop;
mod store;
mod visitors;
mod web;

use std::ffi::OsString;
use std::future::Future;
use std::io::{BufRead, Write};
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Subcommand;
use http::{StatusCode, Uri};
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

/// The parts. Addresses are bound on loopback with a port of the system's choice unless one is given, and printed in the ready
/// line. A part that was given an address is on its own: it runs until it is told to end, and not until its standard input does.
#[derive(Debug, Subcommand)]
enum App {
    /// An HTTP server that says which version it is, and can be broken
    Web {
        #[arg(long)]
        version: String,
        #[arg(long)]
        instance: String,
        #[arg(long)]
        listen: Option<SocketAddr>,
    },
    /// A key-value store that speaks lines over TCP
    Store {
        #[arg(long)]
        listen: Option<SocketAddr>,
    },
    /// A frontend that asks web and the store for each visit, without a mesh
    Shop {
        #[arg(long)]
        listen: SocketAddr,
        /// URL of web
        #[arg(long)]
        web: Uri,
        /// HOST:PORT of the store
        #[arg(long)]
        store: String,
    },
    /// Visits a URL all the time, and prints a line a second
    Visitors {
        #[arg(long)]
        url: Uri,
        /// Visits a second
        #[arg(long)]
        rate: u32,
    },
    /// One GET; fails unless the answer is 200
    Get { url: Uri },
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
        App::Web { version, instance, listen } => serve(listen, web::run(version, instance, listen)),
        App::Store { listen } => serve(listen, store::run(listen)),
        App::Shop { listen, web, store } => serve(Some(listen), shop::run(listen, web, store)),
        App::Visitors { url, rate } => block_on(until_told(visitors::run(url, rate))),
        App::Get { url } => block_on(get(url)),
        App::Frontend { proxy, store, rate } => {
            let commands = lines_of_standard_input();
            block_on(frontend::run(proxy, store, rate, commands))
        }
        App::Guard { parent, program, args } => guard::run(parent, &program, &args),
        App::Janitor { folder } => janitor::run(&folder),
    }
}

/// Runs a server to the end of whoever wants it.
fn serve(listen: Option<SocketAddr>, server: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    if listen.is_some() {
        return block_on(until_told(server));
    }
    end_with_standard_input();
    block_on(server)
}

/// Until SIGTERM or SIGINT, which the first process of a container would not hear if nobody listened.
async fn until_told(part: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let listen =
        |kind| signal(kind).map_err(|e| Failure::new(Exit::Failed, format!("cannot listen for signals: {e}"), ""));
    let (mut term, mut int) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    tokio::select! {
        ended = part => ended,
        _ = term.recv() => Ok(()),
        _ = int.recv() => Ok(()),
    }
}

async fn get(url: Uri) -> Result<(), Failure> {
    let reply = tokio::task::LocalSet::new().run_until(async { call::Caller::new(url).get().await }).await;
    let reply = reply.map_err(|why| Failure::new(Exit::Failed, why, ""))?;
    let text = format!("{} {}", reply.status.as_u16(), reply.body.trim_end());
    if reply.status != StatusCode::OK {
        return Err(Failure::new(Exit::Failed, format!("{text} {}", reply.header("leno-reason")), ""));
    }
    crate::output::line(text)
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

/// Binds a port: this one, or any on loopback.
async fn listen(at: Option<SocketAddr>) -> Result<(tokio::net::TcpListener, SocketAddr), Failure> {
    let at = at.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0)));
    let bound = async {
        let listener = tokio::net::TcpListener::bind(at).await?;
        let address = listener.local_addr()?;
        Ok::<_, std::io::Error>((listener, address))
    };
    bound.await.map_err(|e| Failure::new(Exit::Failed, format!("cannot listen on {at}: {e}"), ""))
}
