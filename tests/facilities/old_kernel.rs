//! Helpers on a kernel without Landlock: one lacks it only where all of its clients may. Where one
//! doesn't, the daemon doesn't get as far as its helper: the writer of the log serves that one too.
//!
//! The old kernel is a filter beneath the daemon, loaded before its program starts; one whose Landlock
//! is the first has the test answer who asks for its version.

#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use cofferdam::Layer;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch, apply_filter};

use crate::harness::Daemon;
use crate::{Function, Outcome, Runs, Test, say, text, wait_for_stop};

pub(crate) const TESTS: &[Test] = &[
    ("old_kernel::a_helper_lacks_what_all_of_its_clients_may_lack", all_may),
    ("old_kernel::nothing_begins_where_one_layer_demands_what_is_lacking", one_demands),
    ("old_kernel::a_right_that_its_landlock_does_not_know_is_told", first_landlock),
];

pub(crate) const LAYERS: &[Function] = &[("old_kernel", Runs::Blocking(layer_served))];

/// Helpers, and what of them a layer is given.
const HELPERS: [&str; 3] = ["cofferdam-files", "cofferdam-connector", "cofferdam-paths"];

/// What this kernel lacks.
const LANDLOCK: &str =
    "\"landlock.file\", \"landlock.net\", \"landlock.ioctl\", \"landlock.scope\"";

/// Asks the helper that it has.
fn layer_served(layer: Layer) -> Outcome {
    if let Ok(folder) = layer.directory("folder") {
        folder.open_read("f").map_err(text)?;
    } else {
        layer.target("up").map_err(text)?.blocking_stream().map_err(text)?;
    }
    say("served");
    wait_for_stop(&layer)
}

/// Two layers that ask `helper`; the second has `optional` too if `both`.
fn policy(helper: &str, address: &str, both: bool) -> String {
    let connect = match helper {
        "cofferdam-files" => String::new(),
        "cofferdam-paths" => "connect = { up = \"unix:DIR/door\" }\n".to_owned(),
        _ => format!("connect = {{ up = \"tcp:{address}\" }}\n"),
    };
    let layer = |name: &str, optional: &str| {
        format!(
            "[layer.{name}]\nrun = \"old_kernel\"\nsyscalls = [\"@core\"]\n{connect}\
             optional = [{optional}]\ngrace = \"1s\"\n"
        )
    };
    let folder = match helper {
        "cofferdam-files" => {
            "[file.folder]\npath = \"DIR/folder\"\ngrant = { a = [\"read\"], b = [\"read\"] }\n\
             max-open = 4\n"
        }
        _ => "",
    };
    layer("a", LANDLOCK) + &layer("b", if both { LANDLOCK } else { "" }) + folder
}

/// A filter that answers as a kernel does that has no such call.
fn without_landlock() -> BpfProgram {
    let call = BTreeMap::from([(libc::SYS_landlock_create_ruleset, Vec::new())]);
    let (allow, none) = (SeccompAction::Allow, SeccompAction::Errno(libc::ENOSYS.cast_unsigned()));
    let arch: TargetArch = std::env::consts::ARCH.try_into().unwrap();
    SeccompFilter::new(call, allow, none, arch).unwrap().try_into().unwrap()
}

/// The daemon, and those to whom its layers connect.
fn start(helper: &str, both: bool) -> (Daemon, (TcpListener, UnixListener)) {
    let network = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = network.local_addr().unwrap().to_string();
    let mut door = None;
    let prepare = |directory: &Path| {
        std::fs::create_dir(directory.join("folder")).unwrap();
        std::fs::write(directory.join("folder/f"), "f").unwrap();
        door = Some(UnixListener::bind(directory.join("door")).unwrap());
    };
    let program = without_landlock();
    let filtered = move |command: &mut Command| {
        let load =
            move || apply_filter(&program).map_err(|_| io::Error::from_raw_os_error(libc::ENOSYS));
        // SAFETY: between fork and exec it makes two system calls, with a program that is there.
        unsafe { command.pre_exec(load) };
    };
    let daemon = Daemon::start_by("-", &policy(helper, &address, both), prepare, filtered);
    (daemon, (network, door.unwrap()))
}

fn all_may() {
    for helper in HELPERS {
        let (mut daemon, _others) = start(helper, true);
        for layer in ["a", "b"] {
            let line = format!("{layer}/0.g1: served");
            if daemon.count(&line) == 0 {
                daemon.line(&line);
            }
        }
        assert_eq!(daemon.stop(), Some(0), "{daemon}");
        let confined = format!("cofferdam: {helper}/0.g1 is confined");
        let line = daemon.seen.iter().find(|line| line.starts_with(&confined)).unwrap();
        assert!(line.contains("landlock.file"), "it doesn't say what is missing: {line}");
    }
}

fn one_demands() {
    for helper in HELPERS {
        let (mut daemon, _others) = start(helper, false);
        assert_eq!(daemon.end(), Some(3), "{daemon}");
        // Who writes the log serves everybody, and begins first.
        let told = "cofferdam: cofferdam-log/0.g1 could not be confined: landlock.file can't be";
        assert_eq!(daemon.count(told), 1, "{daemon}");
        assert_eq!(daemon.count("is confined, pid"), 0, "{daemon}");
        assert_eq!(daemon.count("served"), 0, "{daemon}");
    }
}

