//! Signals: who may send what to whom, what arrives, and what doesn't.

// What the daemon runs owns its layer.
#![allow(clippy::needless_pass_by_value)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use cofferdam::Layer;
use cofferdam::ident::Instance;
use cofferdam::ipc::signal::{RecvError, SendError};
use cofferdam::wire::broker::{Answer, Ask, EVERY_COPY, Refusal};
use cofferdam::wire::control::{FromLayer, ToLayer};
use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{Daemon, eventually};
use crate::raw::{hear, speak};
use crate::{Function, Outcome, Runs, Test, how_many, layer, say, text};

const STRANGERS: &str = "signal::never_a_wrong_process";

pub(crate) const TESTS: &[Test] = &[
    ("signal::only_what_is_declared_is_sent", matrix),
    ("signal::a_rate_is_kept", rate),
    ("signal::what_the_kernel_merges_is_told", merged),
    ("signal::who_is_dead_gets_none_and_its_successor_does", successor),
    ("signal::kill_and_stop_reach_whom_they_are_granted_for", kill_and_stop),
    ("signal::a_program_gets_what_is_granted", program),
    ("signal::a_flood_holds_nobody_up", flood),
    (STRANGERS, strangers),
    ("signal::its_counts_are_only_read", rights),
];

pub(crate) const LAYERS: &[Function] = &[
    ("sig_matrix", Runs::Blocking(everything)),
    ("sig_hasty", Runs::Async(|layer| Box::pin(hasty(layer)))),
    ("sig_listener", Runs::Async(|layer| Box::pin(listener(layer)))),
    ("sig_listener_blocking", Runs::Blocking(listener_blocking)),
    ("sig_volley", Runs::Async(|layer| Box::pin(volley(layer)))),
    ("sig_late", Runs::Blocking(late)),
    ("sig_caller", Runs::Async(|layer| Box::pin(caller(layer)))),
    ("sig_killer", Runs::Async(|layer| Box::pin(killer(layer)))),
    ("sig_idle", Runs::Async(|layer| Box::pin(idle(layer)))),
    ("sig_to_program", Runs::Async(|layer| Box::pin(to_program(layer)))),
    ("sig_flooder", Runs::Blocking(flooder)),
    ("sig_reaper", Runs::Async(|layer| Box::pin(reaper(layer)))),
    ("sig_prying", Runs::Blocking(prying)),
];

fn matrix() {
    let policy = layer("a", "sig_matrix")
        + &layer("b", "sig_matrix")
        + "instances = 2\n"
        + &layer("c", "sig_matrix")
        + "[signal.ab]\nfrom = \"a\"\nto = \"b\"\nsend = [\"HUP\", \"USR1\"]\n\
           [signal.ac]\nfrom = \"a\"\nto = \"c\"\nsend = [\"USR2\"]\n\
           [signal.ca]\nfrom = \"c\"\nto = \"a\"\nsend = [\"TERM\"]\n";
    let mut daemon = Daemon::start("-", &policy);
    for (layer, passed) in [
        ("a/0.g1", "[(0, 0, 1), (0, 0, 10), (0, 1, 1), (0, 1, 10), (1, 0, 12)]"),
        ("b/0.g1", "[]"),
        ("b/1.g1", "[]"),
        ("c/0.g1", "[(2, 0, 15)]"),
    ] {
        eventually(layer, || {
            let line = format!("{layer}: passed {passed}");
            if daemon.count(": passed") < 4 {
                daemon.line(": passed");
            }
            daemon.count(&line) == 1
        });
    }
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    for (layer, heard) in [
        ("a/0.g1", "{(\"TERM\", \"c\"): 1}"),
        ("b/0.g1", "{(\"HUP\", \"a\"): 1, (\"USR1\", \"a\"): 1}"),
        ("b/1.g1", "{(\"HUP\", \"a\"): 1, (\"USR1\", \"a\"): 1}"),
        ("c/0.g1", "{(\"USR2\", \"a\"): 1}"),
    ] {
        assert_eq!(daemon.count(&format!("{layer}: heard {heard}")), 1, "{heard}: {daemon}");
    }
    assert_eq!(daemon.count("killed"), 0, "{daemon}");
}

