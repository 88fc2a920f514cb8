//! The sidecar checks its own app as the app's services ask for it, and what it finds goes to everybody by the registry: nobody else
//! has to ask. In the mesh an app is asked once an interval, however many clients it has.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ::http::{HeaderName, HeaderValue, header};
use leno_runtime::metrics::{Counter, Registry};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::connect::{Target, connect};
use super::{Reason, grpc, http};
use crate::model::{HealthCheck, ProbeKind};
use crate::settings::{HealthScheme, HealthUrl, HttpGet, PortSpec, Settings};
use crate::state::Reader;

/// The mesh is told of a change at most this often: an app that flaps costs every client of it an update each time.
const HOLD: Duration = Duration::from_secs(1);
/// Checks that one sidecar makes: more services than one workload ever has.
const MOST_CHECKS: usize = 32;

/// The app, as far as it matters where it is asked.
#[derive(Debug, Clone)]
pub struct App {
    labels: BTreeMap<String, String>,
    ports: Vec<PortSpec>,
    /// Those of the command line.
    own: Vec<(HealthCheck, Target)>,
    /// Where ports are that were not given by name; None: there are none.
    any: Option<IpAddr>,
}

impl App {
    /// The app of a sidecar that was started like this.
    pub fn of(settings: &Settings) -> Self {
        let own = settings.advertise_addr.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        Self {
            labels: settings.labels.clone(),
            ports: settings.ports.clone(),
            own: settings.health_checks.iter().map(by_command_line).collect(),
            any: settings.interception.is_some().then_some(own),
        }
    }

    /// Where a check goes, by the port's name or number. None: the app has no such port, so it is no endpoint there either.
    fn place(&self, target: &str) -> Option<Target> {
        let number = target.parse::<u16>().ok();
        let named = self.ports.iter().find(|port| port.name == target);
        let found = named.or_else(|| self.ports.iter().find(|port| Some(port.port) == number));
        match (found, self.any, number) {
            (Some(port), _, _) => Some(Target { host: port.host.clone(), port: port.port }),
            (None, Some(own), Some(port)) => Some(Target { host: own.to_string(), port }),
            _ => None,
        }
    }

    /// Those that this sidecar makes, and where each goes.
    fn checks(&self, all: &[HealthCheck]) -> Vec<(HealthCheck, Target)> {
        let asked = all.iter().filter(|check| check.selects(&self.labels));
        let asked = asked.filter_map(|check| Some((check.clone(), self.place(&check.target)?)));
        self.own.iter().cloned().chain(asked).take(MOST_CHECKS).collect()
    }
}

/// A check of the command line, with the times that a TrafficPolicy has by default.
fn by_command_line(url: &HealthUrl) -> (HealthCheck, Target) {
    let path = url.path.clone();
    let kind = match url.scheme {
        HealthScheme::Http => ProbeKind::Http { path, host: String::new(), statuses: Vec::new() },
        HealthScheme::Tcp => ProbeKind::Tcp,
        HealthScheme::Grpc => ProbeKind::Grpc { service: path },
    };
    let check = HealthCheck {
        service: "own".to_owned(),
        selector: BTreeMap::new(),
        target: url.at.port.to_string(),
        interval: Duration::from_secs(5),
        timeout: Duration::from_secs(1),
        healthy_threshold: 2,
        unhealthy_threshold: 3,
        kind,
    };
    (check, Target { host: url.at.host.clone(), port: url.at.port })
}

