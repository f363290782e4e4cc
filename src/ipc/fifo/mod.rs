//! Named pipes: lines from programs outside of the daemon.
//!
//! Whoever may write into the FIFO is not trusted: a line is bytes, bounded by the policy's `max`,
//! and nothing tells who wrote it.
//!
//! ```no_run
//! use cofferdam::ipc::fifo::Event;
//! # async fn example(layer: cofferdam::Layer) -> Result<(), Box<dyn std::error::Error>> {
//! let mut commands = layer.fifo("commands")?;
//! loop {
//!     match commands.next().await? {
//!         Event::Line(line) => eprintln!("{}", line.text()?),
//!         Event::TooLong => eprintln!("somebody writes without end"),
//!     }
//! }
//! # }
//! ```
//!
//! Writers never wait for the layer unless the FIFO is full, and never fail: the supervisor holds
//! it open while the layer is restarted. A line is looked at before it is taken, and taken by one
//! system call: so a layer that is killed takes the line with it that it was handling, and no
//! other, and its next life begins with a whole line. That goes for lines up to 4096 bytes, which
//! is also what a writer's single `write` keeps together (`PIPE_BUF`, pipe(7)); of a longer line
//! a kill may leave the rest.

mod lines;

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::str::Utf8Error;
use std::sync::{Arc, Weak};
use std::time::Instant;

use rustix::event::epoll;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::pipe::{SpliceFlags, tee};

use self::lines::Lines;
use crate::ident::Name;
use crate::ipc::Blocking;
use crate::ipc::message::Companion;
use crate::ipc::pipe::pace::Pace;
use crate::ipc::pipe::wait::{Step, Waiting, Way, rest};
use crate::mark;
use crate::policy::plan::FifoPlan;
use crate::report::{Facts, Side, Tap, Verdict, room};

/// As much as is looked at in one go: what a FIFO holds at most, unless somebody enlarged it.
const LOOK: usize = 64 << 10;

/// What the kernel keeps together of a single write (`PIPE_BUF`, pipe(7)). A line that has not
/// ended after so much is taken in pieces.
const ATOMIC: usize = 4096;

/// What comes out of a FIFO.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A line.
    Line(Line),
    /// A line longer than the policy's `max` has begun. All of it up to its end is dropped.
    TooLong,
}

/// A line, without its newline: any bytes whatever, for nothing says that it is text.
#[derive(Clone, PartialEq, Eq)]
pub struct Line(pub Vec<u8>);

/// Why there is no line.
#[derive(Debug, thiserror::Error)]
pub enum FifoError {
    /// The supervisor asks this layer to finish.
    #[error("the supervisor asks this layer to finish")]
    Stopping,
    /// The system refused.
    #[error("`[fifo.{fifo}]`: {error}")]
    System {
        /// The FIFO.
        fifo: Name,
        /// What it said.
        error: io::Error,
    },
}

/// The descriptors of a FIFO, as the supervisor hands them over.
#[derive(Debug)]
pub struct Handed {
    /// The FIFO, for reading, with a description of its own.
    pub reader: Arc<OwnedFd>,
    /// The reading end of a pipe of our own.
    pub look: Arc<OwnedFd>,
    /// Its writing end.
    pub copy: Arc<OwnedFd>,
}

/// The reading end of a FIFO. There is one in a layer.
pub struct FifoReader {
    name: Name,
    waiting: Waiting,
    companion: Option<Weak<dyn Companion>>,
    /// Tells a sleeping thread of what is new: what lies there already is no news.
    news: Option<OwnedFd>,
    state: State,
}

struct State {
    reader: Arc<OwnedFd>,
    look: Arc<OwnedFd>,
    copy: Arc<OwnedFd>,
    lines: Lines,
    pace: Option<Pace>,
    /// A copy of what comes next, from `start` to `end`.
    ahead: Box<[u8]>,
    start: usize,
    end: usize,
    /// Nothing more may fit into the FIFO.
    full: bool,
    taken: Box<[u8]>,
    /// What reports the lines, if anything does, and how many it has.
    tap: Option<Tap>,
    reported: u64,
}

impl FifoReader {
    /// The reading end of the FIFO with this plan, whose lines `tap` reports.
    #[doc(hidden)]
    pub fn new(
        plan: &FifoPlan,
        handed: Handed,
        companion: Option<Weak<dyn Companion>>,
        tap: Option<Tap>,
    ) -> Self {
        let Handed { reader, look, copy } = handed;
        let state = State {
            reader: Arc::clone(&reader),
            look,
            copy,
            lines: Lines::new(usize::try_from(plan.max).unwrap_or(usize::MAX)),
            pace: plan.rate.map(|rate| Pace::new(rate, Instant::now())),
            ahead: vec![0; LOOK].into_boxed_slice(),
            start: 0,
            end: 0,
            full: false,
            taken: vec![0; LOOK].into_boxed_slice(),
            tap,
            reported: 0,
        };
        let waiting = Waiting::new(reader, Way::In, companion.clone());
        Self { name: plan.name.clone(), waiting, companion, news: None, state }
    }