/// Tries every grant, copy, generation and signal that there is or isn't.
fn everything(layer: Layer) -> Outcome {
    let mut passed = Vec::new();
    let mut ask = |grant, index, generation, signal| {
        loop {
            let ask = Ask::Signal { grant, index, generation, signal };
            speak(&FromLayer::Ask { request: 1, ask })?;
            match hear()? {
                ToLayer::Answer { answer: Answer::Done, .. } => {
                    passed.push((grant, index, signal));
                    return Ok(());
                }
                // That may be because it starts later: then this layer may send it something.
                ToLayer::Answer { answer: Answer::Refused(Refusal::PeerDead), .. } => {
                    if index > 1 || generation > 1 || (grant > 0 && index > 0) {
                        return Ok(());
                    }
                    std::thread::sleep(Duration::from_millis(1));
                }
                ToLayer::Answer { answer: Answer::Refused(Refusal::NotGranted), .. } => {
                    return Ok::<_, String>(());
                }
                other => return Err(format!("{other:?}")),
            }
        }
    };
    for grant in [0, 1, 2, 3, u16::MAX] {
        for signal in 0..=u8::MAX {
            for index in 0..3 {
                ask(grant, index, u64::from(index == 0), signal)?;
            }
            ask(grant, 0, 2, signal)?;
            ask(grant, 0, u64::MAX, signal)?;
        }
    }
    passed.sort_unstable();
    say(format!("passed {passed:?}"));
    let mut heard = BTreeMap::new();
    if let Ok(mut signals) = layer.signals() {
        while let Ok(signal) = signals.blocking().recv(None) {
            *heard.entry((signal.name, signal.from.to_string())).or_insert(0) += signal.count;
        }
        say(format!("heard {heard:?}"));
    } else {
        return Err("no signals".into());
    }
    Ok(())
}

fn rate() {
    let policy = layer("a", "sig_hasty")
        + &layer("b", "sig_listener")
        + "[signal.ab]\nfrom = \"a\"\nto = \"b\"\nsend = [\"HUP\"]\nrate = \"3/1h\"\n";
    let mut daemon = Daemon::start("-", &policy);
    daemon.line("a/0.g1: `[signal.ab] rate`: signals are sent more often than that, after 3");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    assert_eq!(daemon.count("b/0.g1: heard 3 HUP from a"), 1, "{daemon}");
}

/// Sends until it is too often.
async fn hasty(layer: Layer) -> Outcome {
    let (ab, mut sent) = (layer.signal("ab").map_err(text)?, 0);
    loop {
        match ab.send("HUP").await {
            Ok(()) => sent += 1,
            Err(SendError::PeerDead { .. }) => tokio::time::sleep(Duration::from_millis(1)).await,
            Err(error) => {
                say(format!("{error}, after {sent}"));
                layer.stopping().await;
                return Ok(());
            }
        }
    }
}

/// Counts until it is asked to stop.
async fn listener(layer: Layer) -> Outcome {
    let mut signals = layer.signals().map_err(text)?;
    let mut count = 0;
    loop {
        let signal = tokio::select! {
            signal = signals.recv() => signal.map_err(text)?,
            () = layer.stopping() => return Ok(()),
        };
        count += signal.count;
        say(format!("heard {count} {} from {}", signal.name, signal.from));
    }
}

fn listener_blocking(layer: Layer) -> Outcome {
    let mut signals = layer.signals().map_err(text)?;
    let mut patience = Some(Duration::from_millis(1));
    loop {
        match signals.blocking().recv(patience.take()) {
            Ok(signal) => say(format!("heard {} from {}", signal.name, signal.from)),
            Err(RecvError::Timeout) => {}
            Err(RecvError::Stopping) => return Ok(()),
            Err(error) => return Err(error.to_string()),
        }
    }
}

fn merged() {
    let policy = layer("a", "sig_volley")
        + &layer("b", "sig_late")
        + "[signal.ab]\nfrom = \"a\"\nto = \"b\"\nsend = [\"HUP\", \"USR2\"]\n\
           [signal.again]\nfrom = \"a\"\nto = \"b\"\nsend = [\"TERM\"]\n\
           [signal.heard]\nfrom = \"b\"\nto = \"a\"\nsend = [\"HUP\"]\n\
           [semaphore.one]\npermits = 1\nholders = [\"a\", \"b\"]\n";
    let mut daemon = Daemon::start("-", &policy);
    assert_eq!(daemon.end(), Some(0), "{daemon}");
    assert_eq!(daemon.count("b/0.g1: USR2 50 ab"), 1, "{daemon}");
    assert_eq!(daemon.count("b/0.g1: TERM 7 again"), 1, "{daemon}");
    assert_eq!(daemon.count("b/0.g1: USR2 1 ab"), 1, "{daemon}");
}

