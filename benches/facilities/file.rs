//! A brokered open beside the same pattern made of bare calls: a question and a descriptor over a
//! socketpair, and `openat2`.

use std::fs::File;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use cofferdam::{Daemon, Layer};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recv, recvmsg, send, sendmsg,
    socketpair,
};

const ROUNDS: u32 = 5000;

/// Has the daemon, which is this program again, measure and say.
pub(crate) fn bench() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("f"), "f").unwrap();
    let bare = bare(directory.path());
    println!("file: brokered open, {ROUNDS} rounds");
    println!("  bare openat2 over a socketpair  {:>8.1} µs", micros(bare));
    let status = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--daemon-file", directory.path().to_str().unwrap()])
        .arg(bare.as_nanos().to_string())
        .status()
        .unwrap();
    assert!(status.success());
}

/// The daemon; in a layer its arguments are gone, and only its functions count.
pub(crate) fn daemon() -> Daemon {
    let mut arguments = std::env::args().skip(2);
    let path = arguments.next().unwrap_or_default();
    let bare = arguments.next().unwrap_or_default();
    let text = format!(
        "cofferdam = 1\nname = \"bench\"\n[layer.file]\nrun = \"file\"\nsyscalls = [\"@core\"]\n\
         restart = {{ on = \"never\" }}\n[file.d]\npath = {path:?}\ndeny = [\"*.key\"]\n\
         grant = {{ file = [\"read\", \"write\"] }}\n"
    );
    Daemon::from_text("bench.toml", &text)
        .settings(bare)
        .blocking_layer("file", |layer| measure(&layer))
}

fn measure(layer: &Layer) -> Result<(), String> {
    use cofferdam::ipc::file::Options;
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let directory = layer.directory("d").map_err(|error| text(&error))?;
    let bare = std::str::from_utf8(layer.settings()).unwrap_or_default().parse().unwrap_or(1);
    let bare = Duration::from_nanos(bare);
    for (what, options) in
        [("to read", Options::new().read()), ("to write, not truncate", Options::new().write())]
    {
        let start = Instant::now();
        for _ in 0..ROUNDS {
            directory.open("f", options).map_err(|error| text(&error))?;
        }
        let one = start.elapsed() / ROUNDS;
        let ratio = one.as_secs_f64() / bare.as_secs_f64();
        eprintln!("  brokered, {what:<22}{:>8.1} µs  {ratio:.2} times", micros(one));
    }
    Ok(())
}

/// The pattern without us: another process of this program answers.
fn bare(directory: &std::path::Path) -> Duration {
    let flags = SocketFlags::CLOEXEC;
    let (near, far) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
    let root = openat2(
        CWD,
        directory,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::empty(),
    )
    .unwrap();
    let server = std::thread::spawn(move || answer(&far, &root));
    let start = Instant::now();
    for _ in 0..ROUNDS {
        send(&near, b"f", SendFlags::empty()).unwrap();
        let mut byte = [0];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC;
        recvmsg(&near, &mut [IoSliceMut::new(&mut byte)], &mut ancillary, flags).unwrap();
        let fds = ancillary.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        });
        fds.flatten().for_each(|fd| drop(File::from(fd)));
    }
    let one = start.elapsed() / ROUNDS;
    drop(near);
    server.join().unwrap();
    one
}

fn answer(socket: &OwnedFd, root: &OwnedFd) {
    let mut name = [0; 64];
    while let Ok((_, length @ 1..)) = recv(socket, &mut name, RecvFlags::empty()) {
        let name = std::str::from_utf8(&name[..length]).unwrap();
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let file = openat2(root, name, flags, Mode::empty(), resolve).unwrap();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let fds = [file.as_fd()];
        ancillary.push(SendAncillaryMessage::ScmRights(&fds));
        sendmsg(socket, &[IoSlice::new(b"0")], &mut ancillary, SendFlags::empty()).unwrap();
    }
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
