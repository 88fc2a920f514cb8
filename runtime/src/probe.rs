//! Asking an admin port whether its program is ready: the health check of a container that holds nothing but our binary.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::time::Duration;

/// How long the connection, and then each read and write, may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// Longest answer that is read, in bytes; one of ours has some hundred.
const MOST_BYTES: u64 = 16 * 1024;

/// One question to `/ready`. Blocks, for a few seconds at most.
///
/// # Errors
/// What was answered instead of 200, or why nothing was.
pub fn ready(admin_addr: &str) -> Result<(), String> {
    let address = resolve(admin_addr)?;
    let answer = ask(address).map_err(|why| format!("{admin_addr} does not answer: {why}"))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    match head.split_ascii_whitespace().nth(1) {
        Some("200") => Ok(()),
        Some("503") => Err(body.trim().to_owned()),
        _ => Err(format!("{admin_addr} is no admin port: {:?}", head.lines().next().unwrap_or_default())),
    }
}

fn resolve(addr: &str) -> Result<SocketAddr, String> {
    let mut found = addr.to_socket_addrs().map_err(|why| format!("{addr}: {why}"))?;
    found.next().ok_or_else(|| format!("{addr} has no address"))
}

fn ask(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let request = format!("GET /ready HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(MOST_BYTES).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// What is said of a server that answers so.
    fn told(answer: &'static str) -> Result<(), String> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 256];
            let n = stream.read(&mut request).unwrap();
            assert!(request[..n].starts_with(b"GET /ready HTTP/1.1\r\n"));
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let told = ready(&address);
        server.join().unwrap();
        told
    }

    #[test]
    fn ready_is_200_and_anything_else_says_why_not() {
        assert_eq!(told("HTTP/1.1 200 OK\r\n\r\nready\n"), Ok(()));
        let waiting = told("HTTP/1.1 503 Service Unavailable\r\n\r\nnot ready, waiting for: serving\n");
        assert_eq!(waiting, Err("not ready, waiting for: serving".to_owned()));
        for other in ["HTTP/1.1 404 Not Found\r\n\r\n", "220 smtp.example.org\r\n", ""] {
            assert!(told(other).unwrap_err().contains("no admin port"), "{other}");
        }
    }

    #[test]
    fn nobody_there_is_said_so() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        assert!(ready(&free).unwrap_err().contains("does not answer"));
        assert!(ready("nowhere").is_err());
    }
}
