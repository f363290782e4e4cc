//! `cofferdam audit redact DIR RECORD`: a message's payload is removed, its records stay, and one
//! more says who asked for it and why.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::time::ClockId;
use serde_json::json;

use super::names::Names;
use super::{Dir, Failure, Format, written};
use crate::audit::entry::Moment;
use crate::audit::log::{MAX_REASON, Order};
use crate::audit::redact::{Redaction, copies, redact, removable};
use crate::audit::store::Store;
use crate::audit::{Log, LogError, Options};
use crate::seal::OsChance;
use crate::sys::clock::nanoseconds;
use crate::text::neutralise;

/// How long the writer of a log may take to write an order down.
const TAKEN_WITHIN: Duration = Duration::from_secs(10);

/// Arguments of `cofferdam audit redact`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Both ends of a channel keep what a message said, so all records of the same
message lose it, whichever of them is named. They keep the payload's length and
digest, so the log still verifies. Before that a record is written for each
payload: which one, which user asked (by the login, where there is one), and
why. Copies in backups, and on disks that write elsewhere instead of in place,
stay.

Exit code 0: it is gone, now or before; 1: the record has none, or one is
damaged; 2: there is no such record; 3: the log took no record of it, and
nothing was removed.")]
pub struct Args {
    #[command(flatten)]
    dir: Dir,
    /// The number of a record of the message
    record: u64,
    /// Why: it is written into the log
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    because: Option<String>,
    /// Remove it from every record of the message; that is done anyway, unless --one is given
    #[arg(long, conflicts_with = "one")]
    message: bool,
    /// Remove it from this record alone: the other end's copy can still be read
    #[arg(long)]
    one: bool,
    /// How to report
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

fn reason(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("say why".to_owned()),
        text if text.len() > MAX_REASON => Err(format!("at most {MAX_REASON} bytes")),
        text => Ok(text.to_owned()),
    }
}

/// Removes it.
pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let store = args.dir.open()?;
    let names = Names::read(&store)?;
    let all = copies(&store, args.record)?;
    let wanted = if args.one { 1 } else { all.len() };
    let mut payloads = Vec::new();
    for &number in &all[..wanted] {
        payloads.extend(removable(&store, number)?.map(|bytes| (number, bytes)));
    }
    let user = user();
    let recorded = !payloads.is_empty();
    if recorded {
        let because = args.because.clone().unwrap_or_default();
        write_down(&store, args, &Order { payloads, user, because })?;
    }
    let (mut out, mut told, mut code) = (String::new(), Vec::new(), 0);
    for &number in &all[..wanted] {
        let done = redact(&store, number)?;
        if done == Redaction::NotThere && number == args.record {
            return Err(Failure::usage(format!("there is no record {number} in this log")));
        }
        let (word, bytes, text, exit) = one(&done, number, &names);
        let _ = writeln!(out, "{text}");
        told.push(json!({ "record": number, "payload": word, "bytes": bytes }));
        code = code.max(exit);
    }
    if recorded {
        let why = args.because.as_deref().unwrap_or("no reason given, which --because does");
        let _ = writeln!(out, "the log says so: for user {user}, {}", neutralise(why.as_bytes()));
    }
    let left = &all[wanted..];
    for number in left {
        let _ = writeln!(out, "record {number} keeps the same message: it can still be read");
    }
    if args.format == Format::Json {
        let mut first = told.swap_remove(0);
        first["copies"] = told.into();
        first["left"] = json!(left);
        first["user"] = json!(recorded.then_some(user));
        first["because"] = json!(args.because.as_deref().filter(|_| recorded));
        out = format!("{first:#}\n");
    }
    written(anstream::stdout().write_all(out.as_bytes()))?;
    Ok(ExitCode::from(code))
}

/// Who asks: the user who logged in (`/proc/self/loginuid`), whom `sudo` and `su` don't change; the
/// real user where nobody did.
fn user() -> u32 {
    let login = std::fs::read_to_string("/proc/self/loginuid").ok();
    let login = login.and_then(|text| text.trim().parse().ok()).filter(|uid| *uid != u32::MAX);
    login.unwrap_or_else(|| rustix::process::getuid().as_raw())
}

/// Gets the order into the log: by its writer, or else by this process.
fn write_down(store: &Store, args: &Args, order: &Order) -> Result<(), Failure> {
    let until = Instant::now() + TAKEN_WITHIN;
    let mut left = false;
    while Instant::now() < until {
        if left && !Order::is_left(store)? {
            return Ok(());
        }
        // Between two lives of a writer the log is free for a moment: that is the next life's.
        if !store.is_held() && !held_soon(store) {
            if left && !Order::take_back(store)? {
                return Ok(());
            }
            left = false;
            match write(args, order) {
                Err(LogError::Held) => {}
                done => return done.map_err(|error| unwritten(&error.to_string())),
            }
        } else if !left {
            left = order.leave(store)?;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    if left && !Order::take_back(store)? {
        return Ok(());
    }
    Err(unwritten("its writer takes nothing now"))
}

/// Whether a writer takes the log in the next moments.
fn held_soon(store: &Store) -> bool {
    (0..20).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        store.is_held()
    })
}

/// Writes the order into a log that nobody writes, which stays its owner's.
fn write(args: &Args, order: &Order) -> Result<(), LogError> {
    let (store, own) = (Store::open(&args.dir.dir)?, Store::open(&args.dir.dir)?);
    let mut log = Log::open(store, Options::default(), Box::new(OsChance), now())?.0;
    log.redacted(order, now())?;
    log.close(now())?;
    Ok(own.give_all(crate::audit::keys::KEY)?)
}

/// Both clocks.
fn now() -> Moment {
    Moment { real: nanoseconds(ClockId::Realtime), monotonic: nanoseconds(ClockId::Monotonic) }
}

fn unwritten(why: &str) -> Failure {
    let why = neutralise(why.as_bytes());
    Failure::system(format!("the log takes no record of this, so nothing was removed: {why}"))
}

/// What was done to a record: a word, bytes, a sentence, an exit code.
fn one(done: &Redaction, number: u64, names: &Names) -> (&'static str, u32, String, u8) {
    match done {
        Redaction::Done(record) => {
            let length = record.payload.map_or(0, |mark| mark.length);
            let said = names.say(record);
            let of = said.edge.map_or_else(String::new, |edge| format!(" of {edge}"));
            let time = said.time;
            let text = format!(
                "record {number}{of} at {time}: its payload of {length} bytes is overwritten with \
                 zeros; the log still verifies"
            );
            ("removed", length, text, 0)
        }
        Redaction::Already => {
            ("already", 0, format!("record {number}: its payload was removed before"), 0)
        }
        Redaction::NoPayload => ("none", 0, format!("record {number} has no payload"), 1),
        Redaction::NotThere => ("gone", 0, format!("record {number} was dropped meanwhile"), 0),
        Redaction::Damaged => {
            let text = format!(
                "record {number}, or one before it in its segment, is damaged, and nothing was \
                 changed: run `cofferdam audit verify`"
            );
            ("damaged", 0, text, 1)
        }
    }
}
