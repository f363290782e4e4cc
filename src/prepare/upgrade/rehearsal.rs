//! What a new program does before anything depends on it.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use caps::{CapSet, Capability, CapsHashSet};
use rustix::net::{RecvFlags, SendFlags};
use rustix::process::{DumpableBehavior, Signal};

use super::state::State;
use super::{Brief, Tools, program};
use crate::confine::filter::supervisor::{own_calls, supervisor_filter};
use crate::confine::identity;
use crate::layer::enter::REHEARSES;
use crate::prepare::assembly::{Assembly, Lasting};
use crate::prepare::child::{self, Handover};
use crate::prepare::steward::{self, Find, Told};
use crate::sys::fork::fork;
use crate::sys::passing;
use crate::sys::pidfd::{self, Ended};

/// How long the program may take to begin under the supervisor's filter. It has done so without already.
const TRYING: Duration = Duration::from_secs(15);

/// Prepares all that the supervisor takes over, hands it over, and stays until that has been done, or
/// won't be. `needed` are the capabilities that a supervisor of this program can't do without. Gives the
/// exit code.
pub(crate) fn prepare(tools: Tools, needed: &[Capability], find: Find<'_>) -> u8 {
    let Tools { begun, to, before, state, program, stay, key } = tools;
    let _ = rustix::thread::set_name(c"successor");
    let to = Handover::over(to);
    let dumpable = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let begun = dumpable.and_then(|()| passing::send(&begun, b"+", None, SendFlags::NOSIGNAL));
    if begun.is_err() {
        return 1;
    }
    let told = child::read(&before).map_err(|error: io::Error| error.to_string());
    let told = told.and_then(|before: Assembly| {
        fits(&State::read(&state)?, &before, needed)?;
        let told = steward::prepare(&before, &key, find, true, &to)?;
        try_out(&program, &state, &before.lasting, needed)?;
        Ok(told)
    });
    let prepared = told.is_ok();
    if to.end::<Told>(told).is_err() {
        return 1;
    }
    while prepared && rustix::net::recv(&stay, &mut [0; 1], RecvFlags::empty()).is_err() {}
    0
}

/// Whether a supervisor of this program can go on from there. An error is for a person.
fn fits(state: &State, before: &Assembly, needed: &[Capability]) -> Result<(), String> {
    let restart = |what: &str| Err(format!("{what}: that takes a restart of the daemon"));
    if !state.is_of(before) {
        return restart("the running daemon's state isn't of its policy");
    }
    if own_calls().iter().any(|call| !before.lasting.calls.contains(call)) {
        return restart(
            "the new program makes system calls that the running supervisor's filter refuses",
        );
    }
    // What nobody here has ever had nobody has given up.
    let own = caps::read(None, CapSet::Permitted).map_err(|error| error.to_string())?;
    let lost = |it: &&Capability| own.contains(it) && state.capabilities & it.bitmask() == 0;
    if rustix::process::geteuid().is_root() && needed.iter().any(|it| lost(&it)) {
        return restart(
            "the new program needs a capability that the running supervisor has given up",
        );
    }
    Ok(())
}

/// Executes the program once more, as the supervisor will.
fn try_out(
    program: &OwnedFd,
    state: &OwnedFd,
    lasting: &Lasting,
    needed: &[Capability],
) -> Result<(), String> {
    let text = |error: io::Error| format!("the new program can't be tried: {error}");
    let child = fork(|| {
        if dress(lasting, needed).is_ok() {
            program::execute(program, Some(REHEARSES), &Brief::Try(state));
        }
        1
    });
    let child = child.map_err(text)?;
    if !child::wait_readable(&[&child], TRYING).map_err(text)? {
        let _ = pidfd::signal(&child, Signal::KILL);
    }
    match pidfd::wait(&child).map_err(text)? {
        Ended::Exited(0) => Ok(()),
        how => Err(format!(
            "the new program {how} when it was tried under the running supervisor's filter: that takes a \
             restart of the daemon"
        )),
    }
}

/// Has this process be no more than the supervisor is.
fn dress(lasting: &Lasting, needed: &[Capability]) -> io::Result<()> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    if rustix::process::geteuid().is_root() {
        let granted: Vec<u8> = lasting.capabilities.iter().copied().collect();
        let kept = identity::capability_set(&granted).into_iter().chain(needed.iter().copied());
        identity::keep_at_most(&kept.collect::<CapsHashSet>())?;
    }
    rustix::thread::set_no_new_privs(true)?;
    let filter = supervisor_filter(&lasting.calls).map_err(io::Error::other)?;
    filter.load().map_err(io::Error::other)
}

/// Shows that the program comes so far, and reads its state. Gives the exit code.
pub(crate) fn tried(state: &OwnedFd) -> u8 {
    u8::from(State::read(state).is_err())
}
