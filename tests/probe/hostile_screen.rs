//! The example `hmi` with a screen that somebody has taken over: what the tests of the example run.
//!
//! All its other layers are the example's own. The screen knows an operator's name and code, as one
//! would that saw somebody log in, and tries whatever could move an actuator past the interlock's
//! limits. What the kernel kills it for it tries in a life of its own each: life N, from 2, performs
//! attack N of [`DEADLY`]. Each attempt is one line, `TRIED name: what came of it`.

#![allow(unsafe_code, reason = "attacks are raw system calls")]
#![allow(clippy::print_stderr, reason = "a program of its own")]

#[path = "../../examples/hmi/alarm_logic.rs"]
mod alarm_logic;
#[path = "../../examples/hmi/alarms.rs"]
mod alarms;
#[path = "../../examples/hmi/field.rs"]
mod field;
#[path = "../../examples/hmi/gateway.rs"]
mod gateway;
#[path = "../../examples/hmi/historian.rs"]
mod historian;
#[path = "../../examples/hmi/interlock.rs"]
mod interlock;
#[path = "../../examples/hmi/operators.rs"]
mod operators;
#[allow(dead_code, reason = "the screen uses what this one doesn't")]
#[path = "../../examples/hmi/protocol.rs"]
mod protocol;
#[path = "../../examples/hmi/rules.rs"]
mod rules;

use std::error::Error;
use std::fmt::{Debug, Display};
use std::io;
use std::process::ExitCode;
use std::ptr::null_mut;
use std::time::Duration;

use cofferdam::ipc::message::{Channel, Message};
use cofferdam::{Daemon, Layer};
use tokio::time::{Instant, sleep};

use self::protocol::{Actuator, Alarm, Ask, Decision, Image, LogIn, Seen, Token, Welcome};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    Daemon::new("policies/hmi.toml")
        .args()
        .layer("screen", screen)
        .layer("interlock", interlock::interlock)
        .layer("alarm-logic", alarm_logic::alarm_logic)
        .layer("historian", historian::historian)
        .layer("gateway", gateway::gateway)
        .main()
}

async fn screen(layer: Layer) -> Outcome {
    let life = usize::try_from(layer.instance().generation)?;
    match life {
        1 => {
            requests(&layer).await?;
            objects(&layer).await;
            kernel_objects(&layer)?;
            Ok(())
        }
        _ if life - 2 < DEADLY.len() => {
            let (name, attack) = DEADLY[life - 2];
            eprintln!("TRYING {name}");
            told(name, &attack().map_err(|error| error.to_string()));
            Ok(())
        }
        _ if life - 2 == DEADLY.len() => deaf(&layer).await,
        _ => last(&layer).await,
    }
}

fn told<T: Debug, E: Display>(name: &str, came: &Result<T, E>) {
    match came {
        Ok(done) => eprintln!("TRIED {name}: WORKED {done:?}"),
        Err(error) => eprintln!("TRIED {name}: {error}"),
    }
}

/// The screen's way to the interlock, and whom it saw log in.
struct Stolen {
    requests: Channel,
    token: Token,
    number: u64,
}

impl Stolen {
    async fn log_in(layer: &Layer, name: &str, code: &str) -> Outcome<Self> {
        let requests = layer.channel("requests")?;
        let ask = LogIn { name: name.to_owned(), code: code.to_owned() };
        let welcome: Welcome = requests.call("log-in").send_typed(&ask).await?;
        Ok(Self { requests, token: welcome.token, number: 0 })
    }

    /// Asks as that operator; comes back with why not.
    async fn set(&mut self, actuator: Actuator, value: u16) -> Result<(), String> {
        self.number += 1;
        self.ask(self.token, self.number, actuator, value).await
    }

    async fn ask(
        &self,
        token: Token,
        number: u64,
        actuator: Actuator,
        value: u16,
    ) -> Result<(), String> {
        let ask = Ask { token, number, actuator, value };
        let decision = self.requests.call("set").send_typed::<_, Decision>(&ask).await;
        match decision.map_err(|error| error.to_string())?.refused {
            Some(why) => Err(why),
            None => Ok(()),
        }
    }

    async fn raw(&self, method: &str, message: impl Into<Message>) -> Result<(), String> {
        self.requests.call(method).send(message).await.map(drop).map_err(|error| error.to_string())
    }
}

