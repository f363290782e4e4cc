//! Descriptors in flight: the kernel counts them by user, and an ordinary user's layers are one. What
//! one of them hoards keeps nobody from being told what it must know.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
    sendmsg, socketpair,
};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};

use crate::harness::{Daemon, eventually};

crate::support::suite::tests! {
    no_neighbour_is_harmed,
    no_other_daemon_is_harmed,
}

/// How many may be in flight while this process still sends one.
const FEW: u64 = 1024;

const HOARDER: &str = "[layer.hoarder]\nrun = \"hoarder\"\n\
    syscalls = [\"@core\", \"socketpair\", \"sendmsg\"]\n\
    because = \"it attacks\"\nlimits = { files = 3000 }\nrestart = { on = \"never\" }\n";

const TALK: &str = "[layer.callee]\nrun = \"callee\"\nsyscalls = [\"@core\"]\n\
    restart = { max = 100 }\n\
    [layer.caller]\nrun = \"caller\"\nsyscalls = [\"@core\"]\n\
    [channel.talk]\nfrom = \"caller\"\nto = \"callee\"\nmethods = [\"echo\"]\n";

/// Kills the callee again and again: each of its lives, and the caller, must be given descriptors.
fn gets_on(daemon: &mut Daemon) {
    let mut pid = daemon.confined("callee/0.g1");
    daemon.confined("caller/0.g1");
    for generation in 2..=4 {
        kill_process(pid, Signal::KILL).unwrap();
        pid = daemon.confined(&format!("callee/0.g{generation}"));
    }
    daemon.line("answer: hello from callee/0.g4");
}

fn assert_unharmed(mut daemon: Daemon) {
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    for harm in ["is killed: ", "can't be started", "can't be given"] {
        assert_eq!(daemon.count(harm), 0, "{daemon}");
    }
}

/// One test at a time: what one hoards isn't left for the other.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn no_neighbour_is_harmed() {
    let _alone = alone();
    let mut daemon = Daemon::start("hoarder", &format!("{HOARDER}{TALK}"));
    daemon.line("hoarder/0.g1: in flight: ");
    gets_on(&mut daemon);
    assert_unharmed(daemon);
}

/// Neither one that runs nor one that begins meanwhile.
fn no_other_daemon_is_harmed() {
    if crate::support::is_root() {
        crate::support::suite::ignore(
            "root's layers are users of their own: none hoards for others",
        );
    }
    let _alone = alone();
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(FEW), ..limit }).unwrap();
    let mut other = Daemon::start("talk", TALK);
    other.line("answer: ");
    assert!(may_send(), "somebody hoards already: this test proves nothing");
    let mut hoarding = Daemon::start("hoarder", &format!("{HOARDER}{TALK}"));
    let hoarder = hoarding.confined("hoarder/0.g1");
    hoarding.line("hoarder/0.g1: in flight: ");
    assert!(!may_send(), "it hoards too little: this test proves nothing");
    gets_on(&mut other);
    let mut next = Daemon::start("talk", TALK);
    gets_on(&mut next);
    gets_on(&mut hoarding);
    assert!(!may_send(), "it did not hoard all the time{hoarding}");
    kill_process(hoarder, Signal::KILL).unwrap();
    eventually("what it hoarded is gone", may_send);
    for daemon in [other, next, hoarding] {
        assert_unharmed(daemon);
    }
}

/// Whether a process of this user may still send a descriptor.
fn may_send() -> bool {
    use std::os::fd::AsFd;
    let flags = SocketFlags::CLOEXEC;
    let (one, _two) = socketpair(AddressFamily::UNIX, SocketType::DGRAM, flags, None).unwrap();
    let fds = [one.as_fd()];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    ancillary.push(SendAncillaryMessage::ScmRights(&fds));
    let bytes = [std::io::IoSlice::new(b"x")];
    match sendmsg(&one, &bytes, &mut ancillary, SendFlags::DONTWAIT) {
        Ok(_) => true,
        Err(rustix::io::Errno::TOOMANYREFS) => false,
        Err(errno) => panic!("{errno}"),
    }
}
