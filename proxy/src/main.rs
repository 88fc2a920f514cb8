//! `leno-proxy`: the sidecar. See `app` for how it is put together.

use std::process::ExitCode;

use leno_proxy::settings::{Args, Cli, Settings};
use leno_proxy::{app, apps, commands, intercept};
use leno_runtime::failure::{Failure, exit, exit_with};
use leno_runtime::{limits, log, sandbox, signals};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match Cli::parse() {
        Cli::Serve(args) => serve(*args),
        Cli::Intercept(args) => commands::intercept(&args),
        Cli::Wait(args) => exit_with(commands::wait(&args)),
        Cli::Hold(args) => exit_with(commands::hold(&args)),
    }
}

fn serve(args: Args) -> ExitCode {
    let mut settings = match Settings::try_from(args) {
        Ok(settings) => settings,
        Err(problems) => {
            return exit_with(Err(Failure::new(
                exit::USAGE,
                problems.to_string(),
                "`leno-proxy --help` shows every flag",
            )));
        }
    };
    log::init(settings.output);
    limits::allow_many_files();
    // Before any other thread exists: privileges are a thread's, and each new thread has those of the one that starts it.
    if let Err(failure) = intercept::start(&mut settings) {
        return exit_with(Err(failure));
    }
    limits::keep_memory_private();
    let access_log = match app::open_log(&settings.observe) {
        Ok(file) => file,
        Err(failure) => return exit_with(Err(failure)),
    };
    sandbox::enter(&settings.state_dir);
    // The main thread is the control thread: stream, renewal, admin port. Traffic has threads of its own.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(why) => {
            let failure =
                Failure::new(exit::UNAVAILABLE, format!("no thread could be set up: {why}"), "look at `ulimit -a`");
            return exit_with(Err(failure));
        }
    };
    let exit_with_app = settings.exit_with_app;
    let result = runtime.block_on(async {
        let app_ended = app_ended(exit_with_app);
        tokio::pin!(app_ended);
        // A job may end before its sidecar has joined the mesh.
        let bound = tokio::select! {
            bound = app::build(settings, access_log) => bound?,
            () = &mut app_ended => return Ok(()),
        };
        let end = async {
            tokio::select! {
                () = signals::shutdown() => {}
                () = app_ended => {}
            }
        };
        bound.run(end).await
    });
    // Whatever still waits on a blocking call (a DNS lookup, say) does not keep the process.
    runtime.shutdown_background();
    exit_with(result)
}

/// With `--exit-with-app`: comes back when the app that this sidecar is there for has ended.
async fn app_ended(exit_with_app: bool) {
    if !exit_with_app {
        return std::future::pending().await;
    }
    apps::ended().await;
    tracing::info!("the app has ended");
}
