//! A daemon whose layers have been taken over: what the tests of confinement run.
//!
//! ```text
//! probe --policy FILE --attack LAYER:NAME[,NAME...] [--fact K=V]...   as a daemon
//! probe --inside NAME [K=V]...                                        as an exec layer's program
//! probe --unconfined NAME [--fact K=V]...                             with nobody in the way
//! probe --list                                                        the table of attacks
//! ```
//!
//! Copy N of the attacked layer performs attack N, in its first life, once it gets SIGUSR1. What
//! comes of it is one line, `RESULT name worked: ...` or `RESULT name ERRNO`; then `ALIVE` shows
//! that what a layer may do still works. All other copies and later lives, and all other layers,
//! are neighbours: they serve their channels and say `BEAT` with the channels that answer.
//!
//! The function of a layer is registered by the layer's name, so the two must be the same in the
//! policies that this program is given.

#![allow(unsafe_code, reason = "attacks are raw system calls")]
#![allow(clippy::unnecessary_wraps, reason = "attacks have one signature")]
#![allow(clippy::doc_markdown, reason = "the kernel's constants are in no other case")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program of its own")]

mod attacks;
mod neighbour;
mod orders;
mod unconfined;

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cofferdam::policy::plan::{Plan, Program};
use cofferdam::{Daemon, Layer};

use self::attacks::{Facts, raw};
use self::orders::Orders;

fn main() -> ExitCode {
    let title = std::env::args().next().unwrap_or_default();
    if let Some(instance) = title.strip_prefix("cofferdam-layer:") {
        let layer = instance.split('/').next().unwrap_or_default();
        return register(Daemon::from_text("", ""), layer).main();
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.first().map(String::as_str) {
        Some("--inside") => Ok(inside(&arguments[1..])),
        Some("--unconfined") => unconfined::run(&arguments[1..]),
        Some("--list") => {
            print!("{}", attacks::list());
            Ok(ExitCode::SUCCESS)
        }
        _ => daemon(&arguments),
    };
    result.unwrap_or_else(|error| {
        eprintln!("probe: {error}");
        ExitCode::from(2)
    })
}

/// The supervisor.
fn daemon(arguments: &[String]) -> Result<ExitCode, String> {
    let (path, mut orders) = Orders::from_arguments(arguments)?;
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    let checked = cofferdam::policy::check(&path, text.as_bytes());
    let functions = checked.plan.as_ref().map(functions).unwrap_or_default();
    if let Some(plan) = &checked.plan {
        orders.learn_channels(plan);
    }
    orders.facts.insert("supervisor".to_owned(), std::process::id().to_string());
    let daemon = Daemon::from_text(&path, &text).settings(orders.to_text());
    Ok(functions.iter().fold(daemon, |daemon, name| register(daemon, name)).main())
}

/// The layer `plain` has no runtime of async functions, nor what comes with it.
fn register(daemon: Daemon, name: &str) -> Daemon {
    if name == "plain" { daemon.blocking_layer(name, plain) } else { daemon.layer(name, perform) }
}

fn functions(plan: &Plan) -> Vec<String> {
    let run = |program: &Program| match program {
        Program::Run(name) => Some(name.as_str().to_owned()),
        Program::Exec(_) => None,
    };
    plan.layers.iter().filter_map(|layer| run(&layer.program)).collect()
}

/// Any layer of the daemon.
async fn perform(layer: Layer) -> Result<(), String> {
    let orders = Orders::parse(&String::from_utf8_lossy(layer.settings()));
    let instance = layer.instance();
    if let Some(attack) = orders.attack_of(instance) {
        watch_for_go();
        say("READY");
        while !GO.load(Ordering::Acquire) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        attempt(attack, &orders.facts);
    }
    neighbour::serve(&layer, &orders).await
}

/// Attacks at once, and waits for its end.
#[allow(clippy::needless_pass_by_value, reason = "the library gives it away")]
fn plain(layer: Layer) -> Result<(), String> {
    let orders = Orders::parse(&String::from_utf8_lossy(layer.settings()));
    if let Some(attack) = orders.attack_of(layer.instance()) {
        attempt(attack, &orders.facts);
    }
    loop {
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// Performs an attack and reports.
fn attempt(name: &str, facts: &Facts) {
    match attacks::find(name).map(|attack| attack(facts)) {
        Some(Ok(what)) => say(&format!("RESULT {name} worked: {what}")),
        Some(Err(errno)) => say(&format!("RESULT {name} {errno:?}")),
        None => say(&format!("RESULT {name} unknown")),
    }
    say(&format!("ALIVE {}", allowed()));
}

/// What every layer may do, whatever its policy is.
fn allowed() -> &'static str {
    let mut bytes = [0_u8; 16];
    let mut time = [0_i64; 2];
    let random = raw(libc::SYS_getrandom, [attacks::into(&mut bytes), 16, 0, 0, 0, 0]);
    let clock = raw(libc::SYS_clock_gettime, [0, attacks::into(&mut time), 0, 0, 0, 0]);
    let filled = bytes.iter().any(|&byte| byte != 0) && time[0] > 0;
    if random == Ok(16) && clock.is_ok() && filled { "well" } else { "broken" }
}

/// The program of an `exec` layer: an attack at once, then nothing until it is stopped.
fn inside(arguments: &[String]) -> ExitCode {
    let Some((name, facts)) = arguments.split_first() else { return ExitCode::from(2) };
    let pairs = facts.iter().filter_map(|fact| fact.split_once('='));
    let facts = pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    if name != "beat" {
        attempt(name, &facts);
    }
    loop {
        say("BEAT");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Whether SIGUSR1 has come.
static GO: AtomicBool = AtomicBool::new(false);

fn watch_for_go() {
    extern "C" fn go(_: libc::c_int) {
        GO.store(true, Ordering::Release);
    }
    // SAFETY: all bits zero are a `sigaction` without flags and with an empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = go as *const () as usize;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: the handler does nothing but store to an atomic, which is async-signal-safe.
    unsafe { libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut()) };
}

/// One line, in one write, so that it isn't mixed with another's.
pub(crate) fn say(line: &str) {
    let line = format!("{line}\n");
    let length = i64::try_from(line.len()).unwrap_or(0);
    let _ = raw(libc::SYS_write, [2, attacks::at(line.as_bytes()), length, 0, 0, 0]);
}
