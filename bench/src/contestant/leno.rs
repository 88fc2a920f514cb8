//! Leno itself: a real control plane, join tokens, and two sidecars with one worker each.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Contestant, Place, file, text};
use crate::process::Running;

/// The service that the load asks for.
pub const HOST: &str = "web";

const CONFIG: &str = "\
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec:
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: http, appProtocol: http}]
---
apiVersion: v1
kind: Service
metadata: {name: plain, namespace: default}
spec:
  selector: {app: web}
  ports: [{name: tcp, port: 7000, targetPort: http, appProtocol: tcp}]
";
/// The same app as bytes.
const PLAIN: &str = "plain:7000";

/// The pair of the programs in `bin`, with these objects besides the service.
pub fn leno(place: &Place<'_>, bin: &Path, name: &'static str, more: &str) -> Result<Contestant> {
    let (contestant, _) = pair(place, bin, name, more, &[])?;
    Ok(contestant)
}

/// The same pair, both of which get these arguments besides.
pub fn leno_with(place: &Place<'_>, bin: &Path, name: &'static str, args: &[&str]) -> Result<Contestant> {
    let (contestant, _) = pair(place, bin, name, "", args)?;
    Ok(contestant)
}

/// The same pair, loaded where connections are carried as bytes, each in one of its own between the ends.
pub fn leno_tcp(place: &Place<'_>, bin: &Path, name: &'static str) -> Result<Contestant> {
    let (contestant, target) = pair(place, bin, name, "", &[])?;
    Ok(Contestant { target, ..contestant })
}

/// The pair, and where it takes bytes.
fn pair(
    place: &Place<'_>,
    bin: &Path,
    name: &'static str,
    more: &str,
    both: &[&str],
) -> Result<(Contestant, SocketAddr)> {
    let config = file(place, "config");
    std::fs::create_dir(&config)?;
    std::fs::write(config.join("web.yaml"), CONFIG)?;
    std::fs::write(config.join("more.yaml"), more)?;
    let state = file(place, "control-plane");
    let mut args = arguments(&["--config-dir", &text(&config), "--state-dir", &text(&state), "--output", "json"]);
    args.extend(["xds", "api", "admin"].iter().flat_map(|port| [format!("--{port}-addr"), "127.0.0.1:0".to_owned()]));
    let mut plane =
        Running::start("leno-control-plane", place.load_core, &bin.join("leno-control-plane"), &args, place.dir)?;
    let xds = address(&plane.first_line()?, "xds")?;
    let context = state.join("admin.yaml");

    let backend = format!("http={}", place.backend);
    let (inbound, _) = sidecar(place, bin, xds, &context, HOST, &[&["--port", &backend], both].concat())?;
    let bytes = format!("{PLAIN}=127.0.0.1:0");
    let (outbound, ready) = sidecar(place, bin, xds, &context, "frontend", &[&["--upstream", &bytes], both].concat())?;
    let (target, bytes) = (address(&ready, "http_proxy")?, upstream(&ready)?);
    Ok((Contestant { name, target, pair: vec![outbound, inbound], _others: vec![plane] }, bytes))
}

/// A sidecar of `service`, and its ready line.
fn sidecar(
    place: &Place<'_>,
    bin: &Path,
    xds: SocketAddr,
    context: &Path,
    service: &str,
    more: &[&str],
) -> Result<(Running, String)> {
    let output = Command::new(bin.join("leno"))
        .args(["token", "create", "--service-account", service, "-o", "json", "--context"])
        .arg(context)
        .output()
        .context("run leno token create")?;
    ensure!(output.status.success(), "leno token create: {}", String::from_utf8_lossy(&output.stderr));
    let answer: Value = serde_json::from_slice(&output.stdout).context("the answer of leno token create")?;
    let token = answer["token"].as_str().context("a token")?;

    let name = format!("leno-{service}");
    let state = file(place, &name);
    let mut args = arguments(&["--control-plane", &xds.to_string(), "--token", token, "--service", service]);
    args.extend(arguments(&["--service-account", service, "--state-dir", &text(&state)]));
    args.extend(arguments(&["--mesh-addr", "127.0.0.1:0", "--http-proxy-addr", "127.0.0.1:0"]));
    args.extend(arguments(&["--admin-addr", "127.0.0.1:0", "--workers", "1", "--output", "json"]));
    args.extend(arguments(more));
    let mut running = Running::start(&name, place.proxy_core, &bin.join("leno-proxy"), &args, place.dir)?;
    let ready = running.first_line()?;
    Ok((running, ready))
}

fn arguments(args: &[&str]) -> Vec<String> {
    args.iter().map(|arg| (*arg).to_owned()).collect()
}

fn address(ready: &str, name: &str) -> Result<SocketAddr> {
    let value: Value = serde_json::from_str(ready).with_context(|| format!("the ready line {ready}"))?;
    value[name].as_str().and_then(|addr| addr.parse().ok()).with_context(|| format!("{name} in {ready}"))
}

fn upstream(ready: &str) -> Result<SocketAddr> {
    let value: Value = serde_json::from_str(ready).with_context(|| format!("the ready line {ready}"))?;
    value["upstreams"][PLAIN].as_str().and_then(|addr| addr.parse().ok()).with_context(|| format!("{PLAIN} in {ready}"))
}
