//! Calls of the store: sets a key, gets it back, and looks whether it is the same. Connections are kept for some calls and then
//! replaced, so that both are seen: long ones, and the cost of a new one.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::Shared;

const PATIENCE: Duration = Duration::from_secs(5);
/// Calls on one connection.
const CALLS: u64 = 25;
/// Keys that are used in turn.
const KEYS: u64 = 100;

pub(super) async fn run(shared: Rc<Shared>, store: SocketAddr, every: Duration, client: u32) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut kept = None;
    let mut n: u64 = 0;
    loop {
        ticks.tick().await;
        n += 1;
        if n.is_multiple_of(CALLS) {
            kept = None;
        }
        let call = shared.begin();
        match timeout(PATIENCE, set_and_get(&mut kept, store, client, n)).await {
            Ok(Ok(())) => call.count(|r, _| r.stored()),
            Ok(Err(why)) => {
                kept = None;
                call.count(|r, _| r.not_stored(&why));
            }
            Err(_) => {
                kept = None;
                call.count(|r, _| r.not_stored("no answer in 5 s"));
            }
        }
    }
}

async fn set_and_get(
    kept: &mut Option<BufReader<TcpStream>>,
    store: SocketAddr,
    client: u32,
    n: u64,
) -> Result<(), String> {
    let mut stream = match kept.take() {
        Some(stream) => stream,
        None => BufReader::new(TcpStream::connect(store).await.map_err(|e| format!("cannot connect: {e}"))?),
    };
    let key = format!("{client}-{}", n % KEYS);
    ask(&mut stream, &format!("SET {key} {n}\n"), "OK\n").await?;
    ask(&mut stream, &format!("GET {key}\n"), &format!("VALUE {n}\n")).await?;
    *kept = Some(stream);
    Ok(())
}

async fn ask(stream: &mut BufReader<TcpStream>, question: &str, expected: &str) -> Result<(), String> {
    stream.get_mut().write_all(question.as_bytes()).await.map_err(|e| format!("cannot send: {e}"))?;
    let mut answer = String::new();
    stream.take(256).read_line(&mut answer).await.map_err(|e| format!("cannot read: {e}"))?;
    match answer.as_str() {
        answer if answer == expected => Ok(()),
        "" => Err("closed without an answer".to_owned()),
        other => Err(format!("{:?} where {:?} was right", other.trim_end(), expected.trim_end())),
    }
}
