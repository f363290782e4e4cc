//! The recipe: everything that is done to a process, in order, before it reads a peer's byte.
//!
//! It runs in the re-executed child, which has one thread, no peer yet, and the descriptors that
//! the supervisor gave it. Each step either holds, or the policy calls it optional and the receipt
//! says what is missing, or the layer doesn't start (promise P6).
//!
//! The filter comes last because every other step needs calls that no layer should have. So
//! [`prepare`] does all but that and returns [`Bare`], and `Bare` becomes a
//! [`Confined`] by loading the filter, or the [`init`](super::init) of an `exec`
//! layer.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use caps::{Capability, CapsHashSet};
use nix::sched::CloneFlags;
use nix::sys::signal::SigSet;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::Mode;
use rustix::process::{DumpableBehavior, Signal};

use super::error::ConfineError;
use super::generated::Account;
use super::order::{Identity, Order};
use super::paths::{Kind, ViewEntry, view_entries};
use super::receipt::{Asked, Got, Receipt};
use super::root::RootError;
use super::spaces::FAMILY;
use super::{Confined, domain, identity, limits, root};
use crate::policy::plan::{LayerPlan, Program, Protection};
use crate::sys::spawn::Namespaces;
use crate::sys::{inherit, process};

/// Confines this process wholly; `load` loads its filter, as the last act.
///
/// `control` is the socket to the supervisor: it hangs up when the supervisor is dead, which in a
/// pid namespace no process number could tell. On an error the process must exit.
///
/// `secret` says what the memory of the layer's key got, for the receipt.
pub fn confine<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
    order: &Order,
    control: BorrowedFd<'_>,
    secret: Got,
    load: impl FnOnce() -> Result<(), E>,
) -> Result<(Confined, Receipt), ConfineError> {
    let mut bare = prepare(order, control)?;
    bare.receipt.set(Protection::SecretMemory, secret);
    bare.seal(load)
}

/// Does all of the recipe but the filter.
pub fn prepare(order: &Order, control: BorrowedFd<'_>) -> Result<Bare, ConfineError> {
    let mut recipe = Recipe { receipt: Receipt::new(&order.layer), order };
    recipe.parent_death(control)?;
    recipe.descriptors(control)?;
    recipe.start_state()?;
    recipe.session()?;
    recipe.namespaces()?;
    let places = recipe.root()?;
    // Not before there is a root: the files that are written into it are none of the layer's.
    recipe.limits()?;
    recipe.keyring()?;
    recipe.identity()?;
    recipe.not_dumpable()?;
    // Changing the user has cleared the signal (threat B12).
    recipe.parent_death(control)?;
    recipe.no_new_privs()?;
    recipe.write_execute()?;
    recipe.landlock(&places)?;
    recipe.begin()?;
    Ok(Bare { receipt: recipe.receipt, layer: order.layer.clone() })
}

/// A process with everything in force but its filter.
#[derive(Debug)]
#[must_use = "without its filter the process isn't confined"]
pub struct Bare {
    pub(super) receipt: Receipt,
    pub(super) layer: LayerPlan,
}

impl Bare {
    /// The receipt so far: the filter, and the memory of keys, are not in it.
    pub const fn receipt(&self) -> &Receipt {
        &self.receipt
    }

    /// Loads the filter, compares the receipt with the plan, and mints the token.
    pub fn seal<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
        mut self,
        load: impl FnOnce() -> Result<(), E>,
    ) -> Result<(Confined, Receipt), ConfineError> {
        let loaded = load().map_err(|error| io::Error::other(error.into()));
        self.receipt.set(Protection::Seccomp, Got::from_result(&loaded));
        if let Err(error) = loaded
            && self.receipt.asked(Protection::Seccomp) == Asked::Demanded
        {
            return Err(ConfineError::Filter(error));
        }
        self.complete()?;
        Ok((Confined::mint(), self.receipt))
    }

    /// The last look: nothing that is demanded was forgotten.
    pub(super) fn complete(&self) -> Result<(), ConfineError> {
        let missing = self.receipt.missing_against(&self.layer);
        if missing.is_empty() { Ok(()) } else { Err(ConfineError::Missing(missing)) }
    }
}

struct Recipe<'a> {
    order: &'a Order,
    receipt: Receipt,
}

type Done = Result<(), ConfineError>;

