//! Two hundred sidecars on one control plane. The time of a push is a figure that is printed, not asserted.

use std::time::{Duration, Instant};

use leno_proto::Registration;
use leno_proto::resource::{Resource, SELF};
use leno_proto::v1::{Endpoints, HttpRoute, Service, SidecarConfig, TrustBundle};
use leno_tests::light::{self, Light, Stream};
use leno_tests::mesh::{split, web_services};
use leno_tests::stats::percentile;
use leno_tests::{Mesh, tools};
use prost::Message;
use tokio::sync::{mpsc, watch};

const CLIENTS: usize = 200;
/// Joins that are under way at a time.
const AT_ONCE: usize = 16;

/// One client acknowledged the route with this weight of `web-v2`.
struct Acked {
    weight: u32,
    at: Instant,
}

fn registration(n: usize) -> Registration {
    Registration {
        labels: [("app".to_owned(), "client".to_owned())].into(),
        ..Registration::local(&format!("client-{n}"), "default", "client", 1)
    }
}

/// Joins; a control plane may ask an address that joins often to come again.
async fn join(mesh: &Mesh) -> Light {
    let (xds, api) = (mesh.control_plane.xds(), mesh.control_plane.api());
    let token = api.token("default", "client", 600).await.unwrap();
    leno_tests::wait::eventually("a client joins", Duration::from_secs(120), || async {
        match light::join(xds, "cluster.local", "client", &token).await {
            Ok(light) => Some(light),
            Err(error) if format!("{error:?}").contains("rate_limited") => None,
            Err(error) => panic!("a client cannot join: {error:?}"),
        }
    })
    .await
}

async fn subscribe(light: &Light, n: usize) -> Stream {
    let stream = light.stream(&registration(n)).await.unwrap();
    stream.subscribe(TrustBundle::TYPE_URL, &["cluster.local"]).await.unwrap();
    stream.subscribe(SidecarConfig::TYPE_URL, &[SELF]).await.unwrap();
    let services = ["default/web", "default/web-v1", "default/web-v2"];
    stream.subscribe(Service::TYPE_URL, &services).await.unwrap();
    stream.subscribe(Endpoints::TYPE_URL, &services).await.unwrap();
    stream.subscribe(HttpRoute::TYPE_URL, &["HTTPRoute/default/web"]).await.unwrap();
    stream
}

/// Acknowledges everything, and reports each version of the route.
async fn follow(mut stream: Stream, acked: mpsc::Sender<Acked>, mut stop: watch::Receiver<bool>) {
    loop {
        let answer = tokio::select! {
            answer = stream.next() => answer.expect("the stream goes on"),
            _ = stop.changed() => return,
        };
        stream.ack(&answer).await.unwrap();
        if answer.type_url != HttpRoute::TYPE_URL {
            continue;
        }
        for resource in &answer.resources {
            let any = resource.resource.as_ref().expect("a resource has a body");
            let route = HttpRoute::decode(any.value.as_slice()).expect("a route");
            let weight = route.rules[0].backends[1].weight;
            acked.send(Acked { weight, at: Instant::now() }).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_weights_reaches_two_hundred_sidecars_and_all_acknowledge_it() {
    let mesh = Mesh::start().await;
    mesh.apply(&(web_services() + &split(90, 10, ""))).await;
    let (send, mut acked) = mpsc::channel(CLIENTS * 4);
    let (stop, stopped) = watch::channel(false);
    let mut clients = Vec::new();
    for batch in (0..CLIENTS).collect::<Vec<_>>().chunks(AT_ONCE) {
        let joined = futures_util::future::join_all(batch.iter().map(|n| async {
            let light = join(&mesh).await;
            subscribe(&light, *n).await
        }));
        for stream in joined.await {
            clients.push(tokio::spawn(follow(stream, send.clone(), stopped.clone())));
        }
    }
    mesh.connected(CLIENTS).await;
    wait_for(&mut acked, 10).await;

    let mut pushes = Vec::new();
    for weight in [50, 25, 75] {
        let start = Instant::now();
        mesh.apply(&split(100 - weight, weight, "")).await;
        let returned = start.elapsed();
        let times = wait_for(&mut acked, weight).await;
        let mut times: Vec<Duration> = times.into_iter().map(|at| at - start).collect();
        times.sort_unstable();
        let last = *times.last().unwrap();
        assert!(returned >= last, "apply --wait returned after {returned:?}, the last ACK came after {last:?}");
        pushes.push((percentile(&times, 50.0).unwrap(), last, returned));
    }
    assert_all_hold_the_revision(&mesh).await;
    for (p50, last, returned) in pushes {
        tools::note(&format!(
            "FIGURE push: {CLIENTS} sidecars, one route changed: median {:.1} ms, last {:.1} ms, leno apply --wait {:.1} ms",
            p50.as_secs_f64() * 1e3,
            last.as_secs_f64() * 1e3,
            returned.as_secs_f64() * 1e3,
        ));
    }
    stop.send(true).unwrap();
    for client in clients {
        client.await.unwrap();
    }
}

/// Waits until every client has acknowledged the route with `weight`; gives the times.
async fn wait_for(acked: &mut mpsc::Receiver<Acked>, weight: u32) -> Vec<Instant> {
    let mut times = Vec::new();
    while times.len() < CLIENTS {
        let next = tokio::time::timeout(Duration::from_secs(60), acked.recv()).await;
        let next = next.unwrap_or_else(|_| panic!("only {} clients have the weight {weight}", times.len()));
        let next = next.expect("the clients are there");
        if next.weight == weight {
            times.push(next.at);
        }
    }
    times
}

async fn assert_all_hold_the_revision(mesh: &Mesh) {
    let status = mesh.control_plane.api().get("/v1/status").await.unwrap();
    let revision = &status["controlPlane"]["revision"];
    let sidecars = status["sidecars"].as_array().unwrap();
    let behind: Vec<_> = sidecars.iter().filter(|s| s["ack"] != "ACK" || &s["revision"] != revision).collect();
    assert!(sidecars.len() == CLIENTS && behind.is_empty(), "of {}: {behind:#?}", sidecars.len());
}
