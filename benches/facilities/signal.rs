//! Two layers that signal each other in turn, beside two plain processes that ask a third one over
//! socketpairs, which calls `pidfd_send_signal`.
#![allow(clippy::print_stdout, clippy::cast_precision_loss)]

use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use cofferdam::Layer;
use cofferdam::ipc::signal::SendError;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::SignalFd;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::net::{recv, send, socketpair};
use rustix::process::{Pid, PidfdFlags, pidfd_open, pidfd_send_signal};

use super::host::{Function, Outcome, result, run};

pub(crate) const LAYERS: &[Function] = &[("sig_bench", measure), ("sig_answer", answer)];

const COUNT: usize = 20_000;
const ROUNDS: usize = 5;

pub(crate) fn bench() {
    let layer = |name: &str, run: &str| {
        format!("[layer.{name}]\nrun = \"{run}\"\nsyscalls = [\"@core\"]\n")
    };
    let policy = layer("a", "sig_bench")
        + &layer("b", "sig_answer")
        + "[signal.forth]\nfrom = \"a\"\nto = \"b\"\nsend = [\"USR1\"]\n\
           [signal.back]\nfrom = \"b\"\nto = \"a\"\nsend = [\"USR1\"]\n";
    let median = |mut times: Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    let ours = median(run(&policy, ROUNDS)) / 1e3;
    let bare = median((0..ROUNDS).map(|_| mediate()).collect()) / 1e3;
    println!("signal there and back, µs  layers {ours:.2}");
    println!("                           bare processes {bare:.2}");
    println!("                           ratio {:.2} (at most 1.5)\n", ours / bare);
}

fn measure(layer: &Layer) -> Outcome {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let forth = layer.signal("forth").map_err(|e| text(&e))?.blocking();
    let mut signals = layer.signals().map_err(|e| text(&e))?;
    while let Err(SendError::PeerDead { .. }) = forth.send("USR1") {
        std::thread::yield_now();
    }
    signals.blocking().recv(None).map_err(|e| text(&e))?;
    for _ in 0..ROUNDS {
        let begin = Instant::now();
        for _ in 0..COUNT {
            forth.send("USR1").map_err(|e| text(&e))?;
            signals.blocking().recv(None).map_err(|e| text(&e))?;
        }
        result(begin.elapsed().as_nanos() as f64 / COUNT as f64);
    }
    Ok(())
}

fn answer(layer: &Layer) -> Outcome {
    let back = layer.signal("back").map_err(|error| error.to_string())?.blocking();
    let mut signals = layer.signals().map_err(|error| error.to_string())?;
    while signals.blocking().recv(None).is_ok() && back.send("USR1").is_ok() {}
    Ok(())
}

/// Becomes one of the plain processes, if this one was started to.
pub(crate) fn enter() -> bool {
    let role = std::env::args().nth(1).unwrap_or_default();
    match role.as_str() {
        "--plain-first" => plain(true),
        "--plain-second" => plain(false),
        _ => return false,
    }
    true
}

fn plain(first: bool) {
    let socket = std::io::stdin();
    let set = SigSet::from_iter([Signal::SIGUSR1]);
    set.thread_block().expect("a mask");
    let signals = SignalFd::new(&set).expect("a signalfd");
    // Ready.
    send(&socket, &[0], SendFlags::empty()).expect("the mediator");
    let mut byte = [0];
    let mut ask = || {
        let asked = send(&socket, &[1], SendFlags::NOSIGNAL).is_ok();
        asked && recv(&socket, &mut byte, RecvFlags::empty()).is_ok_and(|(_, length)| length == 1)
    };
    if first {
        for _ in 0..COUNT {
            ask();
            signals.read_signal().expect("a signal");
        }
    } else {
        while signals.read_signal().is_ok() && ask() {}
    }
}

/// Sends the signals that the plain processes ask for, and measures.
fn mediate() -> f64 {
    let start = |role: &str| -> (OwnedFd, Child) {
        let flags = SocketFlags::CLOEXEC;
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).expect("sockets");
        let mut command = Command::new("/proc/self/exe");
        let child = command.arg(role).stdin(Stdio::from(theirs)).spawn().expect("a process");
        recv(&ours, &mut [0], RecvFlags::empty()).expect("it is ready");
        (ours, child)
    };
    let (second, mut two) = start("--plain-second");
    let (first, mut one) = start("--plain-first");
    let pidfds = [&two, &one]
        .map(|child| pidfd_open(Pid::from_child(child), PidfdFlags::empty()).expect("a pidfd"));
    let begin = Instant::now();
    'serving: loop {
        let mut fds = [PollFd::new(&first, PollFlags::IN), PollFd::new(&second, PollFlags::IN)];
        poll(&mut fds, None).expect("poll");
        let ready = fds.map(|fd| !fd.revents().is_empty());
        for (from, socket) in [&first, &second].into_iter().enumerate() {
            if !ready[from] {
                continue;
            }
            match recv(socket, &mut [0], RecvFlags::DONTWAIT) {
                Ok((_, 1)) => {}
                _ => break 'serving,
            }
            let _ = pidfd_send_signal(&pidfds[from], rustix::process::Signal::USR1);
            let _ = send(socket, &[1], SendFlags::NOSIGNAL);
        }
    }
    let time = begin.elapsed().as_nanos() as f64 / COUNT as f64;
    let _ = two.kill();
    let _ = (one.wait(), two.wait());
    time
}
