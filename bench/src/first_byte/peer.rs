//! Both ends of the measurement: a server that greets, and a client that waits for the greeting.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

/// What the server says to whoever connects.
const GREETING: &[u8] = b"220 speaks first\r\n";
/// Longest wait for one greeting: far above the steps that are looked for.
const PATIENCE: Duration = Duration::from_secs(30);

/// Greets whoever connects to `listen` and hangs up when the client does, one after the other, until it is killed.
pub fn greet(listen: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(listen)?;
    println!("{}", listener.local_addr()?);
    for stream in listener.incoming() {
        // A connection that breaks is the client's matter.
        let Ok(mut stream) = stream else { continue };
        std::thread::spawn(move || {
            let _ = stream.write_all(GREETING);
            let _ = stream.read(&mut [0; 16]);
        });
    }
    Ok(())
}

/// Connects `count` times, one after the other, and prints a line with the microseconds until the first byte for each.
pub fn wait(target: SocketAddr, count: u32) -> Result<()> {
    for _ in 0..count {
        let start = Instant::now();
        let mut stream =
            TcpStream::connect_timeout(&target, PATIENCE).with_context(|| format!("connect to {target}"))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut first = [0; 1];
        stream.read_exact(&mut first).with_context(|| format!("no first byte from {target}"))?;
        println!("{}", start.elapsed().as_micros());
        let mut rest = [0; GREETING.len() - 1];
        stream.read_exact(&mut rest)?;
        ensure!([&first[..], &rest].concat() == GREETING, "{target} said something else");
    }
    Ok(())
}
