//! What a user would write for each feature.

use std::net::SocketAddr;

/// Rules of those that have many.
const MANY: usize = 1_000;

fn policy(rules: &str) -> String {
    format!(
        "apiVersion: leno.dev/v1alpha1\nkind: AuthorizationPolicy\nmetadata: {{name: many, namespace: default}}\n\
         spec:\n  targetRefs: [{{group: \"\", kind: Service, name: web}}]\n  action: ALLOW\n  rules:\n{rules}"
    )
}

/// Most are for other callers.
pub fn rules_of_callers() -> String {
    let rule = |n| format!("  - {{from: [{{serviceAccounts: [caller-{n}]}}], to: [{{paths: [\"/things-{n}/*\"]}}]}}\n");
    let mut rules: String = (1..MANY).map(rule).collect();
    rules.push_str("  - {from: [{serviceAccounts: [frontend]}], to: [{methods: [GET], paths: [/]}]}\n");
    policy(&rules)
}

/// All are for the caller, and the last one lets it in.
pub fn rules_of_paths() -> String {
    let rule = |n| {
        format!(
            "  - {{from: [{{serviceAccounts: [frontend]}}], to: [{{methods: [GET], paths: [\"/api/v1/things-{n}/*\"]}}]}}\n"
        )
    };
    let mut rules: String = (1..MANY).map(rule).collect();
    rules.push_str("  - {from: [{serviceAccounts: [frontend]}], to: [{methods: [GET], paths: [/]}]}\n");
    policy(&rules)
}

/// Rules of routes of the service, none of which is the request's.
pub fn routes(many: usize) -> String {
    let route = |n: usize| {
        let rule = |m| {
            format!(
                "  - {{matches: [{{path: {{type: PathPrefix, value: /route-{n}/{m}}}}}], backendRefs: [{{name: web, port: 80}}]}}\n"
            )
        };
        format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: r{n}, namespace: default}}\nspec:\n  \
             parentRefs: [{{group: \"\", kind: Service, name: web, port: 80}}]\n  rules:\n{}---\n",
            (0..10).map(rule).collect::<String>()
        )
    };
    let mut routes: String = (0..many / 10).map(route).collect();
    // Where a Service has routes, what none of them matches is 404.
    routes.push_str(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: rest, namespace: default}\nspec:\n  \
         parentRefs: [{group: \"\", kind: Service, name: web, port: 80}]\n  rules: [{backendRefs: [{name: web, port: 80}]}]\n",
    );
    routes
}

/// Retries as a user asks for them; without that there are two for idempotent requests.
pub fn retries(attempts: u32) -> String {
    format!(
        "apiVersion: leno.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {{name: web, namespace: default}}\nspec:\n  \
         targetRefs: [{{group: \"\", kind: Service, name: web}}]\n  retry: {{attempts: {attempts}, codes: [502, 503, 504]}}\n"
    )
}

/// A copy of each request to another server, which has no sidecar.
pub fn mirror(to: SocketAddr) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: copies, namespace: default}}\nspec: {{selector: {{app: copies}}, \
         ports: [{{name: http, port: 80, targetPort: http, appProtocol: http}}]}}\n---\n\
         apiVersion: leno.dev/v1alpha1\nkind: Workload\nmetadata: {{name: copies, namespace: default, labels: {{app: copies}}}}\n\
         spec: {{address: {}, ports: {{http: {}}}}}\n---\n\
         apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: web, namespace: default}}\nspec:\n  \
         parentRefs: [{{group: \"\", kind: Service, name: web, port: 80}}]\n  rules: [{{backendRefs: [{{name: web, port: 80}}], \
         filters: [{{type: RequestMirror, requestMirror: {{backendRef: {{name: copies, port: 80}}}}}}]}}]\n",
        to.ip(),
        to.port()
    )
}
