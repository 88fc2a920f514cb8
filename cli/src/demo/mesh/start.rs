//! How the mesh comes up.

use std::ffi::OsString;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use http::Method;
use serde_json::{Value, json};

use super::{ControlPlane, Mesh, Sidecar, Web, apply, joined};
use crate::client::Client;
use crate::context::Context;
use crate::demo::binaries::Programs;
use crate::demo::folder::Folder;
use crate::demo::process::Process;
use crate::demo::traffic::Traffic;
use crate::demo::weights;
use crate::failure::{Exit, Failure};
use crate::progress::spinner;

/// The web servers: instance and version.
const WEBS: [(&str, &str); 3] = [("web-v1-1", "v1"), ("web-v2-1", "v2"), ("web-v2-2", "v2")];
/// How the frontend's sidecar is asked for the store.
const STORE: &str = "store:6379";

pub(super) async fn start(programs: Programs, rate: u32) -> Result<Mesh, Failure> {
    let spinner = spinner("starting the control plane");
    let folder = Folder::new()?;
    let control_plane = control_plane(&programs, folder.path()).await?;
    let context = Context::load(&context_file(folder.path()))?;
    let client = Client::new(&context)?;
    apply(&client, weights::files()).await?;
    let xds = control_plane.process.as_ref().map(|p| p.address("/xds")).transpose()?;
    let xds = xds.ok_or_else(|| Failure::new(Exit::Failed, "the control plane is gone", ""))?;
    let starter = Starter { programs: &programs, folder: folder.path(), client: &client, xds };

    spinner.set_message("starting the apps and their sidecars");
    let mut sidecars = Vec::new();
    let mut webs = Vec::new();
    for (instance, version) in WEBS {
        let web = starter.app(instance, &["web", "--version", version, "--instance", instance]).await?;
        let port = format!("http={}", web.address("/http")?);
        let args = ["--label".to_owned(), format!("version={version}"), "--port".to_owned(), port];
        sidecars.push(starter.sidecar(instance, "web", &args).await?);
        webs.push(Web { instance: instance.to_owned(), process: web });
    }
    let store = starter.app("store", &["store"]).await?;
    let port = format!("tcp={}", store.address("/tcp")?);
    sidecars.push(starter.sidecar("store", "store", &["--port".to_owned(), port]).await?);
    let upstream = format!("{STORE}=127.0.0.1:0");
    let frontend = starter.sidecar("frontend", "frontend", &["--upstream".to_owned(), upstream]).await?;
    let proxy = frontend.process.address("/http_proxy")?;
    let local_store = frontend.process.address(&format!("/upstreams/{STORE}"))?;
    sidecars.push(frontend);

    spinner.set_message("waiting for the sidecars to join");
    let (rate, proxy, local_store) = (rate.to_string(), proxy.to_string(), local_store.to_string());
    // The load is started last: from its first request on, none may fail.
    joined::wait(&client, sidecars.len()).await?;
    let app = ["frontend", "--proxy", &proxy, "--store", &local_store, "--rate", &rate];
    let traffic = Traffic::new(starter.start_app("frontend-app", &app).await?);
    spinner.finish_and_clear();
    Ok(Mesh { traffic, client, sidecars, webs, store, control_plane, folder })
}

/// Where the control plane writes its context, in the demo's folder.
pub(super) fn context_file(folder: &Path) -> PathBuf {
    folder.join("control-plane").join("admin.yaml")
}

/// The control plane, on ports of the system's choice; when it is started again, on the same ones.
async fn control_plane(programs: &Programs, folder: &Path) -> Result<ControlPlane, Failure> {
    let args = |xds: &str, api: &str, admin: &str| {
        let state = folder.join("control-plane").into_os_string();
        let mut args: Vec<OsString> = vec!["--state-dir".into(), state];
        for (flag, value) in [("--xds-addr", xds), ("--api-addr", api), ("--admin-addr", admin), ("--output", "json")] {
            args.extend([flag.into(), value.into()]);
        }
        args
    };
    let any = "127.0.0.1:0";
    let program = programs.control_plane.clone();
    let mut process = Process::start(folder, "control-plane", &program, args(any, any, any)).await?;
    let bound = |field: &str| process.address(field).map(|a| a.to_string());
    let args = args(&bound("/xds")?, &bound("/api")?, &bound("/admin")?);
    process.ignore_output();
    Ok(ControlPlane { program, process: Some(process), args })
}

/// What the parts need to start.
struct Starter<'a> {
    programs: &'a Programs,
    folder: &'a Path,
    client: &'a Client,
    xds: SocketAddr,
}

impl Starter<'_> {
    /// An app whose output nobody needs.
    async fn app(&self, name: &str, args: &[&str]) -> Result<Process, Failure> {
        let mut process = self.start_app(&format!("{name}-app"), args).await?;
        process.ignore_output();
        Ok(process)
    }

    async fn start_app(&self, name: &str, args: &[&str]) -> Result<Process, Failure> {
        let args = std::iter::once("demo-app").chain(args.iter().copied()).map(OsString::from).collect();
        Process::start(self.folder, name, &self.programs.leno, args).await
    }

    /// A sidecar that joins with a token of its own.
    async fn sidecar(&self, name: &str, service: &str, extra: &[String]) -> Result<Sidecar, Failure> {
        let token = self.folder.join(format!("{name}.token"));
        self.write_token(&token, service).await?;
        let any = "127.0.0.1:0";
        let mut args: Vec<OsString> = vec!["--control-plane".into(), self.xds.to_string().into()];
        args.extend(["--token-file".into(), token.into_os_string()]);
        args.extend(["--state-dir".into(), self.folder.join(name).into_os_string()]);
        for (flag, value) in [
            ("--name", name),
            ("--service", service),
            ("--service-account", service),
            ("--mesh-addr", any),
            ("--http-proxy-addr", any),
            ("--admin-addr", any),
            // One thread a sidecar: there are many, and the machine may be small.
            ("--workers", "1"),
            ("--output", "json"),
        ] {
            args.extend([flag.into(), value.into()]);
        }
        args.extend(extra.iter().map(OsString::from));
        let mut process = Process::start(self.folder, name, &self.programs.proxy, args).await?;
        process.ignore_output();
        Ok(Sidecar { name: name.to_owned(), process })
    }

    /// As `leno token create --service-account ACCOUNT > FILE`, but private: arguments can be read by every user.
    async fn write_token(&self, file: &Path, account: &str) -> Result<(), Failure> {
        let request = json!({"namespace": "default", "serviceAccount": account, "ttlSeconds": 600});
        let answer = self.client.expect(Method::POST, "/v1/tokens", Some(&request)).await?;
        let token = answer.get("token").and_then(Value::as_str).unwrap_or_default();
        let written = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
        written
            .and_then(|mut f| f.write_all(token.as_bytes()))
            .map_err(|e| Failure::new(Exit::Failed, format!("cannot write {}: {e}", file.display()), ""))
    }
}
