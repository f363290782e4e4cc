//! A message queue beside the bare kernel's queue between two processes: sealing, numbers and the
//! look before sleep against `mq_send` and `mq_receive` that block. `same`: both on one processor;
//! `auto`: where the kernel puts them.
#![allow(unsafe_code, clippy::print_stdout, clippy::cast_precision_loss)]

use std::ffi::CString;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cofferdam::confine::Confined;
use cofferdam::ident::{EdgeId, Instance, Name};
use cofferdam::ipc::broker::Broker;
use cofferdam::ipc::queue::{End, Event, Queue, QueueSpec};
use cofferdam::policy::plan::{Audit, OnFull, QueuePlan};
use cofferdam::report::Desk;
use cofferdam::sys::mqueue;
use cofferdam::sys::secret_page::SecretPage;
use cofferdam::wire::queue::SEALING;
use rustix::thread::{CpuSet, sched_setaffinity};

use super::cipher;

const ROUNDS: usize = 7;
const DEPTH: u32 = 10;
const MAX: u32 = 1 << 10;
/// Says to the program, started again, that it is the peer, and which.
const PEER: &str = "COFFERDAM_BENCH_QUEUE";

/// Runs the bench, or is the peer of one.
pub(crate) fn run() {
    if let Ok(peer) = std::env::var(PEER) {
        return serve(&peer);
    }
    let maker = if cfg!(feature = "ring") { "ring" } else { "chacha20poly1305" };
    println!("queue, sealed with {maker}: µs a message, ratio to bare, and to bare and cipher\n");
    for (pattern, count) in [("round trip", 3_000), ("one way", 30_000)] {
        println!("{pattern:<22} {:>12} {:>20} {:>20} {:>8}", "bare", "blocking", "tokio", "cipher");
        for place in ["same", "auto"] {
            for size in [64, 1 << 10] {
                let micros = |who| {
                    measure(&format!("{who} {pattern}"), size, count, place).as_secs_f64() * 1e6
                        / count as f64
                };
                let bare = micros("bare");
                let (seal, open) = cipher::nanos(size, MAX as usize);
                let cipher = match (pattern, place) {
                    ("round trip", _) => 2.0 * (seal + open),
                    (_, "same") => seal + open,
                    // Both sides work at once.
                    _ => seal.max(open),
                } / 1e3;
                let ratio = |time: f64| {
                    format!("{time:.2} ({:.2}) ({:.2})", time / bare, time / (bare + cipher))
                };
                let (blocking, tokio) = (ratio(micros("blocking")), ratio(micros("tokio")));
                let shown = format!("{bare:>12.2} {blocking:>20} {tokio:>20} {cipher:>8.2}");
                println!("{place}, {size:>5} B           {shown}");
            }
        }
        println!();
    }
}

/// One of the kernel's queues: its sending and its receiving end.
fn kernel(direction: &str) -> (OwnedFd, OwnedFd) {
    let name = CString::new(format!("/cofferdam-bench-{}-{direction}", std::process::id()));
    let name = name.expect("a name");
    let size = u64::from(MAX) + SEALING as u64;
    let receiving = mqueue::create(&name, DEPTH.into(), size).expect("a queue");
    let sending = mqueue::open_to_send(&name).expect("its other end");
    mqueue::unlink(&name).expect("its name");
    (sending, receiving)
}

/// The median time of a round against a fresh peer process.
fn measure(mode: &str, size: usize, count: usize, place: &str) -> Duration {
    place_at(place);
    let ((to_peer, peer_in), (peer_out, from_peer)) = (kernel("forth"), kernel("back"));
    let mut peer = Command::new("/proc/self/exe")
        .arg("queue")
        .env(PEER, format!("{mode}|{size}|{count}|{place}"))
        .stdin(Stdio::from(peer_in))
        .stdout(Stdio::from(peer_out))
        .spawn()
        .expect("a peer");
    let (who, pattern) = mode.split_once(' ').expect("two words");
    let ends = Ends::new(who, to_peer, from_peer, ["near", "far"]);
    let message = vec![7; size];
    let mut times: Vec<_> = (0..ROUNDS)
        .map(|_| {
            let begin = Instant::now();
            match (&ends, pattern) {
                (Ends::Tokio(runtime, out, back), "round trip") => runtime.block_on(async {
                    for _ in 0..count {
                        out.send(&message, 0).await.expect("sent");
                        back.recv().await.expect("received");
                    }
                }),
                (Ends::Tokio(runtime, out, back), _) => runtime.block_on(async {
                    for _ in 0..count {
                        out.send(&message, 0).await.expect("sent");
                    }
                    back.recv().await.expect("the end");
                }),
                (_, "round trip") => (0..count).for_each(|_| {
                    ends.send(&message);
                    ends.receive();
                }),
                _ => {
                    (0..count).for_each(|_| ends.send(&message));
                    ends.receive();
                }
            }
            begin.elapsed()
        })
        .collect();
    let _ = peer.wait();
    times.sort();
    times[times.len() / 2]
}

