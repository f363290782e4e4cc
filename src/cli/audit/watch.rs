//! `cofferdam audit watch DIR`: verifies and reconciles a log as it grows, and raises alarms.

mod alarm;
mod rules;
mod sinks;

use std::collections::HashSet;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use self::alarm::{Alarm, Cause};
use self::rules::Rule;
use self::sinks::{Sinks, Target};
use super::checkpoints::{Pushed, Witness, newest, witnessed};
use super::names::{Names, edge, instance};
use super::tail::last_segment;
use super::{Dir, Failure, Format};
use crate::audit::entry::{Kind, Record};
use crate::audit::follow::{Event, Follower};
use crate::audit::reconcile::{Bounds, Disagreement, Reading};
use crate::audit::store::{Store, StoreError, Trouble};
use crate::audit::verify::{Options, Verified, verify};
use crate::cli::audit::traffic::EdgeId;
use crate::policy::value::duration;

/// How often a growing log is looked at.
const PAUSE: Duration = Duration::from_millis(100);

/// How often a witness is given the newest checkpoint.
const PUSH: Duration = Duration::from_secs(1);

/// The most findings that are remembered, so as to tell each once.
const MOST_FINDINGS: usize = 4096;

/// Arguments of `cofferdam audit watch`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
An alarm is raised for each alarm that the auditor wrote, for damage and for what
`verify` and `reconcile` find, for records that were dropped before they were
read, and by rules. A rule is a line of a file:

  alarm when refused > 10/s on channel.sign
  alarm when denied > 0/1m of parser
  alarm when messages > 5000/s on channel.sign of listener

It counts `records`, `messages`, `refused`, `failed`, `denied`, `lost`, `alarms`
or `ends` (of lives); what is in force is told once, and once that it is over.

Exit code 0: the log ended and no alarm was raised; 1: one was, or nobody has
written the log for as long as --absent says; 2: wrong usage; 3: the system
refused.")]
pub struct Args {
    #[command(flatten)]
    dir: Dir,
    /// A file of rules
    #[arg(long, value_name = "FILE")]
    rules: Option<PathBuf>,
    /// Start this program for each alarm, which is a line of JSON on its standard input
    #[arg(long, value_name = "PROGRAM")]
    run: Option<PathBuf>,
    /// Send each alarm to a syslog as well (RFC 5424): `unix:/dev/log`, `udp:192.0.2.1:514`
    #[arg(long, value_name = "ADDRESS", value_parser = Target::parse)]
    syslog: Option<Target>,
    /// Append the log's newest checkpoint to this file, on another mount, each second; the log must go on
    /// from what the file holds
    #[arg(long, value_name = "FILE")]
    witness: Option<PathBuf>,
    /// Begin with the records of the last segment, not of the whole log
    #[arg(long)]
    recent: bool,
    /// How often the whole log is verified, besides at the beginning and at the end
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = duration)]
    verify_every: Duration,
    /// End with exit code 1 once no daemon has written the log for so long
    #[arg(long, value_name = "TIME", value_parser = duration)]
    absent: Option<Duration>,
    /// End when the daemon does that writes the log
    #[arg(long, conflicts_with = "absent")]
    until_end: bool,
    /// How to report; `json` is one object a line
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// Watches.
pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let rules = match &args.rules {
        Some(path) => rules::read(path)?,
        None => Vec::new(),
    };
    let store = args.dir.open()?;
    let names = Names::read(&store)?;
    let first = if args.recent { last_segment(&store)? } else { 0 };
    let sinks = Sinks::open(args.format, args.run.clone(), args.syslog.as_ref())?;
    let mut watch = Watch {
        names,
        rules,
        reading: Reading::new(Bounds::default()),
        told: HashSet::new(),
        sinks,
        damaged: None,
        raised: 0,
        witness: args.witness.as_deref().map(Witness::open).transpose()?,
        is_cut: false,
        verifying: None,
    };
    let is_absent = watch.follow(args, &store, Follower::new(first))?;
    watch.end();
    watch.sinks.finish();
    Ok(ExitCode::from(u8::from(is_absent || watch.raised > 0)))
}

/// Who watches a log.
struct Watch {
    names: Names,
    rules: Vec<Rule>,
    reading: Reading,
    /// Findings that were told.
    told: HashSet<String>,
    sinks: Sinks,
    /// A segment that can't be read any further, until the log is verified.
    damaged: Option<u64>,
    /// How many alarms were raised.
    raised: u64,
    witness: Option<Witness>,
    /// Whether it was told that the witness knows more than the log.
    is_cut: bool,
    /// The log is being verified, in a thread of its own: alarms don't wait for that.
    verifying: Option<JoinHandle<Result<Verified, StoreError>>>,
}

