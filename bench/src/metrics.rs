//! Questions to the admin port of a program of ours, by one connection each.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result};

const PATIENCE: Duration = Duration::from_secs(30);

/// The answer, head and all, as HTTP/1.1 has it.
pub fn get(at: SocketAddr, host: &str, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(at)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut text = Vec::new();
    stream.read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// The sum of all series of the metric `name`.
pub fn sum(admin: SocketAddr, name: &str) -> Result<f64> {
    sum_of(&get(admin, "localhost", "/metrics")?, name).with_context(|| format!("there is no metric {name}"))
}

fn sum_of(page: &str, name: &str) -> Option<f64> {
    let of = |line: &str| {
        let rest = line.strip_prefix(name)?;
        rest.starts_with(['{', ' ']).then(|| rest.rsplit(' ').next()?.trim().parse::<f64>().ok())?
    };
    page.lines().filter_map(of).reduce(|a, b| a + b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_series_of_one_metric_are_added_and_no_other_ones() {
        let page = "# HELP a x\na{type=\"b c\"} 2\na{type=\"d\"} 3\na_total 7\nb 1\n";
        assert_eq!(sum_of(page, "a"), Some(5.0));
        assert_eq!(sum_of(page, "b"), Some(1.0));
        assert_eq!(sum_of(page, "c"), None);
    }
}
