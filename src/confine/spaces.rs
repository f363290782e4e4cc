//! Namespaces: which a layer gets, and what this user may make.

use std::cell::Cell;
use std::io;

use crate::policy::plan::Protection;
use crate::sys::spawn::{self, IdMap, Namespaces, SpawnError};

/// The namespaces that the clone makes, each with its protection. The cgroup namespace isn't
/// among them: it takes the cgroup that a process is in at that moment as its root, so the recipe
/// makes it after the layer has joined its own.
pub const FAMILY: [(Protection, Namespaces); 6] = [
    (Protection::NamespaceUser, Namespaces::USER),
    (Protection::NamespacePid, Namespaces::PID),
    (Protection::NamespaceMount, Namespaces::MOUNT),
    (Protection::NamespaceNet, Namespaces::NET),
    (Protection::NamespaceIpc, Namespaces::IPC),
    (Protection::NamespaceUts, Namespaces::UTS),
];

/// All namespaces that a layer gets where it can: a user namespace only if `rootless`, for root
/// gives every layer a user of its own, which is more.
pub fn wanted(rootless: bool) -> Namespaces {
    FAMILY
        .into_iter()
        .filter(|(protection, _)| rootless || *protection != Protection::NamespaceUser)
        .fold(Namespaces::NONE, |set, (_, one)| set.with(one))
}

/// The namespaces of a daemon's layers: all that are [`wanted`], unless the first start fails. Only then
/// it is tried which there are, for that takes as long as a layer's start.
#[derive(Debug)]
pub struct Given {
    rootless: bool,
    namespaces: Cell<Namespaces>,
    /// Whether a layer has started with them, or they were tried.
    settled: Cell<bool>,
}

impl Given {
    /// All that are wanted.
    pub fn new(rootless: bool) -> Self {
        let (namespaces, settled) = (Cell::new(wanted(rootless)), Cell::new(false));
        Self { rootless, namespaces, settled }
    }

    /// Which.
    pub fn get(&self) -> Namespaces {
        self.namespaces.get()
    }

    /// Starts something in them, and once more if the first of all starts `is_refused` and fewer are to
    /// be had.
    pub fn start<T, E>(
        &self,
        attempt: impl Fn() -> Result<T, E>,
        is_refused: impl FnOnce(&E) -> bool,
    ) -> Result<T, E> {
        let before = self.get();
        let done = attempt();
        match &done {
            Ok(_) => self.settled.set(true),
            Err(error) if is_refused(error) && !self.settled.replace(true) => {
                self.namespaces.set(possible(self.rootless).namespaces);
                if self.get() != before {
                    return attempt();
                }
            }
            Err(_) => {}
        }
        done
    }
}

/// What of [`wanted`] this user can make, tried on this kernel.
#[derive(Clone, Debug)]
pub struct Possible {
    /// The namespaces that work, together.
    pub namespaces: Namespaces,
    /// The others, with what the kernel said.
    pub refused: Vec<(Protection, i32)>,
}

/// Tries all of them in a child that does nothing else, and only where that fails each by itself:
/// every child costs some hundred microseconds, most of them for the network.
///
/// For an ordinary user each is tried together with a user namespace, without which it can't be.
pub fn possible(rootless: bool) -> Possible {
    let ids = rootless.then(own_ids);
    let base = if rootless { Namespaces::USER } else { Namespaces::NONE };
    let all = wanted(rootless);
    if spawn::rehearse(all, ids.as_ref()).is_ok() {
        return Possible { namespaces: all, refused: Vec::new() };
    }
    let mut found = Possible { namespaces: Namespaces::NONE, refused: Vec::new() };
    for (protection, one) in FAMILY {
        if !all.contains(one) {
            continue;
        }
        match spawn::rehearse(base.with(one), ids.as_ref()) {
            Ok(()) => found.namespaces = found.namespaces.with(one),
            Err(error) => found.refused.push((protection, errno(&error))),
        }
    }
    found
}

/// The map of an ordinary user's process: its only user is us, by the same numbers as outside.
///
/// Not 0: a program that finds itself root does as root, which no layer is.
pub fn own_ids() -> IdMap {
    let (uid, gid) = own_numbers();
    ids(uid, gid)
}

/// The map of an ordinary user's layer: its only user, `uid` with group `gid` within, is us.
pub fn ids(uid: u32, gid: u32) -> IdMap {
    IdMap::one((uid, gid), own_numbers())
}

/// User and group of this process.
pub fn own_numbers() -> (u32, u32) {
    (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
}

fn errno(error: &SpawnError) -> i32 {
    let (SpawnError::Clone(cause) | SpawnError::Child(_, cause)) = error;
    cause.raw_os_error().unwrap_or(0)
}

/// An empty network namespace, made beforehand: entering it ([`spawn::Spawn::network`]) costs a
/// hundredth of making it. Needs `CAP_SYS_ADMIN`; an ordinary user's layers make their own.
///
/// The calling process must have one thread: it leaves its own network namespace for a moment.
pub fn empty_network() -> io::Result<std::os::fd::OwnedFd> {
    use nix::sched::{CloneFlags, setns, unshare};
    let open = || -> io::Result<std::os::fd::OwnedFd> {
        Ok(std::fs::File::open("/proc/thread-self/ns/net")?.into())
    };
    let own = open()?;
    unshare(CloneFlags::CLONE_NEWNET)?;
    let empty = open();
    setns(own, CloneFlags::CLONE_NEWNET)?;
    empty
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ordinary_users_get_a_user_namespace() {
        assert!(!wanted(false).contains(Namespaces::USER));
        assert_eq!(wanted(true), wanted(false).with(Namespaces::USER));
    }

    #[test]
    fn a_start_is_tried_again_once_and_with_fewer() {
        let rootless = !rustix::process::geteuid().is_root();
        let has_all = possible(rootless).namespaces == wanted(rootless);
        let given = Given::new(rootless);
        let attempts = Cell::new(0);
        let fails = || {
            attempts.set(attempts.get() + 1);
            Err::<(), u8>(7)
        };
        assert_eq!(given.start(fails, |_| false), Err(7));
        assert_eq!(attempts.get(), 1);
        assert_eq!(given.start(fails, |_| true), Err(7));
        assert_eq!(attempts.get(), if has_all { 2 } else { 3 });
        assert_eq!(given.get(), possible(rootless).namespaces);
        let before = attempts.get();
        assert_eq!(given.start(fails, |_| true), Err(7));
        assert_eq!(attempts.get(), before + 1, "it is known by now");

        let works = Given::new(rootless);
        assert_eq!(works.start(|| Ok::<_, u8>(1), |_| true), Ok(1));
        attempts.set(0);
        assert_eq!(works.start(fails, |_| true), Err(7));
        assert_eq!((attempts.get(), works.get()), (1, wanted(rootless)), "it has worked before");
    }
}
