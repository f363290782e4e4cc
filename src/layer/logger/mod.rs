//! The writer of the log on standard error: a layer of the framework's own, to which all go that the
//! supervisor says and that layers print.
//!
//! It holds the reading ends of the layers' standard output and error, standard error itself, and
//! the kernel's log where the daemon may read that. Of the pipes the supervisor keeps a copy as long
//! as an instance runs, and until this layer has said that all is written: so whoever prints notices
//! nothing when this one is killed, and the next one reads on.
//!
//! Order is a promise. What an instance printed before it ended comes before the line that says so,
//! and what it prints once it was let in comes after the line that says that: before it shows what
//! it has read from a pipe, this layer takes up all that the supervisor has said by then, and where
//! that is an end, it reads that instance's pipes to theirs. What the supervisor says carries the
//! time: what had been read from a pipe before that is shown before it, for that may have been the
//! cause. What hadn't is shown after it, for that may be what came of it.
//!
//! One thread, one loop. It never waits for standard error, so it always hears the supervisor.

mod denied;
mod ending;
mod form;
pub(crate) mod kernel;
mod lines;
pub(crate) mod log;
pub(crate) mod orders;
mod output;
mod rate;
mod refused;
mod stderr;
mod told;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::time::ClockId;

use self::denied::Denied;
use self::ending::level;
pub(super) use self::ending::sentence;
use self::kernel::KernelLog;
use self::lines::Lines;
use self::orders::Settings;
use self::output::Pipe;
use self::refused::Refusals;
use self::stderr::Stderr;
use super::Layer;
use super::order::{Order, Orders};
use crate::ident::{Instance, Name};
use crate::policy::plan::{LogLevel, LogPlan};
use crate::sys::clock::nanoseconds;
use crate::wire::control::{FromLayer, Object, Said};
use crate::wire::event::Mark;
use crate::wire::life::{Culprit, End, Ending};

/// What this layer is called, as a layer and as a function. No policy may use the name.
pub(crate) const NAME: &str = "cofferdam-log";

/// The part of a layer's output that is what its init says of refused calls.
const REFUSALS: u8 = 2;

/// How long standard error may take for the last lines.
const LAST_LINES: Duration = Duration::from_secs(1);

/// How long layers wait for who reads the log, before lines are lost.
const PATIENCE: Duration = Duration::from_secs(1);

/// Writes until the supervisor says stop, or is gone.
pub(super) fn run(layer: &Layer) -> io::Result<()> {
    let mut logger = Logger::new(layer)?;
    // Who waited for the audit log would no longer hear what there is to write.
    layer.0.desk.never_wait();
    if layer.instance().generation > 1 {
        logger.gap = true;
    }
    let served = logger.serve();
    // Whoever comes after this life might end of the same.
    if let Err(error) = &served {
        logger.lines.say(LogLevel::Error, &format!("{} ends: {error}", layer.instance()));
    }
    logger.finish();
    served
}

/// The writer at work.
struct Logger<'a> {
    layer: &'a Layer,
    control: Arc<OwnedFd>,
    lines: Lines,
    outputs: BTreeMap<u64, Output>,
    /// The number of the next output.
    next: u64,
    /// What was read from one of them and isn't shown yet, and when: `CLOCK_MONOTONIC`, in
    /// nanoseconds.
    unshown: Option<(u64, u64)>,
    denied: Denied,
    /// What of each layer's lines is shown, and what its events begin with.
    layers: BTreeMap<Name, (LogPlan, Mark)>,
    /// What came before the form of the lines; `None` once that is known.
    early: Option<Vec<Order>>,
    /// Whether lines of a former life may be missing, which isn't said yet.
    gap: bool,
    /// Since when standard error takes nothing that would make room.
    stuck: Option<Instant>,
    /// Instances of whom the supervisor is to be told that all is written.
    printed: VecDeque<FromLayer>,
}

/// A pipe of one layer's.
struct Output {
    seat: u32,
    instance: Instance,
    culprit: Culprit,
    source: Source,
}

impl Output {
    /// Shows all that is left in it.
    fn drain(self, lines: &mut Lines, denied: &mut Denied) {
        match self.source {
            Source::Printed(pipe) => pipe.drain(lines),
            Source::Refused(refusals) => {
                for refusal in refusals.drain() {
                    denied.refused(&self.instance, &refusal, lines);
                }
            }
        }
    }
}

/// What comes through a pipe.
enum Source {
    /// What the layer prints.
    Printed(Pipe),
    /// What its program was refused.
    Refused(Refusals),
}

impl Source {
    fn fd(&self) -> Option<&OwnedFd> {
        match self {
            Self::Printed(pipe) => pipe.fd(),
            Self::Refused(refusals) => refusals.fd(),
        }
    }

    /// Until when it is not read, for it has printed too much.
    fn rests_until(&self) -> Option<Instant> {
        match self {
            Self::Printed(pipe) => pipe.rests_until(),
            Self::Refused(_) => None,
        }
    }