impl Recipe<'_> {
    /// The layer dies with the supervisor. If that has happened already, nobody will send the
    /// signal any more: then the control socket has hung up.
    fn parent_death(&mut self, control: BorrowedFd<'_>) -> Done {
        // A first process of a pid namespace doesn't even hear of SIGTERM; elsewhere it is blocked.
        let signal = if self.order.lingers { Signal::TERM } else { Signal::KILL };
        let set = rustix::process::set_parent_process_death_signal(Some(signal));
        self.note(Protection::ParentDeath, "setting the parent-death signal", set)?;
        let mut polled = [PollFd::from_borrowed_fd(control, PollFlags::empty())];
        rustix::event::poll(&mut polled, Some(&Timespec::default()))
            .map_err(step("looking at the control socket"))?;
        let gone = PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL;
        if polled[0].revents().intersects(gone) { Err(ConfineError::Orphaned) } else { Ok(()) }
    }

    /// Nothing is open but what was declared. The spawn has seen to it; this is for whoever
    /// started the process in another way, and for what the start of the program left behind.
    fn descriptors(&mut self, control: BorrowedFd<'_>) -> Done {
        let mut keep = self.order.keep.clone();
        keep.push(control.as_raw_fd());
        let closed = inherit::close_all_but(&keep);
        self.note(Protection::CloseDescriptors, "closing what isn't declared", closed)
    }

    /// What a process inherits without anybody having asked for it is as after a fresh boot
    /// (threat H13). The processors that it may run on stay: the operator chose them.
    fn start_state(&self) -> Done {
        SigSet::empty().thread_set_mask().map_err(step("unblocking signals"))?;
        process::reset_personality().map_err(step("resetting the personality"))?;
        // Files that it makes are its own affair.
        rustix::process::umask(Mode::from_raw_mode(self.order.layer.umask.into()));
        // Raising it back takes CAP_SYS_NICE on the host. Who can't keeps a lower priority, which
        // harms nobody else.
        let _ = rustix::process::setpriority_process(None, 0);
        // Above all others, a layer could keep the supervisor from ever running.
        process::reset_scheduling().map_err(step("resetting the scheduling"))?;
        // Under memory pressure the layer goes, not the supervisor. Anybody may raise it; without
        // /proc it stays.
        let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
        // ps and the kernel's log show who it is; the name isn't a protection.
        if let Ok(name) = CString::new(self.order.instance.to_string()) {
            let _ = rustix::thread::set_name(&name);
        }
        Ok(())
    }

    /// A session of its own: no terminal to push characters into, no group to signal.
    fn session(&mut self) -> Done {
        let led = rustix::process::setsid().map(drop).or_else(|errno| {
            // A leader already, of a group that is the session: that is what was wanted.
            let own = nix::unistd::getpid();
            if nix::unistd::getsid(None) == Ok(own) { Ok(()) } else { Err(errno) }
        });
        self.note(Protection::Session, "setsid", led)
    }

    /// Before the user changes: a hard limit that was lowered as root stays low for ever. The
    /// group was joined before the exec, the receipt notes with which result.
    fn limits(&mut self) -> Done {
        let grouped = self.order.grouped;
        let set = limits::apply(&self.order.layer.limits, &grouped);
        let limited = set.is_ok();
        self.note(Protection::Rlimits, "setting resource limits", set)?;

        // RLIMIT_DATA and RLIMIT_NPROC stand in for two of the three. The kernel doesn't hold root
        // to the second, capabilities or not (`copy_process` in kernel/fork.c).
        let or_fallback = |got: Got, stands_in: bool| match got {
            Got::Enforced => Got::Enforced,
            _ if limited && stands_in => Got::Fallback,
            other => other,
        };
        let counted = !self.order.identity.is_root();
        self.conclude(Protection::CgroupMemory, or_fallback(grouped.memory, true))?;
        self.conclude(Protection::CgroupTasks, or_fallback(grouped.tasks, counted))?;
        let cpu = match self.order.layer.limits.cpu {
            Some(_) => grouped.cpu,
            None => Got::NotApplicable,
        };
        self.conclude(Protection::CgroupCpu, cpu)
    }

    /// The clone made most of them; the one of cgroups takes the group that was joined as its
    /// root. The host's name isn't the layer's business.
    fn namespaces(&mut self) -> Done {
        for (protection, one) in FAMILY {
            let got = match (protection, self.order.identity) {
                _ if self.order.namespaces.contains(one) => Got::Enforced,
                (Protection::NamespaceUser, Identity::Own { .. }) => Got::NotApplicable,
                _ => Got::Missing(EPERM),
            };
            self.conclude(protection, got)?;
        }
        // Who could make a user namespace within would have all capabilities again, there. The
        // filter forbids it; this is a second lock, which root's layers can't have: the number is
        // the whole machine's outside of user namespaces.
        if self.order.namespaces.contains(Namespaces::USER) {
            let _ = std::fs::write("/proc/sys/user/max_user_namespaces", "0");
        }
        let cgroup = nix::sched::unshare(CloneFlags::CLONE_NEWCGROUP);
        self.note(Protection::NamespaceCgroup, "unsharing the cgroup namespace", cgroup)?;
        if self.order.namespaces.contains(Namespaces::PID) && !self.order.layer.execmem {
            // Memory made to be a file can't be executed as one either. The setting is the pid
            // namespace's own since Linux 6.3, and one way only; where there is none, the filter
            // and Landlock stand alone.
            let _ = std::fs::write("/proc/sys/vm/memfd_noexec", "2");
        }
        if self.order.namespaces.contains(Namespaces::UTS) {
            let name = self.order.layer.name.as_str().as_bytes();
            rustix::system::sethostname(name).map_err(step("setting the host name"))?;
            rustix::system::setdomainname(b"").map_err(step("clearing the domain name"))?;
        }
        Ok(())
    }

    /// An empty root with the grants in it. While we are root on the way there, so that the
    /// layer's own user needs no right to any directory above a grant.
    fn root(&mut self) -> Result<Vec<ViewEntry>, ConfineError> {
        let Order { layer, identity, contents, .. } = self.order;
        let mut places = view_entries(layer, contents);
        // Otherwise it would show everybody's.
        let is_apart = self.order.namespaces.contains(Namespaces::PID);
        places.retain(|place| is_apart || place.kind != Kind::Proc);
        if self.order.namespaces.contains(Namespaces::MOUNT) {
            let (uid, gid) = identity.numbers();
            let account = Account { name: &layer.name, uid, gid };
            match root::replace(&places, &account) {
                Ok(()) => {
                    self.receipt.set(Protection::Root, Got::Enforced);
                    return Ok(places);
                }
                Err(error @ RootError::ViewEntry { .. }) => return Err(ConfineError::Path(error)),
                Err(RootError::Root(what, cause)) => {
                    self.note(Protection::Root, what, Err::<(), _>(cause))?;
                }
            }
        } else {
            self.conclude(Protection::Root, Got::Missing(EPERM))?;
        }
        // What the host has at the other paths is not what was meant.
        places.retain(ViewEntry::is_of_host);
        Ok(places)
    }

    /// The supervisor's session keyring, and every key in it, stays behind. Before the user
    /// changes, or the new one would be charged to a user who may have none left.
    fn keyring(&mut self) -> Done {
        let joined = process::join_new_session_keyring();
        self.note(Protection::Keyring, "joining a new session keyring", joined)
    }

    /// Capabilities go in two parts: what needs one to be done, then the rest. With the securebits
    /// locked, changing the user takes none away, so each removal is explicit and looked at.
    fn identity(&mut self) -> Done {
        let layer = &self.order.layer;
        let kept = identity::capability_set(&layer.capabilities);
        // What a layer that runs our own code holds isn't passed on to anything that it executes.
        let ambient = match layer.program {
            Program::Exec(_) => kept.clone(),
            Program::Run(_) => CapsHashSet::new(),
        };
        let bounded =
            identity::empty_bounding_set(&kept).and_then(|()| identity::set_ambient(&ambient));
        self.note(Protection::Capabilities, "emptying the bounding set", bounded)?;
        let locked = identity::lock_securebits();
        self.note(Protection::Securebits, "locking the securebits", locked)?;

        if let Identity::Own { uid, gid } = self.order.identity {
            let changed = identity::become_user(uid, gid);
            self.note(Protection::Identity, "changing user and group", changed)?;
        }

        let dropped = identity::drop_capabilities(&kept);
        self.note(Protection::Capabilities, "dropping capabilities", dropped)?;
        let held = identity::holds_only(&kept);
        self.note(Protection::Capabilities, "looking at the capabilities that are left", held)?;

        match self.order.identity {
            Identity::Own { .. } if kept.contains(&Capability::CAP_SETUID) => {}
            Identity::Own { .. } => {
                let stuck = identity::cannot_change_user();
                let step = "making sure that other users are out of reach";
                self.note(Protection::Identity, step, stuck)?;
            }
            Identity::Mapped { uid, gid } => {
                let apart = self.order.namespaces.contains(Namespaces::USER);
                let is_asked = apart && identity::is_user(uid, gid);
                let got = if is_asked { Got::Fallback } else { Got::Missing(EPERM) };
                self.conclude(Protection::Identity, got)?;
            }
        }
        let (uid, gid) = (rustix::process::getuid(), rustix::process::getgid());
        self.receipt.note_ids(uid.as_raw(), gid.as_raw());
        Ok(())
    }

    /// After the last exec and change of user that is ours, for either resets it (threat E16). A
    /// program that an `exec` layer runs is dumpable again by its own exec: what keeps others away
    /// from it is its user, its pid namespace and its Landlock domain, and no core is written
    /// because of the limit. So there this is a fallback.
    fn not_dumpable(&mut self) -> Done {
        let set = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
        self.note(Protection::NotDumpable, "switching dumps off", set)?;
        if matches!(self.order.layer.program, Program::Exec(_))
            && self.receipt.got(Protection::NotDumpable) == Got::Enforced
        {
            self.receipt.set(Protection::NotDumpable, Got::Fallback);
        }
        Ok(())
    }

    /// No exec gives any right any more.
    fn no_new_privs(&mut self) -> Done {
        let set = rustix::thread::set_no_new_privs(true);
        self.note(Protection::NoNewPrivs, "setting no_new_privs", set)
    }

    /// What is writable never becomes executable, here and in all that is executed from here.
    fn write_execute(&mut self) -> Done {
        if self.receipt.asked(Protection::Mdwe) == Asked::No {
            self.receipt.set(Protection::Mdwe, Got::NotApplicable);
            return Ok(());
        }
        let set = process::deny_write_execute();
        self.note(Protection::Mdwe, "PR_SET_MDWE", set)
    }

    /// The paths again, by Landlock, which also knows ports, signals and abstract sockets. It
    /// forbids any later mount, so it comes after the root.
    fn landlock(&mut self, places: &[ViewEntry]) -> Done {
        const FAMILY: [(Protection, u32); 4] = [
            (Protection::LandlockFile, domain::FILE_ABI),
            (Protection::LandlockNet, domain::NET_ABI),
            (Protection::LandlockIoctl, domain::IOCTL_ABI),
            (Protection::LandlockScope, domain::SCOPE_ABI),
        ];
        let kernel = process::landlock_abi();
        if let Ok(kernel) = kernel {
            // With less than its policy says the layer would fail later, and nobody knew why.
            domain::can_give(domain::handled(kernel), places)
                .map_err(step("granting what the policy says"))?;
        }
        let done = match &kernel {
            Ok(kernel) => domain::restrict(domain::handled(*kernel), places, self.order),
            Err(error) => Err(same(error)),
        };
        let kernel = kernel.unwrap_or(0);
        let abi = domain::handled(kernel);
        for (protection, since) in FAMILY {
            let result = match &done {
                Ok(()) if abi >= since => Ok(()),
                Ok(()) => Err(rustix::io::Errno::OPNOTSUPP.into()),
                Err(error) => Err(same(error)),
            };
            self.note(protection, "restricting by Landlock", result)?;
        }
        if done.is_ok() {
            self.receipt.note_landlock(abi, kernel);
        }
        Ok(())
    }

    /// Where it begins, as its own user: what that may not enter it doesn't.
    fn begin(&self) -> Done {
        let cwd = self.order.layer.cwd.as_str();
        rustix::process::chdir(cwd).map_err(step("entering its `cwd`"))
    }

    /// Writes down how a step went, and stops where a demanded protection failed.
    fn note<T, E: Into<io::Error>>(
        &mut self,
        protection: Protection,
        step: &'static str,
        result: Result<T, E>,
    ) -> Done {
        let result = result.map_err(Into::into);
        // Of two steps for one protection, neither makes good what the other lacks.
        if !matches!(self.receipt.got(protection), Got::Missing(_)) {
            self.receipt.set(protection, Got::from_result(&result));
        }
        match result {
            Err(source) if self.receipt.asked(protection) == Asked::Demanded => {
                Err(ConfineError::Refused { protection, step, source })
            }
            _ => Ok(()),
        }
    }

    /// Writes down what somebody else has found, and stops likewise.
    fn conclude(&mut self, protection: Protection, got: Got) -> Done {
        self.receipt.set(protection, got);
        let errno = match got {
            Got::Missing(errno) => i32::from(errno),
            Got::Untried => 0,
            _ => return Ok(()),
        };
        if self.receipt.asked(protection) != Asked::Demanded {
            return Ok(());
        }
        let step = "it could not be made for this layer";
        Err(ConfineError::Refused { protection, step, source: io::Error::from_raw_os_error(errno) })
    }
}

const EPERM: u16 = 1;

fn step<E: Into<io::Error>>(step: &'static str) -> impl Fn(E) -> ConfineError {
    move |cause| ConfineError::Step { step, source: cause.into() }
}

/// A second copy of a system error.
fn same(error: &io::Error) -> io::Error {
    error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error)
}
