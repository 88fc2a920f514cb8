//! Asking an admin port whether its program is ready: the health check of a container that holds nothing but our binary.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Longest answer that is read, in bytes; one of ours has some hundred.
const MOST_BYTES: usize = 4 * 1024;

/// One question to `/ready`. Blocks, and comes back by `deadline`, however slowly the other end answers.
///
/// # Errors
/// What was answered instead of 200, or why nothing was.
pub fn ready(admin_addr: SocketAddr, deadline: Instant) -> Result<(), String> {
    let answer = ask(admin_addr, deadline).map_err(|why| format!("{admin_addr} does not answer: {why}"))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.lines().next().unwrap_or_default();
    match status.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)) {
        Some("200") => Ok(()),
        Some(_) => Err(format!("it answers {status:?} {}", body.trim())),
        None => Err(format!("{admin_addr} is no admin port: {status:?}")),
    }
}

fn ask(address: SocketAddr, deadline: Instant) -> std::io::Result<String> {
    let left = || match deadline.saturating_duration_since(Instant::now()) {
        Duration::ZERO => Err(std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer in time")),
        left => Ok(left),
    };
    let mut stream = TcpStream::connect_timeout(&address, left()?)?;
    stream.set_write_timeout(Some(left()?))?;
    let request = format!("GET /ready HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let (mut answer, mut buffer) = (Vec::new(), [0; MOST_BYTES]);
    while answer.len() < MOST_BYTES {
        stream.set_read_timeout(Some(left()?))?;
        match stream.read(&mut buffer)? {
            0 => break,
            n => answer.extend_from_slice(&buffer[..n]),
        }
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(10)
    }

    /// What is said of a server that answers so.
    fn told(answer: &'static str) -> Result<(), String> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 256];
            let n = stream.read(&mut request).unwrap();
            assert!(request[..n].starts_with(b"GET /ready HTTP/1.1\r\n"));
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let told = ready(address, soon());
        server.join().unwrap();
        told
    }

    #[test]
    fn ready_is_200_and_anything_else_says_why_not() {
        assert_eq!(told("HTTP/1.1 200 OK\r\n\r\nready\n"), Ok(()));
        let waiting = told("HTTP/1.1 503 Service Unavailable\r\n\r\nnot ready, waiting for: serving\n").unwrap_err();
        assert!(waiting.contains("503") && waiting.ends_with("not ready, waiting for: serving"), "{waiting}");
        for other in ["HTTP/1.1 404 Not Found\r\n\r\n", "220 smtp.example.org\r\n", ""] {
            assert!(told(other).is_err(), "{other}");
        }
        assert!(told("220 smtp.example.org\r\n").unwrap_err().contains("no admin port"));
    }

    #[test]
    fn nobody_there_is_said_so() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert!(ready(free, soon()).unwrap_err().contains("does not answer"));
    }

    #[test]
    fn a_server_that_trickles_its_answer_is_left_at_the_deadline() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            // Ends when the other side has gone.
            while stream.write_all(b"x").is_ok() {
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let start = Instant::now();
        assert!(ready(address, start + Duration::from_millis(200)).is_err());
        assert!(start.elapsed() < Duration::from_secs(5));
        server.join().unwrap();
    }
}
