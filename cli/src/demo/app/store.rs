//! The store: `SET key value` → `OK`, `GET key` → `VALUE value` or `NONE`, a line each.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;

use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::{listen, say};
use crate::failure::Failure;

/// The longest line, in bytes, and the most keys: the store is only the demo's, but it is on a port.
const LONGEST: usize = 256;
const MOST: usize = 10_000;

type Data = Rc<RefCell<HashMap<String, String>>>;

/// Serves until the process ends.
///
/// # Errors
/// No port can be bound.
pub async fn run(at: Option<SocketAddr>) -> Result<(), Failure> {
    let (listener, address) = listen(at).await?;
    say(&json!({"event": "ready", "tcp": address}));
    let data = Data::default();
    tokio::task::LocalSet::new()
        .run_until(async {
            loop {
                if let Ok((stream, _)) = listener.accept().await {
                    tokio::task::spawn_local(serve(stream, data.clone()));
                }
            }
        })
        .await
}

/// One connection; it ends with the first error, as its client will notice.
async fn serve(stream: TcpStream, data: Data) {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    let mut line = String::new();
    loop {
        line.clear();
        match (&mut read).take(LONGEST as u64).read_line(&mut line).await {
            Ok(n) if n > 0 && line.ends_with('\n') => {}
            _ => return,
        }
        let answer = answer(line.trim_end(), &mut data.borrow_mut());
        if write.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

fn answer(line: &str, data: &mut HashMap<String, String>) -> String {
    let mut words = line.splitn(3, ' ');
    match (words.next(), words.next(), words.next()) {
        (Some("SET"), Some(key), Some(_)) if data.len() >= MOST && !data.contains_key(key) => "FULL\n".to_owned(),
        (Some("SET"), Some(key), Some(value)) => {
            data.insert(key.to_owned(), value.to_owned());
            "OK\n".to_owned()
        }
        (Some("GET"), Some(key), None) => match data.get(key) {
            Some(value) => format!("VALUE {value}\n"),
            None => "NONE\n".to_owned(),
        },
        _ => "WHAT\n".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_is_got_and_the_rest_is_said() {
        let mut data = HashMap::new();
        let talk =
            [("GET a", "NONE\n"), ("SET a b c", "OK\n"), ("GET a", "VALUE b c\n"), ("SET a", "WHAT\n"), ("", "WHAT\n")];
        for (said, heard) in talk {
            assert_eq!(answer(said, &mut data), heard);
        }
    }

    #[test]
    fn a_full_store_takes_no_new_key() {
        let mut data: HashMap<String, String> = (0..MOST).map(|n| (n.to_string(), String::new())).collect();
        assert_eq!(answer("SET x 1", &mut data), "FULL\n");
        assert_eq!(answer("SET 5 1", &mut data), "OK\n");
    }
}
