//! Section D: descriptors, and the control socket, which is the way to the supervisor.

use std::fmt::Write;

use nix::errno::Errno;
use nix::errno::Errno::{EACCES, EBADF, ENOENT, EOPNOTSUPP, EPERM, EROFS, ETXTBSY, EXDEV};

use super::{Attack, Facts, Outcome, at, fact, into, path, raw, row};

/// Every attack here.
pub(super) const ROWS: &[Attack] = &[
    row("own-program", own_program)
        .without("the program is root's, or busy")
        .killed_at("openat")
        .says(&[ENOENT, EACCES, EROFS, ETXTBSY]),
    row("dirfd-escape", dirfd_escape).killed_at("openat").says(&[ENOENT, EACCES, EXDEV]),
    row("handle", handle)
        .root()
        .killed_at("name_to_handle_at")
        .says(&[ENOENT, EPERM, EOPNOTSUPP, EACCES]),
    row("dup-scan", stray_directory)
        .without("descriptors-layer and -program list them")
        .says(&[EBADF]),
];

/// Where a layer's control socket is.
const CONTROL: i64 = 4;

/// Every open descriptor and what it is: `0:character 1:pipe 2:pipe`.
pub(super) fn list(_: &Facts) -> Outcome {
    let mut text = String::new();
    for fd in 0..4096_i64 {
        // SAFETY: all bits zero are a `stat`.
        let mut stat: libc::stat = unsafe { std::mem::zeroed() };
        if raw(libc::SYS_fstat, [fd, into(&mut stat), 0, 0, 0, 0]).is_ok() {
            let kind = match stat.st_mode & libc::S_IFMT {
                libc::S_IFREG => "file",
                libc::S_IFDIR => "directory",
                libc::S_IFCHR => "character",
                libc::S_IFBLK => "block",
                libc::S_IFIFO => "pipe",
                libc::S_IFSOCK => "socket",
                _ => "other",
            };
            let _ = write!(text, "{fd}:{kind} ");
        }
    }
    Ok(text.trim_end().to_owned())
}

/// Looks for a directory to climb out of (D6, D18).
pub(super) fn stray_directory(facts: &Facts) -> Outcome {
    let listed = list(facts)?;
    match listed.split(' ').find(|fd| fd.ends_with(":directory") || fd.ends_with(":block")) {
        Some(found) => Ok(format!("found {found}")),
        None => Err(Errno::EBADF),
    }
}

/// `..` from wherever we are.
pub(super) fn dirfd_escape(facts: &Facts) -> Outcome {
    let here = i64::from(libc::O_PATH | libc::O_DIRECTORY);
    let mut at_fd = raw(libc::SYS_openat, [libc::AT_FDCWD.into(), at(c"."), here, 0, 0, 0])?;
    for _ in 0..16 {
        at_fd = raw(libc::SYS_openat, [at_fd, at(c".."), here, 0, 0, 0])?;
    }
    let secret = fact(facts, "secret")?;
    let relative = format!("{}\0", secret.trim_start_matches('/'));
    raw(libc::SYS_openat, [at_fd, at(relative.as_bytes()), 0, 0, 0, 0])
        .map(|fd| format!("descriptor {fd}"))
}

/// The program that everything runs from, for writing (D19).
pub(super) fn own_program(facts: &Facts) -> Outcome {
    let mode = i64::from(libc::O_WRONLY);
    let way = [libc::AT_FDCWD.into(), path(facts, "program")?.cast::<u8>() as i64, mode, 0, 0, 0];
    raw(libc::SYS_openat, way).map(|fd| format!("descriptor {fd}"))
}

/// A file by its number, past every path.
pub(super) fn handle(facts: &Facts) -> Outcome {
    let mut handle = [0_u32; 34];
    handle[0] = 128;
    let mut mount = 0_i32;
    let secret = path(facts, "secret")?.cast::<u8>() as i64;
    let cwd = i64::from(libc::AT_FDCWD);
    raw(libc::SYS_name_to_handle_at, [cwd, secret, into(&mut handle), into(&mut mount), 0, 0])?;
    raw(libc::SYS_open_by_handle_at, [cwd, at(&handle), 0, 0, 0, 0])
        .map(|fd| format!("descriptor {fd}"))
}

