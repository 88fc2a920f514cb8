//! Where the control plane fetches something from.

use std::fmt;

/// An `https://` URL, as it is asked for. There is no other way: who could change the keys on the way could be anybody.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HttpsUrl {
    text: String,
    /// Without brackets.
    host: String,
    port: u16,
    path: String,
}

/// Longest URL.
const MOST_BYTES: usize = 1024;

impl HttpsUrl {
    /// Reads one.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.len() > MOST_BYTES {
            return Err("has more than 1024 bytes");
        }
        let uri: http::Uri = text.parse().map_err(|_| "is no URL")?;
        if uri.scheme_str() != Some("https") {
            return Err("does not begin with https://");
        }
        let authority = uri.authority().ok_or("has no host")?;
        if authority.as_str().contains('@') || text.contains('#') {
            return Err("has a user or a fragment");
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        if host.is_empty() {
            return Err("has no host");
        }
        let port = match authority.port_u16() {
            Some(0) => return Err("has the port 0"),
            Some(port) => port,
            None if authority.as_str().ends_with(authority.host()) => 443,
            None => return Err("has no valid port"),
        };
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok(Self { text: text.to_owned(), host, port, path })
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// A DNS name or an IP address.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Of TCP.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Path and query.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// As the field Host has it.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == 443 { host } else { format!("{host}:{}", self.port) }
    }
}

impl fmt::Display for HttpsUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_urls_without_tricks_are_taken() {
        for (good, parts) in [
            ("https://id.example/jwks.json", ("id.example", 443, "/jwks.json", "id.example")),
            ("https://ID.example:8443/a?b=c", ("id.example", 8443, "/a?b=c", "id.example:8443")),
            ("https://[::1]:6443/openid/v1/jwks", ("::1", 6443, "/openid/v1/jwks", "[::1]:6443")),
            ("https://10.0.0.1", ("10.0.0.1", 443, "/", "10.0.0.1")),
        ] {
            let url = HttpsUrl::parse(good).unwrap();
            assert_eq!((url.host(), url.port(), url.path(), url.authority().as_str()), parts, "{good}");
        }
        for bad in [
            "",
            "http://id.example/",
            "file:///etc/passwd",
            "https://",
            "https:///a",
            "https://user:secret@id.example/",
            "https://id.example@evil.example/",
            "https://id.example/#a",
            "https://id.example:0/",
            "https://id.example:99999/",
            "https://id.example:/",
            "id.example/jwks",
            &format!("https://a/{}", "b".repeat(1024)),
        ] {
            assert!(HttpsUrl::parse(bad).is_err(), "{bad}");
        }
    }
}
