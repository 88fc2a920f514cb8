//! Between the messages of the stream and what a session works with.

use leno_certs::TrustBundle;
use leno_proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource};
use leno_proto::v1::SignedIdentity;
use leno_proto::{GatewayPort, Registration};

use super::subscriptions::{Answer, Outgoing, Request};
use crate::ca::Signed;
use crate::discovery::ResourceType;
use crate::model::BoundPorts;

/// Longest reason of a NACK that is kept, in characters.
const MOST_REASON: usize = 1024;

/// What a sidecar asks for, or none when the type is not ours: xDS peers may ask for more than a server knows.
pub(super) fn request(message: DeltaDiscoveryRequest) -> Option<Request> {
    let kind = ResourceType::of_url(&message.type_url)?;
    let nonce = message.response_nonce.parse().ok();
    let answer =
        nonce.map(|nonce| Answer { nonce, refused: message.error_detail.map(|status| reason(&status.message)) });
    Some(Request {
        kind,
        subscribe: message.resource_names_subscribe,
        unsubscribe: message.resource_names_unsubscribe,
        held: message.initial_resource_versions,
        answer,
    })
}

fn reason(text: &str) -> String {
    if text.is_empty() { "no reason was given".to_owned() } else { printable(text, MOST_REASON) }
}

/// What a peer said, as it can be shown on a terminal: at most so many characters, and none that controls.
pub(super) fn printable(text: &str, most: usize) -> String {
    text.chars().take(most).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// What a sidecar says of the ports of the Gateway that it serves.
pub(super) fn bound_ports(registration: &Registration) -> Option<BoundPorts> {
    let became = |port: &GatewayPort| match port {
        GatewayPort::Bound(address) => Ok(*address),
        GatewayPort::Failed(why) => Err(reason(why)),
    };
    let ports = registration.gateway_ports.as_ref()?;
    Some(ports.iter().map(|(port, said)| (*port, became(said))).collect())
}

/// The message of a push.
pub(super) fn response(outgoing: Outgoing) -> DeltaDiscoveryResponse {
    let resources = outgoing.resources.into_iter().map(|(name, resource)| Resource {
        version: resource.version.to_hex(),
        resource: Some(resource.any.clone()),
        name: name.to_string(),
    });
    DeltaDiscoveryResponse {
        system_version_info: outgoing.revision.to_string(),
        resources: resources.collect(),
        type_url: outgoing.kind.url().to_owned(),
        nonce: outgoing.nonce.to_string(),
        removed_resources: outgoing.removed.iter().map(ToString::to_string).collect(),
    }
}

/// A signed leaf with what vouches for it.
pub(super) fn signed_identity(signed: Signed, bundle: TrustBundle) -> SignedIdentity {
    SignedIdentity {
        chain: signed.chain,
        roots: bundle.roots,
        trust_domain: bundle.trust_domain,
        not_before: signed.not_before.unix_timestamp(),
        not_after: signed.not_after.unix_timestamp(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_peer_says_cannot_control_a_terminal() {
        assert_eq!(printable("bad\x1b[2J\nregex ä", 99), "bad [2J regex ä");
        assert_eq!(printable(&"ä".repeat(2000), MOST_REASON).chars().count(), MOST_REASON);
        assert_eq!(reason(""), "no reason was given");
    }

    #[test]
    fn a_type_that_is_not_ours_is_passed_over() {
        let envoys = "type.googleapis.com/envoy.config.cluster.v3.Cluster".to_owned();
        assert!(request(DeltaDiscoveryRequest { type_url: envoys, ..DeltaDiscoveryRequest::default() }).is_none());
    }
}
