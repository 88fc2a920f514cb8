//! Whoever has nothing more to say still gets its answer; whoever is gone ends the work that is done for it.

use std::net::SocketAddr;
use std::time::Duration;

use leno_tests::netns::{self, NetMesh, resolve_one};
use leno_tests::raw::{RawApp, Step, answer};
use leno_tests::wait::{self, eventually};
use leno_tests::{HttpApp, client, require_netns};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Web;

const ASK: &str = "GET /ws HTTP/1.1\r\nhost: web\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
const AGREED: &str = "HTTP/1.1 101 Yes\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";

/// Sends all of it, ends its own way, and gives everything that comes back until the other end's way has ended.
async fn half_closed(mut stream: TcpStream, bytes: &str) -> String {
    stream.write_all(bytes.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut all = Vec::new();
    let read = tokio::time::timeout(wait::DEADLINE, stream.read_to_end(&mut all)).await;
    let all = String::from_utf8_lossy(&all).into_owned();
    assert!(read.is_ok(), "the connection was not closed: {all}");
    // What every client reads past: it is how one that is gone is told from one that waits.
    all.replace("HTTP/1.1 100 Continue\r\n\r\n", "")
}

async fn app() -> RawApp {
    RawApp::start(|_, seen| match seen.path.as_str() {
        "/stall" => vec![Step::Stall],
        "/slow" => {
            let head = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n".to_owned();
            let pause = || Step::Wait(Duration::from_millis(700));
            vec![Step::ReadBody, pause(), Step::Send(head), pause(), Step::Send("slowly sent"[..10].into())]
        }
        _ => answer(200, "", "done"),
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_has_ended_its_way_gets_the_answers_to_all_that_it_asked() {
    let app = app().await;
    let web = Web::start(&[&app], "").await;
    let proxy = web.frontend.http_proxy();
    let connect = async || TcpStream::connect(proxy).await.unwrap();
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: web\r\n\r\n");

    let all = half_closed(connect().await, &get("/fast")).await;
    assert!(all.starts_with("HTTP/1.1 200") && all.ends_with("done"), "{all}");
    let all = half_closed(connect().await, &get("/slow")).await;
    assert!(all.starts_with("HTTP/1.1 200") && all.ends_with("slowly sen"), "{all}");
    let all = half_closed(connect().await, "GET /slow HTTP/1.0\r\nhost: web\r\n\r\n").await;
    assert!(all.starts_with("HTTP/1.0 200") && all.ends_with("slowly sen"), "{all}");
    let post = "POST /slow HTTP/1.1\r\nhost: web\r\ncontent-length: 6\r\n\r\na body";
    let all = half_closed(connect().await, post).await;
    assert!(all.starts_with("HTTP/1.1 200") && all.ends_with("slowly sen"), "{all}");
    assert_eq!(app.body_bytes(), 6);
    // Several requests, one behind the other.
    let all = half_closed(connect().await, &(get("/slow") + post + &get("/fast"))).await;
    assert_eq!(all.matches("HTTP/1.1 200").count(), 3, "{all}");
    assert!(all.ends_with("done"), "{all}");
    // On a connection that was used before.
    let mut used = connect().await;
    used.write_all(get("/fast").as_bytes()).await.unwrap();
    let mut got = String::new();
    while !got.ends_with("done") {
        let mut part = [0; 1024];
        let n = used.read(&mut part).await.unwrap();
        assert!(n > 0, "{got}");
        got.push_str(std::str::from_utf8(&part[..n]).unwrap());
    }
    let all = half_closed(used, &get("/slow")).await;
    assert!(all.starts_with("HTTP/1.1 200") && all.ends_with("slowly sen"), "{all}");
    // One that has asked for nothing is closed at once, and half a request is none.
    assert_eq!(half_closed(connect().await, "").await, "");
    let seen = app.seen().len();
    let all = half_closed(connect().await, "POST /half HTTP/1.1\r\nhost: web\r\ncontent-length: 6\r\n\r\na b").await;
    assert!(!all.starts_with("HTTP/1.1 200"), "{all}");
    assert!(app.seen().len() <= seen + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_is_gone_ends_the_work_however_it_went() {
    let app = app().await;
    let web = Web::start(&[&app], "").await;
    for (n, way) in ["reset", "closed", "half closed, then reset", "half closed, then closed"].into_iter().enumerate() {
        let mut caller = TcpStream::connect(web.frontend.http_proxy()).await.unwrap();
        caller.write_all(b"GET /stall HTTP/1.1\r\nhost: web\r\n\r\n").await.unwrap();
        wait::until("it is at the app", wait::DEADLINE, || app.seen_of("/stall").len() == n + 1).await;
        if way.starts_with("half") {
            caller.shutdown().await.unwrap();
        }
        if way.ends_with("reset") {
            SockRef::from(&caller).set_linger(Some(Duration::ZERO)).unwrap();
        }
        drop(caller);
        wait::until(&format!("{way}: the app is left alone"), wait::DEADLINE, || app.broken_off() == n + 1).await;
    }
    // One that has asked for something and waits is not taken for one that is gone.
    let mut waiting = TcpStream::connect(web.frontend.http_proxy()).await.unwrap();
    waiting.write_all(b"GET /stall HTTP/1.1\r\nhost: web\r\n\r\n").await.unwrap();
    waiting.shutdown().await.unwrap();
    wait::until("it is at the app", wait::DEADLINE, || app.seen_of("/stall").len() == 5).await;
    let mut got = String::new();
    let read = tokio::time::timeout(Duration::from_secs(8), waiting.read_to_string(&mut got)).await;
    assert!(read.is_err() && app.broken_off() == 4, "{read:?} {got}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgraded_connection_of_which_one_way_has_ended_carries_the_other() {
    let app = RawApp::start(|times, _| match times {
        // The client ends first …
        0 => vec![Step::Send(AGREED.into()), Step::ReadToEnd, Step::Send("after your end".into()), Step::Close],
        // … or the app does …
        1 => vec![Step::Send(AGREED.into()), Step::Send("my last".into()), Step::EndOwn, Step::ReadToEnd],
        // … or the client has before the app has agreed.
        _ => vec![
            Step::Wait(Duration::from_millis(700)),
            Step::Send(AGREED.into()),
            Step::ReadToEnd,
            Step::Send("you ended early".into()),
            Step::Close,
        ],
    })
    .await;
    let web = Web::start(&[&app], "").await;
    let open = async || {
        let mut caller = TcpStream::connect(web.frontend.http_proxy()).await.unwrap();
        caller.write_all(ASK.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(caller.read_u8().await.unwrap());
        }
        assert!(head.starts_with(b"HTTP/1.1 101"), "{}", head.escape_ascii());
        caller
    };
    assert_eq!(half_closed(open().await, "hello").await, "after your end");
    assert_eq!(app.body_bytes(), 5);

    let mut caller = open().await;
    let mut got = String::new();
    tokio::time::timeout(wait::DEADLINE, caller.read_to_string(&mut got)).await.unwrap().unwrap();
    assert_eq!(got, "my last");
    caller.write_all(b"I go on").await.unwrap();
    wait::until("the app has read on", wait::DEADLINE, || app.body_bytes() == 12).await;
    drop(caller);

    let all = half_closed(TcpStream::connect(web.frontend.http_proxy()).await.unwrap(), ASK).await;
    assert!(all.starts_with("HTTP/1.1 101") && all.ends_with("you ended early"), "{all}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_ends_its_way_behind_its_answer_has_answered() {
    let app = RawApp::start(|_, seen| match seen.path.as_str() {
        "/early" => {
            let head = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nearly".to_owned();
            vec![Step::Send(head), Step::EndOwn, Step::ReadToEnd]
        }
        _ => [answer(200, "", "done"), vec![Step::EndOwn, Step::ReadToEnd]].concat(),
    })
    .await;
    let web = Web::start(&[&app], "").await;
    for n in 0..20 {
        let reply = web.get(&format!("/{n}")).await;
        assert_eq!((reply.status, reply.text().as_str()), (200, "done"), "{n}");
    }
    let reply = web.post("/early", &[]).await;
    assert_eq!((reply.status, reply.text().as_str()), (200, "early"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_captured_connection_that_has_ended_its_way_gets_its_answer() {
    const PORT: u16 = 8080;
    require_netns!();
    let mut mesh = NetMesh::start().await;
    let [caller, server] = ["caller", "server"].map(|name| mesh.host(name));
    let web = HttpApp::on(netns::listen(&server, SocketAddr::from(([0, 0, 0, 0], PORT))), "web");
    web.set(leno_tests::Behaviour::Delay(Duration::from_millis(700)));
    let _sidecars =
        [mesh.sidecar(&server, "web").await.start().await, mesh.sidecar(&caller, "caller").await.start().await];
    mesh.connected(2).await;
    let at = SocketAddr::new(resolve_one(&caller, 4, "web").await, PORT);
    eventually("web is reached", wait::DEADLINE, async || {
        let stream = netns::connect(&caller, at).await.ok()?;
        (client::get_over(stream, "/").await.ok()?.status == 200).then_some(())
    })
    .await;
    let stream = netns::connect(&caller, at).await.unwrap();
    let all = half_closed(stream, "GET / HTTP/1.1\r\nhost: web\r\n\r\n").await;
    assert!(all.starts_with("HTTP/1.1 200") && all.ends_with("web"), "{all}");
}