/// Has whoever listens answer each question for the version of Landlock, and gives the descriptor
/// at which he does.
#[expect(clippy::cast_possible_truncation, reason = "each is small, and known")]
fn listen_for_version() -> io::Result<OwnedFd> {
    let stmt = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let unless = |k: u32, skip: u8| libc::sock_filter {
        jf: skip,
        ..stmt(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, k)
    };
    let load = |offset: usize| stmt(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset as u32);
    let arguments = std::mem::offset_of!(libc::seccomp_data, args);
    let mut lines = [
        load(std::mem::offset_of!(libc::seccomp_data, nr)),
        unless(libc::SYS_landlock_create_ruleset as u32, 3),
        // LANDLOCK_CREATE_RULESET_VERSION
        load(arguments + 2 * size_of::<u64>()),
        unless(1, 1),
        stmt(libc::BPF_RET, libc::SECCOMP_RET_USER_NOTIF),
        stmt(libc::BPF_RET, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: lines.len() as u16, filter: lines.as_mut_ptr() };
    // SAFETY: the first call takes numbers alone; the second reads the program, which is there and
    // as long as it says.
    let fd = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
            &raw const program,
        )
    };
    match i32::try_from(fd) {
        // SAFETY: the kernel has just opened it, for nobody else.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

fn pass(socket: &UnixDatagram, fd: BorrowedFd<'_>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [fd];
    control.push(SendAncillaryMessage::ScmRights(&fds));
    rustix::net::sendmsg(socket, &[IoSlice::new(b"l")], &mut control, SendFlags::empty())?;
    Ok(())
}

fn take(socket: &UnixDatagram) -> OwnedFd {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let room = &mut [IoSliceMut::new(&mut byte)];
    rustix::net::recvmsg(socket, room, &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
    let fds = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    fds.unwrap()
}

/// Says to all who ask that the version is 1, as long as there are any.
fn answer(listener: &OwnedFd) {
    const RECEIVE: libc::c_ulong = 0xc050_2100;
    const SEND: libc::c_ulong = 0xc018_2101;
    loop {
        // SAFETY: both are plain numbers, for which zeroes are values; each call gets what it reads
        // or writes, of the size that is part of its number.
        let done = unsafe {
            let mut asked: libc::seccomp_notif = std::mem::zeroed();
            if libc::ioctl(listener.as_raw_fd(), RECEIVE, &raw mut asked) != 0 {
                -1
            } else {
                let mut answer: libc::seccomp_notif_resp = std::mem::zeroed();
                (answer.id, answer.val) = (asked.id, 1);
                libc::ioctl(listener.as_raw_fd(), SEND, &raw const answer)
            }
        };
        // Who asked may have ended meanwhile.
        let gone = [libc::ENOENT, libc::EINTR];
        let error = io::Error::last_os_error().raw_os_error();
        if done != 0 && !error.is_some_and(|error| gone.contains(&error)) {
            return;
        }
    }
}

/// A daemon on a kernel whose Landlock is the first, with a layer that has `rights` on a directory.
fn start_on_first(rights: &str) -> Daemon {
    let policy = format!(
        "[layer.a]\nrun = \"old_kernel\"\nsyscalls = [\"@core\", \"@file-read\"]\n\
         optional = [{LANDLOCK}]\nrestart = {{ on = \"never\" }}\n\
         [file.folder]\npath = \"DIR/folder\"\ngrant = {{ a = [{rights}] }}\n"
    );
    let prepare = |directory: &Path| {
        std::fs::create_dir(directory.join("folder")).unwrap();
        std::fs::write(directory.join("folder/f"), "f").unwrap();
        for (path, mode) in [("folder", 0o755), ("folder/f", 0o644)] {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
            std::fs::set_permissions(directory.join(path), mode).unwrap();
        }
    };
    let (ours, theirs) = UnixDatagram::pair().unwrap();
    let filtered = move |command: &mut Command| {
        let load = move || pass(&theirs, listen_for_version()?.as_fd());
        // SAFETY: between fork and exec it makes system calls, with what lies on the stack.
        unsafe { command.pre_exec(load) };
    };
    let daemon = Daemon::start_by("-", &policy, prepare, filtered);
    let listener = take(&ours);
    std::thread::spawn(move || answer(&listener));
    daemon
}

fn first_landlock() {
    let mut daemon = start_on_first("\"read\", \"create\"");
    daemon.line("a/0.g1: served");
    assert_eq!(daemon.count("a/0.g1 is confined"), 1, "{daemon}");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    let mut daemon = start_on_first("\"read\", \"create\", \"move\"");
    let why = daemon.line("the right to `move` takes Landlock of version 2");
    assert!(why.contains("a/0.g1 could not be confined") && why.contains("/folder: "), "{why}");
    assert_eq!(daemon.count("served"), 0, "{daemon}");
}
