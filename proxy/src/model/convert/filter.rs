//! Filters of the wire.

use http::uri::{Authority, Scheme};
use http::{HeaderValue, StatusCode};
use leno_proto::v1;

use super::{InvalidResource, backend, header_name, invalid};
use crate::model::filter::{Cors, Filters, Listed, Mirror, Origin, PathModifier, Redirect, RequestFilter, Rewrite};
use crate::model::{HeaderModifier, route::RawBackend};

/// Most bytes of a value that lists what is allowed.
const MOST_LIST: usize = 64 * 260;

pub(super) fn filters(wire: Vec<v1::HttpFilter>) -> Result<Filters<RawBackend>, InvalidResource> {
    use v1::http_filter::Filter;
    let mut filters = Filters::default();
    for filter in wire {
        match filter.filter {
            Some(Filter::RequestHeaders(m)) => filters.request.push(RequestFilter::Headers(header_modifier(m)?)),
            Some(Filter::ResponseHeaders(m)) => filters.response.push(header_modifier(m)?),
            Some(Filter::Rewrite(r)) => filters.request.push(RequestFilter::Rewrite(rewrite(r)?)),
            Some(Filter::Mirror(m)) => filters.request.push(RequestFilter::Mirror(mirror(m)?)),
            Some(Filter::Redirect(r)) => filters.redirect = Some(redirect(r)?),
            Some(Filter::Cors(c)) => filters.cors = Some(cors(c)?),
            // A filter of a newer control plane must not be skipped in silence.
            None => return Err(InvalidResource("a filter of a kind that this sidecar does not know".to_owned())),
        }
    }
    Ok(filters)
}

fn header_modifier(wire: v1::HeaderModifier) -> Result<HeaderModifier, InvalidResource> {
    let pair = |h: v1::HeaderValue| {
        let value = HeaderValue::from_str(&h.value).map_err(|_| invalid("header value", &h.value))?;
        Ok((header_name(&h.name)?, value))
    };
    Ok(HeaderModifier {
        set: wire.set.into_iter().map(pair).collect::<Result<_, InvalidResource>>()?,
        add: wire.add.into_iter().map(pair).collect::<Result<_, InvalidResource>>()?,
        remove: wire.remove.iter().map(|n| header_name(n)).collect::<Result<_, _>>()?,
    })
}

fn redirect(wire: v1::Redirect) -> Result<Redirect, InvalidResource> {
    let scheme = match wire.scheme.as_str() {
        "" => None,
        "http" => Some(Scheme::HTTP),
        "https" => Some(Scheme::HTTPS),
        other => return Err(invalid("scheme", other)),
    };
    let status = u16::try_from(wire.status).ok().and_then(|status| StatusCode::from_u16(status).ok());
    Ok(Redirect {
        scheme,
        hostname: hostname(&wire.hostname)?,
        path: wire.path.map(path_modifier).transpose()?,
        port: if wire.port == 0 { None } else { Some(super::port(wire.port)?) },
        status: status.filter(StatusCode::is_redirection).ok_or_else(|| invalid("status", wire.status))?,
    })
}

fn rewrite(wire: v1::Rewrite) -> Result<Rewrite, InvalidResource> {
    Ok(Rewrite { hostname: hostname(&wire.hostname)?, path: wire.path.map(path_modifier).transpose()? })
}

fn hostname(text: &str) -> Result<Option<Authority>, InvalidResource> {
    if text.is_empty() {
        return Ok(None);
    }
    let authority = text.parse::<Authority>().ok().filter(|host| host.port().is_none() && !text.contains('@'));
    authority.map(Some).ok_or_else(|| invalid("hostname", text))
}

fn path_modifier(wire: v1::PathModifier) -> Result<PathModifier, InvalidResource> {
    use v1::path_modifier::Path;
    let trimmed = |text: String| text.trim_end_matches('/').to_owned();
    let modifier = match wire.path {
        Some(Path::Full(path)) if path.is_empty() => PathModifier::Full("/".to_owned()),
        Some(Path::Full(path)) => PathModifier::Full(path),
        Some(Path::Prefix(prefix)) => {
            PathModifier::Prefix { matched: trimmed(prefix.matched), replacement: trimmed(prefix.replacement) }
        }
        None => return Err(InvalidResource("a path modifier of a kind that this sidecar does not know".to_owned())),
    };
    let (PathModifier::Full(written) | PathModifier::Prefix { replacement: written, .. }) = &modifier;
    let path = written.is_empty() || written.starts_with('/') && written.parse::<http::uri::PathAndQuery>().is_ok();
    if path { Ok(modifier) } else { Err(invalid("path", written)) }
}

fn mirror(wire: v1::Mirror) -> Result<Mirror<RawBackend>, InvalidResource> {
    let target = backend(wire.backend.ok_or_else(|| invalid("mirror", "nothing"))?)?;
    if wire.denominator == 0 {
        return Err(invalid("denominator", 0));
    }
    Ok(Mirror { target, numerator: wire.numerator, denominator: wire.denominator })
}

fn cors(wire: v1::Cors) -> Result<Cors, InvalidResource> {
    let origin = |text: &String| Origin::parse(text).ok_or_else(|| invalid("origin", text));
    let any = |list: &[String]| list.iter().any(|entry| entry == "*");
    let listed = |list: &[String]| match any(list) {
        true => Ok(Some(Listed::Any)),
        false => Ok(value(list)?.map(Listed::These)),
    };
    // With credentials a `*` would be a header of that name, so nothing is said.
    let exposed = if wire.allow_credentials && any(&wire.expose_headers) {
        let named: Vec<String> = wire.expose_headers.into_iter().filter(|name| name != "*").collect();
        value(&named)?
    } else {
        value(&wire.expose_headers)?
    };
    Ok(Cors {
        origins: wire.allow_origins.iter().map(origin).collect::<Result<_, _>>()?,
        credentials: wire.allow_credentials,
        methods: listed(&wire.allow_methods)?,
        headers: listed(&wire.allow_headers)?,
        exposed,
        max_age: HeaderValue::from(wire.max_age_seconds),
    })
}

/// A list as the value of a header. None: it is empty.
fn value(list: &[String]) -> Result<Option<HeaderValue>, InvalidResource> {
    if list.is_empty() {
        return Ok(None);
    }
    let text = list.join(", ");
    let value = HeaderValue::from_str(&text).ok().filter(|_| text.len() <= MOST_LIST);
    value.map(Some).ok_or_else(|| invalid("list", &text))
}
