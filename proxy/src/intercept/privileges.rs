//! A sidecar that makes its rules itself starts as root and serves as nobody in particular: what needs root happens here, and
//! then root and every capability are given up for good.

use std::fs::{self, DirBuilder};
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use leno_runtime::failure::{Failure, exit};
use rustix::fs::{AtFlags, CWD, chownat};
use rustix::io::Errno;
use rustix::process::{Gid, Uid, geteuid, getgid, getgroups, getuid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set, remove_capability_from_bounding_set,
    set_capabilities, set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

use crate::settings::{Settings, TokenSource};

/// Capabilities are numbered from zero; the kernel has 41 of 64 at most.
const CAPABILITIES: u32 = 64;
/// Longest token file that is read.
const TOKEN_BYTES: u64 = 4096;

/// What `--intercept` does at start, in its order: reads the token, which only root may be able to read; redirects the
/// traffic; gives the state folder to the sidecar's user; and becomes that user. Nothing happens without `--intercept`.
///
/// To be called while the process has one thread.
///
/// # Errors
/// What is missing, and what to do.
pub fn start(settings: &mut Settings) -> Result<(), Failure> {
    let Some(interception) = settings.interception.clone().filter(|interception| interception.apply) else {
        return Ok(());
    };
    read_token(settings);
    let wanted = &interception.redirection;
    super::apply(wanted)?;
    if geteuid().is_root() {
        give_away(&settings.state_dir, wanted.uid, wanted.gid)?;
    }
    drop_privileges(wanted.uid, wanted.gid)?;
    tracing::info!(uid = wanted.uid, "this network namespace's traffic is redirected to the sidecar; root is given up");
    Ok(())
}

/// Takes the token out of its file. One that cannot be read may not be needed: the state folder may hold an identity; if it
/// is needed, whoever looks for it says so.
fn read_token(settings: &mut Settings) {
    let Some(TokenSource::File(path)) = &settings.token else { return };
    let mut text = String::new();
    let read = fs::File::open(path).and_then(|file| file.take(TOKEN_BYTES).read_to_string(&mut text));
    if read.is_ok() {
        settings.token = Some(TokenSource::Text(text.trim().to_owned()));
    }
}

/// Makes the state folder if need be, and gives it and the files in it to the user.
fn give_away(state_dir: &Path, uid: u32, gid: u32) -> Result<(), Failure> {
    let refused = |path: &Path, why: io::Error| {
        Failure::new(
            exit::CANNOT_CREATE,
            format!("the state folder {} cannot be given to user {uid}: {why}", path.display()),
            "give --state-dir a folder on a file system that knows owners, and the capability CAP_CHOWN",
        )
    };
    if !state_dir.is_dir() {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(state_dir);
        made.map_err(|why| refused(state_dir, why))?;
    }
    // A symbolic link is given away itself, and not what it leads to.
    let give = |path: &Path| {
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        chownat(CWD, path, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|why| refused(path, io::Error::from(why)))
    };
    for entry in fs::read_dir(state_dir).map_err(|why| refused(state_dir, why))? {
        give(&entry.map_err(|why| refused(state_dir, why))?.path())?;
    }
    // Last, and following a link: from now on the user may put links of his own into it.
    rustix::fs::chown(state_dir, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
        .map_err(|why| refused(state_dir, why.into()))
}

/// Becomes the user `uid` with the group `gid`, no further groups and no capability, and no way back: not even a program
/// with the set-user-id bit gives anything to this process or its children.
///
/// It acts on the calling thread, and threads that it starts take after it; so it is to be called while the process has one
/// thread.
///
/// # Errors
/// A capability that this takes is missing; or something is left that should be gone.
pub fn drop_privileges(uid: u32, gid: u32) -> Result<(), Failure> {
    let root = geteuid().is_root();
    step("no new privileges", "CAP_SYS_ADMIN", set_no_new_privs(true))?;
    step("the ambient capabilities", "CAP_SETPCAP", clear_ambient_capability_set())?;
    for number in 0..CAPABILITIES {
        match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << number)) {
            Ok(()) => {}
            Err(Errno::INVAL) => break, // The kernel has no more of them.
            // Who is not root now cannot become it any more, so that nothing can come out of the bounding set.
            Err(Errno::PERM) if !root => break,
            Err(why) => step("the bounding set of capabilities", "CAP_SETPCAP", Err(why))?,
        }
    }
    let (user, group) = (Uid::from_raw(uid), Gid::from_raw(gid));
    let only_group = getgroups().is_ok_and(|groups| groups.iter().all(|other| *other == group));
    if root || !only_group {
        step("further groups", "CAP_SETGID", set_thread_groups(&[]))?;
    }
    if root || getgid() != group {
        step("the group", "CAP_SETGID", set_thread_res_gid(group, group, group))?;
    }
    if root || getuid() != user {
        step("the user", "CAP_SETUID", set_thread_res_uid(user, user, user))?;
    }
    let none = CapabilitySet::empty();
    let none = CapabilitySets { effective: none, permitted: none, inheritable: none };
    step("the capabilities", "CAP_SETPCAP", set_capabilities(None, none))?;
    let left = capabilities(None).is_ok_and(|sets| sets.permitted.is_empty() && sets.effective.is_empty());
    if left && getuid() == user && geteuid() == user && getgid() == group {
        return Ok(());
    }
    Err(Failure::new(
        exit::DENIED,
        format!("this process could not become user {uid} without any capability"),
        "start it as that user, with --transparent and rules that `leno-proxy intercept` made",
    ))
}

fn step(what: &str, capability: &str, result: Result<(), Errno>) -> Result<(), Failure> {
    result.map_err(|why| {
        Failure::new(
            exit::DENIED,
            format!("{what} cannot be given up: {why}"),
            format!(
                "let it have the capability {capability} at its start, or start it as its own user with --transparent and \
                 rules that `leno-proxy intercept` made"
            ),
        )
    })
}
