//! How a place is made: steps between fork and exec.
//!
//! The lists of calls are those of the default profile of Docker (moby, `profiles/seccomp/default.json`)
//! that cofferdam makes, and of `src/shared/seccomp-util.c` of systemd.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use caps::{CapSet, Capability, CapsHashSet};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter,
};

use crate::support::suite::ignore;

/// The ordinary user as which root's places are tried.
const USER: u32 = 65_534;

/// A place to run it in: its steps in their order, and what is in the environment.
pub(super) struct Place {
    pub(super) steps: Vec<Make>,
    pub(super) env: Vec<(&'static str, &'static str)>,
}

/// A step, which is repeated for each process that is started there.
#[derive(Clone)]
pub(super) struct Make(Arc<dyn Fn() -> io::Result<()> + Send + Sync>);

pub(super) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

impl Place {
    /// One whose trace is this variable.
    pub(super) fn of(variable: &'static str) -> Self {
        Self { steps: Vec::new(), env: vec![(variable, "1"), ("PATH", "/usr/bin:/bin")] }
    }

    pub(super) fn needs_root(self) -> Self {
        if !is_root() {
            ignore("only root can make this place");
        }
        self
    }

    pub(super) fn step(mut self, make: Make) -> Self {
        self.steps.push(make);
        self
    }

    /// From here on as an ordinary user.
    pub(super) fn user(self) -> Self {
        self.step(Make::of(|| {
            if is_root() {
                nix::unistd::setgroups(&[])?;
                nix::unistd::setresgid(USER.into(), USER.into(), USER.into())?;
                nix::unistd::setresuid(USER.into(), USER.into(), USER.into())?;
            }
            rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::Dumpable)?;
            Ok(())
        }))
    }
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn program(rules: Rules, action: SeccompAction) -> BpfProgram {
    let arch: TargetArch = std::env::consts::ARCH.try_into().unwrap();
    SeccompFilter::new(rules, SeccompAction::Allow, action, arch).unwrap().try_into().unwrap()
}

fn every(calls: &[i64]) -> Rules {
    calls.iter().map(|call| (*call, Vec::new())).collect()
}

/// A rule for each flag that makes a namespace, in argument 0 of `clone` and `unshare`.
fn namespaces() -> Vec<SeccompRule> {
    let flags = [
        libc::CLONE_NEWNS,
        libc::CLONE_NEWUSER,
        libc::CLONE_NEWPID,
        libc::CLONE_NEWNET,
        libc::CLONE_NEWIPC,
        libc::CLONE_NEWUTS,
        libc::CLONE_NEWCGROUP,
    ];
    let rule = |flag: libc::c_int| {
        let flag = u64::from(flag.cast_unsigned());
        let compare = SeccompCmpOp::MaskedEq(flag);
        let condition = SeccompCondition::new(0, SeccompCmpArgLen::Qword, compare, flag);
        SeccompRule::new(vec![condition.unwrap()]).unwrap()
    };
    flags.map(rule).to_vec()
}

/// What systemd's `@mount` holds of what cofferdam calls.
pub(super) const MOUNTS: &[i64] = &[
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_mount_setattr,
];

impl Make {
    fn of(step: impl Fn() -> io::Result<()> + Send + Sync + 'static) -> Self {
        Self(Arc::new(step))
    }

    pub(super) fn make(&self) -> io::Result<()> {
        (self.0)()
    }

    fn filters(programs: Vec<BpfProgram>) -> Self {
        let load =
            |it: &BpfProgram| apply_filter(it).map_err(|_| io::Error::from(io::ErrorKind::Other));
        Self::of(move || programs.iter().try_for_each(load))
    }

