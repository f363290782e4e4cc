//! Section F: users, groups, capabilities, keys, objects of the host's IPC namespace.

use nix::errno::Errno;
use nix::errno::Errno::{EACCES, EINVAL, EMFILE, ENOENT, ENOKEY, ENOSYS, EPERM};

use super::{Attack, Facts, Outcome, at, fact, into, raw, row};

/// Every attack here.
pub(super) const ROWS: &[Attack] = &[
    row("setuid", setuid).root().killed_at("setuid").says(&[EPERM, EINVAL]),
    row("setresuid", setresuid).root().killed_at("setresuid").says(&[EPERM, EINVAL]),
    row("setgid", setgid).root().killed_at("setgid").says(&[EPERM, EINVAL]),
    row("setgroups", setgroups).root().killed_at("setgroups").says(&[EPERM, EINVAL]),
    row("capset", capset).root().killed_at("capset").says(&[EPERM]),
    row("ambient", ambient)
        .without("it takes an inheritable capability")
        .killed_at("prctl")
        .says(&[EPERM]),
    row("securebits", securebits).root().killed_at("prctl").says(&[EPERM]),
    row("bounding-set", bounding_set).root().killed_at("prctl").says(&[EPERM]),
    row("new-privileges", new_privileges)
        .without("nobody can take it back")
        .killed_at("prctl")
        .says(&[EINVAL]),
    row("keyring", keyring).killed_at("keyctl").says(&[ENOKEY, EACCES, EPERM, ENOSYS]),
    row("add-key", add_key).killed_at("add_key").harmless("into a session keyring of its own"),
    row("shared-memory", shared_memory).killed_at("shmget").says(&[ENOENT]),
    row("message-queue", message_queue)
        .killed_at("mq_open")
        .says(&[ENOENT, EACCES, EMFILE, ENOSYS]),
];

fn done(_: i64) -> String {
    "done".to_owned()
}

/// Root, or, for whoever is root of a user namespace already, another user.
fn other() -> i64 {
    let root = raw(libc::SYS_getuid, [0; 6]).is_ok_and(|uid| uid == 0);
    // In a layer's user namespace there is only user 0.
    i64::from(root)
}

/// The user that becoming would prove something.
pub(super) fn setuid(_: &Facts) -> Outcome {
    raw(libc::SYS_setuid, [other(), 0, 0, 0, 0, 0]).map(done)
}

pub(super) fn setresuid(_: &Facts) -> Outcome {
    let uid = other();
    raw(libc::SYS_setresuid, [uid, uid, uid, 0, 0, 0]).map(done)
}

pub(super) fn setgid(_: &Facts) -> Outcome {
    raw(libc::SYS_setgid, [other(), 0, 0, 0, 0, 0]).map(done)
}

pub(super) fn setgroups(_: &Facts) -> Outcome {
    let groups = [0_u32];
    raw(libc::SYS_setgroups, [1, at(&groups), 0, 0, 0, 0]).map(done)
}

/// CAP_SYS_ADMIN alone, which the control's namespace gives.
pub(super) fn capset(_: &Facts) -> Outcome {
    let header = [0x2008_0522_u32, 0];
    let admin = 1_u32 << 21;
    let sets = [admin, admin, 0, 0, 0, 0];
    raw(libc::SYS_capset, [at(&header), at(&sets), 0, 0, 0, 0]).map(done)
}

/// PR_CAP_AMBIENT_RAISE of CAP_SYS_ADMIN.
pub(super) fn ambient(_: &Facts) -> Outcome {
    raw(libc::SYS_prctl, [47, 2, 21, 0, 0, 0]).map(done)
}

/// PR_SET_SECUREBITS: being user 0 means something again.
pub(super) fn securebits(_: &Facts) -> Outcome {
    raw(libc::SYS_prctl, [28, 0, 0, 0, 0, 0]).map(done)
}

/// PR_CAPBSET_DROP: it takes a capability to give one up.
pub(super) fn bounding_set(_: &Facts) -> Outcome {
    raw(libc::SYS_prctl, [24, 21, 0, 0, 0, 0]).map(done)
}

pub(super) fn new_privileges(_: &Facts) -> Outcome {
    raw(libc::SYS_prctl, [libc::PR_SET_NO_NEW_PRIVS.into(), 0, 0, 0, 0, 0]).map(done)
}

/// The key that the supervisor's session holds, by the description that the driver gave it (F11).
pub(super) fn keyring(facts: &Facts) -> Outcome {
    let name = format!("{}\0", fact(facts, "key").unwrap_or("cofferdam-probe"));
    // KEYCTL_SEARCH in KEY_SPEC_SESSION_KEYRING
    raw(libc::SYS_keyctl, [10, -3, at(c"user"), at(name.as_bytes()), 0, 0]).map(done)
}

pub(super) fn add_key(_: &Facts) -> Outcome {
    // KEY_SPEC_PROCESS_KEYRING
    raw(libc::SYS_add_key, [at(c"user"), at(c"probe"), at(b"x"), 1, -2, 0]).map(done)
}

/// A segment of the host's, which the driver has made for everybody (F10).
pub(super) fn shared_memory(facts: &Facts) -> Outcome {
    let key: i64 = fact(facts, "shm")?.parse().map_err(|_| Errno::EINVAL)?;
    raw(libc::SYS_shmget, [key, 0, 0, 0, 0, 0]).map(|id| format!("segment {id}"))
}

/// A queue of the host's, likewise.
pub(super) fn message_queue(facts: &Facts) -> Outcome {
    let name = format!("{}\0", fact(facts, "mq")?);
    let mut attributes = [0_i64; 8];
    let fd = raw(libc::SYS_mq_open, [at(name.as_bytes()), 0, 0, 0, 0, 0])?;
    raw(libc::SYS_mq_getsetattr, [fd, 0, into(&mut attributes), 0, 0, 0])?;
    Ok(format!("queue of {}", attributes[1]))
}