fn tell(bytes: &[u8]) -> Result<i64, Errno> {
    let length = i64::try_from(bytes.len()).unwrap_or(0);
    let flags = i64::from(libc::MSG_NOSIGNAL);
    raw(libc::SYS_sendto, [CONTROL, at(bytes), length, flags, 0, 0])
}

pub(super) fn control_garbage(_: &Facts) -> Outcome {
    tell(&[0xff; 64]).map(linger)
}

pub(super) fn control_oversize(_: &Facts) -> Outcome {
    tell(&vec![2; 100_000]).map(linger)
}

/// More than anybody reads in a turn.
pub(super) fn control_flood(_: &Facts) -> Outcome {
    for _ in 0..100_000 {
        tell(&[0xee; 128])?;
    }
    Ok(linger(0))
}

/// A message of no bytes looks like the end (C2); it must not spin, nor end, the supervisor.
pub(super) fn control_empty(_: &Facts) -> Outcome {
    for _ in 0..1000 {
        tell(&[])?;
    }
    Ok("sent".to_owned())
}

/// The message of a layer that is confined, once more, with another key.
pub(super) fn control_ready_again(_: &Facts) -> Outcome {
    let mut message = vec![7; 1 + 32 + 128];
    message[0] = 1;
    tell(&message).map(linger)
}

/// Ends our half without ending us (C2).
pub(super) fn control_shutdown(_: &Facts) -> Outcome {
    raw(libc::SYS_shutdown, [CONTROL, libc::SHUT_RDWR.into(), 0, 0, 0, 0])
        .map(|_| "shut".to_owned())
}

pub(super) fn control_close(_: &Facts) -> Outcome {
    raw(libc::SYS_close, [CONTROL, 0, 0, 0, 0, 0]).map(|_| "closed".to_owned())
}

/// Never reads what it is told, for longer than anybody is patient with it: the supervisor must not
/// wait for it (C5).
pub(super) fn control_deaf(_: &Facts) -> Outcome {
    for _ in 0..10 {
        linger(0);
    }
    Ok("survived".to_owned())
}

/// Sends descriptors to the supervisor, which has asked for none (D1, D2).
pub(super) fn control_descriptors(_: &Facts) -> Outcome {
    let mut sent = 0;
    let mut last = None;
    for count in [1_usize, 2, 5, 64, 253] {
        match send_descriptors(count) {
            Ok(_) => sent += count,
            Err(errno) => last = Some(errno),
        }
    }
    match (sent, last) {
        (0, Some(errno)) => Err(errno),
        _ => Ok(format!("sent {sent}")),
    }
}

fn send_descriptors(count: usize) -> Result<i64, Errno> {
    let bytes = count * 4;
    // A control message's header, then the descriptors, in words of eight bytes.
    let mut control = vec![0_u64; 2 + bytes.div_ceil(8)];
    control[0] = 16 + bytes as u64;
    control[1] = u64::from(libc::SOL_SOCKET.cast_unsigned())
        | u64::from(libc::SCM_RIGHTS.cast_unsigned()) << 32;
    for fd in 0..count {
        control[2 + fd / 2] |= 1 << (32 * (fd % 2));
    }
    // No bytes of its own: whoever counts only those sees nothing.
    let part = [at(b""), 0];
    let header = [0, 0, at(&part), 1, at(&*control), i64::try_from(16 + bytes).unwrap_or(0), 0];
    raw(libc::SYS_sendmsg, [CONTROL, at(&header), libc::MSG_NOSIGNAL.into(), 0, 0, 0])
}

/// Gives the supervisor the time to end us.
fn linger(_: i64) -> String {
    for _ in 0..200 {
        let _ = raw(libc::SYS_nanosleep, [at(&[0_i64, 50_000_000]), 0, 0, 0, 0, 0]);
    }
    "survived".to_owned()
}
