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
}
