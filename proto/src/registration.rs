//! How a sidecar registers its workload: as the `metadata` of the xDS node, in the first request of a stream and again when
//! it changes.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use prost_types::{Struct, Value, value::Kind};

use crate::discovery::Node;

/// Most labels, most ports, and most further addresses, of one workload.
const MOST: usize = 64;
/// Most ports of a Gateway that one sidecar serves.
pub const MOST_GATEWAY_PORTS: usize = 256;
/// Longest reason why a port is not bound.
const MOST_REASON: usize = 253;

/// One workload as its own sidecar describes it. The identity is not part of it: the certificate proves that.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Registration {
    /// Name of the workload, unique in its namespace.
    pub name: String,
    pub namespace: String,
    pub service_account: String,
    pub labels: BTreeMap<String, String>,
    /// IP address at which peers reach the mesh port.
    pub address: String,
    pub mesh_port: u16,
    /// Further addresses of the workload, of either family.
    pub more_addresses: Vec<String>,
    /// The app's ports: name to number.
    pub ports: BTreeMap<String, u16>,
    /// The sidecar takes every port of its app (transparent mode).
    pub any_port: bool,
    pub state: WorkloadState,
    /// Version of the sidecar.
    pub version: String,
    /// What became of the ports of the Gateway that it serves. None: it serves none, or does not say.
    pub gateway_ports: Option<GatewayPorts>,
}

/// By their numbers as the Gateway says them.
pub type GatewayPorts = BTreeMap<u16, GatewayPort>;

/// What became of a port of a Gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GatewayPort {
    /// It is open at this address of the machine; the unspecified one stands for all.
    Bound(IpAddr),
    /// It could not be bound, and why.
    Failed(String),
}

impl GatewayPort {
    /// A reason of any length, cut to what travels.
    pub fn failed(why: &str) -> Self {
        let end = (0..=MOST_REASON.min(why.len())).rev().find(|end| why.is_char_boundary(*end)).unwrap_or_default();
        Self::Failed(why[..end].to_owned())
    }

    fn to_value(&self) -> Value {
        let (field, said) = match self {
            Self::Bound(address) => ("address", address.to_string()),
            Self::Failed(why) => ("error", why.clone()),
        };
        Value { kind: Some(Kind::StructValue(Struct { fields: [(field.to_owned(), text(said))].into() })) }
    }

    fn from_value(value: &Value) -> Option<Self> {
        let Some(Kind::StructValue(fields)) = &value.kind else { return None };
        match (fields.fields.get("address"), fields.fields.get("error")) {
            (Some(address), None) => as_text(address)?.parse().ok().map(Self::Bound),
            (None, Some(why)) => as_text(why).map(Self::Failed),
            _ => None,
        }
    }
}

/// Whether the workload wants requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WorkloadState {
    #[default]
    Ready,
    /// Gets no new requests; finishes those it has.
    Draining,
    /// Its app fails its health check.
    Unhealthy,
}

impl Registration {
    /// One that is ready and says nothing more of itself, of a sidecar of this version on this machine.
    pub fn local(name: &str, namespace: &str, service_account: &str, mesh_port: u16) -> Self {
        Self {
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            service_account: service_account.to_owned(),
            address: "127.0.0.1".to_owned(),
            mesh_port,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..Self::default()
        }
    }
}

impl WorkloadState {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// Why a node's metadata is not a registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidRegistration(String);

impl fmt::Display for InvalidRegistration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the node's metadata is no registration: {}", self.0)
    }
}

impl std::error::Error for InvalidRegistration {}

fn text(value: impl Into<String>) -> Value {
    Value { kind: Some(Kind::StringValue(value.into())) }
}

fn number(value: u16) -> Value {
    Value { kind: Some(Kind::NumberValue(f64::from(value))) }
}

fn object<V>(fields: &BTreeMap<String, V>, value: impl Fn(&V) -> Value) -> Value {
    let fields = fields.iter().map(|(k, v)| (k.clone(), value(v))).collect();
    Value { kind: Some(Kind::StructValue(Struct { fields })) }
}

fn list(texts: &[String]) -> Value {
    let values = texts.iter().map(|t| text(t.as_str())).collect();
    Value { kind: Some(Kind::ListValue(prost_types::ListValue { values })) }
}

