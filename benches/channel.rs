//! Sealed channels beside a raw blocking SEQPACKET socketpair in the same run, between two
//! processes. `same`: both on one processor; `auto`: where the kernel puts them.
//!
//! `cargo bench --bench channel [-- --features ring]`. Medians of several rounds; compare ratios,
//! not figures.
#![allow(clippy::print_stdout, clippy::cast_precision_loss, missing_docs)]

use std::hint::black_box;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cofferdam::channel::{Side, socketpair};
use cofferdam::confine::Confined;
use cofferdam::ident::{EdgeId, Instance, Name};
use cofferdam::ipc::message::{Channel, ChannelSpec, Event, Message};
use cofferdam::policy::plan::ChannelPlan;
use cofferdam::seal::aead::{Aead, Chosen};
use cofferdam::seal::secret::Key;
use cofferdam::seal::{Identity, OsChance, PublicKey};
use rustix::net::{RecvFlags, SendFlags, recv, send};
use rustix::thread::{CpuSet, sched_setaffinity};
use serde_json::json;

const ROUNDS: usize = 7;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, peer, mode, size, count, place] = &arguments[..]
        && peer == "peer"
    {
        place_at(place);
        return serve(mode, size.parse().unwrap_or(0), count.parse().unwrap_or(0));
    }
    let cipher = if cfg!(feature = "ring") { "ring" } else { "chacha20poly1305" };
    println!("sealed channels with {cipher}; medians of {ROUNDS} rounds; ratio to raw\n");
    let wanted =
        |section| !arguments.iter().skip(1).any(|name| !name.starts_with('-') && name != section);
    if wanted("round-trips") {
        round_trips();
    }
    if wanted("one-way") {
        one_way();
    }
    if wanted("descriptors") {
        let count = 20_000;
        let rate = count as f64 / measure("fd-sink", 1, count, "auto").as_secs_f64() / 1e3;
        println!("\ndescriptors, one in a message: {rate:.0} thousand/s");
    }
}

fn round_trips() {
    println!("round trip, µs            {:>16} {:>16} {:>16}", "raw", "blocking", "tokio");
    for (place, count) in [("same", 10_000), ("auto", 3_000)] {
        for size in [64, 1 << 10, 16 << 10, 64 << 10] {
            let count = if size > 4096 { count / 5 } else { count };
            let micros = |mode: &str| {
                let time = measure(mode, size, count, place);
                time.as_secs_f64() * 1e6 / count as f64
            };
            let raw = micros("raw-echo");
            let ratio = |time: f64| format!("{time:.2} ({:.2})", time / raw);
            let (blocking, tokio) = (micros("echo"), micros("tokio-echo"));
            let (blocking, tokio) = (ratio(blocking), ratio(tokio));
            println!("{place}, {size:>6} B            {raw:>16.2} {blocking:>16} {tokio:>16}");
        }
    }
}

fn one_way() {
    println!();
    println!("one way, thousand/s       {:>16} {:>16} {:>16}", "raw", "send_all", "tokio");
    for (size, count) in [(64, 500_000), (1 << 10, 200_000), (64 << 10, 5_000)] {
        let rate = |mode: &str| {
            let time = measure(mode, size, count, "auto");
            count as f64 / time.as_secs_f64() / 1e3
        };
        let raw = rate("raw-sink");
        let ratio = |rate: f64| format!("{rate:.0} ({:.2})", rate / raw);
        let (all, tokio) = (ratio(rate("sink")), ratio(rate("tokio-sink")));
        println!("auto, {size:>6} B            {raw:>16.0} {all:>16} {tokio:>16}");
        if size == 64 << 10 {
            let alone = aead_alone(size);
            let sealed = rate("sink") * size as f64 / 1e3;
            let share = 100.0 * sealed / alone;
            println!("64 KiB: {sealed:.0} MB/s sealed; the cipher alone {alone:.0} ({share:.0} %)");
        }
    }
}

