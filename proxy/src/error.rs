//! Why a request or connection failed: a closed set of reasons, each with whose fault it is, whether the app may have seen the
//! request, and the status that it becomes. The same code stands in the response header, the log and the metric.

// Said in full, since the fuzz targets take this file by its path.
#[path = "error/advice.rs"]
mod advice;

use http::StatusCode;

/// The header that carries the reason of an answer that a sidecar made itself.
pub const REASON_HEADER: http::HeaderName = http::HeaderName::from_static("leno-reason");

/// Which sidecar made such an answer: the caller's (`outbound`) or the app's (`inbound`).
pub const HOP_HEADER: http::HeaderName = http::HeaderName::from_static("leno-hop");
/// Whose fault it is.
pub const FAULT_HEADER: http::HeaderName = http::HeaderName::from_static("leno-fault");
/// Whether trying again is safe: `safe` whatever the method, or `if-idempotent`.
pub const RETRY_HEADER: http::HeaderName = http::HeaderName::from_static("leno-retry");

/// Whose sidecar it is that says a reason. A caller's passes on what the app's has said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hop {
    /// The caller's.
    Caller,
    /// The app's.
    App,
    /// Either.
    Any,
}

/// Whose fault a failure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The caller asked for something impossible.
    Downstream,
    /// The service that was called.
    Upstream,
    /// What the mesh was configured to do.
    Configuration,
    /// The mesh itself.
    Mesh,
}

impl Fault {
    /// As header, log and metric name it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Downstream => "downstream",
            Self::Upstream => "upstream",
            Self::Configuration => "configuration",
            Self::Mesh => "mesh",
        }
    }
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])* $name:ident = $code:literal, $status:ident, $fault:ident, unseen: $unseen:literal;)*) => {
        /// Why a sidecar answered a request itself, or closed a connection.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Reason { $($(#[doc = $doc])* $name),* }

        impl Reason {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The stable code.
            pub fn code(self) -> &'static str {
                match self { $(Self::$name => $code),* }
            }

            /// The HTTP status it becomes.
            pub fn status(self) -> StatusCode {
                match self { $(Self::$name => StatusCode::$status),* }
            }

            /// Whose fault it is.
            pub fn fault(self) -> Fault {
                match self { $(Self::$name => Fault::$fault),* }
            }

            /// What it means, in a sentence or two.
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),*).trim_ascii()),* }
            }

            /// True when no app has seen a byte of the request, so that trying again is safe whatever its method.
            pub fn unseen(self) -> bool {
                match self { $(Self::$name => $unseen),* }
            }
        }
    };
}

