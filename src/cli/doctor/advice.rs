//! What follows where a protection can't be had, in plain words.

use std::io;

use super::probe::Findings;
use crate::confine::Got;
use crate::confine::cgroup::Controller;
use crate::policy::plan::Protection;

/// A line for `protection`: empty where there is nothing to add to "yes".
pub(super) fn on(protection: Protection, got: Got, findings: &Findings) -> String {
    match got {
        Got::Enforced => String::new(),
        Got::NotApplicable => not_needed(protection).to_owned(),
        Got::Fallback => format!("{}{}", because(protection, findings), fallback(protection)),
        Got::Missing(errno) => {
            let reason = because(protection, findings);
            if reason.is_empty() && errno != 0 {
                let said = io::Error::from_raw_os_error(i32::from(errno));
                format!("{said} -> {}", without(protection))
            } else {
                format!("{reason}{}", without(protection))
            }
        }
        Got::Untried => without(protection).to_owned(),
    }
}

/// Why, where more is known than an errno, with an arrow to what follows.
fn because(protection: Protection, findings: &Findings) -> String {
    let controller = match protection {
        Protection::CgroupMemory => Some(Controller::Memory),
        Protection::CgroupTasks => Some(Controller::Pids),
        Protection::CgroupCpu => Some(Controller::Cpu),
        _ => None,
    };
    let refusal = findings.groups.refused().iter().find(|r| Some(r.controller) == controller);
    if let Some(refusal) = refusal {
        let user = rustix::process::geteuid().as_raw();
        return match refusal.error.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                format!("{} is not writable to uid {user} -> ", refusal.path.display())
            }
            _ => format!("{refusal} -> "),
        };
    }
    let space = findings.spaces.refused.iter().find(|(refused, _)| *refused == protection);
    match space {
        Some((_, errno)) => {
            format!("the clone says \"{}\" -> ", io::Error::from_raw_os_error(*errno))
        }
        None => String::new(),
    }
}

const fn not_needed(protection: Protection) -> &'static str {
    match protection {
        Protection::NamespaceUser => "root gives every layer a user of its own",
        _ => "",
    }
}

const fn fallback(protection: Protection) -> &'static str {
    match protection {
        Protection::CgroupMemory => "memory limits fall back to RLIMIT_DATA, per process",
        Protection::CgroupTasks => "task limits fall back to RLIMIT_NPROC",
        Protection::Identity => {
            "layers are the same user outside their user namespaces; start as root for users of \
             their own"
        }
        Protection::SecretMemory => {
            "keys are in locked memory that isn't dumped, but root can read it"
        }
        _ => "the next best thing is in force",
    }
}

/// What a layer without `protection` is open to.
const fn without(protection: Protection) -> &'static str {
    match protection {
        Protection::ParentDeath => "layers could outlive a supervisor that is killed",
        Protection::CloseDescriptors => {
            "a descriptor that was left open by mistake would reach layers; Linux 5.9 has it"
        }
        Protection::Session => "a layer could reach the terminal of whoever started the daemon",
        Protection::Rlimits => "a layer could use up descriptors, tasks and disk",
        Protection::CgroupMemory => "a layer could use all memory",
        Protection::CgroupTasks => "a layer could use up all process numbers",
        Protection::CgroupCpu => {
            "limits on processor time (`cpu = ...`) can't be enforced; only policies that set one \
             are concerned"
        }
        Protection::NamespaceUser => {
            "an ordinary user gets no other namespace without it; start as root, or allow it \
             (sysctl user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns)"
        }
        Protection::NamespacePid => "layers see each other's processes, and orphans live on",
        Protection::NamespaceMount | Protection::Root => {
            "layers see the host's files, with Landlock alone before them"
        }
        Protection::NamespaceNet => "layers share the host's network",
        Protection::NamespaceIpc => "layers share the host's message queues and semaphores",
        Protection::NamespaceUts => "layers see the host's name",
        Protection::NamespaceCgroup => "layers see the host's cgroup paths",
        Protection::Identity => "layers run as the supervisor's user",
        Protection::Keyring => "layers share the supervisor's session keyring",
        Protection::NotDumpable => "a core dump could hold a layer's secrets",
        Protection::SecretMemory => "a layer's keys could be swapped out or dumped",
        Protection::Capabilities => {
            "layers keep capabilities, or the set of those that an exec could give"
        }
        Protection::Securebits => "a layer that is user 0 could get capabilities by an exec",
        Protection::NoNewPrivs => "an exec could give a layer more rights",
        Protection::Mdwe => "a layer could execute what it has written; Linux 6.3 has it",
        Protection::LandlockFile => {
            "files are guarded by the empty root alone; Linux 5.13 has it, if `lsm=` names landlock"
        }
        Protection::LandlockNet => "TCP ports are guarded by the filter alone; Linux 6.7 has it",
        Protection::LandlockIoctl => "devices are guarded by the filter alone; Linux 6.10 has it",
        Protection::LandlockScope => {
            "signals and abstract sockets are guarded by namespaces alone; Linux 6.12 has it"
        }
        Protection::Seccomp => "system calls aren't filtered: no policy can be enforced",
    }
}