/// Makes the checks that are asked for, for as long as it runs, and tells whether the app is healthy whenever that changes.
pub async fn watch(reader: Reader, app: App, registry: Registry, tell: impl Fn(bool)) {
    let gauge = registry.gauge("leno_app_healthy", &[]);
    gauge.set(1.0);
    let mut checks = Vec::new();
    let mut running = JoinSet::new();
    let (mut said, mut verdicts) = (Vec::new(), mpsc::channel(1).1);
    let mut news = News::default();
    loop {
        let seen = reader.version();
        let wanted = app.checks(&reader.current().posture.health_checks);
        if wanted != checks {
            checks = wanted;
            running.shutdown().await;
            let (sender, receiver) = mpsc::channel(MOST_CHECKS);
            verdicts = receiver;
            said = Vec::new();
            for (check, to) in &checks {
                let counted = Counted::new(&registry, &check.service);
                running.spawn(repeat(check.clone(), to.clone(), counted, said.len(), sender.clone()));
                said.push(None);
            }
        }
        // What was not asked yet is as it was.
        let healthy = if said.contains(&None) { news.told } else { said.iter().all(|said| *said == Some(true)) };
        let due = news.take(healthy, Instant::now());
        if let Due::Now = due {
            tell(healthy);
            gauge.set(f64::from(u8::from(healthy)));
        }
        tokio::select! {
            () = reader.changed(seen) => {}
            Some((index, healthy)) = verdicts.recv() => said[index] = Some(healthy),
            () = due.wait() => {}
        }
    }
}

/// What the mesh was told.
#[derive(Debug)]
struct News {
    told: bool,
    at: Option<Instant>,
}

#[derive(Debug, PartialEq, Eq)]
enum Due {
    Never,
    Now,
    At(Instant),
}

impl Default for News {
    /// A sidecar registers its app as healthy.
    fn default() -> Self {
        Self { told: true, at: None }
    }
}

impl News {
    /// When it is to be told, now that the app is so.
    fn take(&mut self, healthy: bool, now: Instant) -> Due {
        if healthy == self.told {
            return Due::Never;
        }
        match self.at.map(|at| at + HOLD).filter(|due| now < *due) {
            Some(due) => Due::At(due),
            None => {
                (self.told, self.at) = (healthy, Some(now));
                Due::Now
            }
        }
    }
}

impl Due {
    async fn wait(&self) {
        match self {
            Self::At(time) => tokio::time::sleep_until(*time).await,
            _ => std::future::pending().await,
        }
    }
}

struct Counted {
    passed: Counter,
    failed: Counter,
}

impl Counted {
    fn new(registry: &Registry, service: &str) -> Self {
        let counter = |result: &str| {
            let labels = &[("service", service), ("result", result)];
            registry.counter("leno_health_checks_total", labels)
        };
        Self { passed: counter("passed"), failed: counter("failed") }
    }
}

/// How many checks in a row went the other way.
#[derive(Debug, Default)]
struct Streak {
    /// None: not asked yet, and the first answer decides.
    healthy: Option<bool>,
    against: u32,
}

impl Streak {
    /// Takes one result; gives the app's health when it changes by it.
    fn add(&mut self, passed: bool, check: &HealthCheck) -> Option<bool> {
        let enough = if passed { check.healthy_threshold } else { check.unhealthy_threshold };
        self.against = if self.healthy == Some(passed) { 0 } else { self.against + 1 };
        if self.healthy.is_some() && self.against < enough || self.healthy == Some(passed) {
            return None;
        }
        (self.healthy, self.against) = (Some(passed), 0);
        self.healthy
    }
}

async fn repeat(check: HealthCheck, to: Target, counted: Counted, index: usize, said: mpsc::Sender<(usize, bool)>) {
    let mut streak = Streak::default();
    let mut last: Option<Reason> = None;
    loop {
        let begun = Instant::now();
        let made = tokio::time::timeout(check.timeout, make(&check, &to)).await;
        let failure = made.unwrap_or_else(|_| Err(format!("no answer within {:?}", check.timeout))).err();
        match &failure {
            None => counted.passed.inc(),
            Some(_) => counted.failed.inc(),
        }
        let passed = failure.is_none();
        last = failure.or(last);
        if let Some(healthy) = streak.add(passed, &check) {
            let reason = last.take().unwrap_or_default();
            match healthy {
                true => tracing::info!(service = check.service, "the app is healthy"),
                false => tracing::warn!(service = check.service, %reason, "the app is not healthy"),
            }
            if said.send((index, healthy)).await.is_err() {
                return;
            }
        }
        // Many apps that were started together must not be asked together for ever.
        tokio::time::sleep_until(begun + check.interval.mul_f64(0.9 + 0.2 * fastrand::f64())).await;
    }
}

