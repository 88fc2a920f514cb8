//! Asks, before the app sees a byte, whether a caller may have what it asks for. What decides is in `policy`; here it is kept up to
//! date, for each connection once, and what it decides is counted.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{Request, header};
use leno_runtime::metrics::{Counter, Registry};

use crate::error::Reason;
use crate::model::{AuthorizationPolicy, AuthorizationRule, is_foreign};
use crate::policy::{Asked, AskedHttp, Decision, NoTokens, Rules, TokenCache, Tokens};
use crate::state::Reader;
use crate::telemetry::{Edge, EdgeKey, Edges, Peer, Spoken};

/// How long a request waits for the control plane to say who may call, right after the sidecar's first start.
const FIRST_WORD: Duration = Duration::from_secs(5);
/// Rules that are counted apart; what more of them decide counts under `policy="other"`.
const MOST_COUNTERS: usize = 1000;

/// Who calls: the peer of one connection.
#[derive(Debug)]
pub struct Caller {
    /// The SPIFFE ID that it has proven; None: plaintext.
    id: Option<Rc<str>>,
    /// The rules that matter for it, and of which generation they are.
    rules: RefCell<(u64, Rc<Rules>)>,
    /// Whether it is of another trust domain.
    foreign: OnceCell<bool>,
    /// Requests whose answers are not whole.
    under_way: Cell<usize>,
    /// Where it calls from, if that is all that is known of it.
    from: Option<IpAddr>,
    /// What is counted of it: a connection has one port of the app.
    edge: OnceCell<Arc<Edge>>,
}

/// A request of a caller, from its beginning to the end of its answer.
#[derive(Debug)]
pub(super) struct UnderWay(Rc<Caller>);

impl UnderWay {
    /// Counts the answer.
    pub(super) fn answered(&self, code: u16, took: Duration) {
        self.0.edge.get().into_iter().for_each(|edge| edge.answered(code, took));
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.set(self.0.under_way.get() - 1);
    }
}

impl Caller {
    /// A peer that has proven who it is.
    pub fn proven(id: Rc<str>) -> Self {
        Self { id: Some(id), ..Self::unknown() }
    }

    /// Somebody who has not.
    pub fn unknown() -> Self {
        Self {
            id: None,
            rules: RefCell::default(),
            foreign: OnceCell::new(),
            under_way: Cell::default(),
            from: None,
            edge: OnceCell::new(),
        }
    }

    /// Who calls from this address.
    pub fn at(self, from: IpAddr) -> Self {
        Self { from: Some(from), ..self }
    }

    /// What is counted of it at its port.
    pub(super) fn edge(&self, edges: &Edges, port: u16, spoken: Spoken) -> &Edge {
        self.edge.get_or_init(|| {
            let peer = match (&self.id, self.from) {
                (Some(id), _) => Peer::Proven(id.as_ref().into()),
                (None, Some(from)) => Peer::Plaintext(from),
                (None, None) => Peer::Others,
            };
            edges.of(EdgeKey { peer, port, spoken })
        })
    }

    /// Begins a request.
    pub(super) fn begin(self: &Rc<Self>) -> UnderWay {
        self.under_way.set(self.under_way.get() + 1);
        UnderWay(self.clone())
    }

    /// Its SPIFFE ID, or `none`, as rate limits and logs have it.
    pub fn id(&self) -> &str {
        self.id.as_deref().unwrap_or("none")
    }
}

/// Decides for one worker.
#[derive(Debug)]
pub struct Authorizer {
    reader: Reader,
    /// Of the workload.
    labels: BTreeMap<String, String>,
    /// Our own.
    trust_domain: String,
    registry: Registry,
    version: Cell<u64>,
    said: RefCell<Option<Arc<[AuthorizationPolicy]>>>,
    /// Grows when what was said changes; 0: nothing was yet.
    generation: Cell<u64>,
    rules: RefCell<Rc<Rules>>,
    /// The tokens that were believed, by the keys of this generation.
    tokens: TokenCache,
    counters: RefCell<HashMap<(String, String, &'static str), Counter>>,
}

impl Authorizer {
    /// For the app of a workload with these labels, which belongs to this trust domain.
    pub fn new(reader: Reader, labels: BTreeMap<String, String>, trust_domain: &str, registry: Registry) -> Self {
        Self {
            reader,
            labels,
            trust_domain: trust_domain.to_owned(),
            registry,
            // No snapshot has this version, so the first request looks.
            version: Cell::new(u64::MAX),
            said: RefCell::default(),
            generation: Cell::new(0),
            rules: RefCell::default(),
            tokens: TokenCache::default(),
            counters: RefCell::default(),
        }
    }

    /// Lets a request in.
    ///
    /// # Errors
    /// Why not.
    pub(super) async fn request<B>(&self, caller: &Caller, port: u16, request: &Request<B>) -> Result<(), Reason> {
        if !self.known() {
            Box::pin(self.first_word()).await?;
        }
        if self.rules.borrow().is_open() && !self.is_foreign(caller) {
            return Ok(());
        }
        let uri = request.uri();
        let of_field = || request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
        let rules = self.rules_for(caller);
        let of_request = rules.providers().map(|providers| self.tokens.of(providers, request.headers(), unix_now()));
        let tokens: &dyn Tokens = match &of_request {
            Some(tokens) => tokens,
            None => &NoTokens,
        };
        let http = AskedHttp {
            method: request.method(),
            path: uri.path(),
            host: uri.authority().map(|authority| authority.as_str()).or_else(of_field),
            headers: request.headers(),
            tokens,
        };
        self.decide(caller, &rules, &Asked { port, http: Some(http) })
    }

