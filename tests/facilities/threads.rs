//! Layers of several threads: all that block, each in another facility or several in the same, hear
//! that the layer is to finish; and they may use memory as they like.

use std::fmt::Debug;
use std::time::Duration;

use cofferdam::Layer;
use cofferdam::ipc::fifo::FifoError;
use cofferdam::ipc::message::ChannelError;
use cofferdam::ipc::pipe::PipeError;
use cofferdam::ipc::queue::QueueError;
use cofferdam::ipc::region::RegionError;
use cofferdam::ipc::semaphore::AcquireError;
use cofferdam::ipc::signal::RecvError;
use rustix::process::Pid;

use crate::harness::{Daemon, eventually};
use crate::{Function, Outcome, Runs, Test, how_many, say, text};

pub(crate) const TESTS: &[Test] = &[
    ("threads::in_different_facilities_all_hear_the_stop", different),
    ("threads::in_the_same_facility_all_hear_the_stop", same),
    ("threads::memory_is_had_and_given_back_within_the_filter", memory),
];

pub(crate) const LAYERS: &[Function] = &[
    ("threads_different", Runs::Blocking(|layer| crowd(&layer, 1))),
    ("threads_same", Runs::Blocking(|layer| crowd(&layer, 3))),
    ("threads_memory", Runs::Blocking(uses_memory)),
    ("threads_other", Runs::Async(|layer| Box::pin(other(layer)))),
];

/// How often is looked for what nothing tells of.
const LOOK: Duration = Duration::from_millis(1);

/// What a thread waits in; all but the last two bear several.
const PLACES: [&str; 9] =
    ["message", "signal", "socket", "queue", "pipe", "nobody", "semaphore", "fifo", "region"];
const ALONE: [&str; 2] = ["fifo", "region"];

