//! The kill matrix: for every facility, every party is killed at every marked point of the
//! protocol, and then it is looked at what is left.
//!
//! Started without arguments (as `cargo test` does) it runs a small part, one test a facility.
//! `--all` runs every case and prints a table; a word runs those whose name holds it.
//!
//! This program is the daemons too: `--case FACILITY ACTOR MARK NTH POLICY` is the supervisor of one
//! case, and that starts it once more in every layer.
//!
//! How a case goes: one party stops at the mark and says so; the victim, which may be another, gets
//! SIGKILL; the gate opens, and who stopped goes on if it still lives. Then everybody who survived,
//! and the victim's next life, must show that it gets on; the daemon is asked to stop; and the
//! facility's own check looks at what everybody has said.

// Blocking layers take their `Layer` by value.
#![allow(missing_docs, clippy::needless_pass_by_value)]

mod begin;
mod case;
mod facility;
mod parties;
mod table;

use std::process::ExitCode;

use case::Case;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    // A layer, or the process that looks a name up.
    let is_part = arguments.first().is_some_and(|name| name.starts_with("cofferdam-"));
    if is_part || arguments.get(1).is_some_and(|word| word == "--case") {
        return parties::daemon(&arguments).main();
    }
    let cases = facility::ALL.iter().flat_map(case::all);
    if arguments.get(1).is_some_and(|word| word == "--all") {
        let wanted = arguments.get(2).map_or("", String::as_str);
        let cases: Vec<Case> = cases.filter(|case| case.to_string().contains(wanted)).collect();
        return table::run(&cases);
    }
    let smoke = facility::ALL.iter().map(|facility| {
        let cases: Vec<Case> = sample(case::all(facility).collect());
        libtest_mimic::Trial::test(facility.name, move || {
            let wrong: Vec<String> = cases
                .iter()
                .filter_map(|case| case.run().err().map(|why| format!("{case}: {why}")))
                .collect();
            if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n").into()) }
        })
    });
    let arguments = libtest_mimic::Arguments::from_args();
    libtest_mimic::run(&arguments, smoke.collect()).exit_code()
}

/// A few cases, spread over all marks and victims.
fn sample(cases: Vec<Case>) -> Vec<Case> {
    const SMOKE: usize = 6;
    let step = cases.len().div_ceil(SMOKE).max(1);
    // A step that shares no factor with the number of victims, so that each has its turn.
    let step = if step.is_multiple_of(2) { step + 1 } else { step };
    cases.into_iter().step_by(step).collect()
}