/// MB/s of sealing on one processor.
fn aead_alone(size: usize) -> f64 {
    let aead = Chosen::new(&Key::take(&mut [7; 32]));
    let mut body = vec![1; size];
    let begin = Instant::now();
    for _ in 0..2_000 {
        let _ = black_box(aead.seal(&[0; 12], &[0; 16], black_box(&mut body)));
    }
    2_000.0 * size as f64 / begin.elapsed().as_secs_f64() / 1e6
}

/// The median time of a round against a fresh peer process.
fn measure(mode: &str, size: usize, count: usize, place: &str) -> Duration {
    place_at(place);
    let (ours, theirs) = socketpair(&plan(mode)).expect("a socketpair");
    let mut peer = spawn(mode, size, count, place, theirs);
    let mut times = client(mode, size, count, ours);
    let _ = peer.wait();
    times.sort();
    times[times.len() / 2]
}

fn spawn(mode: &str, size: usize, count: usize, place: &str, socket: OwnedFd) -> Child {
    Command::new("/proc/self/exe")
        .args(["peer", mode, &size.to_string(), &count.to_string(), place])
        .stdin(Stdio::from(socket))
        .spawn()
        .expect("a peer")
}

fn place_at(place: &str) {
    let mut set = CpuSet::new();
    match place {
        "same" => set.set(0),
        _ => (0..CpuSet::MAX_CPU.min(64)).for_each(|cpu| set.set(cpu)),
    }
    let _ = sched_setaffinity(None, &set);
}

fn plan(mode: &str) -> ChannelPlan {
    let methods = if mode.ends_with("echo") {
        json!([{
            "name": "echo", "max": 1 << 20,
            "direction": "Forth", "rate": null, "once": false, "after": null, "stream": false,
        }])
    } else {
        json!([])
    };
    let fds = if mode == "fd-sink" {
        json!({ "max": 1, "kinds": ["FileRead"] })
    } else {
        json!({ "max": 0, "kinds": [] })
    };
    serde_json::from_value(json!({
        "name": "bench", "from": "caller", "to": "keeper", "max": 1 << 20,
        "methods": methods, "fds": fds,
        "audit": "None", "witness": false, "transport": "Socket", "across": false,
    }))
    .expect("a plan")
}

/// Keys are exchanged in the clear here; a supervisor would pass them.
fn meet(mode: &str, side: Side, socket: OwnedFd) -> Channel {
    let identity = Arc::new(Identity::generate(&mut OsChance).expect("a key"));
    send_all(socket.as_fd(), &identity.public().0);
    let mut key = [0; 32];
    receive(socket.as_fd(), &mut key);
    let instance =
        |layer| Instance { layer: Name::new(layer).expect("a name"), index: 0, generation: 1 };
    let (own, peer) = match side {
        Side::From => (instance("caller"), instance("keeper")),
        Side::To => (instance("keeper"), instance("caller")),
    };
    let spec = ChannelSpec { number: 0, plan: plan(mode), edge: EdgeId([1; 32]), own, side };
    let channel =
        Channel::new(spec, identity, &cofferdam::report::Desk::default(), &Confined::pretend());
    channel.introduce(peer, PublicKey(key), socket).expect("an introduction");
    channel.blocking().wait_for_peer(None).expect("a peer");
    channel
}

fn send_all(socket: BorrowedFd<'_>, bytes: &[u8]) {
    send(socket, bytes, SendFlags::NOSIGNAL).expect("sent");
}

fn receive(socket: BorrowedFd<'_>, bytes: &mut [u8]) -> usize {
    recv(socket, bytes, RecvFlags::empty()).expect("received").0
}