const POLICY: &str = "\
syscalls = [\"@core\", \"@thread\"]
restart = { on = \"never\" }
listen = { desk = \"unix:DIR/desk\" }
limits = { memory = \"64MiB\", tasks = 64 }
[layer.other]
run = \"threads_other\"
syscalls = [\"@core\"]
# It ends too early to be a peer of anybody.
[layer.absent]
exec = [\"/bin/true\"]
syscalls = [\"@core\"]
stdout = \"pipe.nobody\"
restart = { on = \"never\" }
# With the pipe it makes a circle: so both are asked to finish at once.
[channel.message]
from = \"crowd\"
to = \"other\"
[signal.signal]
from = \"other\"
to = \"crowd\"
send = [\"HUP\"]
[queue.queue]
send = [\"other\"]
receive = [\"crowd\"]
[pipe.pipe]
from = \"other\"
to = \"crowd\"
[pipe.nobody]
from = \"absent\"
to = \"crowd\"
raw = true
[fifo.fifo]
path = \"DIR/fifo\"
to = \"crowd\"
[semaphore.semaphore]
permits = 1
holders = [\"crowd\"]
[region.region]
size = \"4KiB\"
grant = { crowd = \"r\", other = \"rw\" }
";

fn different() {
    all_hear("threads_different", PLACES.len());
}

fn same() {
    all_hear("threads_same", 3 * PLACES.len() - 2 * ALONE.len());
}

fn all_hear(function: &str, threads: usize) {
    let policy = format!("[layer.crowd]\nrun = \"{function}\"\n{POLICY}");
    for _ in 0..how_many(5, 200) {
        let mut daemon = Daemon::start("-", &policy);
        let crowd = daemon.confined("crowd/0.g1");
        while daemon.count("there") < 2 {
            daemon.line("");
        }
        eventually("all sleep", || asleep(crowd) == threads + 1);
        assert_eq!(daemon.stop(), Some(0), "{daemon}");
        assert_eq!(daemon.count("crowd/0.g1: heard it in "), threads, "{daemon}");
        assert_eq!(daemon.count("crowd/0.g1 ended with exit code 0"), 1, "{daemon}");
        assert_eq!(daemon.count("did not finish in time"), 0, "{daemon}");
    }
}

fn memory() {
    let policy = "[layer.a]\nrun = \"threads_memory\"\nsyscalls = [\"@core\", \"@thread\"]\n\
                  limits = { memory = \"256MiB\", tasks = 64 }\nrestart = { on = \"never\" }\n";
    let mut daemon = Daemon::start("-", policy);
    assert_eq!(daemon.end(), Some(0), "{daemon}");
}

/// In more threads than glibc makes heaps for without asking how many processors there are, and so
/// much that each gives back what it had.
fn uses_memory(_: Layer) -> Outcome {
    let together = std::sync::Barrier::new(20);
    std::thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| {
                let blocks: Vec<_> = (0..64).map(|_| vec![1_u8; 32 << 10]).collect();
                together.wait();
                drop(std::hint::black_box(blocks));
            });
        }
    });
    Ok(())
}

/// How many threads of a process sleep in the kernel.
fn asleep(pid: Pid) -> usize {
    let tasks = format!("/proc/{}/task", pid.as_raw_nonzero());
    let sleeps = |task: std::fs::DirEntry| {
        let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" S"))
    };
    let tasks = std::fs::read_dir(tasks).into_iter().flatten().flatten();
    tasks.map(sleeps).filter(|sleeps| *sleeps).count()
}

/// So many threads in each place; the layer ends when they have.
fn crowd(layer: &Layer, each: usize) -> Outcome {
    let semaphore = layer.semaphore("semaphore").map_err(text)?.blocking();
    let _held = semaphore.acquire().map_err(text)?;
    // The pipe of a peer that has been and gone is at its end.
    let mut nobody = layer.pipe_reader("nobody").map_err(text)?.blocking();
    std::io::copy(&mut nobody.next().map_err(text)?, &mut std::io::sink()).map_err(text)?;
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for place in PLACES {
            for _ in 0..if ALONE.contains(&place) { 1 } else { each } {
                threads.push(scope.spawn(move || wait_in(place, layer)));
            }
        }
        say("all are there");
        threads.into_iter().try_for_each(|thread| thread.join().unwrap())
    })
}

fn wait_in(place: &str, layer: &Layer) -> Outcome {
    let heard = match place {
        "message" => {
            let channel = layer.channel(place).map_err(text)?.blocking();
            loop {
                match channel.recv(None) {
                    // Only one of them hears that the peer has come.
                    Ok(_) => {}
                    error => break told(error, |it| matches!(it, ChannelError::Stopping)),
                }
            }
        }
        "signal" => {
            let mut signals = layer.signals().map_err(text)?;
            told(signals.blocking().recv(None), |it| matches!(it, RecvError::Stopping))
        }
        "socket" => match layer.blocking_acceptor("desk").map_err(text)?.accept() {
            Ok(None) => Ok(()),
            other => Err(format!("{other:?}")),
        },
        "queue" => {
            let queue = layer.queue(place).map_err(text)?.blocking();
            told(queue.recv(None), |it| matches!(it, QueueError::Stopping))
        }
        // One of them reads what the other layer never writes, the rest wait for another peer.
        "pipe" | "nobody" => {
            let mut reader = layer.pipe_reader(place).map_err(text)?.blocking();
            let error = std::io::Read::read(&mut reader, &mut [0]);
            told(error, |it| matches!(PipeError::of(it), Some(PipeError::Stopping)))
        }
        "semaphore" => {
            let semaphore = layer.semaphore(place).map_err(text)?.blocking();
            told(semaphore.acquire(), |it| matches!(it, AcquireError::Stopping(_)))
        }
        "fifo" => {
            let mut fifo = layer.fifo(place).map_err(text)?;
            told(fifo.blocking().next(), |it| matches!(it, FifoError::Stopping))
        }
        _ => {
            let region = layer.region(place).map_err(text)?;
            let mut subscriber = region.subscriber::<[u8]>();
            let object = subscriber.blocking().changed(None).map(|it| it.number);
            told(object, |it| matches!(it, RegionError::Stopping))
        }
    };
    heard.map_err(|it| format!("{place}: {it}"))?;
    say(format!("heard it in {place}"));
    Ok(())
}

/// Whether a wait ended because the layer is asked to finish.
fn told<T: Debug, E: Debug>(result: Result<T, E>, stopping: impl FnOnce(&E) -> bool) -> Outcome {
    match result {
        Err(error) if stopping(&error) => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

/// Is the peer of what the others wait for, and ends after them, for its end would wake them.
async fn other(layer: Layer) -> Outcome {
    let channel = layer.channel("message").map_err(text)?;
    while channel.peers().is_empty() {
        tokio::time::sleep(LOOK).await;
    }
    let _pipe = layer.pipe_writer("pipe").map_err(text)?.next().await.map_err(text)?;
    say("there");
    layer.stopping().await;
    while !channel.peers().is_empty() {
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}
