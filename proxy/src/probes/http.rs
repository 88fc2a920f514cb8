//! The check by HTTP: GET must be answered with a status from 200 to 399, as kubelet has it.

use ::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::Reason;
use super::connect::{Target, connect};
use super::tls;
use crate::settings::HttpGet;

/// Most redirects that are followed.
const MOST_REDIRECTS: usize = 10;
/// Most bytes of an answer that are read, so that the app sees its answer taken.
const MOST_BODY: usize = 10 << 10;

/// Where the next request of a check goes.
struct Step {
    to: Target,
    https: bool,
    path: String,
}

/// Makes the check. `own` is the workload's address, `agent` what kubelet calls itself.
pub(super) async fn check(get: &HttpGet, own: &str, agent: &HeaderValue) -> Result<(), Reason> {
    let host = get.host.clone().unwrap_or_else(|| own.to_owned());
    let first = Target { host, port: get.port };
    let mut step = Step { to: first.clone(), https: get.https, path: get.path.clone() };
    for _ in 0..=MOST_REDIRECTS {
        let (status, location) = ask(&step, get, agent).await?;
        if !status.is_redirection() || status == StatusCode::NOT_MODIFIED {
            return judge(&step, status);
        }
        let Some(location) = location else { return Ok(()) };
        match follow(&step, &location) {
            // Another host is none of this check's: the app itself has answered.
            Some(next) if next.to.host != first.host => return Ok(()),
            Some(next) => step = next,
            None => return Err(format!("{} redirects to {location:?}, which is no address", step.to)),
        }
    }
    Err(format!("{first} redirects more than {MOST_REDIRECTS} times"))
}

/// As [`check`], but the app itself must answer with one of these statuses.
pub(super) async fn expect(get: &HttpGet, own: &str, agent: &HeaderValue, statuses: &[u16]) -> Result<(), Reason> {
    let to = Target { host: get.host.clone().unwrap_or_else(|| own.to_owned()), port: get.port };
    let step = Step { to, https: get.https, path: get.path.clone() };
    let (status, _) = ask(&step, get, agent).await?;
    if statuses.contains(&status.as_u16()) {
        return Ok(());
    }
    Err(format!("GET {} on {} was answered with {}", step.path, step.to, status.as_u16()))
}

fn judge(step: &Step, status: StatusCode) -> Result<(), Reason> {
    if status.is_success() || status.is_redirection() {
        return Ok(());
    }
    Err(format!("GET {} on {} was answered with {}", step.path, step.to, status.as_u16()))
}

async fn ask(step: &Step, get: &HttpGet, agent: &HeaderValue) -> Result<(StatusCode, Option<String>), Reason> {
    let stream = connect(&step.to).await?;
    let request = request(step, get, agent)?;
    let response = if step.https {
        exchange(&step.to, tls::handshake(&step.to, stream).await?, request).await?
    } else {
        exchange(&step.to, stream, request).await?
    };
    let location = response.headers().get(header::LOCATION).map(|value| String::from_utf8_lossy(value.as_bytes()));
    Ok((response.status(), location.map(std::borrow::Cow::into_owned)))
}

fn request(step: &Step, get: &HttpGet, agent: &HeaderValue) -> Result<Request<Empty<Bytes>>, Reason> {
    let mut headers = HeaderMap::new();
    for (name, value) in &get.headers {
        headers.append(name.clone(), value.clone());
    }
    // What the pod's author wrote comes first; an empty value takes a header away, as with kubelet.
    let default = |headers: &mut HeaderMap, name: header::HeaderName, value: HeaderValue| {
        if headers.get(&name).is_some_and(HeaderValue::is_empty) {
            headers.remove(name);
        } else if !headers.contains_key(&name) {
            headers.insert(name, value);
        }
    };
    default(&mut headers, header::USER_AGENT, agent.clone());
    default(&mut headers, header::ACCEPT, HeaderValue::from_static("*/*"));
    let authority = HeaderValue::from_str(&step.to.to_string()).map_err(|why| why.to_string())?;
    if !headers.contains_key(header::HOST) {
        headers.insert(header::HOST, authority);
    }
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    let uri = step.path.parse::<Uri>().map_err(|why| format!("{:?} is no path: {why}", step.path))?;
    let mut request = Request::new(Empty::new());
    *request.method_mut() = Method::GET;
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    Ok(request)
}

/// One request on a connection of its own, which ends with it.
async fn exchange(
    to: &Target,
    io: impl AsyncRead + AsyncWrite + Unpin,
    request: Request<Empty<Bytes>>,
) -> Result<Response<()>, Reason> {
    let broken = |why: hyper::Error| format!("{to} broke off: {why}");
    let (mut sender, connection) = http1::handshake(TokioIo::new(io)).await.map_err(broken)?;
    let answered = async {
        let (head, body) = sender.send_request(request).await.map_err(broken)?.into_parts();
        drain(to, body).await?;
        Ok(Response::from_parts(head, ()))
    };
    let mut connection = std::pin::pin!(connection);
    let mut answered = std::pin::pin!(answered);
    // Driven together and dropped together: a check that is given up leaves no task behind.
    tokio::select! {
        biased;
        response = &mut answered => response,
        _ = &mut connection => answered.await,
    }
}

/// A body that breaks off is a failure, as with kubelet; one that is too long is not read on.
async fn drain(to: &Target, body: Incoming) -> Result<(), Reason> {
    match Limited::new(body, MOST_BODY).collect().await {
        Err(why) if !why.is::<LengthLimitError>() => Err(format!("{to} broke off its answer: {why}")),
        _ => Ok(()),
    }
}

/// Where a redirect leads; None when it cannot be read.
fn follow(from: &Step, location: &str) -> Option<Step> {
    if location.starts_with('/') && !location.starts_with("//") {
        location.parse::<Uri>().ok()?;
        return Some(Step { to: from.to.clone(), https: from.https, path: location.to_owned() });
    }
    let absolute = match location.strip_prefix("//") {
        Some(rest) => format!("{}://{rest}", if from.https { "https" } else { "http" }),
        None if location.contains("://") => location.to_owned(),
        // Relative to the folder of what was asked.
        None => {
            let path = from.path.split('?').next().unwrap_or("/");
            let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
            let path = format!("{folder}/{location}");
            path.parse::<Uri>().ok()?;
            return Some(Step { to: from.to.clone(), https: from.https, path });
        }
    };
    let uri = absolute.parse::<Uri>().ok()?;
    let https = match uri.scheme_str()? {
        "http" => false,
        "https" => true,
        _ => return None,
    };
    let host = uri.host()?.trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = uri.port_u16().unwrap_or(if https { 443 } else { 80 });
    let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    Some(Step { to: Target { host, port }, https, path })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_is_followed_as_a_browser_reads_it() {
        let from = Step { to: Target { host: "::1".into(), port: 8080 }, https: false, path: "/a/b?x".into() };
        for (location, to, path) in [
            ("/c", "[::1]:8080", "/c"),
            ("c?y=1", "[::1]:8080", "/a/c?y=1"),
            ("//[::1]:81/d", "[::1]:81", "/d"),
            ("https://other", "other:443", "/"),
        ] {
            let next = follow(&from, location).unwrap();
            assert_eq!((next.to.to_string().as_str(), next.path.as_str()), (to, path), "{location}");
        }
        assert!(follow(&from, "ftp://x/").is_none());
        assert!(follow(&from, "http://").is_none());
    }
}
