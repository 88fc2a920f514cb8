//! The one place that turns a reason into an answer, for HTTP and for gRPC callers.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};

use super::body::ResponseBody;
use crate::error::{REASON_HEADER, Reason};

/// An answer of the sidecar's own making: the status and code of its reason.
pub(super) fn error(reason: Reason, grpc: bool) -> Response<ResponseBody> {
    let code = HeaderValue::from_static(reason.code());
    let mut response = if grpc {
        let mut response = Response::new(ResponseBody::empty());
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert("grpc-status", HeaderValue::from_static(grpc_status(reason)));
        headers.insert("grpc-message", code.clone());
        response
    } else {
        let text = Bytes::from_owner(format!("leno: {}\n", reason.code()));
        let mut response = Response::new(ResponseBody::full(text));
        *response.status_mut() = reason.status();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        response
    };
    response.headers_mut().insert(REASON_HEADER, code);
    response
}

/// The gRPC status of a reason (google.rpc.Code).
fn grpc_status(reason: Reason) -> &'static str {
    const DEADLINE_EXCEEDED: &str = "4";
    const UNIMPLEMENTED: &str = "12";
    const INTERNAL: &str = "13";
    const UNAVAILABLE: &str = "14";
    match (reason, reason.status()) {
        (Reason::Timeout, _) => DEADLINE_EXCEEDED,
        (_, StatusCode::NOT_FOUND) => UNIMPLEMENTED,
        (_, StatusCode::BAD_REQUEST) => INTERNAL,
        _ => UNAVAILABLE,
    }
}

/// The reason that a sidecar put into an answer.
pub(super) fn reason_of(response: &Response<impl Sized>) -> Option<Reason> {
    let code = response.headers().get(REASON_HEADER)?;
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
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reasons.md");
        if std::env::var_os("LENO_BLESS").is_some() {
            std::fs::write(file, &page).unwrap();
        }
        let written = std::fs::read_to_string(file).unwrap();
        assert!(written == page, "docs/reasons.md is not what the code says; LENO_BLESS=1 writes it anew");
    }

    const HEAD: &str = "# Reasons

Every answer that a sidecar makes itself carries one of these codes in the header `leno-reason`, and counts in
`leno_failures_total{reason}`. gRPC callers get HTTP 200 with the gRPC status and the code as its message. The hop is whose sidecar
said it first: the caller's or the app's. Trying again is *always* safe, whatever the method, when no app has seen a byte of the
request, else for *idempotent* methods. Printed from the code; a test keeps it so (`LENO_BLESS=1 cargo test -p leno-proxy documented`).

| code | status | gRPC | hop | fault | safe to retry | meaning |
|---|---|---|---|---|---|---|
";
}
