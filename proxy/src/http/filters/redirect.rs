//! RequestRedirect.

use http::uri::Scheme;
use http::{HeaderValue, Response, Uri, header};

use super::{Front, ResponseBody, rewritten};
use crate::error::Reason;
use crate::model::Redirect;

/// The answer that sends the caller elsewhere. `uri` is that of the request, with its authority.
pub(super) fn answer(redirect: &Redirect, uri: &Uri, front: &Front) -> Result<Response<ResponseBody>, Reason> {
    let mut response = Response::new(ResponseBody::empty());
    *response.status_mut() = redirect.status;
    response.headers_mut().insert(header::LOCATION, location(redirect, uri, front)?);
    Ok(response)
}

fn location(redirect: &Redirect, uri: &Uri, front: &Front) -> Result<HeaderValue, Reason> {
    let scheme = redirect.scheme.as_ref().unwrap_or(&front.scheme);
    let known = if *scheme == Scheme::HTTPS { 443 } else { 80 };
    let port = match (redirect.port, &redirect.scheme) {
        (Some(port), _) => port,
        (None, Some(_)) => known,
        (None, None) => front.port,
    };
    let host = match &redirect.hostname {
        Some(hostname) => hostname.as_str(),
        None => uri.host().ok_or(Reason::BadAuthority)?,
    };
    let mut text = format!("{scheme}://{host}");
    if port != known {
        text.push_str(&format!(":{port}"));
    }
    match (&redirect.path, uri.path_and_query()) {
        (Some(path), Some(came)) => text.push_str(rewritten(path, came)?.as_str()),
        (_, came) => text.push_str(came.map_or("/", http::uri::PathAndQuery::as_str)),
    }
    HeaderValue::try_from(text).map_err(|_| Reason::BadRequest)
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;
    use crate::model::PathModifier;

    fn to(scheme: Option<Scheme>, hostname: Option<&str>, port: Option<u16>) -> Redirect {
        let hostname = hostname.map(|host| host.parse().unwrap());
        Redirect { scheme, hostname, path: None, port, status: StatusCode::FOUND }
    }

    #[test]
    fn the_port_follows_from_the_scheme_and_is_left_out_where_it_is_known() {
        let (http, https) = (Some(Scheme::HTTP), Some(Scheme::HTTPS));
        let plain = |port| Front { scheme: Scheme::HTTP, port };
        let tls = |port| Front { scheme: Scheme::HTTPS, port };
        for (redirect, front, location) in [
            (to(None, None, None), plain(80), "http://web/a?b"),
            (to(None, None, None), plain(8080), "http://web:8080/a?b"),
            (to(None, Some("x.org"), None), plain(8080), "http://x.org:8080/a?b"),
            (to(None, None, None), tls(443), "https://web/a?b"),
            (to(None, None, None), tls(8443), "https://web:8443/a?b"),
            (to(https.clone(), None, None), plain(8080), "https://web/a?b"),
            (to(http.clone(), None, None), tls(8443), "http://web/a?b"),
            (to(https.clone(), None, Some(8443)), plain(80), "https://web:8443/a?b"),
            (to(https.clone(), None, Some(443)), plain(8080), "https://web/a?b"),
            (to(https, None, Some(80)), plain(8080), "https://web:80/a?b"),
            (to(None, None, Some(80)), plain(8080), "http://web/a?b"),
            (to(http, None, Some(443)), plain(80), "http://web:443/a?b"),
        ] {
            let uri: Uri = "http://web:99/a?b".parse().unwrap();
            assert_eq!(super::location(&redirect, &uri, &front).unwrap(), location);
        }
    }

    #[test]
    fn the_path_is_that_of_the_request_or_another() {
        let prefix = PathModifier::Prefix { matched: "/a".into(), replacement: String::new() };
        for (path, location) in [
            (None, "http://web/a/%41?q"),
            (Some(PathModifier::Full("/all".into())), "http://web/all?q"),
            (Some(prefix), "http://web/%41?q"),
        ] {
            let redirect = Redirect { path, ..to(None, None, None) };
            let front = Front { scheme: Scheme::HTTP, port: 80 };
            let uri: Uri = "http://web/a/%41?q".parse().unwrap();
            assert_eq!(super::location(&redirect, &uri, &front).unwrap(), location);
        }
    }
}
