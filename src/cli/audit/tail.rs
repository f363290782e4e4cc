//! `cofferdam audit tail DIR`: the last records, and new ones as they come.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use super::filter::{Sieve, Wanted, Window, search};
use super::line::line;
use super::names::Names;
use super::{Dir, Failure, Format, damaged, written};
use crate::audit::follow::{Event, Follower};
use crate::audit::log::{first_record, segment_number};
use crate::audit::{Record, Store};

/// How often a growing log is looked at.
const PAUSE: Duration = Duration::from_millis(100);

/// Arguments of `cofferdam audit tail`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A log that a daemon writes is followed until that daemon ends, any other one is
not; -f follows for ever.")]
pub struct Args {
    #[command(flatten)]
    dir: Dir,
    #[command(flatten)]
    wanted: Wanted,
    /// Begin with so many of the last records
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 10)]
    lines: usize,
    /// Go on with new records, also when nobody writes the log
    #[arg(short, long, conflicts_with = "no_follow")]
    follow: bool,
    /// End with what is there now
    #[arg(long)]
    no_follow: bool,
    /// How to report; `json` is one object a line
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// Shows them. Exit code 0: fine; 1: a part of the log can't be read.
pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let store = args.dir.open()?;
    let follow = args.follow || !args.no_follow && store.is_held();
    let mut names = Names::read(&store)?;
    if !follow {
        args.wanted.check(&names).map_err(Failure::usage)?;
    }
    let mut last = Last { most: args.lines, records: VecDeque::new() };
    let mut broken = 0;
    let mut sieve = Sieve::new(args.wanted.clone());
    let first = last_segment(&store)?;
    let mut follower = Follower::new(first);
    follower.look(&store, |event| {
        match event {
            Event::Record(record) => {
                names.learn(&record);
                if sieve.accepts(&names, &record) {
                    last.push(*record);
                }
            }
            Event::Damaged { .. } => broken += 1,
            Event::Missed { .. } => {}
        }
        true
    })?;
    earlier(&store, &names, args, first, &mut last)?;
    let result = show(&last.records, &names, args.format);
    if closed(result)? {
        return Ok(ExitCode::SUCCESS);
    }
    if !follow {
        return ending(broken);
    }
    loop {
        // Asked before the look: whoever wrote and ended in between is still read.
        let over = !args.follow && !store.is_held();
        if look(&store, &mut follower, &mut names, (&mut sieve, args.format), &mut broken)? || over
        {
            break;
        }
        std::thread::sleep(PAUSE);
    }
    ending(broken)
}

fn ending(broken: u64) -> Result<ExitCode, Failure> {
    if broken > 0 { Err(damaged(broken)) } else { Ok(ExitCode::SUCCESS) }
}

/// The last records, as many as are wanted.
struct Last {
    most: usize,
    records: VecDeque<Record>,
}

impl Last {
    fn push(&mut self, record: Record) {
        self.records.push_back(record);
        if self.records.len() > self.most {
            self.records.pop_front();
        }
    }
}

/// The number of the first record of the last segment.
pub(in crate::cli) fn last_segment(store: &Store) -> Result<u64, Failure> {
    let mut numbers: Vec<u64> =
        store.names()?.iter().filter_map(|name| segment_number(name)).collect();
    numbers.sort_unstable();
    for number in numbers.into_iter().rev() {
        if let Some(first) = first_record(store, number)? {
            return Ok(first);
        }
    }
    Ok(0)
}

/// Puts records before `end` in front, until there are enough: in steps that double backwards.
fn earlier(
    store: &Store,
    names: &Names,
    args: &Args,
    end: u64,
    last: &mut Last,
) -> Result<(), Failure> {
    let (mut to, mut step) = (end, 4_096);
    while to > 0 && last.records.len() < last.most {
        let from = to.saturating_sub(step);
        let mut found = Last { most: last.most - last.records.len(), records: VecDeque::new() };
        search(store, names, (&args.wanted, &Window::default()), (from..to, false), |record| {
            found.push(record);
            true
        })?;
        found.records.append(&mut last.records);
        last.records = found.records;
        (to, step) = (from, step.saturating_mul(2));
    }
    Ok(())
}

/// Shows what is new. Whether nobody reads any more.
fn look(
    store: &Store,
    follower: &mut Follower,
    names: &mut Names,
    (sieve, format): (&mut Sieve, Format),
    broken: &mut u64,
) -> Result<bool, Failure> {
    let mut result = Ok(());
    follower.look(store, |event| {
        match event {
            Event::Record(record) => {
                names.learn(&record);
                if sieve.accepts(names, &record) {
                    result = show([&*record], names, format);
                }
            }
            Event::Missed { from, to } => {
                let _ = writeln!(
                    anstream::stderr(),
                    "records {from} to {to} (the last not counted) were dropped before they were \
                     read"
                );
            }
            Event::Damaged { segment } => {
                *broken += 1;
                let _ = writeln!(
                    anstream::stderr(),
                    "segment {segment} is damaged: run `cofferdam audit verify`"
                );
            }
        }
        result.is_ok()
    })?;
    closed(result)
}

fn show<'a>(
    records: impl IntoIterator<Item = &'a Record>,
    names: &Names,
    format: Format,
) -> io::Result<()> {
    let mut out = io::BufWriter::new(anstream::stdout().lock());
    for record in records {
        let said = names.say(record);
        match format {
            Format::Text => writeln!(out, "{}", line(record, &said))?,
            Format::Json => {
                serde_json::to_writer(&mut out, &said)?;
                out.write_all(b"\n")?;
            }
        }
    }
    out.flush()
}

/// Whether nobody reads any more.
fn closed(result: io::Result<()>) -> Result<bool, Failure> {
    let over = result.is_err();
    written(result).map(|()| over)
}