async fn volley(layer: Layer) -> Outcome {
    let get = |name: &str| layer.signal(name).map_err(text);
    let (ab, again) = (get("ab")?, get("again")?);
    if !matches!(ab.send("TERM").await, Err(SendError::NotGranted { .. })) {
        return Err("TERM is not the grant's".into());
    }
    let one = layer.semaphore("one").map_err(text)?;
    let lease = one.acquire().await.map_err(text)?;
    // The lowest number comes first.
    while let Err(SendError::PeerDead { .. }) = ab.send("HUP").await {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for _ in 0..50 {
        ab.send("USR2").await.map_err(text)?;
    }
    for _ in 0..7 {
        again.send("TERM").await.map_err(text)?;
    }
    drop(lease);
    layer.signals().map_err(text)?.recv().await.map_err(text)?;
    ab.send("USR2").await.map_err(text)
}

/// Listens only once all is sent.
fn late(layer: Layer) -> Outcome {
    let mut signals = layer.signals().map_err(text)?;
    let first = signals.blocking().recv(None).map_err(text)?;
    if first.name != "HUP" {
        return Err(format!("{first:?}"));
    }
    let _all_sent = layer.semaphore("one").map_err(text)?.blocking().acquire().map_err(text)?;
    for _ in 0..2 {
        let signal = signals.blocking().recv(None).map_err(text)?;
        say(format!("{} {} {}", signal.name, signal.count, signal.grant));
    }
    layer.signal("heard").map_err(text)?.blocking().send("HUP").map_err(text)?;
    let signal = signals.blocking().recv(None).map_err(text)?;
    say(format!("{} {} {}", signal.name, signal.count, signal.grant));
    Ok(())
}

fn successor() {
    let policy = layer("a", "sig_caller")
        + &layer("b", "sig_listener_blocking")
        + "[signal.ab]\nfrom = \"a\"\nto = \"b\"\nsend = [\"HUP\"]\n";
    let mut daemon = Daemon::start("-", &policy);
    let pid = daemon.confined("b/0.g1");
    daemon.line("b/0.g1: heard HUP from a");
    kill_process(pid, Signal::KILL).unwrap();
    daemon.line("a/0.g1: `[signal.ab] to = \"b\"`: it is not running");
    daemon.line("b/0.g2: heard HUP from a");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
}

/// Calls the first life of b until that is dead, then whoever is there.
async fn caller(layer: Layer) -> Outcome {
    let ab = layer.signal("ab").map_err(text)?;
    while ab.send_to_copy(0, "HUP").await.is_err() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let first = Instance { layer: "b".parse().map_err(text)?, index: 0, generation: 1 };
    let error = loop {
        match ab.send_to(&first, "HUP").await {
            Ok(()) => tokio::time::sleep(Duration::from_millis(1)).await,
            Err(error) => break error,
        }
    };
    say(&error);
    while ab.send("HUP").await.is_err() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // Not even now that it has a successor.
    if !matches!(ab.send_to(&first, "HUP").await, Err(SendError::PeerDead { .. })) {
        return Err("the first life is over".into());
    }
    let other = Instance { layer: "a".parse().map_err(text)?, index: 0, generation: 1 };
    if !matches!(ab.send_to(&other, "HUP").await, Err(SendError::WrongLayer { .. })) {
        return Err("that is another layer".into());
    }
    layer.stopping().await;
    Ok(())
}

/// By which the test tells layer `a` when to go on.
const CUE: &str = "[fifo.cue]\npath = \"DIR/cue\"\nto = \"a\"\n";

fn start_with_cue(policy: &str) -> (Daemon, PathBuf) {
    let mut cue = PathBuf::new();
    let daemon = Daemon::start_with("-", policy, |directory| cue = directory.join("cue"));
    (daemon, cue)
}

fn kill_and_stop() {
    let policy = layer("a", "sig_killer")
        + &layer("b", "sig_idle")
        + "[signal.ab]\nfrom = \"a\"\nto = \"b\"\nsend = [\"KILL\", \"STOP\", \"CONT\"]\n\
           because = \"the tests want to see it\"\n\
           [signal.done]\nfrom = \"b\"\nto = \"a\"\nsend = [\"USR1\"]\n"
        + CUE;
    let (mut daemon, cue) = start_with_cue(&policy);
    let pid = daemon.confined("b/0.g1");
    daemon.line("a/0.g1: stopped");
    let state = || std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    eventually("it is stopped", || state().unwrap().contains(") T "));
    std::fs::write(&cue, "go on\n").unwrap();
    daemon.line("a/0.g1: continued");
    daemon.line("b/0.g1 was killed by SIGKILL");
    daemon.line("b/0.g2 is confined");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
}

async fn killer(layer: Layer) -> Outcome {
    let ab = layer.signal("ab").map_err(text)?;
    // It is ready when it says so.
    layer.signals().map_err(text)?.recv().await.map_err(text)?;
    ab.send("STOP").await.map_err(text)?;
    say("stopped");
    layer.fifo("cue").map_err(text)?.next().await.map_err(text)?;
    ab.send("CONT").await.map_err(text)?;
    say("continued");
    ab.send("KILL").await.map_err(text)?;
    layer.stopping().await;
    Ok(())
}

async fn idle(layer: Layer) -> Outcome {
    while layer.signal("done").map_err(text)?.send("USR1").await.is_err() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    layer.stopping().await;
    Ok(())
}

fn program() {
    let script = "trap \\\"echo urgent\\\" URG; trap \\\"echo hung; exit 0\\\" HUP; \
                  echo ready; while :; do :; done";
    let policy = layer("a", "sig_to_program")
        + &format!(
            "[layer.sh]\nexec = [\"/bin/sh\", \"-c\", \"{script}\"]\n\
             syscalls = [\"@core\", \"@loader\", \"@file-read\"]\n\
             restart = {{ on = \"never\" }}\n\
             [signal.sh]\nfrom = \"a\"\nto = \"sh\"\nsend = [\"URG\", \"HUP\", \"STOP\", \"CONT\"]\n\
             because = \"the tests want to see it\"\n{CUE}"
        );
    let (mut daemon, cue) = start_with_cue(&policy);
    daemon.line("sh/0.g1: ready");
    let init = daemon.confined("sh/0.g1").as_raw_nonzero();
    // The program, below its init.
    let state = || {
        let stats = std::fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| std::fs::read_to_string(entry.ok()?.path().join("stat")).ok());
        let fields = |stat: String| stat.rsplit(") ").next().unwrap_or_default().to_owned();
        let mut fields = stats.map(fields);
        fields.find(|rest| rest.split(' ').nth(1) == Some(&init.to_string()))
    };
    std::fs::write(&cue, "it has set its traps\n").unwrap();
    daemon.line("sh/0.g1: urgent");
    std::fs::write(&cue, "it has printed\n").unwrap();
    eventually("it is stopped", || state().is_some_and(|state| state.starts_with('T')));
    std::fs::write(&cue, "it is stopped\n").unwrap();
    daemon.line("sh/0.g1: hung");
    daemon.line("sh/0.g1 ended with exit code 0");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
}