/// What can be asked of the interlock.
async fn requests(layer: &Layer) -> Outcome {
    let mut ann = Stolen::log_in(layer, "ann", "1234").await?;
    told("nobody's token", &ann.ask(Token([7; 16]), 9, Actuator::Pump, 100).await);
    told("past the limit", &ann.set(Actuator::Pump, 801).await);
    told("all that a number can hold", &ann.set(Actuator::Pump, u16::MAX).await);
    told("the heater past its limit", &ann.set(Actuator::Heater, 601).await);
    told("too much at once", &ann.set(Actuator::Pump, 600).await);
    // Which is allowed; what follows begins from there.
    ann.set(Actuator::Pump, 100).await?;
    told("again at once", &ann.set(Actuator::Pump, 200).await);
    told("the same request again", &ann.ask(ann.token, 1, Actuator::Pump, 0).await);
    told("the largest number, and then all others", &{
        ann.ask(ann.token, u64::MAX, Actuator::Pump, 0).await?;
        ann.ask(ann.token, 12, Actuator::Valve, 100).await
    });
    let mut vic = Stolen::log_in(layer, "vic", "5678").await?;
    told("one who may only look", &vic.set(Actuator::Pump, 100).await);
    told("a viewer in another's name", &vic.ask(ann.token, u64::MAX, Actuator::Pump, 100).await);
    told("a guessed code", &Stolen::log_in(layer, "ann", "1235").await.map(|_| ()));
    told("no code", &Stolen::log_in(layer, "ann", "").await.map(|_| ()));
    told("bytes that are no request", &vic.raw("set", vec![0xff; 200]).await);
    // The place of the actuator, which is no number of one.
    let mut ask = postcard::to_stdvec(&(vic.token, 5_u64, Actuator::Heater, 1_u16))?;
    ask[17] = 9;
    told("an actuator that isn't there", &vic.raw("set", ask).await);
    told("a method that isn't there", &vic.raw("force", vec![1]).await);
    told("too large a request", &vic.raw("set", vec![0; 4096]).await);
    let fds = vec![rustix::io::fcntl_dupfd_cloexec(io::stderr(), 3)?];
    told("a descriptor", &vic.raw("set", Message { body: vec![1], fds }).await);
    let seen = postcard::to_stdvec(&Seen { token: Token([0; 16]), number: 1, alarm: 1 })?;
    told("an alarm seen by nobody", &vic.raw("acknowledge", seen).await);
    Ok(())
}

/// What the library has names for, and the policy doesn't grant.
async fn objects(layer: &Layer) {
    told("the interlock's channel to the gateway", &layer.channel("setpoints").map(drop));
    told("the acknowledgements' channel", &layer.channel("acknowledgements").map(drop));
    let image = layer.region("image").map_err(|error| error.to_string());
    told(
        "another picture of the plant",
        &image.and_then(|it| it.publisher::<Image>().map(drop).map_err(|error| error.to_string())),
    );
    let list = layer.region("alarm-list").map_err(|error| error.to_string());
    told(
        "an empty list of alarms",
        &list.and_then(|it| {
            it.publisher::<Vec<Alarm>>().map(drop).map_err(|error| error.to_string())
        }),
    );
    told("the set points of the disk", &layer.mapped_file("setpoints").map(drop));
    told("the lease on the actuators", &layer.semaphore("actuator").map(drop));
    told("the archive", &layer.directory("archive").map(drop));
    told("the operators' codes", &layer.file("operators").map(drop));
    told("the historian's queue", &layer.queue("events").map(drop));
    told("a signal", &layer.signal("attention").map(drop));
    told("a connection to the controller", &layer.connect("controller").await.map(drop));
}

/// What the process holds: the descriptor of memory that another layer writes.
fn kernel_objects(layer: &Layer) -> Outcome {
    let image = image().ok_or("the picture's memory was not found")?;
    let both = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping where the kernel likes; nothing is accessed through it.
    let mapped = unsafe { libc::mmap(null_mut(), 4096, both, libc::MAP_SHARED, image, 0) };
    let failed = mapped == libc::MAP_FAILED;
    let mapped = if failed { Err(io::Error::last_os_error()) } else { Ok(()) };
    told("the picture's memory, to write", &mapped);
    // It may look for files, and there are none.
    told("a file of the host", &call(libc::SYS_openat, [-100, path(), 0, 0]));
    let newest = layer.region("image")?.subscriber::<Image>().latest()?;
    let harm = newest.is_some_and(|it| it.value.damage > 0);
    told("harm, seen in the picture", &if harm { Ok(()) } else { Err("none") });
    Ok(())
}

/// The descriptor of the process image: of what this process holds, only that is a mebibyte.
fn image() -> Option<libc::c_int> {
    (3..256).find(|&fd| {
        // SAFETY: numbers only, which may all be 0.
        let mut stat = unsafe { std::mem::zeroed::<libc::stat>() };
        // SAFETY: `stat` is writable and of the right size; `fd` needs to be no descriptor.
        let came = unsafe { libc::fstat(fd, &raw mut stat) };
        came == 0 && stat.st_size == 1 << 20
    })
}

fn checked(came: isize) -> io::Result<isize> {
    if came < 0 { Err(io::Error::last_os_error()) } else { Ok(came) }
}

/// A system call.
fn call(number: libc::c_long, arguments: [libc::c_long; 4]) -> io::Result<isize> {
    let [a, b, c, d] = arguments;
    // SAFETY: the calls of the table take numbers, null pointers and static text; none of them
    // writes into this process's memory.
    let came = unsafe { libc::syscall(number, a, b, c, d) };
    checked(isize::try_from(came).unwrap_or(-1))
}

type Attack = fn() -> io::Result<isize>;

const PATH: &std::ffi::CStr = c"/etc/hostname";

fn path() -> libc::c_long {
    PATH.as_ptr() as libc::c_long
}

