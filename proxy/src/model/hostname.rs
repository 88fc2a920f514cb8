//! Hostnames of listeners and routes (Gateway API, Hostname), and finding the most specific one for a host.

use std::collections::HashMap;

/// Which hosts are meant.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Hostname {
    /// This one, in lower case.
    Exact(String),
    /// Any name below; `.example.com` for `*.example.com`.
    Below(String),
    /// All of them.
    Any,
}

impl Hostname {
    /// Reads `www.example.com`, `*.example.com`, or nothing, which means any.
    pub fn parse(text: &str) -> Self {
        let text = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        match text.strip_prefix('*') {
            _ if text.is_empty() => Self::Any,
            None => Self::Exact(text),
            Some("") => Self::Any,
            Some(suffix) => Self::Below(suffix.to_owned()),
        }
    }
}

/// Something by hostname.
#[derive(Debug)]
pub struct HostMap<T> {
    exact: HashMap<String, T>,
    below: HashMap<String, T>,
    any: Option<T>,
}

impl<T> Default for HostMap<T> {
    fn default() -> Self {
        Self { exact: HashMap::new(), below: HashMap::new(), any: None }
    }
}

impl<T> HostMap<T> {
    /// Puts it in, unless there is something of that hostname already.
    pub fn insert(&mut self, hostname: &Hostname, value: T) {
        match hostname {
            Hostname::Exact(name) => _ = self.exact.entry(name.clone()).or_insert(value),
            Hostname::Below(suffix) => _ = self.below.entry(suffix.clone()).or_insert(value),
            Hostname::Any => _ = self.any.get_or_insert(value),
        }
    }

    /// What is there for a host in lower case: of the host itself, else of the longest wildcard above it, else of any.
    pub fn get(&self, host: &str) -> Option<&T> {
        self.exact.get(host).or_else(|| self.above(host))
    }

    /// As [`Self::get`], less specific than the host itself.
    fn above(&self, host: &str) -> Option<&T> {
        // A wildcard stands for at least one whole label.
        let suffixes = || host.char_indices().skip(1).filter(|(_, c)| *c == '.').map(|(at, _)| &host[at..]);
        let below = if self.below.is_empty() { None } else { suffixes().find_map(|suffix| self.below.get(suffix)) };
        below.or(self.any.as_ref())
    }

    /// The next less specific entry for the hosts of `hostname`.
    pub fn less_specific(&self, hostname: &Hostname) -> Option<&T> {
        match hostname {
            Hostname::Exact(name) => self.above(name),
            // Its own first dot does not count.
            Hostname::Below(suffix) => self.above(suffix),
            Hostname::Any => None,
        }
    }

    /// What holds for all hosts.
    pub fn any(&self) -> Option<&T> {
        self.any.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_hostname_is_found() {
        let mut map = HostMap::default();
        for text in ["*.example.com", "www.example.com", "*.a.example.com", "", "WWW.example.org."] {
            map.insert(&Hostname::parse(text), text);
        }
        for (host, found) in [
            ("www.example.com", "www.example.com"),
            ("x.example.com", "*.example.com"),
            ("x.y.example.com", "*.example.com"),
            ("x.a.example.com", "*.a.example.com"),
            ("a.example.com", "*.example.com"),
            ("example.com", ""),
            (".example.com", ""),
            ("badexample.com", ""),
            ("www.example.org", "WWW.example.org."),
            ("", ""),
            ("..", ""),
            ("[::1]", ""),
        ] {
            assert_eq!(map.get(host), Some(&found), "{host}");
        }
        let next = |text: &str| map.less_specific(&Hostname::parse(text)).copied();
        assert_eq!(next("www.example.com"), Some("*.example.com"));
        assert_eq!(next("*.a.example.com"), Some("*.example.com"));
        assert_eq!(next("*.example.com"), Some(""));
        assert_eq!(next(""), None);
    }
}
