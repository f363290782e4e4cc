//! The auditor: a layer of the framework's own, which alone writes the audit log.
//!
//! It holds a descriptor of nothing but the log's directory, and the rings into which the
//! supervisor and every layer write what they did. What layers write it believes nothing: a ring
//! that breaks the rules gets an alarm in the log, and is read no more.
//!
//! One thread, one loop: take reports, [append](Log::append) them, [write](Log::write) them, give
//! their room in the rings back, and every so often [commit](Log::commit). So what is in a ring
//! when the auditor is killed is there for the next one, and what was written is in the log whoever
//! is killed; a commit is for a machine that loses its power.

mod alarms;
mod held;
mod intake;
pub(crate) mod orders;
mod resume;
mod ring;

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::atomic::AtomicU32;
use std::time::{Duration, Instant};

use rustix::time::ClockId;

use self::alarms::Alarms;
use self::orders::Orders;
use self::resume::Logged;
use self::ring::Ring;
use super::Layer;
use super::order::{self, Arrival, Order};
use crate::audit::entry::{Moment, Who};
use crate::audit::reconcile::{Bounds, Disagreement, Reconciler};
use crate::audit::rules::Rules;
use crate::audit::store::StoreError;
use crate::audit::tables::Tables;
use crate::audit::{Log, LogError, Store};
use crate::seal::OsChance;
use crate::sys::clock::nanoseconds;
use crate::sys::futex;
use crate::wire::control::FromLayer;

pub(crate) use crate::report::AUDITOR as NAME;

/// How long a record that is written may wait for the disk. Each commit is a system call that
/// waits for a disk, which takes milliseconds.
const COMMIT: Duration = Duration::from_millis(50);

/// How often what waits for its other half is looked at: four times a second, so that an alarm
/// comes within a second ([`Bounds::default`]).
const TICK: Duration = Duration::from_millis(200);

/// How long the auditor goes on looking after the last report, without asking to be woken: in that
/// time nobody who reports makes a system call for it.
const AWAKE: Duration = Duration::from_millis(20);

/// How long it sleeps between two looks. A ring of the default size holds what a busy layer
/// reports in several times that.
const NAP: Duration = Duration::from_millis(1);

/// The longest that it sleeps before it looks whether its supervisor is still there.
const LONGEST: Duration = Duration::from_millis(250);

/// How long it waits before it tries again to write what the system refused to take.
const RETRY: Duration = Duration::from_millis(100);

/// With this code ends an auditor that must have the daemon stop and can't say so.
pub(crate) const HALT: i32 = 75;

/// How long the supervisor may take to hear that the daemon must stop.
const HEARD_WITHIN: Duration = Duration::from_secs(2);

/// How long another writer may take to let go of the log.
const LET_GO: Duration = Duration::from_secs(2);

/// How long the rings must be silent before an auditor whose supervisor is dead goes too: the
/// layers are being killed by the kernel meanwhile.
const ORPHANED: Duration = Duration::from_millis(50);

/// Runs the auditor until the supervisor says stop, or is gone.
pub(super) fn run(layer: &Layer) -> Result<(), String> {
    let orders = Orders::decode(layer.settings()).map_err(|error| error.to_string())?;
    let opened = Auditor::open(layer, orders);
    let mut auditor = opened.map_err(|error| {
        halt(layer, &format!("the audit log can't be opened: {error}"));
        "there is no log to write".to_owned()
    })?;
    auditor.serve().map_err(|error| error.to_string())?;
    auditor.finish();
    auditor.log.close(now()).map(drop).map_err(|error| error.to_string())
}

/// Has the daemon stop. If the supervisor can't be told, the auditor's end tells it.
fn halt(layer: &Layer, text: &str) {
    let message = FromLayer::Log { halt: true, text: text.to_owned() };
    let said = layer.0.inbox.say_surely(&message, HEARD_WITHIN);
    // Of a supervisor that is gone nothing is left to stop.
    if said.is_err_and(|error| error.kind() != io::ErrorKind::BrokenPipe) {
        std::process::exit(HALT);
    }
}

/// Why the auditor ends before it is told to.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Log(#[from] LogError),
    /// The supervisor is there, and what it says can't be taken. The next auditor gets all of it
    /// anew.
    #[error("what the supervisor says can't be taken: {0}")]
    Control(io::Error),
    #[error("its directory is another one than the supervisor looked at")]
    Directory,
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Log(error.into())
    }
}

