//! The subcommands of `leno-proxy`: what a container or its health check runs beside the sidecar.

use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use leno_runtime::failure::{Failure, exit, exit_with};
use leno_runtime::probe;
use rustix::process::{WaitOptions, wait as wait_for_child};
use tokio::signal::unix::{SignalKind, signal};

use crate::settings::{HoldArgs, InterceptArgs, Problems, WaitArgs, parse_duration};
use crate::{apps, intercept};

/// The exit code of `--check` when there is a difference.
const DIFFERENT: u8 = 1;
/// Between two tries of `wait`.
const PAUSE: Duration = Duration::from_millis(100);
/// Longest one try of `wait` takes.
const TRY: Duration = Duration::from_secs(2);
/// How long the sidecar of a job may drain after the app has ended: a little longer than its own limit, unless that was
/// changed.
const DRAINING: Duration = Duration::from_secs(35);

fn usage(problems: &Problems) -> Failure {
    Failure::new(exit::USAGE, problems.to_string(), "`leno-proxy intercept --help` shows every flag")
}

/// `leno-proxy intercept`.
pub fn intercept(args: &InterceptArgs) -> ExitCode {
    let wanted = match args.redirection() {
        Ok(wanted) => wanted,
        Err(problems) => return exit_with(Err(usage(&problems))),
    };
    if args.dry_run {
        say(&intercept::dry_run(&wanted));
        return ExitCode::SUCCESS;
    }
    if args.remove {
        return exit_with(intercept::remove());
    }
    if !args.check {
        return exit_with(intercept::apply(&wanted));
    }
    match intercept::check(&wanted) {
        Ok(lines) if lines.is_empty() => ExitCode::SUCCESS,
        Ok(lines) => {
            say(&lines.iter().map(|line| format!("{line}\n")).collect::<String>());
            ExitCode::from(DIFFERENT)
        }
        Err(failure) => exit_with(Err(failure)),
    }
}

/// A closed standard output is no reason to fail.
fn say(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

/// `leno-proxy wait`: comes back when the sidecar is ready.
///
/// # Errors
/// It was not in time, with the last reason.
pub fn wait(args: &WaitArgs) -> Result<(), Failure> {
    let wrong = |why: String| Failure::new(exit::USAGE, why, "`leno-proxy wait --help` shows every flag");
    let timeout = parse_duration(&args.timeout).map_err(|why| wrong(format!("--timeout: {why}")))?;
    let addr: SocketAddr = args.admin_addr.parse().map_err(|_| {
        wrong(format!("--admin-addr: {:?} is no address and port, such as 127.0.0.1:15000", args.admin_addr))
    })?;
    let start = Instant::now();
    loop {
        let Err(why) = probe::ready(addr, Instant::now() + TRY) else { return Ok(()) };
        if start.elapsed() >= timeout {
            return Err(Failure::new(
                exit::UNAVAILABLE,
                format!("the sidecar with the admin port {addr} is not ready: {why}"),
                "its log says what it waits for; --admin-addr says where its admin port is",
            ));
        }
        std::thread::sleep(PAUSE.min(timeout.saturating_sub(start.elapsed())));
    }
}

/// `leno-proxy hold`: what a container runs whose namespaces others join. As the first process of a process namespace it
/// also takes leave of processes whose parents have ended.
///
/// # Errors
/// The system gives no signals.
pub fn hold(args: &HoldArgs) -> Result<(), Failure> {
    let refused = |why: std::io::Error| {
        Failure::new(exit::UNAVAILABLE, format!("signals cannot be waited for: {why}"), "look at `ulimit -a`")
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(refused)?;
    runtime.block_on(async {
        let mut term = signal(SignalKind::terminate()).map_err(refused)?;
        let mut int = signal(SignalKind::interrupt()).map_err(refused)?;
        let mut child = signal(SignalKind::child()).map_err(refused)?;
        let apps_ended = async {
            match args.until_apps_end {
                true => {
                    apps::ended().await;
                    apps::alone(DRAINING).await;
                }
                false => std::future::pending().await,
            }
        };
        tokio::pin!(apps_ended);
        loop {
            reap();
            tokio::select! {
                _ = term.recv() => return Ok(()),
                _ = int.recv() => return Ok(()),
                () = &mut apps_ended => return Ok(()),
                _ = child.recv() => {}
            }
        }
    })
}

/// Several children may have ended for one signal.
fn reap() {
    while let Ok(Some(_)) = wait_for_child(WaitOptions::NOHANG) {}
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::net::TcpListener;

    use super::*;

    /// Answers each connection with the next text, and then refuses.
    fn admin(answers: &'static [&'static str]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let _ = stream.read(&mut [0; 1024]);
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        addr
    }

    fn args(addr: SocketAddr, timeout: &str) -> WaitArgs {
        WaitArgs { admin_addr: addr.to_string(), timeout: timeout.to_owned() }
    }

    #[test]
    fn one_try_tells_ready_from_not_ready_and_from_nobody() {
        let ok = admin(&["HTTP/1.1 200 OK\r\n\r\nready"]);
        assert_eq!(wait(&args(ok, "0s")), Ok(()));
        let failure = wait(&args(ok, "0s")).unwrap_err();
        assert_eq!(failure.code(), exit::UNAVAILABLE);
        let waiting = admin(&["HTTP/1.1 503 Service Unavailable\r\n\r\nwaiting for: control plane\n"]);
        let line = wait(&args(waiting, "0s")).unwrap_err().to_string();
        assert!(line.contains("503") && line.contains("control plane"), "{line}");
    }

    #[test]
    fn it_waits_until_the_sidecar_is_ready() {
        const LATE: &str = "HTTP/1.1 503 Service Unavailable\r\n\r\n";
        let addr = admin(&[LATE, "", LATE, "HTTP/1.1 200 OK\r\n\r\n"]);
        assert_eq!(wait(&args(addr, "30s")), Ok(()));
    }

    #[test]
    fn an_endless_answer_is_cut() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            while stream.write_all(&[b'x'; 64]).is_ok() {}
        });
        assert_eq!(wait(&args(addr, "0s")).unwrap_err().code(), exit::UNAVAILABLE);
        // And one that never comes ends at the deadline.
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let why = probe::ready(silent.local_addr().unwrap(), Instant::now() + Duration::from_millis(50)).unwrap_err();
        assert!(!why.is_empty());
    }

    #[test]
    fn wrong_flags_are_a_matter_of_usage() {
        let wrong = [("nowhere", "1s"), ("127.0.0.1:1", "soon")];
        for (admin_addr, timeout) in wrong {
            let failure = wait(&WaitArgs { admin_addr: admin_addr.into(), timeout: timeout.into() }).unwrap_err();
            assert_eq!(failure.code(), exit::USAGE);
        }
    }
}
