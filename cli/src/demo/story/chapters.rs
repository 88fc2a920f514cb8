//! The chapters, in their order. Each gives one fact.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::demo::counts::Counts;
use crate::demo::fact::{Fact, binomial_interval, share};
use crate::demo::intruder::Outcome;
use crate::demo::mesh::{Break, Broken, Mesh};
use crate::failure::Failure;
use crate::output::{count, thousands};

/// Longer than the traffic policy sets a failing instance aside.
const HIT_PATIENCE: Duration = Duration::from_secs(5);

/// `2,000 requests, 0 failed`, with the reasons when there are any.
fn outcome(counts: &Counts) -> String {
    let mut text = format!("{}, {} failed", count(counts.requests(), "request"), thousands(counts.failed));
    if counts.failed > 0 {
        text = format!("{text} ({})", counts.why());
    }
    text
}

/// All processes run, and every sidecar has proven an identity.
pub(super) async fn mesh_up(mesh: &mut Mesh) -> Result<Fact, Failure> {
    let status = mesh.joined().await?;
    let processes = mesh.processes();
    let sidecars = mesh.sidecars();
    let apps = processes.saturating_sub(sidecars + 1);
    let mut identities: Vec<&str> = status.sidecars.iter().map(|s| s.identity.as_str()).collect();
    identities.sort_unstable();
    identities.dedup();
    let spiffe = identities.iter().filter(|i| i.starts_with("spiffe://")).count();
    let text = format!(
        "{processes} processes: a control plane, {sidecars} sidecars with {}, {apps} apps",
        if spiffe == 1 { "1 SPIFFE identity".to_owned() } else { format!("{spiffe} SPIFFE identities") },
    );
    let held = spiffe == 3 && apps == sidecars;
    Ok(Fact::new(
        "mesh up",
        held,
        text,
        json!({"processes": processes, "sidecars": sidecars, "apps": apps, "identities": spiffe}),
    ))
}

/// Requests flow, and only through mutual TLS: the web servers' sidecars count on their mesh ports, which take nothing else (as
/// `intruders` shows), at least what the frontend has counted.
pub(super) async fn traffic(mesh: &mut Mesh, length: Duration) -> Result<Fact, Failure> {
    sleep(length).await;
    let counts = mesh.traffic.phase("between").await?.counts;
    let (inbound, (handshakes, _)) = (mesh.inbound().await?, mesh.handshakes().await?);
    let mut text = format!(
        "{} over {}, p50 {:.1} ms, p99 {:.1} ms",
        outcome(&counts),
        count(handshakes, "mutual TLS connection"),
        counts.p50_micros as f64 / 1000.0,
        counts.p99_micros as f64 / 1000.0,
    );
    if inbound < counts.ok {
        text = format!("{text}; but only {} came through the mesh ports", thousands(inbound));
    }
    let numbers = json!({
        "requests": counts.requests(), "failed": counts.failed, "inbound": inbound, "handshakes": handshakes,
        "p50Micros": counts.p50_micros, "p99Micros": counts.p99_micros,
    });
    let held = counts.ok > 0 && counts.failed == 0 && inbound >= counts.ok && handshakes > 0;
    Ok(Fact::new("traffic", held, text, numbers))
}

/// The weights move, and the requests with them: every one that begins after the command has returned.
pub(super) async fn split(mesh: &mut Mesh, name: &str, v2: u8, length: Duration) -> Result<Fact, Failure> {
    let start = Instant::now();
    let applied = mesh.split(v2).await?;
    let took = start.elapsed();
    let moving = mesh.traffic.phase(name).await?.counts;
    sleep(length).await;
    let counts = mesh.traffic.phase("between").await?.counts;
    let (to_v2, all) = (counts.of_version("v2"), counts.requests());
    let (low, high) = binomial_interval(all, f64::from(v2) / 100.0);
    let failed = counts.failed + moving.failed;
    let mut text = format!("{}, {} failed", share(to_v2, all, "requests to v2"), thousands(failed));
    if failed > 0 {
        let mut both = counts.clone();
        both.add(&moving);
        text = format!("{text} ({})", both.why());
    }
    let is_within = (low..=high).contains(&to_v2);
    if !is_within {
        text = format!("{text}, outside of the 99.9 % interval {low} to {high}");
    }
    text = format!("{text}; in force at {} in {} ms", count(applied.acked, "sidecar"), took.as_millis());
    let held = all > 0 && failed == 0 && is_within && applied.acked > 0;
    let numbers = json!({
        "requests": all, "toV2": to_v2, "low": low, "high": high, "failed": failed,
        "revision": applied.revision, "acked": applied.acked, "applyMillis": took.as_millis() as u64,
    });
    Ok(Fact::new(name, held, text, numbers))
}

