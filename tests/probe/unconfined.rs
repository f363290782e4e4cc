//! Controls: the same attack where nobody stops it. If it doesn't work there, its failure in a
//! layer proves nothing.
//!
//! Nothing here runs as root of the host: root becomes an ordinary user first, or rules over
//! namespaces of its own and nothing else.

use std::process::ExitCode;

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{
    ForkResult, Gid, Pid, Uid, fork, getegid, geteuid, setgroups, setresgid, setresuid,
};

use crate::attacks::{self, Control, Facts};
use crate::orders::Orders;

/// An ordinary user.
const NOBODY: u32 = 65_534;

/// Performs the attack and says `RESULT`, like a layer; exit code 77 says that it has no control
/// here, and why.
pub(crate) fn run(arguments: &[String]) -> Result<ExitCode, String> {
    let (name, rest) = arguments.split_first().ok_or("--unconfined NAME")?;
    let with_policy = [&["--policy".to_owned(), String::new()], rest].concat();
    let (_, orders) = Orders::from_arguments(&with_policy)?;
    match attacks::control(name) {
        None => Err(format!("no attack {name}")),
        Some(Control::Without(why)) => Ok(skip(why)),
        Some(Control::Anybody) => {
            become_ordinary()?;
            with_victim(name, orders.facts, None)
        }
        Some(Control::Root) if !geteuid().is_root() => Ok(skip("it takes root")),
        Some(Control::Root) => with_victim(name, orders.facts, None),
        Some(Control::Ruler) => match rule() {
            // The first child of a pid namespace.
            Ok(()) => with_victim(name, orders.facts, Some(1)),
            Err(why) => Ok(skip(&why)),
        },
    }
}

fn skip(why: &str) -> ExitCode {
    println!("SKIP {why}");
    ExitCode::from(77)
}

fn become_ordinary() -> Result<(), String> {
    if !geteuid().is_root() {
        return Ok(());
    }
    let (uid, gid) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    setgroups(&[])
        .and_then(|()| setresgid(gid, gid, gid))
        .and_then(|()| setresuid(uid, uid, uid))
        .map_err(|errno| format!("can't become an ordinary user: {errno}"))?;
    // A change of user makes a process untouchable to its equals.
    nix::sys::prctl::set_dumpable(true).map_err(|errno| format!("dumpable: {errno}"))
}

/// Root of a user namespace and all others, with a root directory of its own to spoil.
fn rule() -> Result<(), String> {
    let (uid, gid) = (geteuid(), getegid());
    let all = CloneFlags::CLONE_NEWUSER
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWPID;
    unshare(all).map_err(|errno| format!("no user namespace for this user: {errno}"))?;
    let write = |path: &str, text: String| {
        std::fs::write(path, text).map_err(|error| format!("{path}: {error}"))
    };
    write("/proc/self/setgroups", "deny".to_owned())?;
    write("/proc/self/uid_map", format!("0 {uid} 1"))?;
    write("/proc/self/gid_map", format!("0 {gid} 1"))?;
    own_root().map_err(|errno| format!("no root of its own: {errno}"))
}

/// An empty directory in memory becomes the root, with the host's beneath it at `/host`.
fn own_root() -> nix::Result<()> {
    use nix::mount::{MsFlags, mount};
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    mount(Some("none"), "/tmp", Some("tmpfs"), MsFlags::empty(), none)?;
    nix::unistd::chdir("/tmp")?;
    nix::unistd::mkdir("host", nix::sys::stat::Mode::S_IRWXU)?;
    std::fs::write("secret", "secret").map_err(|_| nix::errno::Errno::EIO)?;
    nix::unistd::pivot_root(".", "host")?;
    nix::unistd::chdir("/")
}

/// Attacks a child of its own, which knows nothing of it.
///
/// `number` is the child's as the attacker sees it, if that isn't its number here.
fn with_victim(name: &str, mut facts: Facts, number: Option<i32>) -> Result<ExitCode, String> {
    // SAFETY: this program has one thread.
    let victim = match unsafe { fork() }.map_err(|errno| errno.to_string())? {
        ForkResult::Child => loop {
            std::thread::sleep(std::time::Duration::from_secs(1));
        },
        ForkResult::Parent { child } => child,
    };
    // In the control's own root.
    if std::path::Path::new("/secret").exists() {
        facts.insert("secret".to_owned(), "/secret".to_owned());
    }
    // SAFETY: likewise.
    let attacker = match unsafe { fork() }.map_err(|errno| errno.to_string())? {
        ForkResult::Child => {
            let number = number.unwrap_or(victim.as_raw());
            facts.insert("victim".to_owned(), number.to_string());
            crate::attempt(name, &facts);
            std::process::exit(0)
        }
        ForkResult::Parent { child } => child,
    };
    let ended = waitpid(attacker, None);
    end(victim);
    match ended {
        Ok(nix::sys::wait::WaitStatus::Exited(_, 0)) => Ok(ExitCode::SUCCESS),
        other => Err(format!("the control ended as {other:?}")),
    }
}

fn end(pid: Pid) {
    let _ = kill(pid, Signal::SIGKILL);
    let _ = waitpid(pid, None);
}
