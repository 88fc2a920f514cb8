//! SPIFFE IDs of the one shape that Leno uses: `spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/SERVICE-ACCOUNT`.

use std::fmt;

/// Longest SPIFFE ID, in bytes (SPIFFE-ID, section 2.3).
const MOST_BYTES: usize = 2048;
/// Longest trust domain name, in bytes (SPIFFE-ID, section 2.1).
const MOST_TRUST_DOMAIN: usize = 255;

/// Who a workload is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpiffeId {
    text: String,
    /// Ends of the trust domain and of the namespace within `text`; the rest is fixed by the shape.
    trust_domain_end: usize,
    namespace_end: usize,
}

/// Why a text is no SPIFFE ID of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidSpiffeId(String);

impl fmt::Display for InvalidSpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InvalidSpiffeId {}

const SCHEME: &str = "spiffe://";

impl SpiffeId {
    /// Makes an ID from its parts.
    ///
    /// # Errors
    /// The trust domain takes lower-case letters, digits, `.`, `-` and `_`; the two segments take letters, digits, `.`, `-` and
    /// `_` and are neither `.` nor `..` (SPIFFE-ID, section 2).
    pub fn new(trust_domain: &str, namespace: &str, service_account: &str) -> Result<Self, InvalidSpiffeId> {
        let td_char = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-' | '_');
        if trust_domain.is_empty() || trust_domain.len() > MOST_TRUST_DOMAIN || !trust_domain.chars().all(td_char) {
            return Err(InvalidSpiffeId(format!(
                "trust domain {trust_domain:?} is not 1 to {MOST_TRUST_DOMAIN} of a-z, 0-9, '.', '-', '_'"
            )));
        }
        segment("namespace", namespace)?;
        segment("service account", service_account)?;
        let trust_domain_end = SCHEME.len() + trust_domain.len();
        let text = format!("{SCHEME}{trust_domain}/ns/{namespace}/sa/{service_account}");
        if text.len() > MOST_BYTES {
            return Err(InvalidSpiffeId(format!("it has {} bytes, at most {MOST_BYTES} are allowed", text.len())));
        }
        Ok(Self { text, trust_domain_end, namespace_end: trust_domain_end + "/ns/".len() + namespace.len() })
    }

    /// Reads an ID.
    ///
    /// # Errors
    /// Anything that is not exactly the shape above.
    pub fn parse(text: &str) -> Result<Self, InvalidSpiffeId> {
        if text.len() > MOST_BYTES {
            return Err(InvalidSpiffeId(format!("it has {} bytes, at most {MOST_BYTES} are allowed", text.len())));
        }
        let shape =
            || InvalidSpiffeId(format!("{text:?} is not spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/SERVICE-ACCOUNT"));
        let rest = text.strip_prefix(SCHEME).ok_or_else(shape)?;
        let parts: Vec<&str> = rest.split('/').collect();
        let [trust_domain, "ns", namespace, "sa", service_account] = parts[..] else { return Err(shape()) };
        Self::new(trust_domain, namespace, service_account)
    }

    /// The whole ID, a URI.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The trust domain's name.
    pub fn trust_domain(&self) -> &str {
        &self.text[SCHEME.len()..self.trust_domain_end]
    }

    /// The namespace.
    pub fn namespace(&self) -> &str {
        &self.text[self.trust_domain_end + "/ns/".len()..self.namespace_end]
    }

    /// The service account.
    pub fn service_account(&self) -> &str {
        &self.text[self.namespace_end + "/sa/".len()..]
    }
}

fn segment(what: &str, value: &str) -> Result<(), InvalidSpiffeId> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if value.is_empty() || value == "." || value == ".." || !value.chars().all(fits) {
        return Err(InvalidSpiffeId(format!(
            "{what} {value:?} is empty or has other than letters, digits, '.', '-', '_'"
        )));
    }
    Ok(())
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_gives_back_its_parts() {
        let id = SpiffeId::parse("spiffe://cluster.local/ns/default/sa/web").unwrap();
        assert_eq!((id.trust_domain(), id.namespace(), id.service_account()), ("cluster.local", "default", "web"));
        assert_eq!(SpiffeId::new("cluster.local", "default", "web").unwrap(), id);
    }

    #[test]
    fn anything_of_another_shape_is_refused() {
        for bad in [
            "",
            "spiffe://",
            "http://cluster.local/ns/a/sa/b",
            "spiffe://Cluster.local/ns/a/sa/b",
            "spiffe://cluster.local:443/ns/a/sa/b",
            "spiffe://user@cluster.local/ns/a/sa/b",
            "spiffe://cluster.local/ns/a/sa/b/",
            "spiffe://cluster.local/ns/a/sa/",
            "spiffe://cluster.local/ns/../sa/b",
            "spiffe://cluster.local/ns/a/sa/b?x",
            "spiffe://cluster.local/ns/a/sa/b#x",
            "spiffe://cluster.local/ns/a%2f/sa/b",
            "spiffe://cluster.local/ns/a\0/sa/b",
            "spiffe:///ns/a/sa/b",
        ] {
            assert!(SpiffeId::parse(bad).is_err(), "{bad}");
        }
        assert!(SpiffeId::parse(&format!("spiffe://td/ns/a/sa/{}", "b".repeat(2048))).is_err());
        assert!(SpiffeId::new(&"a".repeat(256), "a", "b").is_err());
    }
}