async fn to_program(layer: Layer) -> Outcome {
    let sh = layer.signal("sh").map_err(text)?;
    let mut cue = layer.fifo("cue").map_err(text)?;
    cue.next().await.map_err(text)?;
    sh.send("URG").await.map_err(text)?;
    cue.next().await.map_err(text)?;
    sh.send("STOP").await.map_err(text)?;
    cue.next().await.map_err(text)?;
    sh.send("CONT").await.map_err(text)?;
    sh.send("HUP").await.map_err(text)?;
    layer.stopping().await;
    Ok(())
}

fn flood() {
    let policy = layer("a", "sig_hasty")
        + &layer("b", "sig_listener")
        + &layer("c", "sig_flooder")
        + "instances = 3\n[signal.ab]\nfrom = \"a\"\nto = \"b\"\nsend = [\"HUP\"]\nrate = \"500/1h\"\n\
           [signal.cb]\nfrom = \"c\"\nto = \"b\"\nsend = [\"USR1\"]\n";
    let mut daemon = Daemon::start("-", &policy);
    daemon.line("signals are sent more often than that, after 500");
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.end(), Some(0), "{daemon}");
}

/// Sends without an end, and hears just enough not to be ended.
fn flooder(_: Layer) -> Outcome {
    loop {
        for request in 0..64 {
            let ask = Ask::Signal { grant: 1, index: EVERY_COPY, generation: 0, signal: 10 };
            speak(&FromLayer::Ask { request, ask })?;
        }
        for _ in 0..64 {
            if hear()? == ToLayer::Stop {
                return Ok(());
            }
        }
    }
}

/// Set in the process whose numbers are its own.
const OWN_NUMBERS: &str = "COFFERDAM_OWN_NUMBERS";

const LAST_PID: &str = "/proc/sys/kernel/ns_last_pid";

