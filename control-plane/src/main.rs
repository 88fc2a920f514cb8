//! Leno's control plane.

use std::future::{Future as _, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::process::ExitCode;
use std::task::Poll;
use std::time::{Duration, Instant};

use clap::Parser;
use leno_control_plane::app;
use leno_control_plane::settings::{Args, Command, Settings};
use leno_runtime::failure::{Failure, exit, exit_with};
use leno_runtime::{announce, limits, log, probe, sandbox, signals};
use serde_json::Value;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Two are enough for thousands of sidecars, and leave the machine to them.
const WORKERS: usize = 2;
/// How long a health check waits for an answer.
const PATIENCE: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(Command::Health { admin_addr }) = args.command {
        return exit_with(health(admin_addr));
    }
    // Clap has asked for what is required; this asks for the rest when there is not a single flag.
    let settings = args.settings.unwrap_or_else(Settings::parse);
    log::init(settings.output);
    limits::allow_many_files();
    limits::keep_memory_private();
    sandbox::enter(&settings.state_dir);
    exit_with(start(&settings))
}

fn health(admin_addr: SocketAddr) -> Result<(), Failure> {
    probe::ready(admin_addr, Instant::now() + PATIENCE).map_err(|why| {
        Failure::new(exit::UNAVAILABLE, why, "look at the control plane's log, and give its --admin-addr")
    })
}

fn start(settings: &Settings) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build();
    let runtime = runtime.map_err(|why| {
        Failure::new(exit::UNAVAILABLE, format!("cannot start threads: {why}"), "raise the limits of this user")
    })?;
    runtime.block_on(async {
        let bound = app::build(settings).await?;
        // Heard before anyone is told that we are ready, so that no signal finds us deaf.
        let mut shutdown = pin!(signals::shutdown());
        poll_fn(|cx| Poll::Ready(shutdown.as_mut().poll(cx).is_ready())).await;
        let at = bound.addresses();
        let mut fields = vec![("xds", at.xds), ("api", at.api), ("admin", at.admin)];
        fields.extend(at.federation.map(|at| ("federation", at)));
        let fields: Vec<_> = fields.into_iter().map(|(name, at)| (name, Value::from(at.to_string()))).collect();
        announce::ready(settings.output, &fields);
        bound.run(shutdown).await
    })
}
