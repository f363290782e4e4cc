//! Where the calls are made: private namespaces, a user without rights, tight limits.
//!
//! A call that gets through by mistake meets nothing that it could harm.

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Gid, Uid, fork, setgroups, setresgid, setresuid};
use rustix::process::{Resource, Rlimit, setrlimit};

/// A user that nobody is.
const NOBODY: u32 = 1_900_000_007;

/// Runs `inside` in a child in the cage, and returns its exit code.
///
/// Only for a process with one thread.
pub fn enter(inside: impl FnOnce() -> i32) -> i32 {
    let root = Uid::effective().is_root();
    let private = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWPID;
    // An ordinary user owns namespaces only inside one for users, where no user is mapped.
    let own = if root { private } else { private | CloneFlags::CLONE_NEWUSER };
    unshare(own).expect("the matrix needs namespaces of its own");
    // SAFETY: this process has one thread.
    match unsafe { fork() }.unwrap() {
        ForkResult::Parent { child } => match waitpid(child, None).unwrap() {
            WaitStatus::Exited(_, code) => code,
            other => panic!("the caged process: {other:?}"),
        },
        ForkResult::Child => {
            confine(root);
            std::process::exit(inside())
        }
    }
}

fn confine(root: bool) {
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
    for (resource, limit) in [
        (Resource::Core, 0),
        (Resource::Fsize, 0),
        (Resource::Nofile, 64),
        (Resource::Nproc, 64),
        (Resource::Cpu, 100),
    ] {
        let limit = Rlimit { current: Some(limit), maximum: Some(limit) };
        setrlimit(resource, limit).unwrap();
    }
    if root {
        setgroups(&[]).unwrap();
        let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
        setresgid(group, group, group).unwrap();
        setresuid(user, user, user).unwrap();
    }
    for set in [caps::CapSet::Effective, caps::CapSet::Permitted, caps::CapSet::Inheritable] {
        caps::clear(None, set).unwrap();
    }
    rustix::thread::set_no_new_privs(true).unwrap();
}
