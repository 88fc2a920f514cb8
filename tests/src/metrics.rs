//! Reading `/metrics`.

use std::net::SocketAddr;

use crate::client;

/// One page of Prometheus text.
#[derive(Debug, Clone)]
pub struct Metrics {
    samples: Vec<(String, String, f64)>,
    text: String,
}

impl Metrics {
    /// Fetches the page of the admin port `admin`.
    pub async fn fetch(admin: SocketAddr) -> Self {
        let reply = client::get_direct(admin, "/metrics").await.expect("a metrics page");
        assert_eq!(reply.status, 200, "{}", reply.text());
        Self::parse(&reply.text())
    }

    /// Reads a page.
    pub fn parse(text: &str) -> Self {
        let samples = text.lines().filter(|line| !line.starts_with('#')).filter_map(sample).collect();
        Self { samples, text: text.to_owned() }
    }

    /// The sum of all series of `name` that carry each of `labels`; zero when there is none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.matching(name, labels).sum()
    }

    /// The greatest value of all series of `name` that carry each of `labels`.
    pub fn max(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        self.matching(name, labels).reduce(f64::max)
    }

    fn matching<'a>(&'a self, name: &'a str, labels: &'a [(&str, &str)]) -> impl Iterator<Item = f64> + 'a {
        self.samples
            .iter()
            .filter(move |(n, have, _)| n == name && labels.iter().all(|(k, v)| have.contains(&format!("{k}=\"{v}\""))))
            .map(|(_, _, value)| *value)
    }

    /// The page itself.
    pub fn text(&self) -> &str {
        &self.text
    }
}

fn sample(line: &str) -> Option<(String, String, f64)> {
    let (series, value) = line.rsplit_once(' ')?;
    let (name, labels) = series.split_once('{').unwrap_or((series, ""));
    Some((name.trim().to_owned(), labels.trim_end_matches('}').to_owned(), value.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_summed_by_label() {
        let page = "# HELP x y\nx_total{type=\"a\",code=\"1\"} 2\nx_total{type=\"b\"} 3\nplain 4.5\n";
        let metrics = Metrics::parse(page);
        assert_eq!(metrics.sum("x_total", &[]), 5.0);
        assert_eq!(metrics.sum("x_total", &[("type", "a")]), 2.0);
        assert_eq!(metrics.sum("plain", &[]), 4.5);
        assert_eq!(metrics.sum("absent", &[]), 0.0);
    }
}