impl Registration {
    /// The xDS node of the workload.
    pub fn to_node(&self) -> Node {
        let fields = [
            ("name", text(&self.name)),
            ("namespace", text(&self.namespace)),
            ("serviceAccount", text(&self.service_account)),
            ("labels", object(&self.labels, |l| text(l.as_str()))),
            ("address", text(&self.address)),
            ("meshPort", number(self.mesh_port)),
            ("moreAddresses", list(&self.more_addresses)),
            ("ports", object(&self.ports, |p| number(*p))),
            ("anyPort", Value { kind: Some(Kind::BoolValue(self.any_port)) }),
            ("state", text(self.state.as_str())),
        ];
        let ports = self.gateway_ports.as_ref().map(|ports| {
            let ports = ports.iter().take(MOST_GATEWAY_PORTS);
            let fields = ports.map(|(port, became)| (port.to_string(), became.to_value())).collect();
            ("gatewayPorts", Value { kind: Some(Kind::StructValue(Struct { fields })) })
        });
        Node {
            id: format!("{}/{}", self.namespace, self.name),
            cluster: self.namespace.clone(),
            metadata: Some(Struct {
                fields: fields.into_iter().chain(ports).map(|(k, v)| (k.to_owned(), v)).collect(),
            }),
            user_agent_name: "leno-proxy".to_owned(),
            user_agent_version: self.version.clone(),
        }
    }

    /// Reads what a sidecar said. Values are checked for their shape here, and for their meaning by the registry.
    pub fn from_node(node: &Node) -> Result<Self, InvalidRegistration> {
        let metadata = node.metadata.as_ref().ok_or_else(|| InvalidRegistration("it is missing".to_owned()))?;
        let state = match string(metadata, "state")?.as_str() {
            "ready" => WorkloadState::Ready,
            "draining" => WorkloadState::Draining,
            "unhealthy" => WorkloadState::Unhealthy,
            other => return Err(InvalidRegistration(format!("state {other:?} is none of ready, draining, unhealthy"))),
        };
        Ok(Self {
            name: string(metadata, "name")?,
            namespace: string(metadata, "namespace")?,
            service_account: string(metadata, "serviceAccount")?,
            labels: map(metadata, "labels", as_text)?,
            address: string(metadata, "address")?,
            mesh_port: field(metadata, "meshPort", as_port)?,
            more_addresses: field(metadata, "moreAddresses", as_texts)?,
            ports: map(metadata, "ports", as_port)?,
            any_port: field(metadata, "anyPort", as_bool)?,
            state,
            version: node.user_agent_version.chars().take(64).collect(),
            gateway_ports: metadata.fields.contains_key("gatewayPorts").then(|| gateway_ports(metadata)).transpose()?,
        })
    }
}

fn gateway_ports(metadata: &Struct) -> Result<GatewayPorts, InvalidRegistration> {
    field(metadata, "gatewayPorts", |value| {
        let Some(Kind::StructValue(ports)) = &value.kind else { return None };
        if ports.fields.len() > MOST_GATEWAY_PORTS {
            return None;
        }
        let ports = ports.fields.iter();
        ports.map(|(port, became)| Some((port.parse().ok()?, GatewayPort::from_value(became)?))).collect()
    })
}

fn as_text(value: &Value) -> Option<String> {
    match &value.kind {
        Some(Kind::StringValue(s)) if s.len() <= 253 => Some(s.clone()),
        _ => None,
    }
}

fn as_texts(value: &Value) -> Option<Vec<String>> {
    match &value.kind {
        Some(Kind::ListValue(list)) if list.values.len() <= MOST => list.values.iter().map(as_text).collect(),
        _ => None,
    }
}

fn as_bool(value: &Value) -> Option<bool> {
    match value.kind {
        Some(Kind::BoolValue(value)) => Some(value),
        _ => None,
    }
}

fn as_port(value: &Value) -> Option<u16> {
    match value.kind {
        Some(Kind::NumberValue(n)) if n.fract() == 0.0 && (0.0..=65535.0).contains(&n) => Some(n as u16),
        _ => None,
    }
}

