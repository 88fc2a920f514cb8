//! The one place that turns a reason into an answer, for HTTP and for gRPC callers.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use super::body::ResponseBody;
use crate::error::{FAULT_HEADER, HOP_HEADER, REASON_HEADER, RETRY_HEADER, Reason};
use crate::model::Abort;
use crate::model::fields;
use crate::resilience::retry::ATTEMPTS_HEADER;
use crate::telemetry::Direction;

/// An answer of the sidecar's own making: the status and code of its reason.
pub(super) fn error(reason: Reason, grpc: bool) -> Response<ResponseBody> {
    let code = HeaderValue::from_static(reason.code());
    let mut response = if grpc {
        let mut response = Response::new(ResponseBody::empty());
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        grpc_fields(reason, headers);
        response
    } else {
        let text = Bytes::from_owner(format!("leno: {}\n", reason.code()));
        let mut response = Response::new(ResponseBody::full(text));
        *response.status_mut() = reason.status();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        if reason == Reason::BadToken {
            // RFC 6750, 3.1. What is wrong with it stands in the log of the sidecar that says so.
            let challenge = HeaderValue::from_static("Bearer error=\"invalid_token\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    };
    let headers = response.headers_mut();
    headers.insert(REASON_HEADER, code);
    headers.insert(FAULT_HEADER, HeaderValue::from_static(reason.fault().label()));
    headers.insert(RETRY_HEADER, safety(reason.unseen()));
    response
}

/// How a call of gRPC is told, in headers or trailers.
pub(super) fn grpc_fields(reason: Reason, fields: &mut HeaderMap) {
    fields.insert("grpc-status", HeaderValue::from_static(grpc_status(reason)));
    fields.insert("grpc-message", HeaderValue::from_static(reason.code()));
}

fn safety(unseen: bool) -> HeaderValue {
    HeaderValue::from_static(if unseen { "safe" } else { "if-idempotent" })
}

/// Says which sidecar made the answer.
pub(super) fn at_hop(headers: &mut HeaderMap, hop: Direction) {
    headers.insert(HOP_HEADER, HeaderValue::from_static(hop.label()));
}

/// An earlier attempt may have reached an app, whatever the last one failed of.
pub(super) fn seen_before(headers: &mut HeaderMap) {
    headers.insert(RETRY_HEADER, safety(false));
}

/// Only a sidecar may say what became of a request in the mesh; from an app it is hearsay.
pub(super) fn hearsay(headers: &mut HeaderMap) {
    fields::remove(headers, &ATTEMPTS_HEADER);
    if fields::remove(headers, &REASON_HEADER).is_some() {
        headers.remove(HOP_HEADER);
        headers.remove(FAULT_HEADER);
        headers.remove(RETRY_HEADER);
    }
}

/// The answer that a fault asks for.
pub(super) fn abort(abort: Abort, grpc: bool) -> Response<ResponseBody> {
    let mut response = error(Reason::FaultInjected, grpc);
    if !grpc {
        *response.status_mut() = abort.status;
    } else if let Some(status) = abort.grpc_status {
        response.headers_mut().insert("grpc-status", HeaderValue::from(u16::from(status)));
    }
    response
}

/// The gRPC status of a reason (google.rpc.Code).
fn grpc_status(reason: Reason) -> &'static str {
    const CANCELLED: &str = "1";
    const PERMISSION_DENIED: &str = "7";
    const RESOURCE_EXHAUSTED: &str = "8";
    const DEADLINE_EXCEEDED: &str = "4";
    const UNIMPLEMENTED: &str = "12";
    const INTERNAL: &str = "13";
    const UNAVAILABLE: &str = "14";
    const UNAUTHENTICATED: &str = "16";
    match (reason, reason.status()) {
        (_, StatusCode::GATEWAY_TIMEOUT) => DEADLINE_EXCEEDED,
        (_, StatusCode::TOO_MANY_REQUESTS) => RESOURCE_EXHAUSTED,
        (Reason::DownstreamReset, _) => CANCELLED,
        (Reason::Denied | Reason::Revoked, _) => PERMISSION_DENIED,
        (Reason::BadToken, _) => UNAUTHENTICATED,
        (_, StatusCode::NOT_FOUND) => UNIMPLEMENTED,
        (_, StatusCode::BAD_REQUEST) => INTERNAL,
        _ => UNAVAILABLE,
    }
}

/// The reason that a sidecar put into an answer.
pub(super) fn reason_of(response: &Response<impl Sized>) -> Option<Reason> {
    let code = fields::find(response.headers(), &REASON_HEADER)?;
    Reason::ALL.iter().copied().find(|reason| reason.code().as_bytes() == code.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_carries_its_reason_in_both_languages() {
        for reason in Reason::ALL {
            let http = error(*reason, false);
            assert_eq!(http.status(), reason.status());
            assert_eq!(reason_of(&http), Some(*reason));
            let grpc = error(*reason, true);
            assert_eq!(grpc.status(), StatusCode::OK);
            assert!(grpc.headers().contains_key("grpc-status"));
            assert_eq!(reason_of(&grpc), Some(*reason));
        }
    }

    #[test]
    fn the_documented_table_is_that_of_the_code() {
        let mut page = String::from(HEAD);
        for reason in Reason::ALL {
            let hop = format!("{:?}", reason.hop()).to_lowercase();
            let fault = format!("{:?}", reason.fault()).to_lowercase();
            let safe = if reason.unseen() { "always" } else { "idempotent" };
            let (code, status, grpc, meaning) =
                (reason.code(), reason.status().as_u16(), grpc_status(*reason), reason.meaning());
            page.push_str(&format!("| `{code}` | {status} | {grpc} | {hop} | {fault} | {safe} | {meaning} |\n"));
        }
        page.push_str("\n## What to do\n`leno why REQUEST-ID` says it beside what happened.\n\n| code | what to do |\n|---|---|\n");
        for reason in Reason::ALL {
            page.push_str(&format!("| `{}` | {} |\n", reason.code(), reason.advice()));
        }
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reasons.md");
        if std::env::var_os("LENO_BLESS").is_some() {
            std::fs::write(file, &page).unwrap();
        }
        let written = std::fs::read_to_string(file).unwrap();
        assert!(written == page, "docs/reasons.md is not what the code says; LENO_BLESS=1 writes it anew");
    }

    const HEAD: &str = "# Reasons

Every answer that a sidecar makes itself carries one of these codes in the header `leno-reason` and the request's number in `leno-request-id`, and counts in
`leno_failures_total{direction, reason, fault, retry}`; [resilience.md](resilience.md) tells of the other headers. gRPC callers get HTTP 200 with the gRPC status and the code as its message. The hop is whose sidecar
said it first: the caller's or the app's. Trying again is *always* safe, whatever the method, when no app has seen a byte of the
request, else for *idempotent* methods. Printed from the code; a test keeps it so (`LENO_BLESS=1 cargo test -p leno-proxy documented`).

| code | status | gRPC | hop | fault | safe to retry | meaning |
|---|---|---|---|---|---|---|
";
}
