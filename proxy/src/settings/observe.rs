//! What is written down of requests: the flags of the access log and of traces.

use std::collections::BTreeSet;
use std::path::PathBuf;

use http::{HeaderName, Uri};

use super::{Args, Problems};
use crate::model::{LogMode, Share};

/// Header fields that may be named.
const MOST_HEADERS: usize = 16;
/// Fields that hold secrets, whatever somebody wants to see of them.
const SECRET: [&str; 5] = ["authorization", "proxy-authorization", "cookie", "set-cookie", "x-forwarded-client-cert"];
/// Traces a second.
const MOST_TRACES: u32 = 10_000;

/// What a sidecar writes down where no policy says otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ObserveSettings {
    pub log: LogMode,
    /// Of the requests that went well, where the log is of a sample.
    pub log_share: Share,
    /// One JSON object a line; else text.
    pub json: bool,
    /// None: standard error.
    pub file: Option<PathBuf>,
    /// Of requests, by allow-list.
    pub headers: Vec<HeaderName>,
    /// None: spans are not sent anywhere.
    pub collector: Option<CollectorSettings>,
    /// Of requests that come without a trace.
    pub traces: Share,
    pub most_traces: u32,
}

/// Where spans go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollectorSettings {
    /// OTLP over HTTP; else over gRPC.
    pub http: bool,
    /// HOST:PORT
    pub authority: String,
    /// What stands before `/v1/traces`, of HTTP.
    pub prefix: String,
}

impl ObserveSettings {
    pub(super) fn read(args: &Args, p: &mut Problems) -> Self {
        let (log, traces) = (&args.access_log, &args.traces);
        Self {
            log: p.take("--access-log", log_mode(&log.access_log)),
            log_share: p.take("--access-log-percent", percent(&log.access_log_percent)),
            json: p.take("--access-log-form", json(&log.access_log_form)),
            file: log.access_log_file.clone(),
            headers: p.take("--access-log-header", headers(&log.access_log_headers)),
            collector: p.take("--otlp-endpoint", collector(traces.otlp_endpoint.as_deref(), &traces.otlp_protocol)),
            traces: p.take("--trace-percent", percent(&traces.trace_percent)),
            most_traces: p.take("--traces-per-second", most_traces(traces.traces_per_second)),
        }
    }
}

fn log_mode(text: &str) -> Result<LogMode, String> {
    LogMode::named(text).ok_or_else(|| format!("{text:?} is no mode; write off, errors, sampled or all"))
}

fn percent(text: &str) -> Result<Share, String> {
    Share::percent(text).ok_or_else(|| format!("{text:?} is no percentage, such as 5 or 0.01"))
}

fn json(form: &str) -> Result<bool, String> {
    match form {
        "json" => Ok(true),
        "text" => Ok(false),
        _ => Err(format!("{form:?} is no form; write json or text")),
    }
}

fn most_traces(n: u32) -> Result<u32, String> {
    if n <= MOST_TRACES { Ok(n) } else { Err(format!("{n} is more than {MOST_TRACES}")) }
}

fn headers(names: &[String]) -> Result<Vec<HeaderName>, String> {
    let mut found = BTreeSet::new();
    for text in names {
        let name = HeaderName::from_bytes(text.as_bytes()).map_err(|_| format!("{text:?} is no name of a header"))?;
        if SECRET.contains(&name.as_str()) {
            return Err(format!("{name} holds secrets, and is never written down"));
        }
        found.insert(name.as_str().to_owned());
    }
    if found.len() > MOST_HEADERS {
        return Err(format!("{} names are too many, at most {MOST_HEADERS}", found.len()));
    }
    Ok(found.iter().filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok()).collect())
}

fn collector(endpoint: Option<&str>, protocol: &str) -> Result<Option<CollectorSettings>, String> {
    let http = match protocol {
        "grpc" => false,
        "http/protobuf" => true,
        _ => return Err(format!("{protocol:?} is no protocol of OTLP that is supported; write grpc or http/protobuf")),
    };
    let Some(text) = endpoint.filter(|text| !text.is_empty()) else { return Ok(None) };
    let wrong = || format!("{text:?} is no URL such as http://127.0.0.1:4317");
    let uri: Uri = text.parse().map_err(|_| wrong())?;
    match uri.scheme_str() {
        Some("http") => {}
        Some("https") => {
            return Err("https is not supported: give a collector of this machine, or a local port that leads to one \
                        through the mesh (`--upstream otel-collector:4317=127.0.0.1:4317`), which is encrypted"
                .to_owned());
        }
        _ => return Err(wrong()),
    }
    let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(wrong)?;
    if uri.query().is_some() || uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(wrong());
    }
    let port = uri.port_u16().unwrap_or(if http { 4318 } else { 4317 });
    let prefix = uri.path().trim_end_matches('/').to_owned();
    if !http && !prefix.is_empty() {
        return Err(format!("{text:?} has a path, and gRPC has none"));
    }
    Ok(Some(CollectorSettings { http, authority: format!("{host}:{port}"), prefix }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collector_is_a_url_and_what_is_not_supported_is_refused_by_name() {
        let found = |text, protocol| collector(Some(text), protocol).unwrap().unwrap();
        assert_eq!(found("http://otel", "grpc").authority, "otel:4317");
        assert_eq!(found("http://[::1]:9", "grpc").authority, "[::1]:9");
        let http = found("http://otel/some/where/", "http/protobuf");
        assert_eq!((http.http, http.authority.as_str(), http.prefix.as_str()), (true, "otel:4318", "/some/where"));
        assert_eq!(collector(None, "grpc"), Ok(None));
        assert!(collector(Some("https://otel"), "grpc").unwrap_err().contains("not supported"));
        for bad in ["otel:4317", "http://", "ftp://otel", "http://otel/path", "http://a@otel", "http://otel?x", "/"] {
            assert!(collector(Some(bad), "grpc").is_err(), "{bad}");
        }
        assert!(collector(None, "http/json").is_err());
    }

    #[test]
    fn headers_are_named_one_by_one_and_secrets_are_never_written_down() {
        let named = |names: &[&str]| headers(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!(named(&["User-Agent", "user-agent", "x-team"]).unwrap().len(), 2);
        for bad in [&["Authorization"][..], &["a", "COOKIE"], &["a b"], &[""]] {
            assert!(named(bad).is_err(), "{bad:?}");
        }
        let many: Vec<String> = (0..MOST_HEADERS + 1).map(|n| format!("x-{n}")).collect();
        assert!(headers(&many).is_err());
        assert!(headers(&many[1..]).is_ok());
    }
}
