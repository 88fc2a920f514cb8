//! The kinds of object that may be written: how each is called, and what is said of the others.

use std::fmt;

use super::hint;
use crate::model::Kind;

struct Written {
    kind: Kind,
    /// The first is what is stored; the others are taken as the same.
    api_versions: &'static [&'static str],
    /// Other words for it, lower case, as kubectl takes them.
    words: &'static [&'static str],
}

const GATEWAY_V1: &str = "gateway.networking.k8s.io/v1";

const KINDS: [Written; 20] = [
    Written { kind: Kind::Namespace, api_versions: &["v1"], words: &["namespaces", "ns"] },
    Written { kind: Kind::Service, api_versions: &["v1"], words: &["services", "svc"] },
    Written { kind: Kind::Workload, api_versions: &["leno.dev/v1alpha1"], words: &["workloads", "wl"] },
    Written {
        kind: Kind::HttpRoute,
        api_versions: &[GATEWAY_V1, "gateway.networking.k8s.io/v1beta1"],
        words: &["httproutes"],
    },
    Written {
        kind: Kind::GrpcRoute,
        api_versions: &[GATEWAY_V1, "gateway.networking.k8s.io/v1alpha2"],
        words: &["grpcroutes"],
    },
    Written {
        kind: Kind::TcpRoute,
        api_versions: &["gateway.networking.k8s.io/v1alpha2", GATEWAY_V1],
        words: &["tcproutes"],
    },
    Written {
        kind: Kind::ReferenceGrant,
        api_versions: &[GATEWAY_V1, "gateway.networking.k8s.io/v1beta1", "gateway.networking.k8s.io/v1alpha2"],
        words: &["referencegrants", "refgrant", "refgrants"],
    },
    Written {
        kind: Kind::TrafficPolicy,
        api_versions: &["leno.dev/v1alpha1"],
        words: &["trafficpolicies", "trafficpolicys", "tp"],
    },
    Written {
        kind: Kind::GatewayClass,
        api_versions: &[GATEWAY_V1, "gateway.networking.k8s.io/v1beta1"],
        words: &["gatewayclasses", "gc"],
    },
    Written {
        kind: Kind::Gateway,
        api_versions: &[GATEWAY_V1, "gateway.networking.k8s.io/v1beta1"],
        words: &["gateways", "gtw"],
    },
    Written { kind: Kind::ListenerSet, api_versions: &[GATEWAY_V1], words: &["listenersets", "lset"] },
    Written {
        kind: Kind::TlsRoute,
        api_versions: &[GATEWAY_V1, "gateway.networking.k8s.io/v1alpha3", "gateway.networking.k8s.io/v1alpha2"],
        words: &["tlsroutes"],
    },
    Written {
        kind: Kind::BackendTlsPolicy,
        api_versions: &[GATEWAY_V1, "gateway.networking.k8s.io/v1alpha3"],
        words: &["backendtlspolicies", "btlspolicy"],
    },
    Written { kind: Kind::Secret, api_versions: &["v1"], words: &["secrets"] },
    Written { kind: Kind::ConfigMap, api_versions: &["v1"], words: &["configmaps", "cm"] },
    Written { kind: Kind::EndpointSlice, api_versions: &["discovery.k8s.io/v1"], words: &["endpointslices"] },
    Written { kind: Kind::Endpoints, api_versions: &["v1"], words: &["ep"] },
    Written {
        kind: Kind::AuthorizationPolicy,
        api_versions: &["leno.dev/v1alpha1"],
        words: &["authorizationpolicies", "authorizationpolicys", "ap"],
    },
    Written { kind: Kind::JwtProvider, api_versions: &["leno.dev/v1alpha1"], words: &["jwtproviders", "jp"] },
    Written {
        kind: Kind::FederatedTrustDomain,
        api_versions: &["leno.dev/v1alpha1"],
        words: &["federatedtrustdomains", "ftd"],
    },
];