impl Watch {
    /// Follows until the log ends; whether nobody has written it for too long.
    fn follow(
        &mut self,
        args: &Args,
        store: &Store,
        mut follower: Follower,
    ) -> Result<bool, Failure> {
        let mut verified: Option<Instant> = None;
        let mut written = Instant::now();
        let mut pushed: Option<Instant> = None;
        loop {
            // Asked before the look: what was written before the end is still read.
            let is_live = store.is_held();
            follower.look(store, |event| {
                self.happened(event);
                !self.sinks.are_closed()
            })?;
            if self.sinks.are_closed() {
                return Ok(false);
            }
            self.tell_rules(super::time::now());
            let is_over = args.until_end && !is_live;
            if is_over || pushed.is_none_or(|at| at.elapsed() >= PUSH) {
                pushed = Some(Instant::now());
                self.push(store)?;
            }
            let is_due = verified.is_none_or(|at| at.elapsed() >= args.verify_every);
            let is_done = self.verifying.as_ref().is_some_and(JoinHandle::is_finished);
            if is_over || is_done {
                self.verified()?;
            }
            if is_over || self.verifying.is_none() && (is_due || self.damaged.is_some()) {
                self.verify(args, is_live)?;
                verified = Some(Instant::now());
            }
            if is_over {
                self.verified()?;
                return Ok(false);
            }
            if is_live {
                written = Instant::now();
            } else if args.absent.is_some_and(|most| written.elapsed() >= most) {
                let words = "no daemon has written the log for too long";
                self.raise(&Alarm::new(Cause::Absent, words));
                return Ok(true);
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn happened(&mut self, event: Event) {
        match event {
            Event::Record(record) => self.recorded(&record),
            Event::Missed { from, to } => {
                let words = format!(
                    "records {from} to {to} (the last not counted) were dropped before they were \
                     read"
                );
                self.raise(&Alarm::new(Cause::Missed, &words).about(from));
            }
            // Verified at once, which says what is wrong.
            Event::Damaged { segment } => self.damaged = Some(segment),
        }
    }

    fn recorded(&mut self, record: &Record) {
        self.names.learn(record);
        if record.entry.kind == Kind::Alarm {
            let words = self.names.say(record).detail.unwrap_or_default().clone();
            let alarm = Alarm::new(Cause::Auditor, &words).about(record.index);
            self.raise(&alarm.at(record.at.real));
        }
        let mut suspicions = Vec::new();
        self.reading.push(record, &mut |it: Disagreement| suspicions.push(it));
        for found in &suspicions {
            self.suspects(found);
        }
        for rule in &mut self.rules {
            rule.count(&self.names, record);
        }
        self.tell_rules(record.at.real);
    }

    /// Tells which rules have come into force, and which are no longer, at a moment.
    fn tell_rules(&mut self, now: u64) {
        let told: Vec<Alarm> = self.rules.iter_mut().filter_map(|rule| rule.judge(now)).collect();
        for alarm in &told {
            self.raise(alarm);
        }
    }

    fn suspects(&mut self, found: &Disagreement) {
        if !found.outcome.suspicious() {
            return;
        }
        let tables = self.names.at(found.record.unwrap_or(u64::MAX));
        let stream = &found.stream;
        let known = |name: Option<String>| name.unwrap_or_else(|| "?".to_owned());
        let name = |who| known(instance(tables, who).map(|it| it.to_string()));
        let words = format!(
            "{}: {} {} -> {}, message {}",
            found.outcome.name(),
            known(edge(tables, EdgeId::both(stream.facility, stream.edge))),
            name(stream.sender),
            name(stream.receiver),
            found.from
        );
        let alarm = Alarm::new(Cause::Suspicion, &words);
        self.raise(&match found.record {
            Some(record) => alarm.about(record),
            None => alarm,
        });
    }

    /// Gives the witness the log's newest checkpoint.
    fn push(&mut self, store: &Store) -> Result<(), Failure> {
        let Some(witness) = &mut self.witness else { return Ok(()) };
        let Some(newest) = newest(store)? else { return Ok(()) };
        let words = match witness.push(&newest)? {
            Pushed::Done | Pushed::Nothing => {
                self.is_cut = false;
                return Ok(());
            }
            Pushed::Cut(known) => format!(
                "the witness has a checkpoint of {known} records, and the log's newest one is of {}: \
                 the tail was cut",
                newest.checkpoint.size
            ),
            Pushed::OtherLog => "the witness has checkpoints of another log".to_owned(),
        };
        if !std::mem::replace(&mut self.is_cut, true) {
            self.raise(&Alarm::new(Cause::Broken, &words));
        }
        Ok(())
    }

    /// Begins to verify the whole log.
    fn verify(&mut self, args: &Args, live: bool) -> Result<(), Failure> {
        let store = args.dir.open()?;
        let outside = match &args.witness {
            Some(path) if std::fs::metadata(path).is_ok_and(|it| it.len() > 0) => witnessed(path)?,
            _ => Vec::new(),
        };
        let options = Options { outside, live, ..Options::default() };
        self.verifying = Some(std::thread::spawn(move || verify(&store, &options)));
        Ok(())
    }

    /// Tells what verifying found that wasn't told before.
    fn verified(&mut self) -> Result<(), Failure> {
        let Some(thread) = self.verifying.take() else { return Ok(()) };
        let ended = |_| Failure::system("the log couldn't be verified: the verifier ended");
        let verified = match thread.join().map_err(ended)? {
            // A segment was dropped meanwhile: the next time will tell.
            Err(error) if error.trouble() == Trouble::Missing => return Ok(()),
            verified => verified?,
        };
        if let Some(segment) = self.damaged.take()
            && verified.sound()
        {
            let words = format!("segment {segment} can't be read any further");
            self.raise(&Alarm::new(Cause::Broken, &words));
        }
        for finding in &verified.findings {
            let words = finding.to_string();
            if self.told.len() < MOST_FINDINGS && self.told.insert(words.clone()) {
                let alarm = Alarm::new(Cause::Broken, &words);
                self.raise(&match finding.record {
                    Some(record) => alarm.about(record),
                    None => alarm,
                });
            }
        }
        Ok(())
    }

    /// The log is at its end: what was only told by one side stays so.
    fn end(&mut self) {
        let reading = std::mem::replace(&mut self.reading, Reading::new(Bounds::default()));
        let mut suspicions = Vec::new();
        reading.finish(&mut |it: Disagreement| suspicions.push(it));
        for found in &suspicions {
            self.suspects(found);
        }
    }

    fn raise(&mut self, alarm: &Alarm) {
        self.raised += u64::from(!alarm.is_over);
        self.sinks.tell(alarm);
    }
}