    fn read(&mut self) -> bool {
        match self {
            Self::Printed(pipe) => pipe.read(),
            Self::Refused(refusals) => refusals.read(),
        }
    }
}

/// What there is to do.
#[derive(Default)]
struct Ready {
    control: bool,
    outputs: Vec<u64>,
}

impl<'a> Logger<'a> {
    fn new(layer: &'a Layer) -> io::Result<Self> {
        let object = |kind| {
            let object = layer.0.objects.get(kind, 0, 0);
            object.map(|object| object.try_clone()).transpose()
        };
        let stderr = object(Object::Stderr)?.ok_or(io::ErrorKind::NotFound)?;
        let kernel = KernelLog::new(object(Object::KernelLog)?);
        let Settings { daemon, layers, orders } = Settings::decode(layer.settings())?;
        let mut lines = Lines::new(Stderr::handed(stderr));
        lines.belong_to(daemon.as_str());
        Ok(Self {
            layer,
            control: layer.0.inbox.socket(),
            lines,
            outputs: BTreeMap::new(),
            next: 0,
            unshown: None,
            denied: Denied::new(kernel, layer.0.desk.clone(), orders),
            layers,
            early: Some(Vec::new()),
            gap: false,
            stuck: None,
            printed: VecDeque::new(),
        })
    }

    /// Writes until it is time to finish.
    fn serve(&mut self) -> io::Result<()> {
        let mut goes_on = self.hear()?;
        while goes_on {
            goes_on = self.turn()?;
        }
        Ok(())
    }

    /// Waits for something to do, and does it. False: it is time to finish.
    fn turn(&mut self) -> io::Result<bool> {
        let ready = self.wait()?;
        if ready.control && !self.hear()? {
            return Ok(false);
        }
        for id in ready.outputs {
            // Its instance's end may have been told meanwhile.
            let Some(output) = self.outputs.get_mut(&id) else { continue };
            output.source.read();
            self.unshown = Some((id, nanoseconds(ClockId::Monotonic)));
            let goes_on = self.hear()?;
            self.show_what_was_read_before(u64::MAX);
            if !goes_on {
                return Ok(false);
            }
        }
        self.look_up();
        self.lines.tell_due();
        self.lines.flush();
        self.tell_printed();
        Ok(true)
    }

    /// Until when the layers' pipes are left alone, because nothing more can be shown. Then they are
    /// read, and what finds no room is lost: nobody waits for ever for who doesn't read the log.
    fn patience(&mut self) -> Option<Instant> {
        if self.lines.has_room() {
            self.stuck = None;
            return None;
        }
        let now = Instant::now();
        let until = *self.stuck.get_or_insert(now) + PATIENCE;
        (until > now).then_some(until)
    }

