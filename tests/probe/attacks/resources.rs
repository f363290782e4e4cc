//! Section G: more than its share; and H: the log.

use std::io::Write;

use nix::errno::Errno;
use nix::errno::Errno::{EACCES, EAGAIN, EMFILE, ENOMEM, EPERM};

use super::{Attack, Facts, Outcome, at, fact, into, raw, row};

/// Every attack here.
pub(super) const ROWS: &[Attack] = &[
    row("raise-files", raise_files)
        .without("it takes a capability on the host")
        .killed_at("prlimit64")
        .says(&[EPERM]),
    row("raise-core", raise_core)
        .without("it takes a capability on the host")
        .killed_at("prlimit64")
        .says(&[EPERM]),
    row("nice", nice)
        .without("it takes a capability on the host")
        .killed_at("setpriority")
        .says(&[EPERM, EACCES]),
    row("realtime", realtime)
        .without("it takes a capability on the host")
        .killed_at("sched_setscheduler")
        .says(&[EPERM]),
    row("lock-memory", lock_memory)
        .without("a user's own limit may forbid it")
        .says(&[ENOMEM, EAGAIN, EPERM]),
    row("descriptors", descriptors)
        .without("everybody has a limit")
        .killed_at("dup")
        .says(&[EMFILE]),
];

fn raise(resource: u32) -> Outcome {
    let mut now = [0_u64; 2];
    let resource = i64::from(resource);
    raw(libc::SYS_prlimit64, [0, resource, 0, into(&mut now), 0, 0])?;
    let more = [now[1].saturating_add(1_000_000); 2];
    raw(libc::SYS_prlimit64, [0, resource, at(&more), 0, 0, 0])?;
    Ok(format!("from {} to {}", now[1], more[1]))
}

pub(super) fn raise_files(_: &Facts) -> Outcome {
    raise(libc::RLIMIT_NOFILE)
}

pub(super) fn raise_core(_: &Facts) -> Outcome {
    raise(libc::RLIMIT_CORE)
}

pub(super) fn nice(_: &Facts) -> Outcome {
    raw(libc::SYS_setpriority, [0, 0, -20, 0, 0, 0]).map(|_| "nicer".to_owned())
}

/// SCHED_FIFO
pub(super) fn realtime(_: &Facts) -> Outcome {
    raw(libc::SYS_sched_setscheduler, [0, 1, at(&99_i32), 0, 0, 0]).map(|_| "realtime".to_owned())
}

/// Memory that the host can't reclaim: far more than a layer may lock.
pub(super) fn lock_memory(_: &Facts) -> Outcome {
    const SIZE: i64 = 16 << 20;
    let flags = i64::from(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    let page = raw(libc::SYS_mmap, [0, SIZE, libc::PROT_READ.into(), flags, -1, 0])?;
    raw(libc::SYS_mlock, [page, SIZE, 0, 0, 0, 0]).map(|_| "locked".to_owned())
}

/// Descriptors until there are no more.
pub(super) fn descriptors(facts: &Facts) -> Outcome {
    let limit: i64 = fact(facts, "files").ok().and_then(|n| n.parse().ok()).unwrap_or(1024);
    let mut opened = Vec::new();
    let end = loop {
        match raw(libc::SYS_dup, [2, 0, 0, 0, 0, 0]) {
            Ok(fd) if fd >= limit => break Ok(format!("descriptor {fd}")),
            Ok(fd) => opened.push(fd),
            Err(errno) => break Err(errno),
        }
    };
    for fd in opened {
        let _ = raw(libc::SYS_close, [fd, 0, 0, 0, 0, 0]);
    }
    end
}

/// Children that stay, and their number (G1).
pub(super) fn fork_bomb(_: &Facts) -> Outcome {
    let mut children = Vec::new();
    while children.len() < 10_000 {
        match raw(libc::SYS_clone, [libc::SIGCHLD.into(), 0, 0, 0, 0, 0]) {
            Ok(0) => loop {
                let _ = raw(libc::SYS_nanosleep, [at(&[1_i64, 0]), 0, 0, 0, 0, 0]);
            },
            Ok(pid) => children.push(pid),
            Err(errno) => {
                let count = children.len();
                for pid in children {
                    let _ = raw(libc::SYS_kill, [pid, libc::SIGKILL.into(), 0, 0, 0, 0]);
                    let _ = raw(libc::SYS_wait4, [pid, 0, 0, 0, 0, 0]);
                }
                return Ok(format!("{count} children, then {errno:?}"));
            }
        }
    }
    Ok("no end".to_owned())
}

/// Memory, used page by page, in MiB (G2). It stops at a gigabyte, which no test grants.
pub(super) fn memory_hog(_: &Facts) -> Outcome {
    const CHUNK: i64 = 1 << 20;
    let flags = i64::from(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    let mode = i64::from(libc::PROT_READ | libc::PROT_WRITE);
    for count in 0..1024 {
        let Ok(chunk) = raw(libc::SYS_mmap, [0, CHUNK, mode, flags, -1, 0]) else {
            return Ok(format!("{count} MiB, then no more"));
        };
        // SAFETY: the kernel has just mapped these bytes, readable and writable, for us alone.
        unsafe { std::ptr::write_bytes(chunk as *mut u8, 1, 1 << 20) };
    }
    Ok("no end".to_owned())
}

/// Never gives the processor back.
pub(super) fn spin(_: &Facts) -> Outcome {
    loop {
        std::hint::spin_loop();
    }
}

/// Lines without end, as many MiB as it is told (H3).
pub(super) fn flood(facts: &Facts) -> Outcome {
    let mut left = fact(facts, "mib")?.parse::<usize>().map_err(|_| Errno::EINVAL)? << 20;
    let line = [b'f'; 1023].iter().chain(b"\n").copied().collect::<Vec<u8>>();
    let mut out = std::io::stderr();
    while left > 0 {
        if out.write_all(&line).is_err() {
            return Err(Errno::EPIPE);
        }
        left = left.saturating_sub(line.len());
    }
    Ok("flooded".to_owned())
}

/// Lines that want to be somebody else's (H1, H2).
pub(super) fn forge_log(_: &Facts) -> Outcome {
    let forged: &[u8] = b"\x1b[2J\x1b]0;owned\x07\rcofferdam: all is well\n\
        cofferdam: other/0.g1 is confined, pid 1\n\
        \xe2\x80\xaekeeper/0.g1: fine\n\xff\xfe\x00\n";
    for fd in [1, 2] {
        raw(libc::SYS_write, [fd, at(forged), i64::try_from(forged.len()).unwrap_or(0), 0, 0, 0])?;
    }
    Ok("written".to_owned())
}