/// Kinds that belong to the mesh and are refused until they work, since ignoring one would be a lie.
const NOT_YET: [&str; 7] =
    ["UDPRoute", "XBackendTrafficPolicy", "XMesh", "Rollout", "RateLimit", "ServiceAccount", "Ingress"];

/// Why an object's kind is refused: a message and a hint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownKind {
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: String,
    /// Whether the apiVersion is at fault, and not the kind.
    pub api_version: bool,
}

impl fmt::Display for UnknownKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.message, self.hint)
    }
}

impl std::error::Error for UnknownKind {}

fn written(kind: Kind) -> &'static Written {
    // KINDS has every kind, as a test below checks; the fallback is never taken.
    KINDS.iter().find(|entry| entry.kind == kind).unwrap_or(&KINDS[0])
}

/// The apiVersion under which a kind is stored.
pub fn api_version(kind: Kind) -> &'static str {
    written(kind).api_versions[0]
}

fn supported() -> String {
    let all: Vec<String> = KINDS.iter().map(|entry| format!("{} ({})", entry.kind, entry.api_versions[0])).collect();
    format!("supported are {}", all.join(", "))
}

/// The kind that an object's `apiVersion` and `kind` name.
pub(super) fn kind_of(api_version: &str, kind: &str) -> Result<Kind, UnknownKind> {
    let shown = super::problem::clip(kind.to_owned(), 60);
    let Some(found) = Kind::from_exact(kind) else {
        let (message, hint) = if NOT_YET.contains(&kind) {
            (format!("kind {shown} is not supported yet"), format!("remove the object; {}", supported()))
        } else {
            let names = Kind::ALL.map(Kind::as_str);
            let hint = match hint::nearest(kind, &names) {
                Some(near) => format!("did you mean {near}? {}", supported()),
                None => supported(),
            };
            (format!("kind {shown:?} is not known"), hint)
        };
        return Err(UnknownKind { message, hint, api_version: false });
    };
    let entry = written(found);
    if entry.api_versions.contains(&api_version) {
        return Ok(found);
    }
    Err(UnknownKind {
        message: format!("{found} has no apiVersion {:?}", super::problem::clip(api_version.to_owned(), 80)),
        hint: format!("write apiVersion: {}", entry.api_versions.join(" or ")),
        api_version: true,
    })
}

/// The kind that a person names on a command line or in a URL: `HTTPRoute`, `httproutes`, `svc`.
pub fn kind_from_word(word: &str) -> Result<Kind, UnknownKind> {
    let lower = word.to_ascii_lowercase();
    let found = KINDS
        .iter()
        .find(|entry| entry.kind.as_str().eq_ignore_ascii_case(&lower) || entry.words.contains(&lower.as_str()));
    found.map(|entry| entry.kind).ok_or_else(|| {
        let names = Kind::ALL.map(Kind::as_str);
        let near = hint::nearest(word, &names).map(|near| format!("did you mean {near}? ")).unwrap_or_default();
        UnknownKind {
            message: format!("kind {:?} is not known", super::problem::clip(word.to_owned(), 60)),
            hint: format!("{near}{}", supported()),
            api_version: false,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_an_entry_and_is_found_by_its_words() {
        for kind in Kind::ALL {
            assert_eq!(written(kind).kind, kind);
            assert_eq!(kind_of(api_version(kind), kind.as_str()), Ok(kind));
            for word in written(kind).words {
                assert_eq!(kind_from_word(word), Ok(kind));
            }
        }
        assert_eq!(kind_from_word("HttpRoutes"), Ok(Kind::HttpRoute));
    }

    #[test]
    fn a_kind_that_is_not_supported_yet_is_refused_by_name() {
        let error = kind_of("gateway.networking.k8s.io/v1alpha2", "UDPRoute").unwrap_err();
        assert_eq!(error.message, "kind UDPRoute is not supported yet");
        assert!(kind_of("v1", "Servise").unwrap_err().hint.contains("did you mean Service?"));
        assert!(kind_of("v2", "Service").unwrap_err().hint.contains("apiVersion: v1"));
    }
}
