//! RequestMirror.

use gateway_api::experimental::httproutes::HttpRouteRulesFiltersRequestMirror;

use crate::config::FieldPath;
use crate::model::{Backend, Mirror, Name};
use crate::validate::check::Check;
use crate::validate::route::{self, WrittenBackend};

pub(super) fn mirror(
    check: &mut Check<'_>,
    at: &FieldPath,
    of: &Name,
    written: &HttpRouteRulesFiltersRequestMirror,
) -> Option<Mirror> {
    let (numerator, denominator) = share(check, at, written)?;
    let backend = backend(check, &at.key("backendRef"), of, written)?;
    Some(Mirror { backend, numerator, denominator })
}

/// What is no Service is kept as invalid, and nothing is mirrored to it.
fn backend(
    check: &mut Check<'_>,
    at: &FieldPath,
    of: &Name,
    written: &HttpRouteRulesFiltersRequestMirror,
) -> Option<Backend> {
    let to = &written.backend_ref;
    let (group, kind) = (to.group.as_deref().unwrap_or_default(), to.kind.as_deref().unwrap_or("Service"));
    if group.is_empty() && kind == "Service" {
        let written = WrittenBackend {
            group: None,
            kind: None,
            name: &to.name,
            namespace: to.namespace.as_deref(),
            port: to.port,
            weight: None,
        };
        return route::backend(check, at, of, &written, Vec::new());
    }
    let message = format!("{kind} of group {group:?} is no backend that is known; nothing is mirrored to it");
    check.warn(&at.key("kind"), message, "write `kind: Service`");
    check.most(&at.key("name"), to.name.len(), 253);
    Some(Backend {
        service: Name::new(to.namespace.as_deref().unwrap_or(&of.namespace), &to.name),
        port: 0,
        weight: 1,
        invalid_reason: "InvalidKind".to_owned(),
        filters: Vec::new(),
    })
}

/// The share of the requests that is mirrored: all, unless a percentage or a fraction says otherwise.
fn share(check: &mut Check<'_>, at: &FieldPath, written: &HttpRouteRulesFiltersRequestMirror) -> Option<(u32, u32)> {
    let path = at.key("fraction");
    match (written.percent, &written.fraction) {
        (None, None) => Some((1, 1)),
        (Some(percent), None) => Some((check.number(&at.key("percent"), percent.into(), 0, 100)?, 100)),
        (None, Some(fraction)) => {
            let denominator = fraction.denominator.unwrap_or(100);
            let most = u32::try_from(i32::MAX).unwrap_or(u32::MAX);
            let denominator = check.number(&path.key("denominator"), denominator.into(), 1, most)?;
            Some((check.number(&path.key("numerator"), fraction.numerator.into(), 0, denominator)?, denominator))
        }
        (Some(_), Some(_)) => {
            check.error(&path, "percent and fraction say the same", "remove one of them");
            None
        }
    }
}
