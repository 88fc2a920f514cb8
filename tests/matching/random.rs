//! Random routes, and every request, of small alphabets.

use fastrand::Rng;

use super::literal::{Match, Path, Request, Route};

const PREFIXES: [&str; 5] = ["/", "/a", "/a/", "/a/b", "/b"];
const PATHS: [&str; 8] = ["/", "/a", "/a/", "/a/b", "/ab", "/a/b/c", "/b", "/A"];
const METHODS: [&str; 2] = ["GET", "POST"];
const HEADERS: [(&str, &str); 4] = [("x", "1"), ("X", "2"), ("y", "1"), ("x", "1,2")];
const QUERIES: [(&str, &str); 3] = [("q", "1"), ("q", "2"), ("r", "1")];
const SERVICES: [&str; 3] = ["S", "S.T", "U"];
const GRPC_METHODS: [&str; 3] = ["M", "N", "Long"];

fn some<T>(random: &mut Rng, one_in: u8, value: impl FnOnce(&mut Rng) -> T) -> Option<T> {
    (random.u8(..one_in) == 0).then(|| value(random))
}

/// A few different entries by name as it is spelt, which a match must not repeat.
fn few<const N: usize>(random: &mut Rng, of: &[(&'static str, &'static str); N]) -> Vec<(&'static str, &'static str)> {
    let mut found: Vec<(&str, &str)> = Vec::new();
    for _ in 0..random.usize(..3) {
        let one = of[random.usize(..N)];
        if found.iter().all(|(name, _)| *name != one.0) {
            found.push(one);
        }
    }
    found
}

fn http_match(random: &mut Rng) -> Match {
    let path = some(random, 2, |random| match random.bool() {
        true => Path::Exact(PATHS[random.usize(..PATHS.len())]),
        false => Path::Prefix(PREFIXES[random.usize(..PREFIXES.len())]),
    });
    Match {
        path,
        method: some(random, 3, |random| METHODS[random.usize(..METHODS.len())]),
        headers: few(random, &HEADERS),
        query: few(random, &QUERIES),
        grpc: None,
    }
}

fn grpc_match(random: &mut Rng) -> Match {
    let service = some(random, 2, |random| SERVICES[random.usize(..SERVICES.len())]);
    let method = some(random, 2, |random| GRPC_METHODS[random.usize(..GRPC_METHODS.len())]);
    let grpc = (service.is_some() || method.is_some()).then_some((service, method));
    Match { grpc, headers: few(random, &HEADERS), ..Match::default() }
}

/// Some routes to one Service; of two that are of different types only one type holds.
pub fn routes(random: &mut Rng) -> Vec<Route> {
    let only_http = random.u8(..3) > 0;
    (0..random.usize(1..5))
        .map(|n| {
            let grpc = !only_http && random.bool();
            let rules = (0..random.usize(1..4)).map(|_| {
                let matches = 1..random.usize(2..4);
                matches.map(|_| if grpc { grpc_match(random) } else { http_match(random) }).collect()
            });
            let rules = rules.collect();
            // Their order by name is not that in which they are written, nor that by age.
            Route { grpc, name: format!("{}{n}", ["c", "a", "b"][n % 3]), created: random.u32(..3), rules }
        })
        .collect()
}

/// Every request.
pub fn requests() -> Vec<Request> {
    let headers: [&[(&str, &str)]; 6] =
        [&[], &[("x", "1")], &[("X", "2")], &[("x", "1"), ("y", "1")], &[("x", "1"), ("x", "2")], &[("y", "1")]];
    let queries = ["", "q=1", "q=2&q=1", "q=1&r=1", "r=1", "s=1"];
    let mut all = Vec::new();
    for headers in headers {
        for path in PATHS {
            for (method, query) in METHODS.iter().flat_map(|m| queries.iter().map(move |q| (*m, *q))) {
                all.push(Request { method, path, query, headers: headers.to_vec(), grpc: false });
            }
        }
        for path in ["/S/M", "/S/N", "/S.T/M", "/S.T/Long", "/U/M", "/U/Other", "/", "/S", "/a/b"] {
            for grpc in [true, false] {
                all.push(Request { method: "POST", path, query: "", headers: headers.to_vec(), grpc });
            }
        }
    }
    all
}
