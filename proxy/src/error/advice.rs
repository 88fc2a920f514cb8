//! What to do about each reason, for whoever asks why.

use super::Reason;

impl Reason {
    /// What to do, in a sentence or two.
    pub fn advice(self) -> &'static str {
        match self {
            Self::BadAuthority => "Let the client name one host: absolute form or Host, without a user.",
            Self::BadRequest => "Correct the client: the request asks for something that a proxy does not carry.",
            Self::MalformedRequest => {
                "Correct the client, or what stands between it and the sidecar: two readers could take the request differently."
            }
            Self::HeadTooLarge => "Send smaller headers (64 KiB, 100 fields); often a cookie has grown without an end.",
            Self::HeadTimeout => "The client has to send the whole head within 30 s; look at its network or its load.",
            Self::UnknownService => {
                "Correct the name, or apply the Service: `leno get services -A`. A short name is one of the caller's own namespace."
            }
            Self::NoRoute => {
                "No rule of the routes that are attached matches: `leno get httproutes -o yaml`. Add a rule, or correct the path, host or headers."
            }
            Self::InvalidBackend => {
                "A backendRef leads nowhere: `leno get httproutes -o yaml` says it under ResolvedRefs. Correct the name or port, or grant the reference."
            }
            Self::NoBackend => "All backends of the rule have weight 0, or there is none: give one a weight.",
            Self::NoEndpoints => {
                "No instance of the service takes requests: `leno get workloads -A` and `leno status`. Start one, or correct the Service's selector."
            }
            Self::NotResolved => {
                "The control plane did not say in time where that is. `leno status`: is the sidecar connected? A name that was never used needs it once."
            }
            Self::ConnectFailed => {
                "Nothing accepts connections at that address: is the instance, or its sidecar, running, and its mesh port open in between?"
            }
            Self::ConnectTimeout => {
                "The address does not answer: a firewall between the two, or a machine that is gone. `connectTimeout` of a TrafficPolicy is the limit."
            }
            Self::TlsFailed => {
                "The two sidecars do not believe each other: `leno check` (clocks, certificates), and the log of the called one, which says why."
            }
            Self::WrongIdentity => {
                "Somebody else answers at that address, often a workload that was moved: `leno status`; a Workload with an `identity` has to name the right one."
            }
            Self::BackendTlsFailed => {
                "Compare the BackendTLSPolicy (hostname, caCertificateRefs) with the certificate that the backend shows: `openssl s_client`."
            }
            Self::BackendTlsInvalid => {
                "`leno get backendtlspolicies -o yaml` says what is missing; nobody is dialled until it is there."
            }
            Self::Misdirected => {
                "The client uses a connection for a host that it was not made for; it has to make another one."
            }
            Self::Refused => {
                "The instance was about to end, or had no room; it is tried elsewhere. Where it lasts: `leno get workloads`."
            }
            Self::AppConnectFailed => {
                "The app does not listen at the port that its sidecar was given (`--port`): is it running, and at that address?"
            }
            Self::UnknownPort => {
                "The instance has no port of that name: compare the Service's targetPort with the sidecar's `--port`."
            }
            Self::UpstreamReset => {
                "The connection to the instance's sidecar broke off while it had the request: was it killed? The log of that sidecar says more."
            }
            Self::AppReset => {
                "The app broke its connection off: look at its log; it may have crashed, or closed an idle connection too early."
            }
            Self::UpstreamProtocol => {
                "The app does not speak what its Service says: correct `appProtocol` (http, kubernetes.io/h2c, tcp)."
            }
            Self::Timeout => {
                "The app took longer than the rule allows (`timeouts.backendRequest`, `perTryTimeout`): make it faster, or allow more."
            }
            Self::EgressDenied => {
                "The destination is not in the mesh and the namespace allows no others (REGISTRY_ONLY): add a Service and a Workload for it, or `egress: ALLOW`."
            }
            Self::LoopRefused => "The app called its own sidecar's port; let it call the service by its name.",
            Self::CorsDenied => {
                "Add the origin to `allowOrigins` of the route's CORS filter, if pages of it may use the answers."
            }
            Self::PlaintextRefused => {
                "The caller has no sidecar, or went past it. Give it one, or let plaintext in for a while: `mtls: PERMISSIVE`."
            }
            Self::Denied => {
                "`leno policy test --from CALLER --to SERVICE --path PATH` says which rule decides; change the AuthorizationPolicy if the caller may."
            }
            Self::Revoked => "The caller was revoked: `leno revoke list`. Let it join anew, or undo the revocation.",
            Self::EndpointRevoked => "Every instance that is left was revoked: `leno revoke list`; start others.",
            Self::UnclearPath => {
                "Rules look at paths, and this one can be read in two ways (`//`, `..`, `%2f`): let the client send the plain form."
            }
            Self::BadToken => {
                "The user's token is not believed: expired, for somebody else, or by an unknown key. The log of the called sidecar says which."
            }
            Self::PolicyUnknown => {
                "The sidecar has just started and the control plane is away: `leno status`; it is right again once they have spoken."
            }
            Self::Silent => {
                "Nobody said anything for ten minutes; long silences need a protocol with pings, or `idleTimeout`."
            }
            Self::DeadlineExpired => {
                "The caller gave too little time, or the request waited too long before this hop: see the hops before it."
            }
            Self::DeadlineExceeded => {
                "The caller's time was over before the app answered: see at which hop it went, or give more."
            }
            Self::Overloaded => {
                "As much is open at the service as its circuit breaker allows: add instances, or raise `circuitBreaker` in its TrafficPolicy."
            }
            Self::AppOverloaded => {
                "The app answers more slowly than it could with fewer requests (adaptive concurrency): add instances."
            }
            Self::RateLimited => {
                "The caller used up its limit; `RateLimit` headers say when it may come again. Raise `rateLimits` if it may do more."
            }
            Self::FaultInjected => "A TrafficPolicy asks for it (`faults`): remove it when the experiment is over.",
            Self::DownstreamReset => "The caller gave up while it sent: its own timeout, or its connection broke.",
        }
    }
}