fn client(mode: &str, size: usize, count: usize, socket: OwnedFd) -> Vec<Duration> {
    let body = vec![7_u8; size];
    let time = |work: &mut dyn FnMut()| {
        let begin = Instant::now();
        work();
        begin.elapsed()
    };
    match mode {
        "raw-echo" => {
            let mut back = body.clone();
            let mut round = || {
                for _ in 0..count {
                    send_all(socket.as_fd(), &body);
                    receive(socket.as_fd(), &mut back);
                }
            };
            (0..ROUNDS).map(|_| time(&mut round)).collect()
        }
        "raw-sink" => {
            let mut round = || {
                (0..count).for_each(|_| send_all(socket.as_fd(), &body));
                receive(socket.as_fd(), &mut [0]);
            };
            (0..ROUNDS).map(|_| time(&mut round)).collect()
        }
        "echo" => {
            let channel = meet(mode, Side::From, socket).blocking();
            let mut round = || {
                for _ in 0..count {
                    black_box(channel.call("echo").send(body.as_slice()).expect("an answer"));
                }
            };
            (0..ROUNDS).map(|_| time(&mut round)).collect()
        }
        "sink" => {
            let channel = meet(mode, Side::From, socket).blocking();
            let mut round = || {
                let messages = (0..count).map(|_| body.as_slice());
                channel.send_all("", messages, None).expect("sent");
                channel.recv(None).expect("the end");
            };
            (0..ROUNDS).map(|_| time(&mut round)).collect()
        }
        "fd-sink" => {
            let channel = meet(mode, Side::From, socket).blocking();
            let file = std::fs::File::open("/proc/self/exe").expect("a file");
            let mut round = || {
                for _ in 0..count {
                    let fds = vec![file.try_clone().expect("a copy").into()];
                    channel.send("", Message { body: vec![], fds }, None).expect("sent");
                }
                channel.recv(None).expect("the end");
            };
            (0..ROUNDS).map(|_| time(&mut round)).collect()
        }
        _ => {
            let channel = meet(mode, Side::From, socket);
            driven(&channel, async {
                let mut times = Vec::new();
                for _ in 0..ROUNDS {
                    let begin = Instant::now();
                    for _ in 0..count {
                        if mode == "tokio-echo" {
                            black_box(
                                channel.call("echo").send(body.as_slice()).await.expect("answer"),
                            );
                        } else {
                            channel.send("", body.as_slice()).await.expect("sent");
                        }
                    }
                    if mode == "tokio-sink" {
                        channel.recv().await.expect("the end");
                    }
                    times.push(begin.elapsed());
                }
                times
            })
        }
    }
}

/// As the layer runtime does it: the driver beside the user's future.
fn driven<R>(channel: &Channel, work: impl Future<Output = R>) -> R {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        tokio::select! {
            biased;
            result = work => result,
            end = channel.drive() => panic!("{end:?}"),
        }
    })
}

fn serve(mode: &str, size: usize, count: usize) {
    let socket = std::io::stdin().as_fd().try_clone_to_owned().expect("a socket");
    let mut buffer = vec![0; size.max(1)];
    match mode {
        "raw-echo" => {
            for _ in 0..ROUNDS * count {
                let got = receive(socket.as_fd(), &mut buffer);
                send_all(socket.as_fd(), &buffer[..got]);
            }
        }
        "raw-sink" => {
            for _ in 0..ROUNDS {
                for _ in 0..count {
                    black_box(receive(socket.as_fd(), &mut buffer));
                }
                send_all(socket.as_fd(), &[1]);
            }
        }
        "echo" => {
            let channel = meet(mode, Side::To, socket).blocking();
            for _ in 0..ROUNDS * count {
                if let Ok(Event::Request { message, reply, .. }) = channel.recv(None) {
                    let _ = reply.blocking().reply(message);
                }
            }
        }
        "sink" | "fd-sink" => {
            let channel = meet(mode, Side::To, socket).blocking();
            for _ in 0..ROUNDS {
                (0..count).for_each(|_| drop(black_box(channel.recv(None))));
                channel.send("", Message::from(vec![1]), None).expect("sent");
            }
        }
        _ => {
            let channel = meet(mode, Side::To, socket);
            driven(&channel, async {
                for _ in 0..ROUNDS {
                    for _ in 0..count {
                        match channel.recv().await {
                            Ok(Event::Request { message, reply, .. }) => {
                                let _ = reply.reply(message).await;
                            }
                            other => drop(black_box(other)),
                        }
                    }
                    if mode == "tokio-sink" {
                        channel.send("", vec![1]).await.expect("sent");
                        tokio::task::yield_now().await;
                    }
                }
            });
        }
    }
}
