//! `leno-proxy`: the sidecar. See `app` for how it is put together.

use std::process::ExitCode;

use clap::Parser;
use leno_proxy::app;
use leno_proxy::settings::{Args, Settings};
use leno_runtime::failure::{Failure, exit, exit_with};
use leno_runtime::{limits, log, signals};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let settings = match Settings::try_from(Args::parse()) {
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
    // The main thread is the control thread: stream, renewal, admin port. Traffic has threads of its own.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(why) => {
            let failure =
                Failure::new(exit::UNAVAILABLE, format!("no thread could be set up: {why}"), "look at `ulimit -a`");
            return exit_with(Err(failure));
        }
    };
    let result = runtime.block_on(async {
        let bound = app::build(settings).await?;
        bound.run(signals::shutdown()).await
    });
    // Whatever still waits on a blocking call (a DNS lookup, say) does not keep the process.
    runtime.shutdown_background();
    exit_with(result)
}
