//! `docs/troubleshooting.md`, of the faults that the other files here inject and of what the code says of their reasons.

use std::path::Path;

use leno_proxy::error::Reason;

/// What happened, what one sees, and what says why: a reason, or a finding of `leno check` and what mends it.
enum Told {
    Why(Reason),
    Check { finding: &'static str, mend: &'static str },
}

use Told::{Check, Why};

const FAULTS: [(&str, &str, Told); 20] = [
    ("The app is down", "503", Why(Reason::AppConnectFailed)),
    ("The app resets its connections", "502", Why(Reason::AppReset)),
    ("The app is slow, and the route has a limit", "504", Why(Reason::Timeout)),
    ("The caller asks at a port that the Service does not have", "404", Why(Reason::UnknownService)),
    ("A leaf certificate has expired", "503 for new connections; those that are open go on", Why(Reason::TlsFailed)),
    ("A policy denies it", "403", Why(Reason::Denied)),
    ("A route leads to nothing", "500; `leno check`: `not_accepted`", Why(Reason::InvalidBackend)),
    (
        "A split sends to a version of which there is no instance",
        "503; `leno check`: `no_endpoints`",
        Why(Reason::NoEndpoints),
    ),
    ("The circuit breaker is open", "503", Why(Reason::Overloaded)),
    ("The rate limit is used up", "429", Why(Reason::RateLimited)),
    (
        "The retry budget is empty",
        "what the last attempt brought; `leno why` adds that another one was not granted, spans say `leno.retry_denied`",
        Why(Reason::AppReset),
    ),
    ("A header is too large", "431", Why(Reason::HeadTooLarge)),
    ("The client goes away", "499 in logs and metrics; `leno why --last-error SERVICE`", Why(Reason::DownstreamReset)),
    ("The caller's deadline passes", "504", Why(Reason::DeadlineExceeded)),
    (
        "The control plane is gone",
        "nothing: requests go on. `leno` ends with 69, `leno_xds_connected` is 0",
        Check {
            finding: "cannot reach the control plane",
            mend: "Start it again with its state folder; sidecars reconnect by themselves. Until then nothing changes, and leaves live on.",
        },
    ),
    (
        "A sidecar refuses its configuration",
        "what was in force stays; `leno apply --wait` and `leno status` name the sidecar and its reason",
        Check {
            finding: "nack",
            mend: "Correct the object that is named, or `leno rollback`; sidecars of different versions may know different fields.",
        },
    ),
    (
        "A clock is wrong",
        "certificates are not valid yet, or have expired, for some",
        Check {
            finding: "clock_skew",
            mend: "Set the clocks by NTP: `timedatectl set-ntp true`. Leaves are renewed within 5 s.",
        },
    ),
    ("A name does not resolve", "404", Why(Reason::UnknownService)),
    ("The app speaks another protocol than its Service says", "502", Why(Reason::UpstreamProtocol)),
    (
        "The control plane's disk is full",
        "nothing: requests go on. Changes, tokens and joins are refused",
        Check { finding: "disk_full", mend: "Make room on the disk of the state folder; nothing has to be restarted." },
    ),
];

#[test]
fn the_page_of_faults_is_what_the_code_says_of_them() {
    let mut page = String::from(
        "# Troubleshooting\n\nPrinted from the tests that inject each of these faults into a real mesh, and from what the code says of each reason; a test keeps \
         it so.\n\nTake the header `leno-request-id` of an answer that failed and ask `leno why NUMBER`; without one, `leno why --last-error SERVICE`. The same \
         reason stands in the\nheader `leno-reason`, in `leno_failures_total`, in the access log and in the trace ([observability.md](observability.md)). All reasons are in \
         [reasons.md](reasons.md). `leno check` looks\nat the mesh as a whole.\n\n| what happened | what one sees | named by | what mends it |\n|---|---|---|---|\n",
    );
    for (fault, seen, told) in &FAULTS {
        let (named, mend) = match told {
            Why(reason) => (format!("`leno why`: `{}`", reason.code()), reason.advice()),
            Check { finding, mend } => (format!("`leno check`: `{finding}`"), *mend),
        };
        page.push_str(&format!("| {fault} | {seen} | {named} | {} |\n", mend.replace('|', "\\|")));
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/troubleshooting.md");
    if std::env::var_os("LENO_BLESS").is_some() {
        std::fs::write(&file, &page).expect("docs/troubleshooting.md can be written");
    }
    let written = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(written == page, "docs/troubleshooting.md is not what the code says; LENO_BLESS=1 writes it anew");
}
