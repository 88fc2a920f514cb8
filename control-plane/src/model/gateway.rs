//! Gateways, ListenerSets and the routes that only they have. What refers to what is decided later (`resolve`), since any
//! of it may come and go.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{Backend, Kind, Name, ParentRef};

/// Who answers for Gateways of our class, in every status.
pub const CONTROLLER: &str = "leno.dev/gateway-controller";
/// The class that is ours without a GatewayClass object.
pub const CLASS: &str = "leno";

/// A GatewayClass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayClass {
    pub controller: String,
    /// We take no parameters.
    pub has_parameters: bool,
}

/// A Gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gateway {
    pub name: Name,
    /// Seconds since 1970.
    pub created: i64,
    pub class: String,
    /// `infrastructure.parametersRef` is there; we take no parameters.
    pub has_parameters: bool,
    pub listeners: Vec<Listener>,
    /// Type and value, as they were asked for.
    pub addresses: Vec<(String, String)>,
    /// Which namespaces' ListenerSets are merged in.
    pub allowed_listeners: AllowedFrom,
    /// Of every listener that terminates TLS, unless its port has one of its own.
    pub client_validation: Option<ClientValidation>,
    pub port_client_validation: BTreeMap<u16, Option<ClientValidation>>,
    /// Shown to backends that are spoken to over TLS.
    pub backend_client_certificate: Option<ObjectRef>,
}

/// A ListenerSet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerSet {
    pub name: Name,
    pub created: i64,
    /// The Gateway.
    pub parent: Name,
    pub listeners: Vec<Listener>,
}

/// One listener of a Gateway or a ListenerSet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    pub name: String,
    pub port: u16,
    pub protocol: Protocol,
    /// Empty: any.
    pub hostname: String,
    pub passthrough: bool,
    pub certificates: Vec<ObjectRef>,
    /// Group and kind; empty: what the protocol carries.
    pub kinds: Vec<(String, String)>,
    pub from: AllowedFrom,
}

/// What a listener speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Protocol {
    Http,
    Https,
    Tls,
    Tcp,
    /// Whatever else was written.
    Other(String),
}

/// Which namespaces something may come from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum AllowedFrom {
    None,
    #[default]
    Same,
    All,
    Selector(Selector),
}

impl AllowedFrom {
    /// Whether it allows what lives in `namespace`, for one that itself lives in `own`.
    pub fn allows(&self, own: &str, namespace: &str, labels: &BTreeMap<String, String>) -> bool {
        match self {
            Self::None => false,
            Self::Same => own == namespace,
            Self::All => true,
            Self::Selector(selector) => selector.matches(labels),
        }
    }
}

/// A label selector as Kubernetes has it: everything in it holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selector {
    pub labels: BTreeMap<String, String>,
    pub expressions: Vec<(String, Operator, Vec<String>)>,
}

/// How an expression compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
}

impl Selector {
    /// Whether labels are selected. An empty selector selects everything.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.expressions.iter().all(|(key, operator, values)| {
                let found = labels.get(key);
                match operator {
                    Operator::In => found.is_some_and(|value| values.contains(value)),
                    Operator::NotIn => found.is_none_or(|value| !values.contains(value)),
                    Operator::Exists => found.is_some(),
                    Operator::DoesNotExist => found.is_none(),
                }
            })
    }
}

/// A reference to an object that may be of any kind and need not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectRef {
    pub group: String,
    pub kind: String,
    pub name: Name,
}

/// What became of the ports of a Gateway at one sidecar: where each is open, or why it is not.
pub type BoundPorts = BTreeMap<u16, Result<IpAddr, String>>;

/// Which client certificates a listener takes (GEP-91).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientValidation {
    pub authorities: Vec<ObjectRef>,
    pub insecure_fallback: bool,
}

/// A Gateway or ListenerSet that a route is attached to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayParent {
    /// Its place in `parentRefs`.
    pub index: usize,
    /// Gateway or ListenerSet.
    pub kind: Kind,
    pub name: Name,
    /// None: every listener.
    pub section: Option<String>,
    /// None: every port.
    pub port: Option<u16>,
    /// The reference names the namespace, and so does the status.
    pub says_namespace: bool,
}

/// A TLSRoute: where connections go by the server that they name.
#[derive(Debug, Clone, PartialEq)]
pub struct TlsRoute {
    pub name: Name,
    pub created: i64,
    /// Services, beside the Gateways and ListenerSets.
    pub parents: Vec<ParentRef>,
    pub gateways: Vec<GatewayParent>,
    pub hostnames: Vec<String>,
    pub backends: Vec<Backend>,
}

/// Whether a name is one of those that a hostname stands for, where `*.` stands for any labels before the rest. An empty
/// hostname stands for every name.
pub fn hostname_covers(hostname: &str, name: &str) -> bool {
    match hostname.strip_prefix('*') {
        _ if hostname.is_empty() => true,
        Some(suffix) => name.len() > suffix.len() && name.ends_with(suffix),
        None => hostname == name,
    }
}

/// Whether two hostnames stand for a common name.
pub fn hostnames_meet(a: &str, b: &str) -> bool {
    a == b || hostname_covers(a, b) || hostname_covers(b, a)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_stands_for_one_label_or_more_and_never_for_none() {
        for (a, b, meet) in [
            ("", "a.example.com", true),
            ("*.example.com", "a.example.com", true),
            ("*.example.com", "a.b.example.com", true),
            ("*.example.com", "example.com", false),
            ("*.example.com", "*.b.example.com", true),
            ("*.example.com", "*.example.org", false),
            ("*.example.com", "anexample.com", false),
            ("a.example.com", "a.example.com", true),
            ("a.example.com", "b.example.com", false),
        ] {
            assert_eq!((hostnames_meet(a, b), hostnames_meet(b, a)), (meet, meet), "{a} {b}");
        }
    }

    #[test]
    fn a_selector_means_what_kubernetes_says() {
        let labels: BTreeMap<String, String> = [("env".to_owned(), "prod".to_owned())].into();
        let one = |operator, values: &[&str]| Selector {
            labels: BTreeMap::new(),
            expressions: vec![("env".to_owned(), operator, values.iter().map(ToString::to_string).collect())],
        };
        assert!(Selector::default().matches(&labels));
        assert!(
            one(Operator::In, &["prod", "test"]).matches(&labels) && !one(Operator::In, &["test"]).matches(&labels)
        );
        assert!(one(Operator::NotIn, &["test"]).matches(&labels) && !one(Operator::NotIn, &["prod"]).matches(&labels));
        assert!(one(Operator::NotIn, &["prod"]).matches(&BTreeMap::new()), "who lacks the label is not in");
        assert!(one(Operator::Exists, &[]).matches(&labels) && !one(Operator::DoesNotExist, &[]).matches(&labels));
        let wanted = Selector { labels: [("env".to_owned(), "test".to_owned())].into(), expressions: vec![] };
        assert!(!wanted.matches(&labels) && wanted.matches(&[("env".to_owned(), "test".to_owned())].into()));
    }
}
