//! Files in, changes out: apply, delete, validate.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};

use super::Shared;
use super::auth::Caller;
use super::body::{Files, Outcome, Validated, parse};
use super::error::{ApiError, ErrorBody};
use super::extract::Body;
use super::wait;
use crate::config::{Object, Problem};
use crate::store::Batch;
use crate::validate::{self, Checked};

/// Most files of one call.
const MOST_FILES: usize = 2_000;

/// Create or change objects. Good objects are applied also when others are refused.
#[utoipa::path(
    post, path = "/v1/apply", tag = "changes", request_body = Files,
    responses(
        (status = 200, description = "Everything was applied, and is in force everywhere when the caller waited", body = Outcome),
        (status = 400, description = "The call is malformed", body = ErrorBody),
        (status = 401, description = "No bearer token, or a wrong one", body = ErrorBody),
        (status = 409, description = "Applied, but a sidecar refused it", body = Outcome),
        (status = 422, description = "Some object was refused; the others are applied", body = Outcome),
        (status = 504, description = "Applied, but some sidecar did not answer in time", body = Outcome),
    )
)]
pub(super) async fn apply(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    Body(call): Body<Files>,
) -> Result<Response, ApiError> {
    bound(&call)?;
    let (dry_run, seconds) = (call.dry_run, (call.wait && !call.dry_run).then_some(call.timeout_seconds));
    let (checked, mut problems) = read(call, validate::batch).await?;
    problems.extend(checked.problems);
    let upserts = checked.valid.clone();
    let batch = Batch { upserts, actor: caller.actor, dry_run, ..Batch::default() };
    let applied = shared.parts.store.apply(batch).await?;
    problems.extend(validate::warnings(&applied.mesh, &checked.valid));
    Ok(wait::answer(&shared, applied, problems, seconds).await)
}

/// Delete the objects that files describe. Only kind, namespace and name of them matter; one that is not there is
/// named.
#[utoipa::path(
    post, path = "/v1/delete", tag = "changes", request_body = Files,
    responses(
        (status = 200, description = "They are deleted", body = Outcome),
        (status = 400, description = "The call is malformed", body = ErrorBody),
        (status = 401, description = "No bearer token, or a wrong one", body = ErrorBody),
        (status = 409, description = "Deleted, but a sidecar refused it", body = Outcome),
        (status = 422, description = "Some object could not be read or is not there; the others are deleted", body = Outcome),
        (status = 504, description = "Deleted, but some sidecar did not answer in time", body = Outcome),
    )
)]
pub(super) async fn delete(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    Body(call): Body<Files>,
) -> Result<Response, ApiError> {
    bound(&call)?;
    let (dry_run, seconds) = (call.dry_run, (call.wait && !call.dry_run).then_some(call.timeout_seconds));
    let (objects, mut problems) = read(call, |objects| objects).await?;
    let deletes = objects.iter().map(|object| object.key.clone()).collect();
    let batch = Batch { deletes, actor: caller.actor, dry_run, ..Batch::default() };
    let applied = shared.parts.store.apply(batch).await?;
    for object in &objects {
        let key = &object.key;
        let deleted = applied.changes.iter().any(|change| {
            (change.kind.as_str(), &change.namespace, &change.name)
                == (key.kind.as_str(), &key.name.namespace, &key.name.name)
        });
        if !deleted {
            let path = crate::config::FieldPath::default();
            problems.push(object.describe(&path, crate::config::Severity::Error, "is not there", "nothing to delete"));
        }
    }
    Ok(wait::answer(&shared, applied, problems, seconds).await)
}

/// Check files without changing anything.
#[utoipa::path(
    post, path = "/v1/validate", tag = "changes", request_body = Files,
    responses(
        (status = 200, description = "What was found", body = Validated),
        (status = 400, description = "The call is malformed", body = ErrorBody),
        (status = 401, description = "No bearer token, or a wrong one", body = ErrorBody),
    )
)]
pub(super) async fn validate(State(shared): State<Shared>, Body(call): Body<Files>) -> Result<Response, ApiError> {
    bound(&call)?;
    let mesh = (*shared.parts.store.committed().mesh).clone();
    let check = move |objects: Vec<Object>| {
        let (count, mut mesh) = (objects.len(), mesh);
        let Checked { valid, mut problems, .. } = validate::batch(objects);
        // Against what is in force and what the files would add to it.
        valid.iter().for_each(|valid| valid.put_into(&mut mesh, 0));
        problems.extend(validate::warnings(&mesh, &valid));
        (count, problems)
    };
    let ((objects, found), mut problems) = read(call, check).await?;
    problems.extend(found);
    Ok(Json(Validated { objects, problems }).into_response())
}

fn bound(call: &Files) -> Result<(), ApiError> {
    if call.files.len() > MOST_FILES {
        let message = format!("{} files in one call; at most {MOST_FILES} are taken", call.files.len());
        return Err(ApiError::bad_request(message, "send fewer at a time"));
    }
    Ok(())
}

/// Reads the files and works on their objects apart from the tasks that serve: megabytes of YAML take their time.
async fn read<T: Send + 'static>(
    call: Files,
    work: impl FnOnce(Vec<Object>) -> T + Send + 'static,
) -> Result<(T, Vec<Problem>), ApiError> {
    super::error::blocking(move || {
        let (objects, problems) = parse(&call.files);
        Ok((work(objects), problems))
    })
    .await
}
