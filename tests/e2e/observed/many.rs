//! What strangers send makes nothing grow: neither series nor memory.

use http::Method;
use leno_tests::client::{ProxyConnection, request};
use leno_tests::tools;

use super::Pair;

/// Requests, each with a path, a user agent, and (some) a host that nobody has used before. `LENO_MANY=1000000` for the whole million.
fn how_many() -> usize {
    std::env::var("LENO_MANY").ok().and_then(|n| n.parse().ok()).unwrap_or(20_000)
}

const CLIENTS: usize = 8;
/// One in so many asks for a host of its own, which the sidecar asks the control plane for and remembers for ten minutes.
const HOSTS: usize = 64;
/// Most names that it remembers, and what one costs, in bytes.
const MOST_NAMES: usize = 10_000;
const NAME: usize = 4 << 10;

/// The app of the test remembers every request; so often it is made to forget.
const FORGET: usize = 10_000;

async fn send(pair: &Pair, from: usize, to: usize) {
    for begin in (from..to).step_by(FORGET) {
        send_some(pair, begin, (begin + FORGET).min(to)).await;
        pair.app.forget();
    }
}

async fn send_some(pair: &Pair, from: usize, to: usize) {
    let clients = (0..CLIENTS).map(|client| async move {
        let mut connection = ProxyConnection::open(pair.frontend.http_proxy()).await.unwrap();
        for n in (from + client..to).step_by(CLIENTS) {
            let host = if n % HOSTS == 0 { format!("h{n}.nowhere") } else { "web".to_owned() };
            let (uri, agent) = (format!("http://{host}/p{n}?q={n}"), format!("agent-{n}"));
            let headers = [("user-agent", agent.as_str()), ("x-request-id", agent.as_str())];
            let reply = connection.send(request(Method::GET, &uri, &headers, "")).await.unwrap();
            assert_eq!(reply.status, if n % HOSTS == 0 { 404 } else { 200 });
            // An answer of the sidecar's own may be the last one of its connection.
            if connection.is_closed().await {
                connection = ProxyConnection::open(pair.frontend.http_proxy()).await.unwrap();
            }
        }
    });
    futures_util::future::join_all(clients).await;
}

fn series(page: &str) -> usize {
    page.lines().filter(|line| line.starts_with("leno_")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn any_number_of_paths_hosts_and_agents_leaves_series_and_memory_at_their_caps() {
    let mut pair = Pair::start(&["--access-log", "sampled", "--access-log-header", "user-agent"]).await;
    let many = how_many();
    // What has a cap comes to it first.
    let warm = many / 4;
    send(&pair, 0, warm).await;
    let before =
        [pair.frontend.process().memory(), pair.web.process().memory(), pair.mesh.control_plane.process().memory()];
    let known = series(pair.frontend.metrics().await.text()) + series(pair.web.metrics().await.text());
    send(&pair, warm, many).await;
    let after =
        [pair.frontend.process().memory(), pair.web.process().memory(), pair.mesh.control_plane.process().memory()];
    let grown: Vec<i64> = after.iter().zip(before).map(|(after, before)| *after as i64 - before as i64).collect();
    tools::note(&format!(
        "FIGURE {many} distinct requests: {known} series; bytes grown over the last three quarters: {grown:?}"
    ));
    assert_eq!(series(pair.frontend.metrics().await.text()) + series(pair.web.metrics().await.text()), known);
    assert!(known < 2_000, "{known} series");
    let names = ((many - warm) / HOSTS).min(MOST_NAMES) * NAME;
    assert!(grown.iter().all(|bytes| *bytes < (8 << 20) + names as i64), "{grown:?}");
}
