//! Which rule takes a request: the whole way that routes go, as they are written, through the control plane's checks and resources into the sidecar's
//! order of matches, is compared with a slow, literal reading of the specification, on a million requests to random sets of routes. The
//! alphabets are small, so that routes collide and tie. `LENO_SEED=N` repeats a run.

#![allow(clippy::unwrap_used)]

#[path = "matching/literal.rs"]
mod literal;
#[path = "matching/random.rs"]
mod random;

use std::collections::BTreeSet;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use leno_control_plane::config;
use leno_control_plane::discovery::{Client, Engine, Globals, ResourceType};
use leno_control_plane::model::{Committed, Mesh};
use leno_control_plane::registry::Live;
use leno_control_plane::validate;
use leno_proxy::model::{Candidate, Demand, Resources};

use literal::{Request, Route};

/// Sets of routes; each is asked every request that the alphabets allow.
const SETS: usize = 1_500;

/// The matches of the Service's port as the sidecar tries them.
fn candidates(routes: &[Route]) -> Vec<Candidate> {
    let mut mesh = Mesh::default();
    let service = r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"web"},"spec":{"selector":{"app":"web"},"ports":[{"port":80}]}}"#;
    for text in std::iter::once(service.to_owned()).chain(routes.iter().map(Route::written)) {
        let parsed = config::parse("routes.json", text.as_bytes());
        let checked = validate::batch(parsed.objects);
        assert!(checked.refused.is_empty() && checked.valid.len() == 1, "{text}: {:?}", checked.problems);
        checked.valid[0].put_into(&mut mesh, 0);
    }
    let globals = Globals {
        trust_domain: "cluster.local".into(),
        roots: vec![],
        federated: Default::default(),
        jwks: Default::default(),
        renew_generation: 0,
    };
    let committed = Committed { revision: 1, mesh: Arc::new(mesh) };
    let world = Engine::default().update(&committed, &Arc::new(Live::default()), &globals).unwrap();
    let mut held = Resources::default();
    let client = Client { namespace: "default".into(), identity: "spiffe://cluster.local/ns/default/sa/a".into() };
    let mut take = |of: ResourceType, name: &str| {
        let resource = world.get(of, name, &client).unwrap_or_else(|| panic!("no {name}"));
        held.upsert(name, &resource.any).unwrap();
    };
    take(ResourceType::Service, "default/web");
    take(ResourceType::Endpoints, "default/web");
    routes.iter().for_each(|route| take(ResourceType::HttpRoute, &route.resource()));
    let assembled = held.assemble(&BTreeSet::from([Demand::Service("default/web".to_owned())]));
    assert_eq!(assembled.incomplete, 0);
    assembled.snapshot.services["default/web"].as_ref().unwrap().ports[0].candidates.clone()
}

/// What the sidecar asks of a request.
struct Asked {
    request: Request,
    method: Method,
    headers: HeaderMap,
}

impl Asked {
    fn of(request: Request) -> Self {
        let mut headers = HeaderMap::new();
        for &(name, value) in &request.headers {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_static(value));
        }
        Self { method: request.method.parse().unwrap(), headers, request }
    }

    /// The resource and the name of the rule that takes it.
    fn taken_by<'a>(&self, candidates: &'a [Candidate]) -> Option<(&'a str, &'a str)> {
        let Request { path, query, grpc, .. } = &self.request;
        let query = (!query.is_empty()).then_some(*query);
        let taken = candidates.iter().find(|c| c.takes(&self.method, path, query, &self.headers, *grpc))?;
        Some((taken.rule.route.as_str(), taken.rule.name.as_str()))
    }
}

#[test]
fn a_million_requests_are_taken_by_the_rule_that_a_literal_reading_says() {
    let seed = std::env::var("LENO_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    println!("LENO_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let requests: Vec<Asked> = random::requests().into_iter().map(Asked::of).collect();
    let (mut compared, mut found, mut ties) = (0_usize, 0_usize, 0_usize);
    for _ in 0..SETS {
        let routes = random::routes(&mut random);
        let candidates = candidates(&routes);
        for asked in &requests {
            let expected = literal::read(&routes, &asked.request);
            let taken = asked.taken_by(&candidates);
            let expected_names = expected.as_ref().map(|hit| (hit.resource.as_str(), hit.rule.as_str()));
            assert_eq!(taken, expected_names, "LENO_SEED={seed}\n{:?}\nof {routes:#?}", asked.request);
            compared += 1;
            found += usize::from(taken.is_some());
            ties += expected.map_or(0, |hit| usize::from(hit.tied));
        }
    }
    println!("{compared} requests to {SETS} sets of routes: {found} were taken, {ties} after a tie of matches");
    assert!(compared >= 1_000_000, "only {compared}");
    // Else the comparison says nothing.
    assert!(found > compared / 4 && found < compared && ties > compared / 100, "{found} {ties}");
}
