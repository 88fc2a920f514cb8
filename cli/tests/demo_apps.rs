//! The demo's apps without a mesh between them: what is claimed about the mesh is only worth as much as their counting.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

struct App {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: std::io::Lines<BufReader<ChildStdout>>,
    ready: Value,
}

impl App {
    fn start(args: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_leno"));
        command.arg("demo-app").args(args).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdin = child.stdin.take();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut app = Self { child, stdin, lines, ready: Value::Null };
        app.ready = app.next("ready");
        app
    }

    fn address(&self, name: &str) -> &str {
        self.ready[name].as_str().unwrap()
    }

    fn next(&mut self, event: &str) -> Value {
        loop {
            let line: Value = serde_json::from_str(&self.lines.next().unwrap().unwrap()).unwrap();
            if line["event"] == event {
                return line;
            }
        }
    }

    /// Ends the current phase, and gives its counts.
    fn phase(&mut self, name: &str) -> Value {
        writeln!(self.stdin.as_ref().unwrap(), "phase {name}").unwrap();
        self.next("phase")["counts"].clone()
    }

    /// Waits until a tick's counts are as asked for.
    fn until(&mut self, is_so: impl Fn(&Value) -> bool) {
        let found = (0..80).any(|_| is_so(&self.next("tick")["counts"]));
        assert!(found, "it did not happen in 80 ticks");
    }
}

impl Drop for App {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn http(address: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    write!(stream, "{request}\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

fn stats(web: &App) -> Value {
    let answer = http(web.address("control"), "GET /stats HTTP/1.1");
    serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap()
}

#[test]
fn every_request_is_counted_once_by_the_frontend_and_once_by_the_app() {
    let web = App::start(&["web", "--version", "v1", "--instance", "web-v1-1"]);
    let store = App::start(&["store"]);
    let (http_address, tcp) = (web.address("http").to_owned(), store.address("tcp").to_owned());
    let mut frontend = App::start(&["frontend", "--proxy", &http_address, "--store", &tcp, "--rate", "400"]);

    frontend.until(|c| c["ok"].as_u64() > Some(0) && c["storeOk"].as_u64() > Some(0));
    let well = frontend.phase("refused");
    assert_eq!((well["failed"].as_u64(), well["storeFailed"].as_u64()), (Some(0), Some(0)));
    assert_eq!(well["versions"]["v1"], well["ok"]);

    assert!(http(web.address("control"), "POST /break?mode=503 HTTP/1.1").starts_with("HTTP/1.1 200"));
    frontend.until(|c| c["failed"].as_u64() > Some(0) && c["ok"] == 0);
    let refused = frontend.phase("reset");
    assert!(http(web.address("control"), "POST /break?mode=reset HTTP/1.1").starts_with("HTTP/1.1 200"));
    frontend.until(|c| c["failed"].as_u64() > Some(0) && c["ok"] == 0);
    let reset = frontend.phase("end");
    let number = |counts: &Value, name: &str| counts[name].as_u64().unwrap();

    let seen = stats(&web);
    assert!(number(&seen, "resets") > 0 && number(&refused, "failed") > 0 && number(&reset, "failed") > 0);
    // Requests of the phase after the last are seen by the app already, so it may have seen more resets, but no more of the rest.
    assert_eq!(number(&seen, "answered"), number(&well, "ok") + number(&refused, "ok") + number(&reset, "ok"));
    let failed = number(&refused, "failed") + number(&reset, "failed");
    assert!(number(&seen, "refused") + number(&seen, "resets") >= failed);
}

/// The port that a part was told to listen on cannot be 0 for the next one to know it, so it is taken and given back.
fn free_address() -> String {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

#[test]
fn the_shop_asks_web_and_the_store_for_each_visit_and_says_which_of_them_failed() {
    let (web_at, store_at, shop_at) = (free_address(), free_address(), free_address());
    let web = App::start(&["web", "--version", "v1", "--instance", "web-1", "--listen", &web_at]);
    let store = App::start(&["store", "--listen", &store_at]);
    let url = format!("http://{web_at}/");
    let mut shop = App::start(&["shop", "--listen", &shop_at, "--web", &url, "--store", &store_at]);
    // It does not live by its standard input, as the demo's parts do.
    drop(shop.stdin.take());
    let visit = || {
        let get = ["demo-app", "get", &format!("http://{shop_at}/")].map(str::to_owned);
        let output = Command::new(env!("CARGO_BIN_EXE_leno")).args(get).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(said).unwrap())
    };
    assert_eq!(visit(), (true, "200 web v1 web-1, visit 1\n".to_owned()));
    assert_eq!(visit(), (true, "200 web v1 web-1, visit 2\n".to_owned()));
    drop(store);
    let (ok, said) = visit();
    assert!(!ok && said.contains("502 database: "), "{said}");
    drop(web);
    let (ok, said) = visit();
    assert!(!ok && said.contains("502 web: "), "{said}");
}

#[test]
fn an_app_ends_when_the_demo_lets_go_of_its_standard_input() {
    for args in [&["store"][..], &["web", "--version", "v1", "--instance", "x"]] {
        let mut app = App::start(args);
        drop(app.stdin.take());
        assert!(app.child.wait().unwrap().success());
    }
}
