//! The control plane's REST API, as any HTTPS client would use it: with the context that the control plane wrote.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{Method, Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// A client of the REST API.
#[derive(Clone)]
pub struct Api {
    addr: SocketAddr,
    token: String,
    tls: TlsConnector,
}

impl Api {
    /// Reads `STATE_DIR/admin.yaml`.
    pub fn from_context(file: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
        let context: Value = serde_yaml_ng::from_str(&text)?;
        let field = |name: &str| context[name].as_str().map(str::to_owned).with_context(|| format!("field {name}"));
        let addr = field("server")?.trim_start_matches("https://").parse().context("the server's address")?;
        let tls = leno_certs::tls::pem_client(&field("certificateAuthority")?, &[])?;
        Ok(Self { addr, token: field("token")?, tls: TlsConnector::from(Arc::new(tls)) })
    }

    /// Sends one request; gives status and JSON body.
    pub async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Result<(u16, Value)> {
        let body = body.map_or_else(Bytes::new, |body| Bytes::from(body.to_string()));
        let response = self.send(method, path, body).await?;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await?.to_bytes();
        let value = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body)? };
        Ok((status, value))
    }

    async fn send(&self, method: Method, path: &str, body: Bytes) -> Result<Response<Incoming>> {
        let stream = TcpStream::connect(self.addr).await?;
        let stream = self.tls.connect(ServerName::from(self.addr.ip()), stream).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, self.addr.to_string())
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))?;
        Ok(sender.send_request(request).await?)
    }

    /// Asks for `path` and reads nothing of the answer, which goes on for as long as what this gives is kept.
    pub async fn open(&self, path: &str) -> Result<Response<Incoming>> {
        let response = self.send(Method::GET, path, Bytes::new()).await?;
        anyhow::ensure!(response.status() == 200, "GET {path}: {}", response.status());
        Ok(response)
    }

    /// GET `path`, which must exist.
    pub async fn get(&self, path: &str) -> Result<Value> {
        let (status, value) = self.call(Method::GET, path, None).await?;
        anyhow::ensure!(status == 200, "GET {path}: {status} {value}");
        Ok(value)
    }

    /// Applies `yaml` without waiting for the sidecars; gives status and answer.
    pub async fn apply(&self, yaml: &str) -> Result<(u16, Value)> {
        let body = json!({"files": [{"name": "test.yaml", "content": yaml}], "wait": false});
        self.call(Method::POST, "/v1/apply", Some(body)).await
    }

    /// A single-use join token for `service_account` of `namespace`.
    pub async fn token(&self, namespace: &str, service_account: &str, ttl_seconds: u64) -> Result<String> {
        let body = json!({"namespace": namespace, "serviceAccount": service_account, "ttlSeconds": ttl_seconds});
        let (status, value) = self.call(Method::POST, "/v1/tokens", Some(body)).await?;
        anyhow::ensure!((200..300).contains(&status), "{status} {value}");
        value["token"].as_str().map(str::to_owned).context("field token")
    }
}
