//! What is written down of requests, put together from the flags.

use std::fs::OpenOptions;
use std::sync::Arc;
use std::time::Duration;

use leno_runtime::failure::{Failure, exit};
use leno_runtime::metrics::Registry;
use tokio::task::JoinHandle;

use crate::settings::ObserveSettings;
use crate::telemetry::Memory;
use crate::telemetry::access_log::{AccessLog, LogFile, LogForm};
use crate::telemetry::observer::Observer;
use crate::telemetry::otlp;
use crate::telemetry::taps::Taps;
use crate::xds::identity::Credentials;
use crate::xds::questions::Asked;

/// How long the last spans may take to be sent when the sidecar ends.
const LAST: Duration = Duration::from_secs(2);

/// What runs beside the workers.
pub(super) struct Observing {
    pub(super) observer: Observer,
    memory: Memory,
    taps: Taps,
    exporter: Option<JoinHandle<()>>,
}

/// Opens the file of the access log, if one was named. To be called before this process gives up to write anywhere else.
///
/// # Errors
/// It cannot be opened.
pub fn open_log(settings: &ObserveSettings) -> Result<LogFile, Failure> {
    let Some(path) = &settings.file else { return Ok(LogFile::default()) };
    let opened = OpenOptions::new().append(true).create(true).open(path);
    opened.map(|file| LogFile(Some(Arc::new(file)))).map_err(|why| {
        let what = format!("--access-log-file: {} cannot be opened: {why}", path.display());
        Failure::new(exit::CANNOT_CREATE, what, "make its folder, and let this user write there")
    })
}

impl Observing {
    pub(super) fn start(
        settings: &ObserveSettings,
        file: LogFile,
        memory: Memory,
        credentials: &Credentials,
        workload: &str,
        registry: &Registry,
    ) -> Self {
        let form = if settings.json { LogForm::Json } else { LogForm::Text };
        let log = AccessLog::new(form, file, registry);
        let (spans, exporter) = settings
            .collector
            .as_ref()
            .map(|to| otlp::channel(to.clone(), &resource(credentials, workload), registry))
            .unzip();
        let taps = Taps::default();
        let observer = Observer::new(settings.clone(), log, spans, taps.clone(), memory.clone(), registry.clone());
        Self { observer, memory, taps, exporter: exporter.map(|exporter| tokio::spawn(exporter.run())) }
    }

    /// What the control plane may ask of.
    pub(super) fn asked(&self) -> Asked {
        Asked { memory: self.memory.clone(), taps: self.taps.clone() }
    }

    /// The last spans are sent, when the workers have let go of them.
    pub(super) async fn end(self) {
        drop((self.observer, self.taps));
        if let Some(exporter) = self.exporter {
            let _ = tokio::time::timeout(LAST, exporter).await;
        }
    }
}

/// Who this sidecar is, as OpenTelemetry names it.
fn resource(credentials: &Credentials, workload: &str) -> Vec<(&'static str, String)> {
    let id = credentials.id();
    let (namespace, name) = workload.rsplit_once('/').unwrap_or(("", workload));
    vec![
        ("service.name", id.service_account().to_owned()),
        ("service.namespace", namespace.to_owned()),
        ("service.instance.id", name.to_owned()),
        ("leno.identity", id.to_string()),
        ("telemetry.sdk.name", "leno-proxy".to_owned()),
        ("telemetry.sdk.version", env!("CARGO_PKG_VERSION").to_owned()),
    ]
}