/// The auditor at work.
struct Auditor<'a> {
    layer: &'a Layer,
    orders: Orders,
    rules: Rules,
    log: Log,
    reconciler: Reconciler,
    logged: Logged,
    rings: Vec<Ring>,
    /// A report, copied out of its ring.
    bytes: Vec<u8>,
    /// What the two ends of edges disagree in, to be written down.
    disagreements: Vec<Disagreement>,
    tables: Tables,
    alarms: Alarms,
    /// Why the log can't be written for now, and since when.
    trouble: Option<(String, Moment)>,
    /// When the loop went round last: if that was long ago, nobody took reports meanwhile.
    turned: Moment,
    /// The rings of whose writers it was said that they wait for that.
    waiting: BTreeSet<u32>,
    tried: Instant,
    committed: Instant,
    ticked: Instant,
    /// The segment in which the progress of all reporters stands.
    segment: u64,
}

impl<'a> Auditor<'a> {
    fn open(layer: &'a Layer, orders: Orders) -> Result<Self, Fault> {
        let store = Store::open(Path::new(&orders.directory))?;
        if store.identity()? != orders.identity {
            return Err(Fault::Directory);
        }
        let reading = Store::open(Path::new(&orders.directory))?;
        // Whoever writes a redaction down while no auditor is there is done in a moment.
        let until = Instant::now() + LET_GO;
        while store.is_held() && Instant::now() < until {
            std::thread::sleep(NAP);
        }
        let (log, recovery) = Log::open(store, orders.options(), Box::new(OsChance), now())?;
        let rules = Rules::of(&orders.plan);
        let tables = orders.tables(&rules);
        let mut reconciler = Reconciler::new(Bounds::default());
        let generation = layer.instance().generation;
        let logged = match generation {
            1 => Logged::default(),
            _ => Logged::read(&reading, orders.run, &mut reconciler)?,
        };
        reconciler.learn(&tables);
        let begin = Instant::now();
        let mut auditor = Self {
            layer,
            rules,
            reconciler,
            logged,
            rings: Vec::new(),
            bytes: Vec::new(),
            disagreements: Vec::new(),
            alarms: Alarms::new(tables.layers.len()),
            tables,
            trouble: None,
            turned: now(),
            waiting: BTreeSet::new(),
            tried: begin,
            committed: begin,
            ticked: begin,
            segment: log.segment(),
            log,
            orders,
        };
        auditor.log.policy(&auditor.tables, now())?;
        auditor.log.append(&resume::life(auditor.orders.run, generation), &[], now())?;
        auditor.log.commit(now())?;
        let cut = recovery.cut + recovery.cut_notes;
        let rest = if recovery.clean {
            String::new()
        } else {
            format!("; it did not end in order, and {cut} bytes of unfinished records were cut")
        };
        auditor.say(false, &format!("audit log with {} records{rest}", recovery.records));
        Ok(auditor)
    }

    /// Tells the supervisor something for a person.
    fn say(&self, halts: bool, text: &str) {
        if halts {
            return halt(self.layer, text);
        }
        // If it can't be said the supervisor is busy or gone, and the log goes on.
        let _ = self.layer.0.inbox.say(&FromLayer::Log { halt: false, text: text.to_owned() });
    }

    /// Runs until the supervisor says stop, or is gone.
    fn serve(&mut self) -> Result<(), Fault> {
        let mut quiet = Instant::now();
        loop {
            let orphaned = match self.layer.attend() {
                Ok(()) => false,
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => true,
                Err(error) => {
                    // What was taken is written; what wasn't is in the rings.
                    self.log.write()?;
                    return Err(Fault::Control(error));
                }
            };
            // Asked before the rings are looked at: what came before the stop is in them then.
            let stops = self.layer.is_stopping();
            self.welcome();
            let moved = self.take_reports();
            self.write_out()?;
            if moved {
                quiet = Instant::now();
                continue;
            }
            let ends = self.trouble.is_none() || orphaned;
            if stops && ends {
                return Ok(());
            }
            if orphaned && quiet.elapsed() > ORPHANED {
                self.alarm(Who::NOBODY, "the supervisor is gone, and with it every layer");
                return Ok(self.log.write()?);
            }
            self.rest(quiet.elapsed(), orphaned);
        }
    }

