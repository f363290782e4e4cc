//! What layers were denied: which one it was, in a line, and in the audit log.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use super::kernel::{Call, KernelLog};
use super::lines::Lines;
use super::orders::Orders;
use super::told::{lost, sentence, told};
use crate::ident::Instance;
use crate::policy::plan::{Audit, LogLevel};
use crate::policy::syscall;
use crate::report::{Desk, Facility, Facts, Side, Verdict};
use crate::wire::life::End;
use crate::wire::refusal::{Answer, Refusal};

/// How long the kernel's log may take to tell of a killed layer. It is written by a thread of the
/// kernel, which drops what comes in bursts.
const EXPLAINED_WITHIN: Duration = Duration::from_secs(1);

/// Where denials are looked up, and who reports them.
pub(super) struct Denied {
    log: KernelLog,
    desk: Desk,
    orders: Orders,
    unexplained: Vec<Unexplained>,
}

/// A layer that was killed for a system call, of which the kernel's log hasn't said yet.
struct Unexplained {
    end: End,
    until: Instant,
}

impl Denied {
    /// None yet.
    pub(super) fn new(log: KernelLog, desk: Desk, orders: Orders) -> Self {
        Self { log, desk, orders, unexplained: Vec::new() }
    }

    /// What a line says of a denial whose system call nobody can tell.
    pub(super) fn hint(&self) -> &'static str {
        if self.log.is_available() {
            ""
        } else {
            " (which one is in the kernel's log, and this user can't read it)"
        }
    }

    /// Looks up which system call somebody was killed for. False: nobody can tell.
    pub(super) fn explain(&mut self, end: &End) -> bool {
        let can = self.log.is_available();
        if can {
            let until = Instant::now() + EXPLAINED_WITHIN;
            self.unexplained.push(Unexplained { end: end.clone(), until });
        }
        can
    }

    /// What to watch, while something may be told that anybody wants to know: what Landlock refuses
    /// goes into the audit log alone.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.log.fd().filter(|_| self.reports() || !self.unexplained.is_empty())
    }

    /// When somebody is given up of whom the kernel's log says nothing.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.unexplained.iter().map(|it| it.until).min()
    }

    /// Reads the kernel's log, and tells what it says of `running` instances and of those that ended.
    /// Gives those of whom there is nothing more to tell.
    pub(super) fn look(
        &mut self,
        lines: &mut Lines,
        running: impl Fn(i32, u32) -> Option<Instance>,
    ) -> Vec<End> {
        if self.fd().is_none() {
            return Vec::new();
        }
        self.log.read();
        for (instance, refused) in self.log.refused(running) {
            let facts = Facts { verdict: Verdict::Refused, ..facts(Facility::Landlock) };
            self.report(facts, &instance, &refused.what);
        }
        let now = Instant::now();
        let mut over = Vec::new();
        for it in std::mem::take(&mut self.unexplained) {
            let Unexplained { end, until } = it;
            match self.log.call_of(end.culprit) {
                None if until > now => self.unexplained.push(Unexplained { end, until }),
                None => over.push(end),
                Some(call) => {
                    self.tell(&end.instance, call, lines);
                    over.push(end);
                }
            }
        }
        over
    }

    /// Says what the program of an instance was refused, and what would allow it.
    pub(super) fn refused(&self, instance: &Instance, refusal: &Refusal, lines: &mut Lines) {
        if refusal.lost > 0 {
            lines.say(LogLevel::Warn, &lost(instance, refusal.lost));
        }
        if refusal.times == 0 {
            return;
        }
        let told = told(instance, refusal, &self.orders);
        let verdict = match refusal.answer {
            Answer::Killed => Verdict::Killed,
            Answer::Failed(_) | Answer::Likely(_) => Verdict::Refused,
        };
        let facts = Facts {
            verdict,
            method: refusal.number,
            length: refusal.times,
            ..facts(Facility::Syscall)
        };
        self.report(facts, instance, &told.record);
        lines.say(LogLevel::Warn, &told.line);
    }

    /// Says which system call an instance was killed for, and what would allow it.
    fn tell(&self, instance: &Instance, call: Call, lines: &mut Lines) {
        let (number, what) = match call {
            Call::Foreign { number, .. } => (number, "of another architecture"),
            Call::Native(number) => (number, syscall::name_of(number).unwrap_or("")),
        };
        let facts = Facts { verdict: Verdict::Killed, method: number, ..facts(Facility::Syscall) };
        self.report(facts, instance, what);
        lines.say(LogLevel::Warn, &sentence(instance, call, &self.orders));
    }

    /// Whether there is an audit log.
    fn reports(&self) -> bool {
        self.desk.tap(Facility::Syscall, 0, Audit::Digest).is_some()
    }

    fn report(&self, facts: Facts, instance: &Instance, what: &str) {
        if let Some(tap) = self.desk.tap(facts.facility, facts.edge, Audit::Digest) {
            let who = self.desk.who(instance).to_bytes();
            tap.report(&facts, &[], &[&who[..], what.as_bytes()].concat());
        }
    }
}

fn facts(facility: Facility) -> Facts {
    Facts::new(facility, 0, Side::Helper)
}
