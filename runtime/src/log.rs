//! Logs go to standard error. `LENO_LOG` filters them (`info`, `debug`, `leno_proxy=debug`); the default is `info`.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::Output;

/// Starts logging. A second call changes nothing.
pub fn init(output: Output) {
    let filter = EnvFilter::try_from_env("LENO_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    let _ = match output {
        Output::Json => builder.json().flatten_event(true).try_init(),
        Output::Text => {
            let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            builder.with_ansi(colour).try_init()
        }
    };
}