fn serve(peer: &str) {
    let words: Vec<&str> = peer.split('|').collect();
    let [mode, size, count, place] = words[..] else { return };
    place_at(place);
    let count: usize = count.parse().expect("a number");
    let message = vec![7; size.parse().expect("a number")];
    let (who, pattern) = mode.split_once(' ').expect("two words");
    let fd = |fd: std::os::fd::BorrowedFd<'_>| fd.try_clone_to_owned().expect("a descriptor");
    let (sending, receiving) = (fd(std::io::stdout().as_fd()), fd(std::io::stdin().as_fd()));
    let ends = Ends::new(who, sending, receiving, ["far", "near"]);
    match (&ends, pattern) {
        (Ends::Tokio(runtime, out, back), "round trip") => runtime.block_on(async {
            for _ in 0..ROUNDS * count {
                back.recv().await.expect("received");
                out.send(&message, 0).await.expect("sent");
            }
        }),
        (Ends::Tokio(runtime, out, back), _) => runtime.block_on(async {
            for _ in 0..ROUNDS {
                for _ in 0..count {
                    back.recv().await.expect("received");
                }
                out.send(&message, 0).await.expect("sent");
            }
        }),
        (_, "round trip") => (0..ROUNDS * count).for_each(|_| {
            ends.receive();
            ends.send(&message);
        }),
        _ => (0..ROUNDS).for_each(|_| {
            (0..count).for_each(|_| ends.receive());
            ends.send(&message);
        }),
    }
}

/// What one process sends on and receives from.
enum Ends {
    Bare(OwnedFd, OwnedFd),
    Blocking(Queue, Queue),
    Tokio(tokio::runtime::Runtime, Queue, Queue),
}

impl Ends {
    /// `layers`: who sends there, and who sends here.
    fn new(who: &str, sending: OwnedFd, receiving: OwnedFd, layers: [&str; 2]) -> Self {
        if who == "bare" {
            return Self::Bare(sending, receiving);
        }
        let out = member(layers[0], layers, End::Send, sending);
        let back = member(layers[0], [layers[1], layers[0]], End::Receive, receiving);
        if who == "blocking" {
            return Self::Blocking(out, back);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        Self::Tokio(runtime.expect("a runtime"), out, back)
    }

    fn send(&self, message: &[u8]) {
        match self {
            Self::Bare(fd, _) => {
                let (fd, bytes) = (fd.as_raw_fd(), message.as_ptr().cast());
                // SAFETY: the pointer and length name `message`.
                assert_eq!(unsafe { libc::mq_send(fd, bytes, message.len(), 0) }, 0);
            }
            Self::Blocking(queue, _) => drop(queue.blocking().send(message, 0).expect("sent")),
            Self::Tokio(..) => {}
        }
    }

    fn receive(&self) {
        match self {
            Self::Bare(_, fd) => {
                let mut buffer = [0_u8; MAX as usize + SEALING];
                let (fd, bytes) = (fd.as_raw_fd(), buffer.as_mut_ptr().cast());
                // SAFETY: the pointer and length name `buffer`; a priority isn't asked for.
                let got =
                    unsafe { libc::mq_receive(fd, bytes, buffer.len(), std::ptr::null_mut()) };
                assert!(got > 0);
            }
            Self::Blocking(_, queue) => {
                let event = queue.blocking().recv(None);
                assert!(matches!(event, Ok(Event::Message(_))), "{event:?}");
            }
            Self::Tokio(..) => {}
        }
    }
}

fn member(own: &str, [from, to]: [&str; 2], end: End, fd: OwnedFd) -> Queue {
    let name = |text| Name::new(text).expect("a name");
    let plan = QueuePlan {
        name: name("jobs"),
        send: vec![name(from)],
        receive: vec![name(to)],
        depth: DEPTH,
        max: MAX,
        priorities: 1,
        on_full: OnFull::Block(Duration::from_mins(1)),
        audit: Audit::Digest,
    };
    let own = Instance { layer: name(own), index: 0, generation: 1 };
    let spec = QueueSpec { number: 0, plan, edge: EdgeId([1; 32]), own };
    let null: OwnedFd = File::open("/dev/null").expect("/dev/null").into();
    let page = SecretPage::new().expect("a page").0;
    let (broker, desk) = (Arc::new(Broker::new(Arc::new(null))), Desk::default());
    let queue = Queue::new(spec, page, broker, &desk, &Confined::pretend());
    let mut keys = tempfile::tempfile().expect("a file");
    keys.write_all(&[1; 32]).expect("a key");
    queue.keep_keys(1, keys).expect("a key");
    queue.keep_end(end, fd);
    queue
}

fn place_at(place: &str) {
    let mut set = CpuSet::new();
    let processors = if place == "same" { 1 } else { CpuSet::MAX_CPU };
    (0..processors).for_each(|processor| set.set(processor));
    let _ = sched_setaffinity(None, &set);
}
