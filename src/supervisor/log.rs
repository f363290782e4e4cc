//! What layers print, and what is said of them: all of it goes to the writer of the log, a layer of
//! the framework's own ([`crate::layer::logger`]).
//!
//! Nothing that is printed is read here. A copy of each pipe's reading end is kept until all that was
//! in it is written: so nobody is told that nobody reads, and the writer's next life reads on.

use std::io;
use std::rc::Rc;

use super::child::{Breach, Printing};
use super::{Life, Supervisor};
use crate::prepare::own::Role;
use crate::wire::control::{Object, ToLayer};

/// How many instances may have ended whose output isn't written, besides one for each place: more
/// than a writer leaves that does its work.
pub const MOST_LEFT: usize = 64;

impl Supervisor<'_> {
    /// Whether a place must wait for the writer of the log, which comes first, and comes again.
    pub(super) fn waits_for_writer(&self, place: usize) -> bool {
        let writer = self.place_of(Role::Log).filter(|&writer| writer != place);
        writer.is_some_and(|writer| match &self.places[writer].life {
            Life::Down | Life::Spare => false,
            Life::Waiting(_) => true,
            Life::Running(child) => !child.is_serving(),
        })
    }

    /// Passes on what there is to say: to the writer of the log, unless it will never come again.
    pub(super) fn flush_log(&mut self) {
        let Some(writer) = self.place_of(Role::Log) else { return };
        loop {
            match &self.places[writer].life {
                Life::Down | Life::Spare => return self.log.flush(),
                // Whatever it is told after it was asked to stop it doesn't hear.
                Life::Running(it) if it.is_serving() && it.deadline.is_none() => {
                    if it.breached || it.outbox.is_behind() {
                        return;
                    }
                }
                _ => return,
            }
            let Some(message) = self.log.next() else { return };
            self.tell(writer, &message, None);
        }
    }

    /// Gives the writer of the log, which is there now, all that it needs.
    pub(super) fn begin_writing(&mut self, writer: usize) -> io::Result<()> {
        let stderr = self.log.stderr().try_clone_to_owned()?;
        let message = ToLayer::Object { kind: Object::Stderr, number: 0, part: 0 };
        self.tell(writer, &message, Some(&stderr));
        self.log.hand_over();
        let log = &*self.log;
        let left = self.leftovers.printing.iter().map(|(&(seat, _), printing)| {
            printing.handed(seat, !log.will_tell_end(&printing.instance))
        });
        for (message, fd) in left.collect::<io::Result<Vec<_>>>()?.into_iter().flatten() {
            self.tell(writer, &message, Some(&fd));
        }
        for place in 0..self.places.len() {
            self.hand_over_output(place)?;
        }
        Ok(())
    }

    /// Gives the writer of the log what the instance at a place prints, if both are there.
    pub(super) fn hand_over_output(&mut self, place: usize) -> io::Result<()> {
        let writer = self.place_of(Role::Log).filter(|&it| self.is_there(it));
        let (Some(writer), Ok(seat)) = (writer, u32::try_from(place)) else { return Ok(()) };
        let Life::Running(child) = &self.places[place].life else { return Ok(()) };
        for (message, fd) in child.printing.handed(seat, false)? {
            self.tell(writer, &message, Some(&fd));
        }
        Ok(())
    }

    /// Keeps what an instance that has ended has printed, until it is written.
    pub(super) fn keep_output(&mut self, seat: u32, printing: Rc<Printing>) {
        self.leftovers.printing.insert((seat, printing.instance.generation), printing);
        if self.leftovers.printing.len() > MOST_LEFT + self.places.len()
            && let Some(writer) = self.place_of(Role::Log).filter(|&it| self.runs(it))
        {
            self.breach(writer, Breach::Deaf);
        }
    }

    /// All that an instance printed is written, says the writer of the log at `writer`.
    pub(super) fn printed(&mut self, writer: usize, seat: u32, generation: u64) {
        if self.leftovers.printing.remove(&(seat, generation)).is_none() {
            self.breach(writer, Breach::Protocol);
        }
    }

    /// Whether the writer of the log may still report what somebody was denied.
    pub(super) fn may_report_denials(&self) -> bool {
        !self.leftovers.printing.is_empty()
            && self.place_of(Role::Log).is_some_and(|it| self.runs(it))
    }
}
