//! Bodies, queries and path parts, with errors in the shape of the API and bounds on time and size.

use std::time::Duration;

use axum::body::Body as Incoming;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use tokio_stream::StreamExt;

use super::MOST_BODY;
use super::error::ApiError;

/// A body has to be there this soon, so that slow senders hold no connection.
const BODY_IN: Duration = Duration::from_secs(30);

/// No more of a body is read, whoever sends it.
const MOST_DISCARDED: usize = 128 << 20;

/// A JSON body.
pub(super) struct Body<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let read = tokio::time::timeout(BODY_IN, bounded(request.into_body())).await;
        let bytes = match read {
            Ok(bytes) => bytes?,
            Err(_) => {
                let message = format!("the body did not come within {} s", BODY_IN.as_secs());
                return Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, message, "send it again"));
            }
        };
        // An empty body is an object without fields: every field may have a default.
        let bytes = if bytes.is_empty() { &b"{}"[..] } else { &bytes[..] };
        let mut json = serde_json::Deserializer::from_slice(bytes);
        let parsed = serde_path_to_error::deserialize(&mut json).map_err(|error| error.to_string());
        let parsed = parsed.and_then(|body| json.end().map(|()| body).map_err(|error| error.to_string()));
        parsed.map(Self).map_err(|error| {
            let error: String = error.chars().take(300).collect();
            ApiError::bad_request(format!("the body is not what this call takes: {error}"), "see /openapi.json")
        })
    }
}

/// At most `MOST_BODY` bytes. What is more is still read for a while and thrown away: most callers look for the answer only
/// when they have sent all, and would see nothing but a broken connection.
async fn bounded(body: Incoming) -> Result<Vec<u8>, ApiError> {
    let mut stream = body.into_data_stream();
    let (mut bytes, mut length) = (Vec::new(), 0);
    while let Some(chunk) = stream.next().await {
        let chunk = chunk
            .map_err(|error| ApiError::bad_request(format!("the body cannot be read: {error}"), "send it again"))?;
        length += chunk.len();
        if length <= MOST_BODY {
            bytes.extend_from_slice(&chunk);
        } else {
            bytes = Vec::new();
        }
        if length > MOST_DISCARDED {
            break;
        }
    }
    if length > MOST_BODY {
        let message = format!("the body has more than {} MiB", MOST_BODY >> 20);
        return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, message, "send fewer files at a time"));
    }
    Ok(bytes)
}

/// The query of the URL.
pub(super) struct Params<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        match Query::try_from_uri(&parts.uri) {
            Ok(Query(params)) => Ok(Self(params)),
            Err(error) => Err(ApiError::bad_request(error.body_text(), "see /openapi.json")),
        }
    }
}

/// The variable parts of the path.
pub(super) struct Segments<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Segments<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(segments)) => Ok(Self(segments)),
            Err(error) => Err(ApiError::bad_request(error.body_text(), "see /openapi.json")),
        }
    }
}