reasons! {
    /// The request names no host, or one that cannot be read.
    BadAuthority = "bad_authority", BAD_REQUEST, Downstream, unseen: true;
    /// A form of request that this port does not serve.
    BadRequest = "bad_request", BAD_REQUEST, Downstream, unseen: true;
    /// What came is no HTTP, or two readers could take it differently. The connection is closed.
    MalformedRequest = "malformed_request", BAD_REQUEST, Downstream, unseen: true;
    /// The request's head has more than 64 KiB or 100 fields, or its first line more than 16 KiB.
    HeadTooLarge = "head_too_large", REQUEST_HEADER_FIELDS_TOO_LARGE, Downstream, unseen: true;
    /// The request's head did not come whole within 30 s of its first byte. The connection is closed.
    HeadTimeout = "head_timeout", REQUEST_TIMEOUT, Downstream, unseen: true;
    /// There is no service of that name in the mesh, or it has no such port.
    UnknownService = "unknown_service", NOT_FOUND, Downstream, unseen: true;
    /// The service has routes, and none matches the request; or a gateway has no listener or route for its host.
    NoRoute = "no_route", NOT_FOUND, Configuration, unseen: true;
    /// The route's backend does not exist or may not be referred to (Gateway API: 500).
    InvalidBackend = "invalid_backend", INTERNAL_SERVER_ERROR, Configuration, unseen: true;
    /// The matching rule has no backend with a weight above zero (Gateway API: 500).
    NoBackend = "no_backend", INTERNAL_SERVER_ERROR, Configuration, unseen: true;
    /// The service has no endpoint, or none that is healthy.
    NoEndpoints = "no_endpoints", SERVICE_UNAVAILABLE, Upstream, unseen: true;
    /// The control plane has not yet said where the service is.
    NotResolved = "not_resolved", SERVICE_UNAVAILABLE, Mesh, unseen: true;
    /// The endpoint could not be dialled.
    ConnectFailed = "connect_failed", SERVICE_UNAVAILABLE, Upstream, unseen: true;
    /// Dialling the endpoint took longer than the connect timeout.
    ConnectTimeout = "connect_timeout", SERVICE_UNAVAILABLE, Upstream, unseen: true;
    /// The TLS handshake with the endpoint's sidecar failed.
    TlsFailed = "tls_failed", SERVICE_UNAVAILABLE, Mesh, unseen: true;
    /// The endpoint's sidecar proved another identity than the one that serves there.
    WrongIdentity = "wrong_identity", SERVICE_UNAVAILABLE, Mesh, unseen: true;
    /// The TLS handshake with a backend that has no sidecar failed: it is not who its BackendTLSPolicy says.
    BackendTlsFailed = "backend_tls_failed", SERVICE_UNAVAILABLE, Upstream, unseen: true;
    /// The BackendTLSPolicy of the backend cannot be met, or the Gateway lacks the client certificate that it is to show. Nobody is dialled.
    BackendTlsInvalid = "backend_tls_invalid", SERVICE_UNAVAILABLE, Configuration, unseen: true;
    /// The connection to the gateway was made for another listener than the one that has the request's host.
    Misdirected = "misdirected", MISDIRECTED_REQUEST, Downstream, unseen: true;
    /// The upstream refused the stream before it looked at it.
    Refused = "upstream_refused", SERVICE_UNAVAILABLE, Upstream, unseen: true;
    /// The app behind the far sidecar does not accept connections.
    AppConnectFailed = "app_connect_failed", SERVICE_UNAVAILABLE, Upstream, unseen: true;
    /// The far sidecar has no app port of that name.
    UnknownPort = "unknown_port", SERVICE_UNAVAILABLE, Configuration, unseen: true;
    /// The connection to the upstream ended before an answer came.
    UpstreamReset = "upstream_reset", BAD_GATEWAY, Upstream, unseen: false;
    /// The app closed its connection before it answered.
    AppReset = "app_reset", BAD_GATEWAY, Upstream, unseen: false;
    /// The upstream's answer is not HTTP.
    UpstreamProtocol = "upstream_protocol_error", BAD_GATEWAY, Upstream, unseen: false;
    /// The route's timeout passed.
    Timeout = "timeout", GATEWAY_TIMEOUT, Upstream, unseen: false;
    /// The connection leads out of the mesh, and the namespace reaches only what is in it (REGISTRY_ONLY).
    EgressDenied = "egress_denied", FORBIDDEN, Configuration, unseen: true;
    /// The connection leads to one of the sidecar's own ports, and so back to where it came from.
    LoopRefused = "loop_refused", LOOP_DETECTED, Downstream, unseen: true;
    /// A page asks before it uses another origin's answers (a CORS preflight), and the route does not allow its origin.
    CorsDenied = "cors_denied", FORBIDDEN, Downstream, unseen: true;
    /// Plaintext from outside the mesh, and the namespace takes none (STRICT).
    PlaintextRefused = "plaintext_refused", FORBIDDEN, Downstream, unseen: true;
    /// An AuthorizationPolicy denies it, or there are policies that allow and none allows this.
    Denied = "denied", FORBIDDEN, Downstream, unseen: true;
    /// The caller was revoked (`leno revoke`): it is in the mesh no more, whatever its certificate says.
    Revoked = "revoked", FORBIDDEN, Downstream, unseen: true;
    /// The endpoint was revoked (`leno revoke`), so it is sent nothing.
    EndpointRevoked = "endpoint_revoked", SERVICE_UNAVAILABLE, Mesh, unseen: true;
    /// An AuthorizationPolicy looks at paths, and this one can be read in two ways (`//`, `..`, `;`, `%2f` and the like).
    UnclearPath = "unclear_path", BAD_REQUEST, Downstream, unseen: true;
    /// An AuthorizationPolicy looks at what a token says, and the request's is not to be believed: expired, of another issuer, not signed by it, there twice and the like.
    BadToken = "bad_token", UNAUTHORIZED, Downstream, unseen: true;
    /// The control plane has not yet said who may call the app.
    PolicyUnknown = "policy_unknown", SERVICE_UNAVAILABLE, Mesh, unseen: true;
    /// Neither the client nor the server said anything for ten minutes.
    Silent = "silent", REQUEST_TIMEOUT, Downstream, unseen: true;
    /// The time that the caller gave had passed when the request came.
    DeadlineExpired = "deadline_expired", GATEWAY_TIMEOUT, Downstream, unseen: true;
    /// The time that the caller gave passed before the answer came.
    DeadlineExceeded = "deadline_exceeded", GATEWAY_TIMEOUT, Upstream, unseen: false;
    /// As much is open at the service as its circuit breaker allows.
    Overloaded = "overloaded", SERVICE_UNAVAILABLE, Upstream, unseen: true;
    /// The app has as many requests as it answers in good time (adaptive concurrency).
    AppOverloaded = "app_overloaded", SERVICE_UNAVAILABLE, Upstream, unseen: true;
    /// The caller has used up its rate limit.
    RateLimited = "rate_limited", TOO_MANY_REQUESTS, Downstream, unseen: true;
    /// A fault that a policy asks for. Its status is the policy's.
    FaultInjected = "fault_injected", SERVICE_UNAVAILABLE, Configuration, unseen: true;
    /// The caller broke its request off while it was sent.
    DownstreamReset = "downstream_reset", BAD_REQUEST, Downstream, unseen: false;
}

impl Reason {
    /// Whose sidecar says it.
    pub fn hop(self) -> Hop {
        match self {
            Self::AppConnectFailed
            | Self::AppReset
            | Self::UnknownPort
            | Self::PlaintextRefused
            | Self::AppOverloaded
            | Self::RateLimited
            | Self::Revoked
            | Self::UnclearPath
            | Self::BadToken
            | Self::PolicyUnknown => Hop::App,
            // By the caller's own sidecar where no request could be let in.
            Self::Denied
            | Self::BadAuthority
            | Self::BadRequest
            | Self::MalformedRequest
            | Self::HeadTooLarge
            | Self::UpstreamProtocol
            | Self::DeadlineExpired
            | Self::DeadlineExceeded
            | Self::DownstreamReset => Hop::Any,
            _ => Hop::Caller,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_words() {
        let codes: std::collections::BTreeSet<_> = Reason::ALL.iter().map(|r| r.code()).collect();
        assert_eq!(codes.len(), Reason::ALL.len());
        assert!(codes.iter().all(|c| c.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')));
    }
}
