//! Between the messages of the stream and what a session works with.

use leno_certs::TrustBundle;
use leno_proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource};
use leno_proto::v1::SignedIdentity;

use super::subscriptions::{Answer, Outgoing, Request};
use crate::ca::Signed;
use crate::discovery::ResourceType;

/// Longest reason of a NACK that is kept, in bytes.
const MOST_REASON: usize = 1024;

/// What a sidecar asks for, or none when the type is not ours: xDS peers may ask for more than a server knows.
pub(super) fn request(message: DeltaDiscoveryRequest) -> Option<Request> {
    let kind = ResourceType::of_url(&message.type_url)?;
    let nonce = message.response_nonce.parse().ok();
    let answer =
        nonce.map(|nonce| Answer { nonce, refused: message.error_detail.map(|status| reason(status.message)) });
    Some(Request {
        kind,
        subscribe: message.resource_names_subscribe,
        unsubscribe: message.resource_names_unsubscribe,
        held: message.initial_resource_versions,
        answer,
    })
}

fn reason(mut text: String) -> String {
    if text.is_empty() {
        text.push_str("no reason was given");
    }
    let end = (0..=MOST_REASON.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text.truncate(end);
    text
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
