//! Servers for the web and for mail, chat, gRPC and bulk.

use std::path::Path;
use std::process::Command;

use leno_tests::netns::{Namespace, output};
use leno_tests::tools;
use leno_tests::wait::{DEADLINE, eventually};
use serde_json::Value;

use super::apps::{App, Client, authority, script_of};

/// nginx with HTTP, and with HTTPS of its own that the mesh knows nothing of.
pub struct Nginx;

/// What nginx says; it must never be seen on the wire.
const SECRET: &str = "the-nginx-in-a-namespace-says-hello";
/// Bytes of a large answer: many TLS records and windows.
const LARGE: usize = 5 << 20;

impl App for Nginx {
    const NAME: &str = "nginx";
    const PORT: u16 = 80;

    fn server(host: &Namespace, dir: &Path) -> Command {
        std::fs::write(dir.join("large"), vec![b'L'; LARGE]).unwrap();
        let certificate = rcgen::generate_simple_self_signed(["nginx".to_owned()]).unwrap();
        std::fs::write(dir.join("nginx.crt"), certificate.cert.pem()).unwrap();
        std::fs::write(dir.join("nginx.key"), certificate.signing_key.serialize_pem()).unwrap();
        let config = format!(
            "daemon off; master_process off; pid {root}/pid; error_log stderr;\nevents {{}}\nhttp {{ access_log off; \
             client_body_temp_path {root}/t1; proxy_temp_path {root}/t2; fastcgi_temp_path {root}/t3; \
             uwsgi_temp_path {root}/t4; scgi_temp_path {root}/t5; client_max_body_size 0;\nserver {{ \
             listen 80; listen [::]:80; listen 443 ssl; listen [::]:443 ssl; \
             ssl_certificate nginx.crt; ssl_certificate_key nginx.key; root {root}; \
             location / {{ return 200 \"{SECRET}\"; }} location = /large {{ }} }} }}\n",
            root = dir.display(),
        );
        let file = dir.join("nginx.conf");
        std::fs::write(&file, config).unwrap();
        let mut command = host.command(tools::find("nginx").expect("nginx"));
        command.arg("-c").arg(file).arg("-p").arg(dir).args(["-e", "stderr"]);
        command
    }

    async fn exercise(client: &Client, host: &str) {
        let common = ["-sS", "--fail", "--max-time", "20", "-k"];
        let curl = |args: Vec<String>| async move {
            let args: Vec<&str> = common.into_iter().chain(args.iter().map(String::as_str)).collect();
            client.run("curl", &args).await
        };
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let (http, https) = (authority(host, 80), authority(host, 443));
        assert_eq!(curl(words(&format!("http://{http}/hello"))).await, SECRET);
        assert_eq!(curl(words(&format!("https://{https}/hello"))).await, SECRET);
        for url in [format!("http://{http}/large"), format!("https://{https}/large")] {
            let sum = curl(words(&format!("{url} -o /dev/null -w %{{size_download}}:%{{http_code}}"))).await;
            assert_eq!(sum, format!("{LARGE}:200"), "{url}");
        }
        // Fifty requests over one connection, and a body of some size.
        assert_eq!(curl(words(&format!("http://{http}/n?[1-50]"))).await, SECRET.repeat(50));
        let large = client_file(client).await;
        assert_eq!(curl(words(&format!("--data-binary @{large} http://{http}/"))).await, SECRET);
    }
}

/// A file of 1 MiB to send.
async fn client_file(client: &Client) -> String {
    let file = std::env::temp_dir().join(client.0.name());
    std::fs::write(&file, vec![b'U'; 1 << 20]).unwrap();
    file.display().to_string()
}

/// `peers/NAME serve ARG`.
fn python(host: &Namespace, script: &str, arg: &str) -> Command {
    let mut command = host.command("python3");
    command.args([&script_of(script), "serve", arg]);
    command
}

/// A mail server.
pub struct Mail;

impl App for Mail {
    const NAME: &str = "mail";
    const PORT: u16 = 25;

    fn server(host: &Namespace, _: &Path) -> Command {
        python(host, "smtp_peer.py", "25")
    }

    async fn exercise(client: &Client, host: &str) {
        assert_eq!(client.python("smtp_peer.py", &["call", host, "25"]).await, "all right");
    }
}

/// A WebSocket server.
pub struct Chat;

impl App for Chat {
    const NAME: &str = "chat";
    const PORT: u16 = 8090;

    fn server(host: &Namespace, _: &Path) -> Command {
        python(host, "websocket_peer.py", "8090")
    }

    async fn exercise(client: &Client, host: &str) {
        assert_eq!(client.python("websocket_peer.py", &["call", &authority(host, 8090)]).await, "all right");
    }
}

/// A gRPC server.
pub struct Greeter;

impl App for Greeter {
    const NAME: &str = "greeter";
    const PORT: u16 = 50051;

    fn server(host: &Namespace, _: &Path) -> Command {
        python(host, "grpc_peer.py", "[::]:50051")
    }

    async fn exercise(client: &Client, host: &str) {
        let target = authority(host, 50051);
        assert_eq!(client.python("grpc_peer.py", &["call", &target, &target]).await, "all right");
    }
}

/// The bandwidth meter, which holds a control connection while it opens others.
pub struct Iperf;

impl App for Iperf {
    const NAME: &str = "iperf";
    const PORT: u16 = 5201;

    fn server(host: &Namespace, _: &Path) -> Command {
        let mut command = host.command("iperf3");
        command.args(["--server", "--port", "5201"]);
        command
    }

    async fn exercise(client: &Client, host: &str) {
        // Not as fast as it can: every packet is captured. And by time, since after a number of bytes the receiver is stopped
        // with the last ones on their way.
        let bulk = ["--client", host, "--time", "1", "--bitrate", "40M", "--parallel", "3", "--json"];
        for direction in [None, Some("--reverse")] {
            let told = iperf(client, &[&bulk[..], direction.as_slice()].concat()).await;
            let end = &told["end"];
            let bytes = |sum: &str| end[sum]["bytes"].as_u64().unwrap_or(0);
            assert!(bytes("sum_sent") > 10_000_000, "{told:#}");
            assert!(bytes("sum_received") > bytes("sum_sent") / 10 * 8, "{told:#}");
            assert_eq!(end["streams"].as_array().map(Vec::len), Some(3), "{told:#}");
        }
    }
}

/// What the client reports. The server takes one test at a time and listens anew for each: between two it refuses, whether
/// there is a mesh or not.
async fn iperf(client: &Client, args: &[&str]) -> Value {
    eventually("iperf3 listens again", DEADLINE, async || {
        let mut command = client.0.command("iperf3");
        command.args(args);
        let told: Value = serde_json::from_slice(&output(command).await.stdout).unwrap();
        let error = told["error"].as_str().unwrap_or_default();
        let between = error.contains("Connection re") && told["start"]["connected"] == Value::Array(Vec::new());
        (!between).then_some(told)
    })
    .await
}
