//! Objects: list, get, delete.

use axum::extract::State;
use axum::response::Response;
use axum::{Extension, Json};
use leno_certs::SpiffeId;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Shared;
use super::auth::Caller;
use super::body::{Items, Outcome, Waiting, default_timeout};
use super::error::{ApiError, ErrorBody, blocking};
use super::extract::{Params, Segments};
use super::{status_of, wait};
use crate::config::{api_version, kind_from_word};
use crate::model::{Kind, Name, ObjectKey, Workload};
use crate::store::Batch;

/// Which objects.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Selection {
    /// Only those of this namespace.
    namespace: Option<String>,
    /// Show what is in Secrets.
    reveal: bool,
}

/// How much of an object.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Reveal {
    /// Show what is in a Secret.
    reveal: bool,
}

/// The objects of a kind. Workloads are those that were written down and those that sidecars have registered.
#[utoipa::path(
    get, path = "/v1/objects/{kind}", tag = "objects",
    params(("kind" = String, Path, description = "`HTTPRoute`, `httproutes`, `svc` …"), Selection),
    responses(
        (status = 200, description = "Sorted by namespace and name", body = Items),
        (status = 401, description = "No bearer token, or a wrong one", body = ErrorBody),
        (status = 404, description = "There is no such kind", body = ErrorBody),
    )
)]
pub(super) async fn list(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    Segments(kind): Segments<String>,
    Params(selection): Params<Selection>,
) -> Result<Json<Items>, ApiError> {
    caller.may_reveal(selection.reveal)?;
    let kind = kind_from_word(&kind)?;
    let (store, namespace) = (shared.parts.store.clone(), selection.namespace.clone());
    let items = blocking(move || Ok(store.objects(kind, namespace.as_deref())?)).await?;
    let mut items = status_of::complete(&shared, kind, items, selection.reveal).await?;
    if kind == Kind::Workload {
        items.iter_mut().for_each(mark_static);
        let wanted = |name: &Name| selection.namespace.as_ref().is_none_or(|namespace| name.namespace == *namespace);
        items.extend(registered(&shared, wanted));
        items.sort_by_key(|item| {
            ["namespace", "name"].map(|field| item["metadata"][field].as_str().unwrap_or_default().to_owned())
        });
    }
    Ok(Json(Items { items }))
}

/// One object as it was written, or a workload as its sidecar has registered it.
#[utoipa::path(
    get, path = "/v1/objects/{kind}/{namespace}/{name}", tag = "objects",
    params(
        ("kind" = String, Path, description = "`HTTPRoute`, `httproutes`, `svc` …"),
        ("namespace" = String, Path, description = "Of no meaning for a Namespace"),
        ("name" = String, Path),
        Reveal,
    ),
    responses(
        (status = 200, description = "The object, with its status", body = Value),
        (status = 401, description = "No bearer token, or a wrong one", body = ErrorBody),
        (status = 404, description = "There is no such object", body = ErrorBody),
    )
)]
pub(super) async fn get(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    Segments((kind, namespace, name)): Segments<(String, String, String)>,
    Params(Reveal { reveal }): Params<Reveal>,
) -> Result<Json<Value>, ApiError> {
    caller.may_reveal(reveal)?;
    let key = ObjectKey::new(kind_from_word(&kind)?, namespace, name);
    let (store, wanted) = (shared.parts.store.clone(), key.clone());
    match blocking(move || Ok(store.object(&wanted)?)).await? {
        Some(object) => {
            let mut object = status_of::complete(&shared, key.kind, vec![object], reveal).await?.swap_remove(0);
            if key.kind == Kind::Workload {
                mark_static(&mut object);
            }
            Ok(Json(object))
        }
        None if key.kind == Kind::Workload => {
            let found = registered(&shared, |name| *name == key.name).into_iter().next();
            found.map(Json).ok_or_else(|| missing(&key))
        }
        None => Err(missing(&key)),
    }
}

/// Delete one object.
#[utoipa::path(
    delete, path = "/v1/objects/{kind}/{namespace}/{name}", tag = "objects",
    params(
        ("kind" = String, Path, description = "`HTTPRoute`, `httproutes`, `svc` …"),
        ("namespace" = String, Path, description = "Of no meaning for a Namespace"),
        ("name" = String, Path),
        Waiting,
    ),
    responses(
        (status = 200, description = "It is deleted", body = Outcome),
        (status = 401, description = "No bearer token, or a wrong one", body = ErrorBody),
        (status = 404, description = "There is no such object", body = ErrorBody),
        (status = 409, description = "Deleted, but a sidecar refused it", body = Outcome),
        (status = 504, description = "Deleted, but some sidecar did not answer in time", body = Outcome),
    )
)]
pub(super) async fn delete(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    Segments((kind, namespace, name)): Segments<(String, String, String)>,
    Params(waiting): Params<Waiting>,
) -> Result<Response, ApiError> {
    let key = ObjectKey::new(kind_from_word(&kind)?, namespace, name);
    let batch = Batch { deletes: vec![key.clone()], actor: caller.actor, ..Batch::default() };
    let applied = shared.parts.store.apply(batch).await?;
    if applied.changes.is_empty() {
        if key.kind == Kind::Workload && shared.parts.registry.is_alive(&key.name) {
            let message = format!("the {key} was registered by its sidecar");
            return Err(ApiError::not_found(message, "stop the sidecar; it is then gone at once"));
        }
        return Err(missing(&key));
    }
    let seconds = waiting.wait.then(|| waiting.timeout_seconds.unwrap_or_else(default_timeout));
    Ok(wait::answer(&shared, applied, Vec::new(), seconds).await)
}

fn missing(key: &ObjectKey) -> ApiError {
    let hint = format!("see GET /v1/objects/{}", key.kind);
    ApiError::not_found(format!("there is no {key}"), hint)
}

fn mark_static(object: &mut Value) {
    if let Some(fields) = object.as_object_mut() {
        fields.insert("status".to_owned(), json!({"source": "static"}));
    }
}

/// The workloads that sidecars have registered, in the shape of Workload objects.
fn registered(shared: &Shared, wanted: impl Fn(&Name) -> bool) -> Vec<Value> {
    let live = shared.parts.registry.live();
    let sidecars = shared.parts.sessions.status();
    let objects = live.iter().filter(|(name, _)| wanted(name)).map(|(name, workload)| {
        let text = name.to_string();
        let sidecar =
            sidecars.binary_search_by(|sidecar| sidecar.workload.as_str().cmp(&text)).ok().map(|at| &sidecars[at]);
        let connected = sidecar.is_some_and(|sidecar| sidecar.connected);
        as_object(workload, connected)
    });
    objects.collect()
}

fn as_object(workload: &Workload, connected: bool) -> Value {
    let account = workload.identity.as_ref().and_then(|id| SpiffeId::parse(id).ok());
    json!({
        "apiVersion": api_version(Kind::Workload),
        "kind": Kind::Workload.as_str(),
        "metadata": {"name": workload.name.name, "namespace": workload.name.namespace, "labels": workload.labels},
        "spec": {
            "address": workload.address,
            "ports": workload.ports,
            "serviceAccount": account.as_ref().map(SpiffeId::service_account),
        },
        "status": {
            "source": "sidecar",
            "identity": workload.identity,
            "meshPort": workload.mesh_port,
            "connected": connected,
            "state": if workload.healthy { "ready" } else { "unhealthy" },
        },
    })
}
