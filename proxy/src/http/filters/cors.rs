//! CORS (the Fetch standard's protocol, and the Gateway API's HTTPCORSFilter).

use http::{HeaderMap, HeaderValue, Method, Response, header, request};

use super::ResponseBody;
use crate::error::Reason;
use crate::model::{Cors, Listed};

/// What the answer has to know of the request.
pub(super) enum Asked {
    /// No page of another origin asks.
    SameOrigin,
    /// This origin may use the answer.
    Allowed(HeaderValue),
    /// This one may not.
    Denied,
}

impl Asked {
    pub(super) fn of(cors: &Cors, headers: &HeaderMap) -> Self {
        match headers.get(header::ORIGIN) {
            None => Self::SameOrigin,
            Some(origin) if cors.origins.iter().any(|pattern| pattern.holds(origin)) => Self::Allowed(origin.clone()),
            Some(_) => Self::Denied,
        }
    }
}

/// Whether a browser asks if it may send another request.
pub(super) fn is_preflight(parts: &request::Parts) -> bool {
    parts.method == Method::OPTIONS
        && parts.headers.contains_key(header::ORIGIN)
        && parts.headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// The answer to a preflight, but for what every answer says.
pub(super) fn preflight(cors: &Cors, parts: &request::Parts) -> Result<Response<ResponseBody>, Reason> {
    if !matches!(Asked::of(cors, &parts.headers), Asked::Allowed(_)) {
        return Err(Reason::CorsDenied);
    }
    let mut response = Response::new(ResponseBody::empty());
    let headers = response.headers_mut();
    let asked = parts.headers.get(header::ACCESS_CONTROL_REQUEST_METHOD);
    if let Some(methods) = cors.methods.as_ref().and_then(|listed| allowed(listed, asked, cors.credentials)) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
    }
    let asked = parts.headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS);
    if let Some(names) = cors.headers.as_ref().and_then(|listed| allowed(listed, asked, cors.credentials)) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, names);
    }
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, cors.max_age.clone());
    Ok(response)
}

/// Where anything is allowed, what was asked for is. With credentials a `*` would be no wildcard, so without a question
/// nothing is said then.
fn allowed(listed: &Listed, asked: Option<&HeaderValue>, credentials: bool) -> Option<HeaderValue> {
    match (listed, asked) {
        (Listed::These(list), _) => Some(list.clone()),
        (Listed::Any, Some(asked)) => Some(asked.clone()),
        (Listed::Any, None) => (!credentials).then_some(HeaderValue::from_static("*")),
    }
}

/// Says in an answer who may use it. What the app says of that is replaced: the route's word holds.
pub(super) fn share(cors: &Cors, asked: &Asked, headers: &mut HeaderMap) {
    // The same answer must not be kept for others, whoever asked.
    if !names_origin(headers) {
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
    }
    let origin = match asked {
        Asked::SameOrigin => return,
        Asked::Allowed(origin) => Some(origin),
        Asked::Denied => None,
    };
    headers.remove(header::ACCESS_CONTROL_ALLOW_ORIGIN);
    headers.remove(header::ACCESS_CONTROL_ALLOW_CREDENTIALS);
    headers.remove(header::ACCESS_CONTROL_EXPOSE_HEADERS);
    let Some(origin) = origin else { return };
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    if cors.credentials {
        headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
    if let Some(exposed) = &cors.exposed {
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed.clone());
    }
}

fn names_origin(headers: &HeaderMap) -> bool {
    let names = |value: &HeaderValue| {
        value.to_str().is_ok_and(|value| value.split(',').any(|name| name.trim().eq_ignore_ascii_case("origin")))
    };
    headers.get_all(header::VARY).iter().any(names)
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;
    use crate::model::Origin;

    fn cors(credentials: bool, any: bool) -> Cors {
        let listed = |list| if any { Listed::Any } else { Listed::These(HeaderValue::from_static(list)) };
        Cors {
            origins: vec![Origin::parse("https://*.bar.com").unwrap()],
            credentials,
            methods: Some(listed("GET, PUT")),
            headers: Some(listed("x-a")),
            exposed: Some(HeaderValue::from_static("x-b")),
            max_age: HeaderValue::from(5),
        }
    }

    fn asks(origin: &'static str) -> request::Parts {
        let request =
            Request::options("http://web/").header("origin", origin).header("access-control-request-method", "PUT");
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn a_preflight_is_told_what_is_allowed() {
        let parts = asks("https://www.bar.com");
        assert!(is_preflight(&parts));
        for (credentials, any, methods, names) in [
            (false, false, Some("GET, PUT"), Some("x-a")),
            (false, true, Some("PUT"), Some("*")),
            (true, true, Some("PUT"), None),
        ] {
            let cors = cors(credentials, any);
            let mut answer = preflight(&cors, &parts).unwrap();
            share(&cors, &Asked::of(&cors, &parts.headers), answer.headers_mut());
            let header = |name: &str| answer.headers().get(name).map(|value| value.to_str().unwrap());
            assert_eq!(answer.status(), 200);
            assert_eq!(header("access-control-allow-origin"), Some("https://www.bar.com"));
            assert_eq!(header("access-control-allow-methods"), methods);
            assert_eq!(header("access-control-allow-headers"), names);
            assert_eq!(header("access-control-allow-credentials"), credentials.then_some("true"));
            assert_eq!(header("access-control-max-age"), Some("5"));
            assert_eq!(header("vary"), Some("Origin"));
        }
        assert!(matches!(preflight(&cors(true, true), &asks("https://evil.org")), Err(Reason::CorsDenied)));
    }

    #[test]
    fn an_app_does_not_allow_what_the_route_does_not() {
        let cors = cors(false, false);
        let parts = asks("https://evil.org");
        let mut headers = HeaderMap::new();
        headers.insert("access-control-allow-origin", HeaderValue::from_static("*"));
        headers.insert("vary", HeaderValue::from_static("accept, origin"));
        share(&cors, &Asked::of(&cors, &parts.headers), &mut headers);
        assert!(!headers.contains_key("access-control-allow-origin"));
        assert_eq!(headers.get_all("vary").iter().count(), 1);
    }
}
