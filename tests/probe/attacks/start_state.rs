//! What a layer starts with, as `name=value` facts (H8, H13, D19, E16, F1 to F3).

use std::fmt::Write;

use super::{Facts, Outcome, at, into, raw};

/// What every layer may ask.
pub(super) fn small_state(_: &Facts) -> Outcome {
    let mut text = String::new();
    let get = |option: i32| raw(libc::SYS_prctl, [option.into(), 0, 0, 0, 0, 0]);
    let mut say = |name: &str, value: Result<i64, nix::errno::Errno>| {
        let _ = match value {
            Ok(value) => write!(text, "{name}={value:x} "),
            Err(errno) => write!(text, "{name}={errno:?} "),
        };
    };
    say("dumpable", get(libc::PR_GET_DUMPABLE));
    say("no-new-privs", get(libc::PR_GET_NO_NEW_PRIVS));
    say("seccomp", get(libc::PR_GET_SECCOMP));
    say("mdwe", get(66));
    say("pid", raw(libc::SYS_getpid, [0; 6]));
    say("ppid", raw(libc::SYS_getppid, [0; 6]));

    // What is blocked.
    let mut mask = 0_u64;
    let blocked = raw(libc::SYS_rt_sigprocmask, [0, 0, into(&mut mask), 8, 0, 0]);
    say("mask", blocked.map(|_| mask.cast_signed()));
    // What is ignored; SIGPIPE is by Rust's own start.
    let mut ignored = 0_i64;
    for signal in (1..=64).filter(|&signal| signal != i64::from(libc::SIGPIPE)) {
        let mut action = [0_u64; 4];
        let asked = raw(libc::SYS_rt_sigaction, [signal, 0, into(&mut action), 8, 0, 0]);
        if asked.is_ok() && action[0] == libc::SIG_IGN as u64 {
            ignored |= 1 << (signal - 1);
        }
    }
    say("ignored", Ok(ignored));
    for (name, resource) in [
        ("core", libc::RLIMIT_CORE),
        ("files", libc::RLIMIT_NOFILE),
        ("tasks", libc::RLIMIT_NPROC),
        ("queues", libc::RLIMIT_MSGQUEUE),
        ("realtime", libc::RLIMIT_RTPRIO),
    ] {
        let mut limit = [0_u64; 2];
        let asked = raw(libc::SYS_prlimit64, [0, resource.into(), 0, into(&mut limit), 0, 0]);
        say(name, asked.map(|_| limit[1].cast_signed()));
    }
    say("environment", Ok(i64::try_from(std::env::vars_os().count()).unwrap_or(-1)));
    say("arguments", Ok(i64::try_from(std::env::args_os().count()).unwrap_or(-1)));
    Ok(text.trim_end().to_owned())
}

/// What takes calls that few layers have.
pub(super) fn start_state(facts: &Facts) -> Outcome {
    let mut text = small_state(facts)?;
    let mut directory = [0_u8; 256];
    let length = raw(libc::SYS_getcwd, [into(&mut directory), 256, 0, 0, 0, 0])?;
    let length = usize::try_from(length - 1).unwrap_or(0);
    let _ = write!(text, " cwd={}", String::from_utf8_lossy(&directory[..length]));

    let mask = raw(libc::SYS_umask, [0o77, 0, 0, 0, 0, 0])?;
    let _ = write!(text, " umask={mask:o}");
    let persona = raw(libc::SYS_personality, [0xffff_ffff, 0, 0, 0, 0, 0])?;
    let _ = write!(text, " personality={persona:x}");
    let groups = raw(libc::SYS_getgroups, [0, 0, 0, 0, 0, 0])?;
    let _ = write!(text, " groups={groups}");
    let priority = raw(libc::SYS_getpriority, [0; 6])?;
    // The kernel answers 20 minus the nice value.
    let _ = write!(text, " nice={}", 20 - priority);

    let (mut real, mut effective, mut saved) = (0_u32, 0_u32, 0_u32);
    let ids = [into(&mut real), into(&mut effective), into(&mut saved), 0, 0, 0];
    raw(libc::SYS_getresuid, ids)?;
    let _ = write!(text, " uids-equal={}", real == effective && effective == saved);

    let header = [0x2008_0522_u32, 0];
    let mut sets = [0_u32; 6];
    raw(libc::SYS_capget, [at(&header), into(&mut sets), 0, 0, 0, 0])?;
    let bounding = (0..64)
        .filter(|n| raw(libc::SYS_prctl, [libc::PR_CAPBSET_READ.into(), *n, 0, 0, 0, 0]) == Ok(1));
    let _ = write!(text, " capabilities={}", sets.iter().fold(0, |all, set| all | set));
    let _ = write!(text, " bounding={}", bounding.count());
    let bits = raw(libc::SYS_prctl, [libc::PR_GET_SECUREBITS.into(), 0, 0, 0, 0, 0])?;
    let _ = write!(text, " securebits={bits:x}");
    Ok(text)
}