    /// A container's default profile for who hasn't `CAP_SYS_ADMIN`, without these calls.
    pub(super) fn container(given: &[i64]) -> Self {
        let refused = [
            MOUNTS,
            &[
                libc::SYS_setns,
                libc::SYS_sethostname,
                libc::SYS_setdomainname,
                libc::SYS_keyctl,
                libc::SYS_add_key,
                libc::SYS_request_key,
                libc::SYS_syslog,
                libc::SYS_bpf,
                libc::SYS_perf_event_open,
                libc::SYS_userfaultfd,
                libc::SYS_pidfd_getfd,
                libc::SYS_kcmp,
                libc::SYS_quotactl,
                libc::SYS_mbind,
                libc::SYS_set_mempolicy,
                libc::SYS_process_madvise,
                libc::SYS_io_uring_setup,
                libc::SYS_io_uring_enter,
                libc::SYS_io_uring_register,
                libc::SYS_unshare,
            ],
        ];
        let mut rules = every(&refused.concat());
        rules.insert(libc::SYS_clone, namespaces());
        rules.retain(|call, _| !given.contains(call));
        let errno = SeccompAction::Errno(libc::EPERM.cast_unsigned());
        let mut programs = vec![program(rules, errno)];
        if !given.contains(&libc::SYS_clone3) {
            let none = SeccompAction::Errno(libc::ENOSYS.cast_unsigned());
            programs.push(program(every(&[libc::SYS_clone3]), none));
        }
        Self::filters(programs)
    }

    /// The capabilities that containers have by default.
    pub(super) fn default_capabilities() -> Self {
        use Capability as C;
        let kept: CapsHashSet = [
            C::CAP_CHOWN,
            C::CAP_DAC_OVERRIDE,
            C::CAP_FSETID,
            C::CAP_FOWNER,
            C::CAP_MKNOD,
            C::CAP_NET_RAW,
            C::CAP_SETGID,
            C::CAP_SETUID,
            C::CAP_SETFCAP,
            C::CAP_SETPCAP,
            C::CAP_NET_BIND_SERVICE,
            C::CAP_SYS_CHROOT,
            C::CAP_KILL,
            C::CAP_AUDIT_WRITE,
        ]
        .into();
        Self::of(move || {
            let failed = |error: caps::errors::CapsError| io::Error::other(error.to_string());
            for one in caps::read(None, CapSet::Bounding).map_err(failed)? {
                if !kept.contains(&one) {
                    caps::drop(None, CapSet::Bounding, one).map_err(failed)?;
                }
            }
            for set in [CapSet::Effective, CapSet::Permitted] {
                caps::set(None, set, &kept).map_err(failed)?;
            }
            Ok(())
        })
    }

    pub(super) fn refuse(calls: &[i64], errno: i32) -> Self {
        let errno = SeccompAction::Errno(errno.cast_unsigned());
        Self::filters(vec![program(every(calls), errno)])
    }

    pub(super) fn kill(calls: &[i64]) -> Self {
        Self::filters(vec![program(every(calls), SeccompAction::KillProcess)])
    }

    /// `RestrictSUIDSGID=yes`: no mode with either bit, and `openat2` not at all.
    pub(super) fn restrict_sxid() -> Self {
        let modes = [
            (libc::SYS_chmod, 1),
            (libc::SYS_fchmod, 1),
            (libc::SYS_fchmodat, 2),
            (libc::SYS_mkdir, 1),
            (libc::SYS_mkdirat, 2),
            (libc::SYS_mknod, 1),
            (libc::SYS_mknodat, 2),
            (libc::SYS_creat, 1),
        ];
        let rule = |argument: u8, bit: u64| {
            let compare = SeccompCmpOp::MaskedEq(bit);
            let condition =
                SeccompCondition::new(argument, SeccompCmpArgLen::Dword, compare, bit).unwrap();
            SeccompRule::new(vec![condition]).unwrap()
        };
        let rules = modes.map(|(call, at)| (call, vec![rule(at, 0o4000), rule(at, 0o2000)]));
        let refused = program(rules.into(), SeccompAction::Errno(libc::EPERM.cast_unsigned()));
        let none = SeccompAction::Errno(libc::ENOSYS.cast_unsigned());
        Self::filters(vec![refused, program(every(&[libc::SYS_openat2]), none)])
    }

    /// `RestrictNamespaces=yes`.
    pub(super) fn restrict_namespaces() -> Self {
        let mut rules = every(&[libc::SYS_setns]);
        rules.insert(libc::SYS_clone, namespaces());
        rules.insert(libc::SYS_unshare, namespaces());
        let refused = program(rules, SeccompAction::Errno(libc::EPERM.cast_unsigned()));
        let none = SeccompAction::Errno(libc::ENOSYS.cast_unsigned());
        Self::filters(vec![refused, program(every(&[libc::SYS_clone3]), none)])
    }

    pub(super) fn no_new_privileges() -> Self {
        Self::of(|| Ok(rustix::thread::set_no_new_privs(true)?))
    }

