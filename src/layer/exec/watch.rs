//! What the programs of an init that accepts connections are refused: answered as their filter
//! would, and told of.
//!
//! Each program has a filter of its own, whose questions its children ask too, also those that
//! outlive it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use rustix::event::PollFlags;
use rustix::process::Pid;

use super::condemned::Condemned;
use super::refused;
use super::teller::Teller;
use crate::confine::filter::Filter;
use crate::confine::paths::ViewEntry;
use crate::sys::notify::Listener;
use crate::sys::pidfd::Ended;
use crate::sys::spawn::FilterLine;

/// Answers for every program that runs.
pub(super) struct Watch<'a> {
    /// What the filter answers where it leaves nothing to anybody.
    rules: &'a Filter,
    /// What the layer sees, where the paths of calls are looked at.
    entries: Vec<ViewEntry>,
    teller: Teller,
    watched: Vec<Watched>,
    /// How many programs there were.
    count: u64,
}

/// A program, and what it left behind.
struct Watched {
    /// Another one than that of any program before: what a program left behind may outlive its number.
    number: u64,
    program: Pid,
    listener: Listener,
    condemned: Condemned,
}

impl<'a> Watch<'a> {
    /// Nobody yet.
    pub fn new(rules: &'a Filter, teller: Teller, entries: Vec<ViewEntry>) -> Self {
        Self { rules, entries, teller, watched: Vec::new(), count: 0 }
    }

    /// The filter of a program that nobody answers for: what it refuses, it refuses by itself.
    pub fn unobserved(&self) -> Vec<FilterLine> {
        self.rules.unobserved()
    }

    /// Answers for one program more.
    pub fn begin(&mut self, program: Pid, listener: OwnedFd) {
        let (listener, condemned) = (Listener::new(listener), Condemned::default());
        self.count += 1;
        self.watched.push(Watched { number: self.count, program, listener, condemned });
    }

    /// Where questions come, each with its number here.
    pub fn questions(&self) -> impl Iterator<Item = (u64, BorrowedFd<'_>)> {
        self.watched.iter().map(|it| (it.number, it.listener.as_fd()))
    }

    /// Takes a question and answers it, or lets go of where nobody can ask any more.
    ///
    /// # Errors
    /// A process that should end can't be ended, so the layer must be.
    pub fn serve(&mut self, number: u64, found: PollFlags) -> io::Result<()> {
        let Some(at) = self.watched.iter().position(|it| it.number == number) else {
            return Ok(());
        };
        if !found.contains(PollFlags::IN) {
            self.watched.swap_remove(at);
            return Ok(());
        }
        let Watched { program, listener, condemned, .. } = &mut self.watched[at];
        let program = *program;
        let Some(call) = listener.receive()? else { return Ok(()) };
        self.teller.is_of(program);
        let answerer = (&*listener, condemned, program);
        if !refused::answer(&call, self.rules, answerer, &mut self.teller)? {
            let reply = refused::look_at_paths(&call, &self.entries, &mut self.teller);
            listener.answer(&call, reply)?;
        }
        Ok(())
    }

    /// When somebody is to be looked after, if anybody.
    pub fn deadline(&self) -> Option<Instant> {
        self.watched.iter().filter_map(|it| it.condemned.deadline()).min()
    }

    /// Kills who should have ended by now.
    pub fn look_after(&mut self) -> io::Result<()> {
        self.watched.iter_mut().try_for_each(|it| it.condemned.look_after())
    }

    /// How a program ended: where it had to be killed, as it would have by its filter.
    pub fn ending(&self, program: Pid, ended: Ended) -> Ended {
        let watched = self.watched.iter().rev().find(|it| it.program == program);
        watched.map_or(ended, |it| it.condemned.ending(ended))
    }

    /// Tells, at the end, what was counted and not told.
    pub fn finish(&mut self) {
        self.teller.finish();
    }
}