async fn make(check: &HealthCheck, to: &Target) -> Result<(), Reason> {
    let agent = HeaderValue::from_static("leno-proxy");
    match &check.kind {
        ProbeKind::Tcp => connect(to).await.map(drop),
        ProbeKind::Grpc { service } => grpc::check(to, service, &agent).await,
        ProbeKind::Http { path, host, statuses } => {
            let host_header: Option<(HeaderName, HeaderValue)> = match host.is_empty() {
                true => None,
                false => Some((header::HOST, HeaderValue::from_str(host).map_err(|why| why.to_string())?)),
            };
            let get = HttpGet {
                host: Some(to.host.clone()),
                port: to.port,
                path: path.clone(),
                https: false,
                headers: host_header.into_iter().collect(),
            };
            match statuses[..] {
                [] => http::check(&get, &to.host, &agent).await,
                _ => http::expect(&get, &to.host, &agent, statuses).await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(healthy_threshold: u32, unhealthy_threshold: u32) -> HealthCheck {
        HealthCheck {
            service: "default/web".into(),
            selector: [("app".to_owned(), "web".to_owned())].into(),
            target: "http".into(),
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            healthy_threshold,
            unhealthy_threshold,
            kind: ProbeKind::Tcp,
        }
    }

    #[test]
    fn the_first_check_decides_and_then_only_so_many_in_a_row() {
        let check = check(2, 3);
        let mut streak = Streak::default();
        let mut told =
            |results: &[bool]| -> Vec<bool> { results.iter().filter_map(|r| streak.add(*r, &check)).collect() };
        assert_eq!(told(&[true, true, false, false, true, false, false]), [true]);
        assert_eq!(told(&[false, false, true, false, true]), [false]);
        assert_eq!(told(&[true]), [true]);
        assert_eq!(Streak::default().add(false, &check), Some(false));
    }

    #[test]
    fn an_app_that_flaps_is_told_of_once_a_second() {
        let start = Instant::now();
        let mut news = News::default();
        let told = (0..10_000_u64).filter(|ms| {
            let now = start + Duration::from_millis(*ms);
            news.take(ms % 2 == 0, now) == Due::Now
        });
        assert_eq!(told.count(), 10);
        assert_eq!(News::default().take(true, start), Due::Never);
    }

    #[test]
    fn a_check_goes_to_the_port_that_the_service_reaches() {
        let spec = |name: &str, port| PortSpec { name: name.into(), host: "127.0.0.1".into(), port };
        let ports = vec![spec("http", 8080), spec("80", 8081)];
        let app = App { labels: BTreeMap::new(), ports, own: Vec::new(), any: None };
        let port = |app: &App, target: &str| app.place(target).map(|to| to.port);
        for (target, found) in
            [("http", Some(8080)), ("80", Some(8081)), ("8080", Some(8080)), ("9", None), ("x", None)]
        {
            assert_eq!(port(&app, target), found, "{target}");
        }
        let all = App { any: Some([10, 0, 0, 1].into()), ..app };
        assert_eq!(all.place("9"), Some(Target { host: "10.0.0.1".into(), port: 9 }));
        let mut other = check(1, 1);
        other.selector = [("app".to_owned(), "web".to_owned())].into();
        assert!(all.checks(std::slice::from_ref(&other)).is_empty());
        let web = App { labels: [("app".to_owned(), "web".to_owned())].into(), ..all };
        assert_eq!(web.checks(&vec![other; MOST_CHECKS + 1]).len(), MOST_CHECKS);
    }
}