/// One of two instances of v2 answers 503 and then resets connections; callers see neither.
pub(super) async fn break_and_retry(mesh: &mut Mesh, length: Duration) -> Result<Fact, Failure> {
    mesh.split(50).await?;
    mesh.traffic.phase("break").await?;
    let before = (mesh.retries().await?, mesh.broken().await?);
    mesh.break_instance(Break::Refuse).await?;
    sleep(length / 2).await;
    until_hit(mesh, |now| now.refused > before.1.refused).await?;
    mesh.break_instance(Break::Reset).await?;
    sleep(length / 2).await;
    until_hit(mesh, |now| now.resets > before.1.resets).await?;
    mesh.break_instance(Break::Off).await?;
    let counts = mesh.traffic.phase("between").await?.counts;
    let after = (mesh.retries().await?, mesh.broken().await?);
    let retries = after.0.saturating_sub(before.0);
    let refused = after.1.refused - before.1.refused;
    let resets = after.1.resets - before.1.resets;
    let text = format!(
        "a broken instance answered {} times 503 and reset {} times; {}, {}",
        thousands(refused),
        thousands(resets),
        count(retries, "retry").replace("retrys", "retries"),
        outcome(&counts),
    );
    let held = counts.ok > 0 && counts.failed == 0 && refused > 0 && resets > 0 && retries >= refused + resets;
    let numbers = json!({
        "requests": counts.requests(), "failed": counts.failed, "refused": refused, "resets": resets, "retries": retries,
    });
    Ok(Fact::new("retries", held, text, numbers))
}

/// Waits a little longer when the broken instance was not asked yet: it may be set aside for what it did before.
async fn until_hit(mesh: &Mesh, is_hit: impl Fn(Broken) -> bool) -> Result<(), Failure> {
    let start = Instant::now();
    while start.elapsed() < HIT_PATIENCE && !is_hit(mesh.broken().await?) {
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Without a control plane the traffic goes on.
pub(super) async fn outage(mesh: &mut Mesh, length: Duration) -> Result<Fact, Failure> {
    mesh.kill_control_plane().await;
    mesh.traffic.phase("outage").await?;
    sleep(length).await;
    let is_away = mesh.status().await.is_err();
    let counts = mesh.traffic.phase("between").await?.counts;
    let seconds = length.as_secs_f64();
    let text = format!("control plane killed with -9 for {seconds:.1} s: {}", outcome(&counts));
    let held = is_away && counts.ok > 0 && counts.failed == 0;
    Ok(Fact::new(
        "outage",
        held,
        text,
        json!({"requests": counts.requests(), "failed": counts.failed, "seconds": seconds}),
    ))
}

/// When it is back, the sidecars come back to it, and what they hold is not sent to them again.
pub(super) async fn resume(mesh: &mut Mesh) -> Result<Fact, Failure> {
    let start = Instant::now();
    mesh.start_control_plane().await?;
    let status = mesh.joined().await?;
    let took = start.elapsed();
    let counts = mesh.traffic.phase("between").await?.counts;
    let sent: u64 = status.sidecars.iter().map(|s| s.resources_sent).sum();
    let text = format!(
        "started again: {} resumed at revision {} in {:.1} s, {} sent again; {}",
        count(status.sidecars.len() as u64, "sidecar"),
        status.control_plane.revision,
        took.as_secs_f64(),
        count(sent, "resource"),
        outcome(&counts),
    );
    let numbers = json!({
        "sidecars": status.sidecars.len(), "revision": status.control_plane.revision,
        "millis": took.as_millis() as u64, "resourcesSent": sent, "failed": counts.failed,
    });
    Ok(Fact::new("resume", counts.failed == 0, text, numbers))
}

/// Whoever is not of the mesh is refused, and no app hears of it.
pub(super) async fn intruders(mesh: &mut Mesh) -> Result<Fact, Failure> {
    let (_, before) = mesh.handshakes().await?;
    let attempts = mesh.intrude().await?;
    let seen = mesh.intruders_seen().await?;
    let (_, after) = mesh.handshakes().await?;
    let counted = after - before;
    let is_taken = |o: &Outcome| matches!(o, Outcome::Taken(_));
    let taken: Vec<String> = attempts
        .iter()
        .filter(|a| is_taken(&a.outcome))
        .map(|a| match &a.outcome {
            Outcome::Taken(how) | Outcome::Refused(how) => format!("{} at {}: {how}", a.how, a.at),
        })
        .collect();
    let plaintext = attempts.iter().filter(|a| a.how == "plaintext").count() as u64;
    let tls = attempts.len() as u64 - plaintext;
    let mut text = format!(
        "{plaintext} plaintext and {tls} TLS connections without a certificate to the mesh ports: {} refused, {counted} counted by the sidecars, {seen} reached an app",
        attempts.len() - taken.len(),
    );
    if !taken.is_empty() {
        text = format!("{text} ({})", taken.join(", "));
    }
    let held = plaintext > 0 && tls > 0 && taken.is_empty() && seen == 0 && counted == plaintext + tls;
    let numbers = json!({
        "plaintext": plaintext, "tls": tls, "taken": taken.len(), "counted": counted, "reachedApp": seen,
    });
    Ok(Fact::new("intruders", held, text, numbers))
}

/// All the while the store was called too.
pub(super) async fn store(mesh: &mut Mesh) -> Result<Fact, Failure> {
    mesh.traffic.phase("end").await?;
    let total = &mesh.traffic.total;
    let calls = total.store_ok + total.store_failed;
    let mut text = format!("{} of {} answered right over TCP", thousands(total.store_ok), count(calls, "call"));
    if total.store_failed > 0 {
        text = format!("{text} ({})", total.why());
    }
    let held = calls > 0 && total.store_failed == 0;
    Ok(Fact::new("store", held, text, json!({"calls": calls, "answered": total.store_ok})))
}