    /// Lets in a connection of which nobody reads the bytes.
    ///
    /// # Errors
    /// Why not.
    pub(super) async fn connection(&self, caller: &Caller, port: u16) -> Result<(), Reason> {
        if !self.known() {
            self.first_word().await?;
        }
        self.decide(caller, &self.rules_for(caller), &Asked { port, http: None })
    }

    /// Comes back when a connection that was let in no longer would be.
    pub(super) async fn until_denied(&self, caller: &Caller, port: u16) {
        loop {
            let seen = self.reader.version();
            if self.known() && self.verdict(&self.rules_for(caller), &Asked { port, http: None }).is_err() {
                return;
            }
            self.reader.changed(seen).await;
        }
    }

    /// Comes back when nothing that the caller could ask for would be let in any more while it has requests under way.
    /// Without any, its connection stays: the next request is told why it is refused.
    pub(super) async fn until_shut_out(&self, caller: &Caller) {
        // What was let in before counts, not who comes.
        let mut before = true;
        loop {
            let seen = self.reader.version();
            let shut_out = self.known() && self.rules_for(caller).shut_out();
            if shut_out && !before && caller.under_way.get() > 0 {
                return;
            }
            before = shut_out;
            self.reader.changed(seen).await;
        }
    }

    /// Takes up what was said last; false: nothing was yet.
    fn known(&self) -> bool {
        if self.version.get() != self.reader.version() {
            self.version.set(self.reader.version());
            let newer = self.reader.current().posture.authorization.clone();
            if *self.said.borrow() != newer {
                let rules = Rules::of(newer.as_deref().unwrap_or_default(), &self.labels);
                *self.rules.borrow_mut() = Rc::new(rules);
                *self.said.borrow_mut() = newer;
                self.tokens.clear();
                self.generation.set(self.generation.get() + 1);
            }
        }
        self.generation.get() != 0
    }

    async fn first_word(&self) -> Result<(), Reason> {
        let word = async {
            while !self.known() {
                self.reader.changed(self.version.get()).await;
            }
        };
        tokio::time::timeout(FIRST_WORD, word).await.map_err(|_| Reason::PolicyUnknown)
    }

    fn is_foreign(&self, caller: &Caller) -> bool {
        *caller.foreign.get_or_init(|| caller.id.as_ref().is_some_and(|id| is_foreign(id, &self.trust_domain)))
    }

    fn rules_for(&self, caller: &Caller) -> Rc<Rules> {
        let mut known = caller.rules.borrow_mut();
        if known.0 != self.generation.get() {
            let rules = self.rules.borrow().for_caller(caller.id.as_deref(), &self.trust_domain);
            *known = (self.generation.get(), Rc::new(rules));
        }
        known.1.clone()
    }

    fn decide(&self, caller: &Caller, rules: &Rules, asked: &Asked<'_>) -> Result<(), Reason> {
        for rule in rules.audited(asked) {
            self.count(Some(rule), "audited");
        }
        self.verdict(rules, asked).map_err(|(reason, rule)| {
            self.count(rule, "denied");
            tracing::debug!(
                caller = caller.id(),
                port = asked.port,
                policy = rule.map_or("", |rule| &rule.policy),
                rule = rule.map_or("", |rule| &rule.name),
                reason = reason.code(),
                "not authorized"
            );
            reason
        })
    }

    fn verdict<'a>(&self, rules: &'a Rules, asked: &Asked<'_>) -> Result<(), (Reason, Option<&'a AuthorizationRule>)> {
        match rules.decide(asked) {
            Decision::Allowed(_) => Ok(()),
            Decision::DeniedBy(rule) => Err((Reason::Denied, Some(rule))),
            Decision::NotAllowed => Err((Reason::Denied, None)),
            Decision::UnclearPath => Err((Reason::UnclearPath, None)),
            Decision::BadToken => Err((Reason::BadToken, None)),
        }
    }

    /// The series is made when a rule first decides something.
    fn count(&self, rule: Option<&AuthorizationRule>, decision: &'static str) {
        let (policy, name) = rule.map_or(("none", ""), |rule| (rule.policy.as_str(), rule.name.as_str()));
        let mut counters = self.counters.borrow_mut();
        let key = (policy.to_owned(), name.to_owned(), decision);
        let (policy, name) =
            if counters.len() < MOST_COUNTERS || counters.contains_key(&key) { (policy, name) } else { ("other", "") };
        let counter = counters.entry((policy.to_owned(), name.to_owned(), decision)).or_insert_with(|| {
            let labels = &[("policy", policy), ("rule", name), ("decision", decision)];
            self.registry.counter("leno_authorization_decisions_total", labels)
        });
        counter.inc();
    }
}

/// Seconds since 1970.
fn unix_now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}
