//! Opaque TCP connections through the mesh behave as those without it.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use leno_tests::mesh::service;
use leno_tests::wait::eventually;
use leno_tests::{Mesh, Sidecar};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Speaks first, then: `half!` answers once the client has ended its half, `break` breaks off after a part of the answer.
async fn app() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    addr
}

async fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    stream.write_all(b"hello").await?;
    let mut asked = [0; 5];
    stream.read_exact(&mut asked).await?;
    if &asked == b"break" {
        stream.write_all(b"part").await?;
        // Its end shall follow the part, not overtake it.
        stream.read_u8().await?;
        return socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    }
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await?;
    stream.write_all(&rest).await?;
    stream.shutdown().await
}

/// An address that refuses connections.
async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

async fn frontend(mesh: &Mesh) -> Sidecar {
    mesh.apply(&service("store", "app: store", 7000, "tcp")).await;
    mesh.sidecar("frontend", "frontend").await.upstream("store:7000").start().await
}

async fn greeted(frontend: &Sidecar) -> std::io::Result<TcpStream> {
    let mut client = TcpStream::connect(frontend.upstream("store:7000")).await?;
    let mut greeting = [0; 5];
    client.read_exact(&mut greeting).await?;
    assert_eq!(&greeting, b"hello");
    Ok(client)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_whose_app_is_down_is_replaced_by_another() {
    let mesh = Mesh::start().await;
    let frontend = frontend(&mesh).await;
    let _up = mesh.sidecar("up", "store").await.port("tcp", app().await).start().await;
    let _down = mesh.sidecar("down", "store").await.port("tcp", nobody().await).start().await;
    mesh.connected(3).await;
    let retries = async || frontend.metrics().await.sum("leno_retries_total", &[]);
    eventually("the app that is down is tried", Duration::from_secs(30), async || {
        greeted(&frontend).await.unwrap();
        (retries().await > 0.0).then_some(())
    })
    .await;
    for _ in 0..50 {
        greeted(&frontend).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ends_and_breaks_are_passed_on_as_what_they_are() {
    let mesh = Mesh::start().await;
    let frontend = frontend(&mesh).await;
    let _store = mesh.sidecar("store", "store").await.port("tcp", app().await).start().await;
    mesh.connected(2).await;
    eventually("the store is reached", Duration::from_secs(30), async || greeted(&frontend).await.ok()).await;

    let mut client = greeted(&frontend).await.unwrap();
    client.write_all(b"half!and more").await.unwrap();
    client.shutdown().await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "and more");

    let mut client = greeted(&frontend).await.unwrap();
    client.write_all(b"break").await.unwrap();
    let mut part = [0; 4];
    client.read_exact(&mut part).await.unwrap();
    client.write_all(b"!").await.unwrap();
    let broken = client.read(&mut part).await;
    assert_eq!(
        broken.map_err(|error| error.kind()),
        Err(ErrorKind::ConnectionReset),
        "what was cut must not look whole"
    );
}