/// The interlock's number is one of its neighbours', if numbers of processes mean anything here.
const NEIGHBOUR: libc::c_long = 2;

/// What ends the process that tries it, each in a life of its own.
const DEADLY: [(&str, Attack); 17] = [
    ("the picture's memory, by its descriptor", || {
        let image = image().ok_or(io::ErrorKind::NotFound)?;
        call(libc::SYS_pwrite64, [image.into(), path(), 8, 0])
    }),
    ("the picture's memory, cut short", || {
        let image = image().ok_or(io::ErrorKind::NotFound)?;
        call(libc::SYS_ftruncate, [image.into(), 0, 0, 0])
    }),
    ("an Internet socket", || call(libc::SYS_socket, [2, 1, 0, 0])),
    ("a Unix socket", || call(libc::SYS_socket, [1, 1, 0, 0])),
    ("to connect what it has", || call(libc::SYS_connect, [4, path(), 16, 0])),
    ("to kill the interlock", || call(libc::SYS_kill, [NEIGHBOUR, 9, 0, 0])),
    ("to kill everybody", || call(libc::SYS_kill, [-1, 9, 0, 0])),
    ("to find the interlock", || call(libc::SYS_pidfd_open, [NEIGHBOUR, 0, 0, 0])),
    ("to trace the interlock", || call(libc::SYS_ptrace, [16, NEIGHBOUR, 0, 0])),
    ("to write the interlock's memory", || call(libc::SYS_process_vm_writev, [NEIGHBOUR, 0, 0, 0])),
    ("a program of its own", || call(libc::SYS_execve, [path(), 0, 0, 0])),
    ("a child", || call(libc::SYS_fork, [0; 4])),
    ("another view of the files", || call(libc::SYS_unshare, [0x2_0000, 0, 0, 0])),
    ("another user", || call(libc::SYS_setuid, [0; 4])),
    ("a ring of system calls", || call(libc::SYS_io_uring_setup, [8, 0, 0, 0])),
    ("a POSIX queue", || call(libc::SYS_mq_open, [path(), 2, 0, 0])),
    ("more rights by a key", || call(libc::SYS_keyctl, [0; 4])),
];

/// Asks as often as the policy's rates allow, and takes no answer: whoever waits until there is room for
/// one waits for ever.
async fn deaf(layer: &Layer) -> Outcome {
    let requests = layer.channel("requests")?;
    let log_in = postcard::to_stdvec(&LogIn { name: "vic".to_owned(), code: String::new() })?;
    let nothing = Ask { token: Token([0; 16]), number: 1, actuator: Actuator::Pump, value: 0 };
    let seen = Seen { token: Token([0; 16]), number: 1, alarm: 0 };
    let (set, seen) = (postcard::to_stdvec(&nothing)?, postcard::to_stdvec(&seen)?);
    let mut calls = Vec::new();
    for _ in 0..55 {
        calls.push(requests.call("log-in").begin(log_in.clone()).await?);
    }
    for _ in 0..60 {
        calls.push(requests.call("set").begin(set.clone()).await?);
        calls.push(requests.call("acknowledge").begin(seen.clone()).await?);
    }
    sleep(Duration::from_secs(3)).await;
    eprintln!("TRIED to take no answers: {} were due", calls.len());
    Ok(())
}

/// By what is allowed, as fast as it is allowed: fill the tank, shut the outlet, and heat.
async fn last(layer: &Layer) -> Outcome {
    let mut ann = Stolen::log_in(layer, "ann", "1234").await?;
    let mut image = layer.region("image")?.subscriber::<Image>();
    let mut was_refused = false;
    // What it is told must not be in the way of what it asks.
    let told = ann.requests.clone();
    tokio::spawn(async move { while told.recv().await.is_ok() {} });
    for round in 0.. {
        let Some(now) = image.latest()?.map(|it| it.value) else { continue };
        if was_refused && now.set[0] == 0 {
            eprintln!("TRIED to fill the tank: it was switched off at {}", now.level);
            break;
        }
        if round == 600 {
            return Err("the tank is never full".into());
        }
        drop(ann.set(Actuator::Valve, 0).await);
        drop(ann.set(Actuator::Heater, (now.set[2] + 200).min(600)).await);
        let pump = ann.set(Actuator::Pump, (now.set[0] + 200).min(800)).await;
        // Near the limit it isn't raised any more, however little.
        was_refused |= now.level > 8_500 && pump.is_err();
    }
    flood(&ann).await;
    // Whatever it still holds, it goes on trying.
    eprintln!("ALL TRIED");
    layer.stopping().await;
    Ok(())
}

/// Many more requests than the policy's rate. The library has them wait; an end that doesn't loses its
/// link, which tests/channels shows.
async fn flood(ann: &Stolen) {
    let begin = Instant::now();
    for number in 0..30_u64 {
        let number = u64::MAX / 2 + number;
        let ask = Ask { token: ann.token, number, actuator: Actuator::Pump, value: 100 };
        drop(ann.requests.call("set").send_typed::<_, Decision>(&ask).await);
    }
    eprintln!("TRIED a flood: 30 requests took {} ms", begin.elapsed().as_millis());
}
