//! A TCP server in this process that speaks first, inside a namespace, and its client.

use std::io::{Error, ErrorKind, Result};
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

use super::{Namespace, connect, listen};

/// How long a client waits for what should come at once. What takes longer is stuck.
const PATIENCE: Duration = Duration::from_secs(20);

/// Greets whoever connects and then sends back what it gets; or says nothing at all.
pub struct Greeter {
    accepting: AbortHandle,
    connections: Arc<AtomicUsize>,
}

impl Greeter {
    /// Listens on `port` of every address of `host` and greets with the line `greeting`.
    pub fn start(host: &Namespace, port: u16, greeting: &str) -> Self {
        Self::run(host, port, Some(format!("{greeting}\n")))
    }

    /// One that takes connections, and neither says nor hears anything.
    pub fn silent(host: &Namespace, port: u16) -> Self {
        Self::run(host, port, None)
    }

    fn run(host: &Namespace, port: u16, greeting: Option<String>) -> Self {
        let listener = listen(host, SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)));
        let connections = Arc::new(AtomicUsize::new(0));
        let accepting = tokio::spawn(accept(listener, greeting, Arc::clone(&connections))).abort_handle();
        Self { accepting, connections }
    }

    /// Connections that are open.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Greeter {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, greeting: Option<String>, open: Arc<AtomicUsize>) {
    // With the listener its connections end, as those of a process would.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { return };
                let (greeting, open) = (greeting.clone(), Arc::clone(&open));
                connections.spawn(async move {
                    open.fetch_add(1, Ordering::Relaxed);
                    // An error of one connection is what some tests ask for.
                    let _ = serve(stream, greeting).await;
                    open.fetch_sub(1, Ordering::Relaxed);
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(mut stream: TcpStream, greeting: Option<String>) -> Result<()> {
    stream.set_nodelay(true)?;
    let speaks = greeting.is_some();
    if let Some(greeting) = greeting {
        stream.write_all(greeting.as_bytes()).await?;
    }
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let n = stream.read(&mut buffer).await?;
        if n == 0 {
            return stream.shutdown().await;
        }
        if speaks {
            stream.write_all(&buffer[..n]).await?;
        }
    }
}

/// A connection that was greeted.
pub struct Greeted {
    /// The connection.
    pub stream: TcpStream,
    /// The greeting, without its line's end.
    pub greeting: String,
}

impl Greeted {
    /// Connects from `client` and waits for the greeting. An end before it is an error of the kind `UnexpectedEof`; nothing at
    /// all for a while is a panic, since nothing may be stuck.
    pub async fn open(client: &Namespace, addr: SocketAddr) -> Result<Self> {
        let mut stream = connect(client, addr).await?;
        let mut greeting = Vec::new();
        let read = async {
            while greeting.last() != Some(&b'\n') {
                greeting.push(stream.read_u8().await?);
            }
            Ok::<_, Error>(())
        };
        let in_time = tokio::time::timeout(PATIENCE, read).await;
        in_time.unwrap_or_else(|_| panic!("{addr} neither greets {} nor refuses it", client.name()))?;
        greeting.pop();
        let greeting = String::from_utf8(greeting).map_err(|error| Error::new(ErrorKind::InvalidData, error))?;
        Ok(Self { stream, greeting })
    }

    /// Sends `text` and waits for its echo.
    pub async fn echo(&mut self, text: &str) -> Result<()> {
        let mut back = vec![0; text.len()];
        let exchange = async {
            self.stream.write_all(text.as_bytes()).await?;
            self.stream.read_exact(&mut back).await
        };
        tokio::time::timeout(PATIENCE, exchange).await.unwrap_or_else(|_| panic!("no echo and no end"))?;
        if back == text.as_bytes() { Ok(()) } else { Err(Error::new(ErrorKind::InvalidData, "another echo")) }
    }
}

/// The greeting at `addr` as seen from `client`, after an exchange; nothing when the connection is refused, ended or broken
/// before the greeting.
pub async fn greeting(client: &Namespace, addr: SocketAddr) -> Option<String> {
    let mut greeted = Greeted::open(client, addr).await.ok()?;
    greeted.echo("an echo, please").await.ok()?;
    Some(greeted.greeting)
}
