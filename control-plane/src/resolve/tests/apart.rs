//! HTTPRoutes and GRPCRoutes on one listener.

use super::*;

/// What came of the routes `h` and `g`, of which `h` is older by its name, and how many the listener has.
fn of(listener: &str, http: &str, grpc: &str) -> (&'static str, &'static str, usize) {
    let yaml = gateway(&format!("  - {{name: http, port: 80, protocol: HTTP{listener}}}\n"))
        + &route("HTTPRoute", "infra/a-h", "name: edge", http)
        + &route("GRPCRoute", "infra/b-g", "name: edge", grpc);
    let resolved = resolved(&yaml);
    let attached = listeners(&resolved)[0].attached.len();
    let outcome = |kind, at| outcome(&resolved, kind, at);
    (outcome(Kind::HttpRoute, "infra/a-h"), outcome(Kind::GrpcRoute, "infra/b-g"), attached)
}

#[test]
fn of_an_http_and_a_grpc_route_with_a_common_hostname_the_older_holds() {
    let (fine, clash) = (("Accepted", "Accepted", 2), ("Accepted", "Conflicted", 1));
    for (listener, http, grpc, expected) in [
        ("", "a.example.com", "b.example.com", fine),
        ("", "a.example.com", "a.example.com", clash),
        ("", "a.example.com", "'*.example.com'", clash),
        ("", "'*.example.com'", "a.example.com", clash),
        ("", "'*.example.com'", "'*.b.example.com'", clash),
        ("", "'*.example.com'", "'*.example.org'", fine),
        ("", "", "a.example.com", clash),
        ("", "", "", clash),
        (", hostname: '*.example.com'", "", "a.example.com", clash),
        // What the listener does not stand for is not served, so nothing of it is in common.
        (", hostname: a.example.com", "a.example.com, b.example.org", "'*.example.com', b.example.org", clash),
        (", hostname: '*.a.example.com'", "'*.example.com'", "x.a.example.com", clash),
    ] {
        assert_eq!(of(listener, http, grpc), expected, "{listener} {http} {grpc}");
    }
}

#[test]
fn a_route_that_is_left_with_a_listener_is_accepted() {
    let yaml = gateway(
        "  - {name: one, port: 80, protocol: HTTP}\n  - {name: two, port: 81, protocol: HTTP, hostname: b.example.com}\n",
    ) + &route("HTTPRoute", "infra/a-h", "name: edge, sectionName: one", "")
        + &route("GRPCRoute", "infra/b-g", "name: edge", "b.example.com");
    let resolved = resolved(&yaml);
    assert_eq!(outcome(&resolved, Kind::GrpcRoute, "infra/b-g"), "Accepted");
    let attached: Vec<usize> = listeners(&resolved).iter().map(|listener| listener.attached.len()).collect();
    assert_eq!(attached, [1, 1]);
}
