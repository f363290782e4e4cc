//! How an instance ended, in a sentence.

use crate::policy::plan::LogLevel;
use crate::wire::life::{End, Ending, LimitMet};

/// How much it matters.
pub(super) fn level(end: &End) -> LogLevel {
    match end.ending {
        _ if end.failure.is_some() || !end.served => LogLevel::Error,
        ending if ending.is_failure() => LogLevel::Warn,
        _ => LogLevel::Info,
    }
}

/// Says how an instance ended. `hint` is added where a system call was the reason.
pub(in crate::layer) fn sentence(end: &End, hint: &str) -> String {
    let End { instance, ending, .. } = end;
    let layer = &instance.layer;
    let text = match (&end.failure, *ending) {
        (Some(why), _) => format!("{instance} could not be confined: {why}"),
        (None, Ending::Exited(code)) if !end.served => format!(
            "{instance} ended with exit code {code} before it was confined: every layer runs the \
             whole program again, whose `main` must come to `Daemon::main` before anything else"
        ),
        (None, Ending::Exited(code)) => format!("{instance} ended with exit code {code}"),
        (None, Ending::Killed(libc::SIGSYS)) if !end.served => format!(
            "{instance} was killed by SIGSYS before it was confined: a system-call filter beneath \
             the daemon refuses what confining takes; `cofferdam doctor` says more"
        ),
        (None, Ending::Killed(libc::SIGSYS)) => format!(
            "{instance} was killed by SIGSYS: it made a system call that `syscalls` in \
             [layer.{layer}] does not grant{hint}"
        ),
        (None, Ending::Killed(signal)) => {
            let signal = nix::sys::signal::Signal::try_from(signal)
                .map_or_else(|_| format!("signal {signal}"), |s| s.as_str().to_owned());
            format!("{instance} was killed by {signal}")
        }
    };
    let why = end.limit.map(|limit| format!(": {} ([layer.{layer}] {})", what(limit), limit.key()));
    text + &why.unwrap_or_default()
}

fn what(limit: LimitMet) -> String {
    match limit {
        LimitMet::FileSize(bytes) => {
            format!("it wrote past the largest size of a file, {bytes} bytes")
        }
        LimitMet::Memory(bytes) => {
            format!("it used more than the {bytes} bytes of memory that it has")
        }
        LimitMet::Tasks { refused, most } => {
            format!("it was refused another task {refused} times, having the {most} that it may")
        }
        LimitMet::Health(within) => {
            format!(
                "it didn't answer within {within} ms whether it is well: it hung, or was stopped"
            )
        }
    }
}
