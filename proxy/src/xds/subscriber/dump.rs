//! What the admin port shows of the stream. None of it is secret.

use leno_proto::resource::Resource;
use leno_proto::v1;
use prost::Message;
use serde_json::{Map, Value, json};

use super::Subscriber;
use crate::model::Demand;
use crate::xds::held::{Key, Raw};
use crate::xds::metrics::short;

impl Subscriber {
    /// Demands, subscriptions, resources with their versions, endpoints.
    pub fn dump(&self) -> Value {
        let subscribed = self.stream.as_ref().map(|stream| {
            let types = stream.subscribed.iter().map(|(url, names)| (short(url).to_owned(), json!(names)));
            json!({
                "subscribed": types.collect::<Map<_, _>>(),
                "unanswered": stream.pending.iter().map(label).collect::<Vec<_>>(),
                "acksHeldBack": stream.owed.len(),
            })
        });
        json!({
            "demanded": self.demanded.iter().map(demand).collect::<Vec<_>>(),
            "stream": subscribed,
            "incompleteDestinations": self.incomplete,
            "resources": self.held.iter().map(resource).collect::<Vec<_>>(),
            "absent": self.held.absent().map(label).collect::<Vec<_>>(),
            "bytes": self.held.bytes(),
            "endpoints": self.endpoints(),
        })
    }

    fn endpoints(&self) -> Map<String, Value> {
        let url = <v1::Endpoints as Resource>::TYPE_URL;
        let of_type = self.held.iter().filter(|(key, _)| key.0 == url);
        of_type
            .filter_map(|((_, name), raw)| {
                let decoded = v1::Endpoints::decode(raw.any.value.as_slice()).ok()?;
                Some((name.clone(), decoded.endpoints.iter().map(endpoint).collect()))
            })
            .collect()
    }
}

fn label((url, name): &Key) -> String {
    format!("{} {name}", short(url))
}

fn demand(demand: &Demand) -> Value {
    match demand {
        Demand::Service(name) => json!({"service": name}),
        Demand::Address(addr) => json!({"address": addr}),
        Demand::Gateway(name) => json!({"gateway": name}),
    }
}

fn resource(((url, name), raw): (&Key, &Raw)) -> Value {
    json!({"type": short(url), "name": name, "version": raw.version})
}

fn endpoint(endpoint: &v1::Endpoint) -> Value {
    let ports = endpoint.ports.iter();
    json!({
        "workload": endpoint.workload,
        "address": endpoint.address,
        "meshPort": endpoint.mesh_port,
        "identity": endpoint.identity,
        "healthy": endpoint.healthy,
        "ports": ports.map(|p| json!({"servicePort": p.service_port, "target": p.target, "number": p.number})).collect::<Vec<_>>(),
    })
}
