//! System calls that neither program ever makes are closed to it, so that whoever breaks into one finds little to go on with: no other
//! program is started, no namespace, mount or module is touched, no other process is looked into, no clock is set.
//!
//! A list of what is closed, and not of what is open: what a libc or a runtime calls changes with their versions, and a sidecar that dies of
//! that costs more than the last corner would gain. It needs no profile to be shipped, and holds in a container, in a pod and on a bare machine alike.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use landlock::{
    ABI, AccessFs, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetStatus,
};
use libc::c_long;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

/// Why the system calls could not be closed.
#[derive(Debug)]
struct Unconfined(String);

impl fmt::Display for Unconfined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Gives up what this process never needs: writing anywhere but in this folder, and the system calls below. What a kernel does not offer
/// is told, and is no reason not to start.
pub fn enter(folder: &Path) {
    match write_only_below(folder) {
        Ok(()) => {
            tracing::info!(folder = %folder.display(), "all files but those in this folder are read-only to this process");
        }
        Err(error) => {
            tracing::warn!(%error, "the file system is not made read-only to this process; who breaks into it can write what its user can");
        }
    }
    if let Err(error) = confine() {
        tracing::warn!(%error, "this kernel closes no system calls to a process; those that are never used stay open");
    }
}

/// What answers EPERM from now on.
const CLOSED: &[c_long] = &[
    // Other programs.
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_memfd_create,
    libc::SYS_personality,
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    // Namespaces, mounts and roots.
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_quotactl,
    // The kernel.
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_syslog,
    libc::SYS_acct,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    // Clocks.
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
];

/// Closes them, for every thread of the process and for good; with it, nothing gives this process privileges any more (`no_new_privs`).
///
/// # Errors
/// The kernel has no seccomp filters; everything stays as it was.
fn confine() -> Result<(), Unconfined> {
    let program = program()?;
    seccompiler::apply_filter_all_threads(&program).map_err(|why| Unconfined(why.to_string()))
}

/// Makes the file system read-only to this process, but for one folder (Landlock): beside a root that the runtime mounts read-only, and where
/// it does not. A folder that is missing is made, for this user alone. To be called before there is another thread.
///
/// # Errors
/// The folder cannot be opened, or the kernel has no Landlock; everything stays as it was.
fn write_only_below(folder: &Path) -> Result<(), Unconfined> {
    use std::os::unix::fs::DirBuilderExt;
    let failed = |why: &dyn fmt::Display| Unconfined(why.to_string());
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|why| failed(&why))?;
    let writing = AccessFs::from_write(ABI::V3);
    let below = PathFd::new(folder).map_err(|why| failed(&why))?;
    let ruleset = Ruleset::default().set_compatibility(CompatLevel::BestEffort).handle_access(writing);
    let ruleset = ruleset.and_then(Ruleset::create).and_then(|rules| rules.add_rule(PathBeneath::new(below, writing)));
    let status = ruleset.and_then(|rules| rules.restrict_self()).map_err(|why| failed(&why))?;
    match status.ruleset {
        RulesetStatus::NotEnforced => Err(Unconfined("it has no Landlock".to_owned())),
        _ => Ok(()),
    }
}

fn program() -> Result<BpfProgram, Unconfined> {
    let failed = |why: &dyn fmt::Display| Unconfined(why.to_string());
    let rules: BTreeMap<i64, _> = CLOSED.iter().map(|number| (*number, Vec::new())).collect();
    let arch = std::env::consts::ARCH.try_into().map_err(|why: seccompiler::BackendError| failed(&why))?;
    let denied = SeccompAction::Errno(libc::EPERM as u32);
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, denied, arch).map_err(|why| failed(&why))?;
    filter.try_into().map_err(|why: seccompiler::BackendError| failed(&why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_closed_is_refused_and_what_the_programs_do_is_not() {
        // For this thread alone; others of the test run go on as they are.
        std::thread::spawn(|| {
            assert!(std::process::Command::new("true").status().is_ok());
            seccompiler::apply_filter(&program().unwrap()).unwrap();
            let refused = std::process::Command::new("true").status().unwrap_err();
            assert_eq!(refused.raw_os_error(), Some(libc::EPERM));
            let moved = rustix::process::chroot("/").unwrap_err();
            assert_eq!(moved, rustix::io::Errno::PERM);
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let client = std::thread::spawn(move || std::net::TcpStream::connect(address).unwrap());
            listener.accept().unwrap();
            client.join().unwrap();
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join("file"), "x").unwrap();
        })
        .join()
        .unwrap();
    }

    #[test]
    fn nothing_is_written_but_below_the_one_folder_and_everything_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let (state, other) = (dir.path().join("a/state"), dir.path().join("other"));
        std::fs::write(&other, "x").unwrap();
        let outside = dir.path().to_owned();
        // For this thread and those that it starts.
        std::thread::spawn(move || {
            if let Err(why) = write_only_below(&state) {
                eprintln!("SKIPPED: {why}");
                assert!(std::env::var_os("LENO_NO_SKIP").is_none(), "no test skips itself here");
                return;
            }
            std::fs::write(state.join("file"), "x").unwrap();
            std::fs::rename(state.join("file"), state.join("renamed")).unwrap();
            std::fs::create_dir(state.join("folder")).unwrap();
            std::fs::remove_file(state.join("renamed")).unwrap();
            assert_eq!(std::fs::read_to_string(&other).unwrap(), "x");
            let denied =
                |result: std::io::Result<()>| result.unwrap_err().kind() == std::io::ErrorKind::PermissionDenied;
            assert!(denied(std::fs::write(&other, "y")));
            assert!(denied(std::fs::write(outside.join("new"), "y")));
            assert!(denied(std::fs::remove_file(&other)));
            assert!(denied(std::fs::create_dir(outside.join("folder"))));
            assert!(denied(std::os::unix::fs::symlink(&other, outside.join("link"))));
            let child = std::thread::spawn(move || denied(std::fs::write(&other, "y")));
            assert!(child.join().unwrap(), "its threads neither");
        })
        .join()
        .unwrap();
    }
}
