//! Memory that was written and then runs (A14), and what is left of a crash (E16).

use nix::errno::Errno;
use nix::errno::Errno::{E2BIG, EACCES, ENOENT, ENOEXEC, EPERM};

use super::{Attack, Facts, Outcome, at, raw, row};

/// Every attack here.
pub(super) const ROWS: &[Attack] = &[
    row("write-execute", write_execute).killed_at("mmap").says(&[EACCES, EPERM]),
    row("write-then-execute", write_then_execute).killed_at("mprotect").says(&[EACCES, EPERM]),
    row("pkey-execute", pkey_execute).killed_at("pkey_mprotect").says(&[EACCES, EPERM]),
    row("memfd-map", memfd_map).killed_at("memfd_create").harmless("a mapping of a file is code that somebody wrote to a file; PR_SET_MDWE does not know which files"),
    row("memfd-exec", memfd_exec).killed_at("memfd_create").harmless("it stays in the same cage; vm.memfd_noexec could forbid it"),
    row("exec-shell", exec_shell).killed_at("clone").says(&[ENOENT, EACCES, E2BIG, ENOEXEC]),
];

const PAGE: i64 = 4096;
const WRITE: i64 = (libc::PROT_READ | libc::PROT_WRITE) as i64;
const EXECUTE: i64 = (libc::PROT_READ | libc::PROT_EXEC) as i64;
const PRIVATE: i64 = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as i64;

fn map(protection: i64) -> Result<i64, Errno> {
    raw(libc::SYS_mmap, [0, PAGE, protection, PRIVATE, -1, 0])
}

fn mapped(address: i64) -> String {
    format!("at {address:x}")
}

pub(super) fn write_execute(_: &Facts) -> Outcome {
    map(WRITE | EXECUTE).map(mapped)
}

pub(super) fn write_then_execute(_: &Facts) -> Outcome {
    let page = map(WRITE)?;
    raw(libc::SYS_mprotect, [page, PAGE, EXECUTE, 0, 0, 0]).map(|_| mapped(page))
}

pub(super) fn pkey_execute(_: &Facts) -> Outcome {
    let page = map(WRITE)?;
    raw(libc::SYS_pkey_mprotect, [page, PAGE, EXECUTE, -1, 0, 0]).map(|_| mapped(page))
}

/// Two mappings of the same memory: one to write, one to run.
pub(super) fn memfd_map(_: &Facts) -> Outcome {
    let fd = memfd()?;
    raw(libc::SYS_mmap, [0, PAGE, EXECUTE, libc::MAP_SHARED.into(), fd, 0]).map(mapped)
}

fn memfd() -> Result<i64, Errno> {
    // MFD_EXEC
    let fd = raw(libc::SYS_memfd_create, [at(c"code"), 0x10, 0, 0, 0, 0])
        .or_else(|_| raw(libc::SYS_memfd_create, [at(c"code"), 0, 0, 0, 0, 0]))?;
    raw(libc::SYS_ftruncate, [fd, PAGE, 0, 0, 0, 0])?;
    Ok(fd)
}

/// A program that was never on a disk: a script, whose interpreter is what the layer sees.
pub(super) fn memfd_exec(_: &Facts) -> Outcome {
    let fd = memfd()?;
    raw(libc::SYS_ftruncate, [fd, 0, 0, 0, 0, 0])?;
    let code = b"\x7fELF";
    raw(libc::SYS_write, [fd, at(code), 4, 0, 0, 0])?;
    let arguments = [at(c"code"), 0];
    let flags = i64::from(libc::AT_EMPTY_PATH);
    match raw(libc::SYS_execveat, [fd, at(c""), at(&arguments), at(&[0_i64]), flags, 0]) {
        // The kernel has begun to load it: whatever stops it now is no guard.
        Err(Errno::ENOEXEC) => Ok("loaded".to_owned()),
        other => other.map(|_| "runs".to_owned()),
    }
}

pub(super) fn exec_shell(_: &Facts) -> Outcome {
    // What can't be run as it is: the answer of a shell that could is an error in its script.
    let pid = raw(libc::SYS_clone, [i64::from(libc::SIGCHLD), 0, 0, 0, 0, 0]);
    let arguments = [at(c"sh"), at(c"-c"), at(c"exit 0"), 0];
    match pid {
        Ok(0) => {
            let ran =
                raw(libc::SYS_execve, [at(c"/bin/sh"), at(&arguments), at(&[0_i64]), 0, 0, 0]);
            let code = ran.err().map_or(0, |errno| errno as i64);
            let _ = raw(libc::SYS_exit_group, [code, 0, 0, 0, 0, 0]);
            Err(Errno::ECANCELED)
        }
        Ok(pid) => {
            let mut status = 0_i32;
            raw(libc::SYS_wait4, [pid, super::into(&mut status), 0, 0, 0, 0])?;
            match status >> 8 {
                0 if status == 0 => Ok("a shell ran".to_owned()),
                0 => Err(Errno::ECANCELED),
                code => Err(Errno::from_raw(code)),
            }
        }
        Err(errno) => Err(errno),
    }
}

/// A crash, with the memory that a core would hold.
pub(super) fn abort(_: &Facts) -> Outcome {
    std::process::abort()
}
