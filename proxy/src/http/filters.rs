//! The filters of a request's rule and backend, wherever the request came in.

mod cors;
mod mirror;
mod redirect;

use std::borrow::Cow;

use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, Response, Uri, request, uri};

use super::body::ResponseBody;
use crate::error::Reason;
use crate::model::{Cors, Filters, Mirror, PathModifier, RequestFilter, Rewrite};
use crate::routing::Split;
use cors::Asked;
pub(super) use mirror::{Copies, Mirrors, drain};

/// Where a request came in.
#[derive(Debug, Clone)]
pub(super) struct Front {
    /// What it was spoken in.
    pub(super) scheme: Scheme,
    /// The port that it came to.
    pub(super) port: u16,
}

/// The filters of one request.
pub(super) struct Chain<'a> {
    /// None: there is none.
    rule: Option<&'a Filters>,
    backend: Option<&'a Filters>,
    /// What a CORS filter has to know of the request for the answer.
    asked: Option<Asked>,
}

impl<'a> Chain<'a> {
    /// The filters of a rule, and of the backend that was drawn, if one was.
    pub(super) fn new(split: &'a Split, backend: Option<usize>, headers: &HeaderMap) -> Self {
        let rule = split.rule.as_deref();
        let backend = backend.and_then(|index| rule?.backends.get(index)).map(|backend| &backend.filters);
        let (rule, backend) = (rule.map(|rule| &rule.filters), backend);
        let mut chain = Self {
            rule: rule.filter(|filters| !filters.is_empty()),
            backend: backend.filter(|filters| !filters.is_empty()),
            asked: None,
        };
        if let Some(cors) = chain.cors() {
            chain.asked = Some(Asked::of(cors, headers));
        }
        chain
    }

    fn all(&self) -> impl Iterator<Item = &'a Filters> {
        self.rule.into_iter().chain(self.backend)
    }

    /// Of two the backend's holds.
    fn cors(&self) -> Option<&'a Cors> {
        self.backend.into_iter().chain(self.rule).find_map(|filters| filters.cors.as_ref())
    }

    /// The answer to a request that is not passed on: a preflight is told what is allowed, others to go elsewhere.
    ///
    /// A preflight of an origin that is not allowed is refused.
    pub(super) fn answer(
        &self,
        parts: &request::Parts,
        front: impl FnOnce() -> Front,
    ) -> Option<Result<Response<ResponseBody>, Reason>> {
        if self.rule.is_none() && self.backend.is_none() {
            return None;
        }
        if let Some(cors) = self.cors()
            && cors::is_preflight(parts)
        {
            return Some(cors::preflight(cors, parts));
        }
        // As for everything, the rule's comes first.
        let redirect = self.all().find_map(|filters| filters.redirect.as_ref())?;
        Some(redirect::answer(redirect, &parts.uri, &front()))
    }

    /// Changes the request on its way to the backend, the rule's filters first. Gives the copies that are to be sent too, each
    /// as the request was when the filter had its turn.
    ///
    /// # Errors
    /// The request's path and the rewritten parts make no URI together.
    pub(super) fn request(&self, parts: &mut request::Parts) -> Result<Copies<'a>, Reason> {
        let mut copies = Copies::default();
        if self.rule.is_none() && self.backend.is_none() {
            return Ok(copies);
        }
        // A prefix is replaced in the path that was matched, whatever was rewritten before.
        let came = parts.uri.path_and_query().cloned();
        for filter in self.all().flat_map(|filters| &filters.request) {
            match filter {
                RequestFilter::Headers(modifier) => modifier.apply(&mut parts.headers),
                RequestFilter::Rewrite(rewrite) => self::rewrite(rewrite, &mut parts.uri, came.as_ref())?,
                RequestFilter::Mirror(mirror) if chosen(mirror) => copies.push(&mirror.target, parts.clone()),
                RequestFilter::Mirror(_) => {}
            }
        }
        Ok(copies)
    }

    /// Changes an answer of the backend or of [`Self::answer`], the backend's filters first.
    pub(super) fn response(&self, headers: &mut HeaderMap) {
        for modifier in self.backend.into_iter().chain(self.rule).flat_map(|filters| &filters.response) {
            modifier.apply(headers);
        }
        self.share(headers);
    }

    /// Says who may use an answer, also one that says what went wrong.
    pub(super) fn share(&self, headers: &mut HeaderMap) {
        if let (Some(cors), Some(asked)) = (self.cors(), &self.asked) {
            cors::share(cors, asked, headers);
        }
    }
}

fn chosen<T>(mirror: &Mirror<T>) -> bool {
    mirror.numerator >= mirror.denominator || fastrand::u32(..mirror.denominator) < mirror.numerator
}

fn rewrite(rewrite: &Rewrite, uri: &mut Uri, came: Option<&PathAndQuery>) -> Result<(), Reason> {
    let mut parts = std::mem::take(uri).into_parts();
    if let Some(hostname) = &rewrite.hostname {
        parts.authority = Some(hostname.clone());
    }
    if let (Some(path), Some(came)) = (&rewrite.path, came) {
        parts.path_and_query = Some(rewritten(path, came)?);
    }
    *uri = Uri::from_parts(parts).map_err(|_: uri::InvalidUriParts| Reason::BadRequest)?;
    Ok(())
}

/// The path anew; the query stays.
fn rewritten(path: &PathModifier, came: &PathAndQuery) -> Result<PathAndQuery, Reason> {
    let modified = path.apply(came.path());
    let text = match came.query() {
        None => modified,
        Some(query) => Cow::Owned(format!("{modified}?{query}")),
    };
    PathAndQuery::try_from(text.as_bytes()).map_err(|_| Reason::BadRequest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rewrite_keeps_the_query_and_what_is_encoded() {
        let prefix = PathModifier::Prefix { matched: "/a".into(), replacement: "/b".into() };
        let change = Rewrite { hostname: Some("other.org".parse().unwrap()), path: Some(prefix) };
        for (uri, rewritten) in [
            ("http://web:81/a/c%2Fd?x=%20&y", "http://other.org/b/c%2Fd?x=%20&y"),
            ("http://web/a", "http://other.org/b"),
            ("http://web/a?", "http://other.org/b?"),
        ] {
            let mut uri: Uri = uri.parse().unwrap();
            let came = uri.path_and_query().cloned();
            self::rewrite(&change, &mut uri, came.as_ref()).unwrap();
            assert_eq!(uri, rewritten);
        }
    }
}
