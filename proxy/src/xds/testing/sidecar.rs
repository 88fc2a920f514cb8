//! The client with everything around it but traffic.

use std::path::Path;

use leno_runtime::drain::{self, Drain};
use tokio::task::JoinHandle;

use super::{ControlPlane, credentials, eventually, route, service, settings};
use crate::model::testing::endpoints;
use crate::model::{Demand, Snapshot};
use crate::state::{self, Reader, demand::Demands};
use crate::xds::client::{Client, Handle, Parts, Registrant};
use crate::xds::identity::Credentials;
use crate::xds::metrics::XdsMetrics;
use crate::xds::system_clock;

pub struct Sidecar {
    pub handle: Handle,
    pub reader: Reader,
    pub demands: Demands,
    pub credentials: Credentials,
    stop: Option<Drain>,
    task: JoinHandle<()>,
}

impl Sidecar {
    pub fn start(control_plane: &ControlPlane, folder: &Path) -> Self {
        let settings =
            settings(control_plane.addr, folder, &["--label", "version=v1", "--port", "http=127.0.0.1:8080"]);
        let credentials = credentials(&control_plane.authority, folder);
        let (writer, reader) = state::channel();
        let (demands, receiver) = state::demand::channel();
        let parts = Parts {
            control_plane: settings.control_plane.clone(),
            registrant: Registrant::new(&settings, "web-1".into(), "0.0.0.0:15008".parse().unwrap()),
            credentials: credentials.clone(),
            writer,
            demands: receiver,
            state_dir: folder.to_owned(),
            metrics: XdsMetrics::new(&leno_runtime::metrics::Registry::new()),
            memory: Default::default(),
            clock: system_clock(),
        };
        let (client, handle) = Client::new(parts);
        let (stop, stopped) = drain::channel();
        let task = tokio::spawn(client.run(stopped));
        Self { handle, reader, demands, credentials, stop: Some(stop), task }
    }

    pub fn want(&self, name: &str) {
        self.demands.want(&Demand::Service(name.into())).unwrap();
    }

    pub async fn sees(&self, what: &str, fits: impl Fn(&Snapshot) -> bool) {
        eventually(what, || fits(&self.reader.current()).then_some(())).await;
    }

    pub async fn stop(mut self) {
        self.stop.take().unwrap().start();
        self.task.await.unwrap();
    }
}

pub fn has(snapshot: &Snapshot, name: &str, address: &str) -> bool {
    snapshot.services.get(name).is_some_and(|found| format!("{found:?}").contains(address))
}

pub async fn mesh_of_web() -> ControlPlane {
    let control_plane = ControlPlane::start().await;
    control_plane.set("default/web", &service("default/web", &["HTTPRoute/default/web"]));
    control_plane.set("default/web", &endpoints("default/web", "10.0.0.1"));
    control_plane.set("HTTPRoute/default/web", &route("default/web-v1"));
    control_plane.set("default/web-v1", &service("default/web-v1", &[]));
    control_plane.set("default/web-v1", &endpoints("default/web-v1", "10.0.0.2"));
    control_plane
}