    /// The next line. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<Event, FifoError> {
        let Self { waiting, state, .. } = self;
        room(state.tap.as_ref()).await;
        let event = poll_fn(|cx| waiting.poll(cx, |_| state.step())).await;
        event.map_err(|error| self.blame(error))
    }

    /// The same verbs, blocking the thread.
    pub fn blocking(&mut self) -> Blocking<&mut Self> {
        Blocking(self)
    }

    fn block(&mut self) -> io::Result<Event> {
        loop {
            let until = match self.state.step()? {
                Step::Done(event) => return Ok(event),
                Step::Blocked => None,
                Step::Until(then) => Some(then),
            };
            let news = match &self.news {
                Some(news) => news,
                None => self.news.insert(watch(&self.state.reader)?),
            };
            let news = until.is_none().then_some(news);
            mark::reached("fifo.wait.before");
            rest(self.companion.as_ref(), news, Way::In, until)?;
            mark::reached("fifo.wait.woken");
            if let Some(news) = news {
                let now = Timespec::default();
                let mut events = [epoll::Event {
                    flags: epoll::EventFlags::empty(),
                    data: epoll::EventData::new_u64(0),
                }];
                match epoll::wait(news, &mut events[..], Some(&now)) {
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(errno) => return Err(errno.into()),
                }
            }
        }
    }

    fn blame(&self, error: io::Error) -> FifoError {
        match crate::ipc::pipe::PipeError::of(&error) {
            Some(crate::ipc::pipe::PipeError::Stopping) => FifoError::Stopping,
            _ => FifoError::System { fifo: self.name.clone(), error },
        }
    }
}

/// An epoll descriptor that tells of every write once.
fn watch(reader: &OwnedFd) -> io::Result<OwnedFd> {
    let news = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
    epoll::add(&news, reader, epoll::EventData::new_u64(0), flags)?;
    Ok(news)
}

impl Blocking<&mut FifoReader> {
    /// The next line, at most until the supervisor asks this layer to finish.
    #[expect(clippy::should_implement_trait, reason = "it is `FifoReader::next` in this thread")]
    pub fn next(&mut self) -> Result<Event, FifoError> {
        self.0.block().map_err(|error| self.0.blame(error))
    }
}

impl State {
    /// Takes the next line, if it is there.
    fn step(&mut self) -> io::Result<Step<Event>> {
        loop {
            if let Some(Err(then)) = self.pace.as_mut().map(|pace| pace.allows(1, Instant::now())) {
                return Ok(Step::Until(then));
            }
            if let Some(event) = self.lines.next() {
                if let Some(pace) = &mut self.pace {
                    pace.pass(1);
                }
                self.report(&event);
                mark::reached("fifo.read.line");
                return Ok(Step::Done(event));
            }
            if self.start == self.end && !self.look_ahead()? {
                return Ok(Step::Blocked);
            }
            let ahead = &self.ahead[self.start..self.end];
            let count = match ahead.iter().position(|&byte| byte == b'\n') {
                Some(place) => place + 1,
                None if ahead.len() >= ATOMIC || self.full => ahead.len(),
                None => {
                    // More of it may come; until then it stays where it is.
                    mark::reached("fifo.read.half");
                    self.start = self.end;
                    return Ok(Step::Blocked);
                }
            };
            mark::reached("fifo.read.before");
            let taken = match rustix::io::read(&self.reader, &mut self.taken[..count]) {
                Ok(taken) => taken,
                Err(Errno::AGAIN) => 0,
                Err(errno) => return Err(errno.into()),
            };
            mark::reached("fifo.read.taken");
            // A writer that writes packets (O_DIRECT) makes a read end early, and loses the rest of
            // its packet: then the copy is out of date.
            self.start = if taken == count { self.start + count } else { self.end };
            self.lines.add(&self.taken[..taken]);
            mark::reached("fifo.read.added");
            if taken == 0 {
                return Ok(Step::Blocked);
            }
        }
    }

    /// Reports what is about to be given out.
    fn report(&mut self, event: &Event) {
        let Some(tap) = &self.tap else { return };
        let facts = Facts { sequence: self.reported, ..tap.facts(Side::Receiver) };
        self.reported += 1;
        match event {
            Event::Line(Line(line)) => {
                tap.report(&Facts { length: line.len() as u64, ..facts }, line, &[]);
            }
            Event::TooLong => {
                let facts = Facts { verdict: Verdict::Refused, ..facts };
                tap.report(&facts, &[], b"the line is longer than `max`");
            }
        }
    }

    /// Copies what comes next, without taking it; false if there is nothing.
    fn look_ahead(&mut self) -> io::Result<bool> {
        mark::reached("fifo.look.before");
        let count = match tee(&self.reader, &self.copy, LOOK, SpliceFlags::NONBLOCK) {
            Ok(count) => count,
            Err(Errno::AGAIN) => 0,
            Err(errno) => return Err(errno.into()),
        };
        mark::reached("fifo.look.copied");
        // Our pipe has as many slots as the FIFO: it is full if that is.
        let mut room = [PollFd::new(&*self.copy, PollFlags::OUT)];
        poll(&mut room, Some(&Timespec::default()))?;
        self.full = !room[0].revents().contains(PollFlags::OUT);
        (self.start, self.end) = (0, 0);
        while self.end < count {
            match rustix::io::read(&self.look, &mut self.ahead[self.end..]) {
                Ok(0) | Err(Errno::AGAIN) => break,
                Ok(read) => self.end += read,
                Err(errno) => return Err(errno.into()),
            }
        }
        mark::reached("fifo.look.read");
        Ok(self.end > 0)
    }
}

impl Line {
    /// The line as text, if its writer sent any.
    pub fn text(&self) -> Result<&str, Utf8Error> {
        std::str::from_utf8(&self.0)
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Line(\"{}\")", self.0.escape_ascii())
    }
}

impl fmt::Debug for FifoReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FifoReader").field("name", &self.name).finish_non_exhaustive()
    }
}