    fn wait(&mut self) -> io::Result<Ready> {
        let now = Instant::now();
        let patience = self.patience();
        let mut due = self.denied.deadline().into_iter().chain(self.lines.deadline()).min();
        due = due.into_iter().chain(patience).min();
        let room = if self.printed.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
        let mut fds = vec![PollFd::new(&self.control, PollFlags::IN | room)];
        let mut ids = Vec::new();
        if patience.is_none() && self.early.is_none() {
            for (id, output) in &self.outputs {
                let rest = output.source.rests_until().filter(|until| *until > now);
                due = due.into_iter().chain(rest).min();
                if let (Some(fd), None) = (output.source.fd(), rest) {
                    ids.push(*id);
                    fds.push(PollFd::new(fd, PollFlags::IN));
                }
            }
        }
        if !self.lines.is_empty() {
            fds.push(PollFd::from_borrowed_fd(self.lines.fd(), PollFlags::OUT));
        }
        if let Some(kernel) = self.denied.fd() {
            fds.push(PollFd::from_borrowed_fd(kernel, PollFlags::IN));
        }
        let timeout = due.map(|at| at.saturating_duration_since(Instant::now()));
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(Ready::default()),
            Err(error) => return Err(error.into()),
        }
        let is_ready = |fd: &PollFd<'_>| !fd.revents().is_empty();
        let outputs = ids.into_iter().zip(&fds[1..]).filter(|(_, fd)| is_ready(fd));
        Ok(Ready { control: is_ready(&fds[0]), outputs: outputs.map(|(id, _)| id).collect() })
    }

    /// Takes up all that the supervisor has said. False: it said stop, or is gone.
    fn hear(&mut self) -> io::Result<bool> {
        let heard = self.layer.attend();
        for order in self.layer.0.orders.iter().flat_map(Orders::take) {
            self.obey(order);
        }
        match heard {
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => Ok(false),
            heard => heard.map(|()| !self.layer.0.stop.is_asked()),
        }
    }

    fn obey(&mut self, order: Order) {
        match (&mut self.early, order) {
            (early, Order::Say { how: how @ Said::Form(_), text, .. }) => {
                let early = early.take();
                self.lines.push_said(how, &text);
                if std::mem::take(&mut self.gap) {
                    let text =
                        "lines may be missing here: the writer of this log was ended and restarted";
                    self.lines.say(LogLevel::Warn, text);
                }
                early.into_iter().flatten().for_each(|order| self.obey_now(order));
            }
            (Some(early), order) => early.push(order),
            (None, order) => self.obey_now(order),
        }
    }

    fn obey_now(&mut self, order: Order) {
        match order {
            Order::Say { at, how, text } => {
                self.show_what_was_read_before(at);
                self.lines.push_said(how, &text);
            }
            Order::Output { seat, instance, culprit, part, over, fd } => {
                let known = self.layers.get(&instance.layer);
                let (plan, mark) = known.map(|(plan, mark)| (plan.clone(), *mark)).unzip();
                let source = match part {
                    REFUSALS => Source::Refused(Refusals::new(fd)),
                    _ => Source::Printed(Pipe::new(
                        fd,
                        instance.clone(),
                        plan.unwrap_or_default(),
                        mark,
                    )),
                };
                let generation = instance.generation;
                self.outputs.insert(self.next, Output { seat, instance, culprit, source });
                self.next += 1;
                if over {
                    self.drain(seat, generation);
                    self.printed.push_back(FromLayer::Printed { seat, generation });
                }
            }
            Order::Ended { at, end, hushed } => {
                self.show_what_was_read_before(at);
                self.ended(&end, hushed);
            }
            _ => {}
        }
    }

    /// Shows what was read from a pipe before that moment: what the supervisor said then may be what
    /// came of it.
    fn show_what_was_read_before(&mut self, at: u64) {
        if let Some((id, _)) = self.unshown.take_if(|(_, read_at)| *read_at < at)
            && let Some(output) = self.outputs.get_mut(&id)
        {
            match &mut output.source {
                Source::Printed(pipe) => pipe.show(&mut self.lines),
                Source::Refused(refusals) => {
                    for refusal in refusals.take() {
                        self.denied.refused(&output.instance, &refusal, &mut self.lines);
                    }
                }
            }
        }
    }

    /// An instance has ended.
    fn ended(&mut self, end: &End, hushed: bool) {
        // What it was refused is known by its name, as long as it has one here.
        self.look_up();
        let of_it = |it: &Output| it.seat == end.seat && it.instance == end.instance;
        let tells = |it: &Output| of_it(it) && matches!(it.source, Source::Refused(_));
        let is_told = self.outputs.values().any(tells);
        self.drain(end.seat, end.instance.generation);
        self.lines.tell_lost(Some(&end.instance.layer));
        let hint = if is_told { "" } else { self.denied.hint() };
        if !hushed {
            self.lines.say(level(end), &sentence(end, hint));
        }
        if is_told || end.ending != Ending::Killed(libc::SIGSYS) || !self.denied.explain(end) {
            self.all_is_told(end);
        }
    }

    fn all_is_told(&mut self, end: &End) {
        let End { seat, instance, .. } = end;
        let generation = instance.generation;
        self.printed.push_back(FromLayer::Printed { seat: *seat, generation });
    }

    /// Shows all that an instance which has ended left in its pipes.
    fn drain(&mut self, seat: u32, generation: u64) {
        let of_it = |it: &mut Output| it.seat == seat && it.instance.generation == generation;
        for (_, output) in self.outputs.extract_if(.., |_, output| of_it(output)) {
            output.drain(&mut self.lines, &mut self.denied);
        }
    }

    /// Tells what the kernel's log says by now.
    fn look_up(&mut self) {
        let outputs = &self.outputs;
        let running = |pid, uid| {
            let found = outputs.values().find(|output| output.culprit.is(pid, uid));
            found.map(|output| output.instance.clone())
        };
        for end in self.denied.look(&mut self.lines, running) {
            self.all_is_told(&end);
        }
    }

    /// Tells the supervisor what it has room for.
    fn tell_printed(&mut self) {
        while let Some(printed) = self.printed.front() {
            match self.layer.0.inbox.say(printed) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // Said, or nobody is there any more, which the next turn sees.
                _ => drop(self.printed.pop_front()),
            }
        }
    }

    /// Writes what is left: of layers whose supervisor is gone, what they have printed by now; and what
    /// the kernel's log still has to say of those that have ended.
    fn finish(&mut self) {
        for output in std::mem::take(&mut self.outputs).into_values() {
            output.drain(&mut self.lines, &mut self.denied);
        }
        self.lines.tell_lost(None);
        let until = Instant::now() + LAST_LINES;
        loop {
            self.look_up();
            self.lines.flush();
            let left = until.saturating_duration_since(Instant::now());
            let is_over = self.lines.is_empty() && self.denied.deadline().is_none();
            if is_over || left.is_zero() {
                return;
            }
            let mut fds = Vec::new();
            if !self.lines.is_empty() {
                fds.push(PollFd::from_borrowed_fd(self.lines.fd(), PollFlags::OUT));
            }
            let kernel = self.denied.fd();
            fds.extend(kernel.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
            let left = Timespec::try_from(left).ok();
            if poll(&mut fds, left.as_ref()).is_err_and(|errno| errno != Errno::INTR) {
                return;
            }
        }
    }
}