    /// `MemoryDenyWriteExecute=yes`.
    pub(super) fn no_write_execute() -> Self {
        let both = u64::from((libc::PROT_WRITE | libc::PROT_EXEC).cast_unsigned());
        let compare = SeccompCmpOp::MaskedEq(both);
        let condition = SeccompCondition::new(2, SeccompCmpArgLen::Dword, compare, both).unwrap();
        let rule = SeccompRule::new(vec![condition]).unwrap();
        let rules = BTreeMap::from([(libc::SYS_mmap, vec![rule])]);
        let errno = SeccompAction::Errno(libc::EPERM.cast_unsigned());
        Self::filters(vec![program(rules, errno)])
    }

    /// What follows is mounted in a namespace of its own.
    fn mounts(step: impl Fn() -> io::Result<()> + Send + Sync + 'static) -> Self {
        Self::of(move || {
            unshare(CloneFlags::CLONE_NEWNS)?;
            let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
            mount(None::<&str>, "/", None::<&str>, private, None::<&str>)?;
            step()
        })
    }

    /// An empty `/var/tmp`: the test's own directory is in `/tmp`.
    pub(super) fn private_tmp() -> Self {
        Self::mounts(|| over("tmpfs", "/var/tmp", None))
    }

    pub(super) fn read_only(paths: &'static [&'static str]) -> Self {
        Self::mounts(|| {
            paths.iter().try_for_each(|path| {
                let bind = MsFlags::MS_BIND;
                mount(Some(*path), *path, None::<&str>, bind, None::<&str>)?;
                let flags = bind | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
                Ok(mount(None::<&str>, *path, None::<&str>, flags, None::<&str>)?)
            })
        })
    }

    pub(super) fn hidden_proc() -> Self {
        Self::mounts(|| over("proc", "/proc", Some("hidepid=2")))
    }

    /// As engines mask parts of it.
    pub(super) fn covered_proc() -> Self {
        Self::mounts(|| {
            over("tmpfs", "/proc/fs", Some("ro"))?;
            over("tmpfs", "/proc/irq", Some("ro"))
        })
    }

    /// A setting of the kernel that this one may not have.
    pub(super) fn kernel_setting(name: &'static str, value: &'static str) -> Self {
        Self::mounts(move || {
            over("tmpfs", "/proc/sys/kernel", Some("mode=0755"))?;
            fs::write(Path::new("/proc/sys/kernel").join(name), value)
        })
    }

    pub(super) fn read_only_groups() -> Self {
        Self::mounts(|| {
            let mounts = fs::read_to_string("/proc/self/mounts")?;
            for line in mounts.lines() {
                let mut fields = line.split(' ').skip(1);
                let (Some(path), Some(kind)) = (fields.next(), fields.next()) else { continue };
                if kind.starts_with("cgroup") {
                    let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
                    mount(None::<&str>, path, None::<&str>, flags, None::<&str>)?;
                }
            }
            Ok(())
        })
    }

    pub(super) fn over_groups(kind: &'static str) -> Self {
        Self::mounts(move || {
            while rustix::mount::unmount("/sys/fs/cgroup", rustix::mount::UnmountFlags::DETACH)
                .is_ok()
            {}
            over(kind, "/sys/fs/cgroup", None)
        })
    }

    /// A user namespace in which this user is himself alone, and in which so many of each kind of
    /// namespace may be made: none.
    pub(super) fn nested(limits: &[&str]) -> Self {
        let limits: Vec<_> = limits.iter().map(|it| format!("/proc/sys/user/{it}")).collect();
        Self::of(move || {
            let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
            unshare(CloneFlags::CLONE_NEWUSER)?;
            fs::write("/proc/self/setgroups", "deny")?;
            fs::write("/proc/self/uid_map", format!("{} {} 1", uid.as_raw(), uid.as_raw()))?;
            fs::write("/proc/self/gid_map", format!("{} {} 1", gid.as_raw(), gid.as_raw()))?;
            limits.iter().try_for_each(|limit| fs::write(limit, "0"))
        })
    }
}

fn over(kind: &str, path: &str, options: Option<&str>) -> io::Result<()> {
    Ok(mount(Some(kind), path, Some(kind), MsFlags::empty(), options)?)
}
