//! Filters as the Gateway API means them: what happens to a request or an answer on its way.

use super::Backend;

/// What a rule or one of its backends does, in the order in which it was written.
#[derive(Debug, Clone, PartialEq)]
pub enum Filter {
    RequestHeaders(HeaderModifier),
    ResponseHeaders(HeaderModifier),
    Redirect(Redirect),
    Rewrite(Rewrite),
    Mirror(Mirror),
    Cors(Cors),
    /// An ExtensionRef to what nobody here knows: `KIND.GROUP NAME`. What it belongs to is answered with an error, as specified.
    Unknown(String),
}

impl Filter {
    /// What an ExtensionRef names.
    pub fn unknown(&self) -> Option<&str> {
        match self {
            Self::Unknown(what) => Some(what),
            _ => None,
        }
    }

    /// Where a mirror sends to.
    pub fn mirrored(&self) -> Option<&Backend> {
        match self {
            Self::Mirror(mirror) => Some(&mirror.backend),
            _ => None,
        }
    }
}

/// Headers to set, add and remove; names in lower case, and none has two actions.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HeaderModifier {
    pub set: Vec<(String, String)>,
    pub add: Vec<(String, String)>,
    pub remove: Vec<String>,
}

/// The answer is: go elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    /// Empty: the request's own.
    pub scheme: String,
    /// Empty: the one that the request names.
    pub hostname: String,
    pub path: Option<PathModifier>,
    /// None: it follows from the scheme, else it is the one that the request came to.
    pub port: Option<u16>,
    pub status: u16,
}

/// What the backend sees instead of what the caller wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewrite {
    /// Empty: stays.
    pub hostname: String,
    pub path: Option<PathModifier>,
}

/// Another path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathModifier {
    Full(String),
    /// `matched` is the prefix of the rule's one match.
    Prefix {
        matched: String,
        replacement: String,
    },
}

/// A copy of the request goes to a service too, and its answer to nobody.
#[derive(Debug, Clone, PartialEq)]
pub struct Mirror {
    /// Its weight and filters mean nothing.
    pub backend: Backend,
    /// Of `denominator` requests so many are mirrored.
    pub numerator: u32,
    pub denominator: u32,
}

/// Which pages of other origins may use the answers. `*` alone is any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cors {
    pub allow_origins: Vec<String>,
    pub allow_credentials: bool,
    pub allow_methods: Vec<String>,
    pub allow_headers: Vec<String>,
    pub expose_headers: Vec<String>,
    pub max_age_seconds: u32,
}