/// Processes that have nothing to do with the daemon come and go while it sends SIGKILL as fast as
/// it can to a layer whose processes come and go: none of the strangers is hit. As root they get
/// the numbers that have just become free, in a pid namespace lest others get them as well.
fn strangers() {
    let is_root = rustix::process::geteuid().is_root();
    if is_root && std::env::var_os(OWN_NUMBERS).is_none() {
        let status = Command::new("unshare")
            .args(["--pid", "--fork", "--mount-proc", "--kill-child"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", STRANGERS])
            .env(OWN_NUMBERS, "1")
            .stdout(Stdio::null())
            .status();
        assert!(status.unwrap().success(), "see above");
        return;
    }
    let policy = layer("a", "sig_reaper")
        + &layer("b", "sig_listener")
        + "instances = 12\nrestart = { max = 1000 }\n\
           [signal.ab]\nfrom = \"a\"\nto = \"b\"\nsend = [\"KILL\", \"HUP\"]\n\
           because = \"the tests want to see it\"\n";
    let mut daemon = Daemon::start("-", &policy);
    daemon.confined("a/0.g1");
    let (mut living, mut reused) = (BTreeSet::new(), 0);
    for _ in 0..how_many(300, 10_000) {
        let before = std::mem::replace(&mut living, children(daemon.pid()));
        let free = before.difference(&living).next().copied();
        if let Some(number) = free {
            // pid_namespaces(7): the next process gets the number after this one, if that is free.
            let _ = std::fs::write(LAST_PID, (number - 1).to_string());
        }
        let mut stranger = Command::new("/bin/true").spawn().unwrap();
        reused += usize::from(free == Some(stranger.id()));
        let status = stranger.wait().unwrap();
        assert!(status.success(), "a stranger ended with {status}: {daemon}");
    }
    daemon.line("/0.g2 is confined");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    assert_eq!(daemon.count("a/0.g1 was killed"), 0, "{daemon}");
    // Where the kernel lets the number be chosen (CONFIG_CHECKPOINT_RESTORE).
    if is_root && Path::new(LAST_PID).exists() {
        assert!(reused > 0, "no number was used again: {daemon}");
    }
}

/// The processes that a daemon has begun and not seen end.
fn children(daemon: Pid) -> BTreeSet<u32> {
    let daemon = daemon.as_raw_nonzero();
    let children = std::fs::read_to_string(format!("/proc/{daemon}/task/{daemon}/children"));
    children.unwrap_or_default().split(' ').filter_map(|number| number.parse().ok()).collect()
}

async fn reaper(layer: Layer) -> Outcome {
    let ab = layer.signal("ab").map_err(text)?;
    let mut turn = 0_u16;
    while !layer.is_stopping() {
        turn = turn.wrapping_add(1);
        match ab.send_to_copy(turn % 12, if turn % 100 < 12 { "KILL" } else { "HUP" }).await {
            Ok(()) | Err(SendError::PeerDead { .. }) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(())
}

fn rights() {
    let policy = layer("a", "sig_idle")
        + &layer("b", "sig_prying").replace("\"@core\"", "\"@core\", \"@file-write\"")
        + "restart = { on = \"never\" }\n\
           [signal.done]\nfrom = \"a\"\nto = \"b\"\nsend = [\"USR1\"]\n";
    let mut daemon = Daemon::start("-", &policy);
    daemon.line("b/0.g1: all refused");
    daemon.line("b/0.g1: USR1 1");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
}

/// Tries to write where the supervisor counts, by every descriptor that it has.
fn prying(layer: Layer) -> Outcome {
    use nix::sys::socket::{MsgFlags, send};
    use rustix::fs::{Mode, OFlags};
    let mut signals = layer.signals().map_err(text)?;
    let mut memories = 0;
    for number in 3..100 {
        let Some(fd) = crate::raw::borrow(number) else { continue };
        let Ok(size) = rustix::fs::fstat(fd).map(|stat| stat.st_size) else { continue };
        if size != 8 {
            continue;
        }
        memories += 1;
        let written = rustix::io::pwrite(fd, &[9; 8], 0).is_ok()
            || rustix::io::write(fd, &[9; 8]).is_ok()
            || rustix::fs::ftruncate(fd, 0).is_ok()
            || rustix::fs::fallocate(fd, rustix::fs::FallocateFlags::empty(), 0, 8).is_ok()
            || send(number, &[9], MsgFlags::MSG_DONTWAIT).is_ok();
        let _ = rustix::fs::seek(fd, rustix::fs::SeekFrom::Start(4));
        let _ = rustix::fs::fcntl_setfl(fd, OFlags::APPEND | OFlags::NONBLOCK);
        if written || rustix::fs::open("/proc/self/fd/5", OFlags::RDWR, Mode::empty()).is_ok() {
            return Err("it could be written".into());
        }
    }
    if memories != 1 {
        return Err(format!("{memories} memories"));
    }
    say("all refused");
    let signal = signals.blocking().recv(None).map_err(text)?;
    say(format!("{} {}", signal.name, signal.count));
    while !layer.is_stopping() && layer.attend().is_ok() {
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}
