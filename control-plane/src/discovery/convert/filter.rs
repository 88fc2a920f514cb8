//! Filters of the model to those of the wire.

use leno_proto::v1;

use crate::model::{Backend, Cors, Filter, HeaderModifier, Mirror, PathModifier, Redirect, Rewrite};

/// Why a backend is not valid; empty when it is.
pub(super) type Reason<'a> = dyn Fn(&Backend) -> String + 'a;

/// None: it is not known here, and what it belongs to is not sent anywhere.
pub(super) fn filter(filter: &Filter, reason: &Reason<'_>) -> Option<v1::HttpFilter> {
    use v1::http_filter::Filter as Wire;
    let filter = match filter {
        Filter::Unknown(_) => return None,
        Filter::RequestHeaders(modifier) => Wire::RequestHeaders(header_modifier(modifier)),
        Filter::ResponseHeaders(modifier) => Wire::ResponseHeaders(header_modifier(modifier)),
        Filter::Redirect(redirect) => Wire::Redirect(self::redirect(redirect)),
        Filter::Rewrite(Rewrite { hostname, path }) => {
            Wire::Rewrite(v1::Rewrite { hostname: hostname.clone(), path: path.as_ref().map(path_modifier) })
        }
        Filter::Mirror(mirror) => Wire::Mirror(self::mirror(mirror, reason)),
        Filter::Cors(cors) => Wire::Cors(self::cors(cors)),
    };
    Some(v1::HttpFilter { filter: Some(filter) })
}

fn header_modifier(modifier: &HeaderModifier) -> v1::HeaderModifier {
    let values = |list: &[(String, String)]| {
        list.iter().map(|(name, value)| v1::HeaderValue { name: name.clone(), value: value.clone() }).collect()
    };
    v1::HeaderModifier { set: values(&modifier.set), add: values(&modifier.add), remove: modifier.remove.clone() }
}

fn redirect(redirect: &Redirect) -> v1::Redirect {
    v1::Redirect {
        scheme: redirect.scheme.clone(),
        hostname: redirect.hostname.clone(),
        path: redirect.path.as_ref().map(path_modifier),
        port: redirect.port.unwrap_or_default().into(),
        status: redirect.status.into(),
    }
}

fn path_modifier(path: &PathModifier) -> v1::PathModifier {
    use v1::path_modifier::Path;
    let path = match path {
        PathModifier::Full(path) => Path::Full(path.clone()),
        PathModifier::Prefix { matched, replacement } => {
            Path::Prefix(v1::PrefixModifier { matched: matched.clone(), replacement: replacement.clone() })
        }
    };
    v1::PathModifier { path: Some(path) }
}

fn mirror(mirror: &Mirror, reason: &Reason<'_>) -> v1::Mirror {
    let backend = v1::Backend {
        service: mirror.backend.service.to_string(),
        port: mirror.backend.port.into(),
        weight: 1,
        invalid_reason: reason(&mirror.backend),
        filters: Vec::new(),
    };
    v1::Mirror { backend: Some(backend), numerator: mirror.numerator, denominator: mirror.denominator }
}

fn cors(cors: &Cors) -> v1::Cors {
    v1::Cors {
        allow_origins: cors.allow_origins.clone(),
        allow_credentials: cors.allow_credentials,
        allow_methods: cors.allow_methods.clone(),
        allow_headers: cors.allow_headers.clone(),
        expose_headers: cors.expose_headers.clone(),
        max_age_seconds: cors.max_age_seconds,
    }
}