    /// Writes down what the supervisor did and can't say any more.
    fn finish(&mut self) {
        self.tell_untold_acts();
        self.tell_losses();
    }

    /// Takes up the rings that have come.
    fn welcome(&mut self) {
        let came = self.layer.0.orders.iter().flat_map(order::Orders::take);
        for order in came.collect::<Vec<_>>() {
            let Order::Reports(Arrival { ring, reporter, bytes, fd }) = order else { continue };
            let who = match &reporter {
                None => Who::SUPERVISOR,
                Some(instance) => Who {
                    layer: self.orders.layer(instance.layer.as_str()).unwrap_or(u16::MAX),
                    copy: instance.index,
                    generation: instance.generation,
                },
            };
            match Ring::map(ring, who, &fd, bytes) {
                Ok(mut ring) => {
                    ring.next = self.logged.next(who);
                    self.rings.push(ring);
                }
                Err(error) => self.alarm(who, &format!("its reports can't be read: {error}")),
            }
        }
    }

    /// Writes what was taken, commits now and then, and has the reconciler look at what waits.
    fn write_out(&mut self) -> Result<(), LogError> {
        let at = Instant::now();
        self.look_at_the_clock();
        if self.trouble.is_some() {
            self.tell_who_waits();
        }
        if self.trouble.is_some() && at.duration_since(self.tried) < RETRY {
            return Ok(());
        }
        // What waits while nobody takes reports isn't late.
        if at.duration_since(self.ticked) >= TICK && self.trouble.is_none() {
            self.ticked = at;
            let disagreements = &mut self.disagreements;
            self.reconciler.tick(now().monotonic, &mut |it| disagreements.push(it));
            self.write_down_disagreements();
            self.tell_of_alarms_kept_back();
            if !self.log.take_order(now()).unwrap_or(true) {
                self.alarm(Who::NOBODY, "an order to remove payloads couldn't be read");
            }
        }
        self.tried = at;
        let commits = at.duration_since(self.committed) >= COMMIT
            && (self.log.committed() < self.log.size()
                || self.trouble.is_some()
                || self.log.should_sign(now()));
        let written = if commits {
            self.committed = at;
            self.log.commit(now()).map(drop)
        } else {
            self.log.write()
        };
        match written {
            Ok(()) => {
                self.written();
                Ok(())
            }
            Err(LogError::Unknown) => Err(LogError::Unknown),
            Err(error) => {
                self.troubled(&error);
                Ok(())
            }
        }
    }

    /// Everything that was taken is in the log's files.
    fn written(&mut self) {
        if let Some((why, since)) = self.trouble.take() {
            self.say(false, "the audit log is written again");
            self.tell_held(&why, since);
            self.tell_losses();
            self.waiting.clear();
        }
        for ring in &mut self.rings {
            ring.release();
        }
        let mut gone = Vec::new();
        self.rings.retain(|ring| {
            if ring.over {
                gone.push(ring.name);
            }
            !ring.over
        });
        for ring in gone {
            let _ = self.layer.0.inbox.say(&FromLayer::Taken { ring });
        }
        if self.segment != self.log.segment() {
            self.segment = self.log.segment();
            self.write_progress();
        }
    }

    /// Sleeps, until something comes or something is due.
    fn rest(&mut self, quiet: Duration, orphaned: bool) {
        if quiet < AWAKE || orphaned {
            return std::thread::sleep(NAP);
        }
        let pending =
            self.log.is_unsigned() || self.reconciler.waiting() > 0 || self.trouble.is_some();
        let time = if pending { COMMIT } else { LONGEST };
        let mut waiting = false;
        for ring in &mut self.rings {
            waiting |= ring.arm();
        }
        // While the log can't be written the rings are full, and full rings ring no bell.
        if self.trouble.is_some() {
            std::thread::sleep(time);
        } else if !waiting {
            // Those behind the kernel's bound are looked at when the others are, or the time is up.
            let bells: Vec<_> = self.rings.iter().take(futex::MOST).map(Ring::bell).collect();
            if futex::wait_any(&AtomicU32::new(0), 0, &bells, Some(time)).is_err() {
                std::thread::sleep(NAP);
            }
        }
        self.rings.iter_mut().for_each(Ring::disarm);
    }
}

/// Both clocks.
fn now() -> Moment {
    Moment { real: nanoseconds(ClockId::Realtime), monotonic: nanoseconds(ClockId::Monotonic) }
}