fn field<T>(metadata: &Struct, name: &str, read: impl Fn(&Value) -> Option<T>) -> Result<T, InvalidRegistration> {
    metadata
        .fields
        .get(name)
        .and_then(read)
        .ok_or_else(|| InvalidRegistration(format!("field {name} is missing or of the wrong kind")))
}

fn string(metadata: &Struct, name: &str) -> Result<String, InvalidRegistration> {
    field(metadata, name, as_text)
}

fn map<T>(
    metadata: &Struct,
    name: &str,
    read: impl Fn(&Value) -> Option<T>,
) -> Result<BTreeMap<String, T>, InvalidRegistration> {
    let fields = match metadata.fields.get(name).map(|v| &v.kind) {
        Some(Some(Kind::StructValue(s))) => &s.fields,
        _ => return Err(InvalidRegistration(format!("field {name} is missing or no object"))),
    };
    if fields.len() > MOST {
        return Err(InvalidRegistration(format!(
            "field {name} has {} entries, at most {MOST} are taken",
            fields.len()
        )));
    }
    fields
        .iter()
        .map(|(k, v)| read(v).filter(|_| k.len() <= 317).map(|v| (k.clone(), v)))
        .collect::<Option<_>>()
        .ok_or_else(|| InvalidRegistration(format!("field {name} has a value of the wrong kind")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Registration {
        Registration {
            name: "web-1".into(),
            namespace: "default".into(),
            service_account: "web".into(),
            labels: [("app".to_owned(), "web".to_owned())].into(),
            address: "127.0.0.1".into(),
            mesh_port: 15008,
            more_addresses: vec!["::1".into()],
            any_port: true,
            ports: [("http".to_owned(), 8080)].into(),
            state: WorkloadState::Ready,
            version: "0.1.0".into(),
            gateway_ports: None,
        }
    }

    #[test]
    fn a_registration_survives_the_wire() {
        assert_eq!(Registration::from_node(&example().to_node()), Ok(example()));
        let ports = [(80, GatewayPort::Bound("::".parse().unwrap())), (443, GatewayPort::failed("permission denied"))];
        for gateway_ports in [Some(GatewayPorts::new()), Some(ports.into())] {
            let said = Registration { gateway_ports, ..example() };
            assert_eq!(Registration::from_node(&said.to_node()), Ok(said));
        }
    }

    #[test]
    fn what_is_said_of_a_gateways_ports_has_a_bound() {
        let said =
            Registration { gateway_ports: Some([(80, GatewayPort::failed(&"é".repeat(999)))].into()), ..example() };
        let read = Registration::from_node(&said.to_node()).unwrap();
        assert!(matches!(&read.gateway_ports.unwrap()[&80], GatewayPort::Failed(why) if why.len() <= MOST_REASON));
        let many = (1..2000).map(|port| (port, GatewayPort::failed("no"))).collect();
        let read = Registration::from_node(&Registration { gateway_ports: Some(many), ..example() }.to_node()).unwrap();
        assert_eq!(read.gateway_ports.unwrap().len(), MOST_GATEWAY_PORTS);
        let mut node = example().to_node();
        let port = |n: usize| (n.to_string(), GatewayPort::failed("no").to_value());
        let fields = (1..=MOST_GATEWAY_PORTS + 1).map(port).collect();
        let too_many = Value { kind: Some(Kind::StructValue(Struct { fields })) };
        node.metadata.as_mut().unwrap().fields.insert("gatewayPorts".into(), too_many);
        assert!(Registration::from_node(&node).unwrap_err().to_string().contains("gatewayPorts"));
    }

    #[test]
    fn a_missing_or_misshapen_field_is_named() {
        for name in ["name", "labels", "ports", "meshPort", "state", "anyPort", "moreAddresses"] {
            let mut node = example().to_node();
            node.metadata.as_mut().unwrap().fields.insert(name.into(), Value { kind: Some(Kind::NullValue(0)) });
            let error = Registration::from_node(&node).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
    }

    #[test]
    fn more_labels_than_the_bound_are_refused() {
        let mut many = example();
        many.labels = (0..=MOST).map(|n| (n.to_string(), String::new())).collect();
        assert!(Registration::from_node(&many.to_node()).is_err());
        let mut many = example();
        many.more_addresses = vec!["::1".into(); MOST + 1];
        assert!(Registration::from_node(&many.to_node()).is_err());
    }
}
