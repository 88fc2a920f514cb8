//! What the kernel's refusals mean, for people.

use leno_runtime::failure::{Failure, exit};
use rustix::io::Errno;

use super::nft::{Failed, Step};

/// Says what was wrong and what to do.
pub fn explain(failed: Failed) -> Failure {
    let Failed { step, why } = failed;
    if matches!(why, Errno::PERM | Errno::ACCESS) {
        return Failure::new(
            exit::DENIED,
            "the traffic of this network namespace cannot be redirected: this process lacks the capability CAP_NET_ADMIN",
            "give it to it (docker: --cap-add NET_ADMIN; Kubernetes: securityContext.capabilities.add: [NET_ADMIN]), or \
             run `leno-proxy intercept` beforehand as a user who has it",
        );
    }
    if let Some(part) = missing_part(step, why) {
        return Failure::new(
            exit::UNAVAILABLE,
            format!("the kernel lacks {part} ({why})"),
            "load that module on the machine that runs the kernel (`modprobe`), use Linux 5.4 or newer, or use the sidecar \
             explicitly, without --intercept",
        );
    }
    if step == Step::Route {
        return route(why);
    }
    Failure::new(
        exit::UNAVAILABLE,
        format!("the kernel refused {} of the table inet leno: {why}", what(step)),
        "`leno-proxy intercept --dry-run` prints the rules; nothing was changed",
    )
}

fn route(why: Errno) -> Failure {
    match why {
        Errno::EXIST => Failure::new(
            exit::UNAVAILABLE,
            "somebody else's route leads to 240.240.0.0/16 or fd6c:656e:6f00::/48, the virtual addresses of mesh services",
            "`ip route show table main` shows it; take it away, since nothing was changed",
        ),
        Errno::NETDOWN | Errno::NODEV | Errno::INVAL | Errno::NETUNREACH => Failure::new(
            exit::UNAVAILABLE,
            format!("no route can lead to the loopback interface of this network namespace: {why}"),
            "bring it up with `ip link set lo up`",
        ),
        _ => Failure::new(
            exit::UNAVAILABLE,
            format!("the kernel refused a route by the loopback interface: {why}"),
            "look at `ip route show table main`; nothing was changed",
        ),
    }
}

/// The module that a refusal is about. The kernel has tried to load it by then.
fn missing_part(step: Step, why: Errno) -> Option<&'static str> {
    // It does not know the protocol, the subsystem of it, or a type of chain or expression.
    let unknown =
        matches!(why, Errno::PROTONOSUPPORT | Errno::AFNOSUPPORT | Errno::OPNOTSUPP | Errno::NOENT | Errno::NOPROTOOPT);
    if !unknown {
        return None;
    }
    match step {
        Step::Whole | Step::Table => Some("nf_tables with the family inet: module nf_tables (CONFIG_NF_TABLES_INET)"),
        Step::Chain => {
            Some("nf_tables' chains that change addresses: module nft_chain_nat (for the family inet Linux 5.2)")
        }
        Step::Redirect => Some("nf_tables' redirection: module nft_redir"),
        Step::Fib => Some("nf_tables' question whether an address is local: module nft_fib_inet"),
        Step::Reject => Some("nf_tables' refusal: module nft_reject_inet"),
        Step::Rule | Step::Route => None,
    }
}

fn what(step: Step) -> &'static str {
    match step {
        Step::Whole => "a transaction",
        Step::Table => "a change",
        Step::Chain => "a chain",
        Step::Redirect | Step::Fib | Step::Reject | Step::Rule => "a rule",
        Step::Route => "a route",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(step: Step, why: Errno) -> (u8, String) {
        let failure = explain(Failed { step, why });
        (failure.code(), failure.to_string())
    }

    #[test]
    fn a_missing_capability_is_named_whatever_was_tried_first() {
        for step in [Step::Whole, Step::Table, Step::Route] {
            let (code, line) = line(step, Errno::PERM);
            assert_eq!(code, exit::DENIED);
            assert!(line.contains("CAP_NET_ADMIN") && line.contains("--cap-add NET_ADMIN"), "{line}");
        }
    }

    #[test]
    fn a_missing_part_of_the_kernel_is_named_by_its_module() {
        let cases = [
            (Step::Whole, Errno::PROTONOSUPPORT, "module nf_tables"),
            (Step::Table, Errno::OPNOTSUPP, "module nf_tables"),
            (Step::Chain, Errno::NOENT, "module nft_chain_nat"),
            (Step::Redirect, Errno::NOENT, "module nft_redir"),
            (Step::Fib, Errno::NOENT, "module nft_fib_inet"),
            (Step::Reject, Errno::NOENT, "module nft_reject_inet"),
        ];
        for (step, why, part) in cases {
            let (code, line) = line(step, why);
            assert_eq!(code, exit::UNAVAILABLE);
            assert!(line.contains(part) && line.contains("modprobe"), "{line}");
        }
    }

    #[test]
    fn other_refusals_say_what_was_refused() {
        assert!(line(Step::Route, Errno::EXIST).1.contains("240.240.0.0/16"));
        assert!(line(Step::Route, Errno::NETDOWN).1.contains("ip link set lo up"));
        assert!(line(Step::Rule, Errno::NOMEM).1.contains("a rule"));
    }
}
