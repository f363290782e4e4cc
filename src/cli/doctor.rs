//! `cofferdam doctor`: what this kernel and this user can enforce, and what follows where they
//! can't.
//!
//! Nothing is concluded from version numbers: a child goes through the very recipe that layers go
//! through, with everything optional, and its receipt is the answer.

mod advice;
mod around;
mod machine;
mod obstacle;
mod probe;

use std::io::{self, Write};
use std::process::ExitCode;

use serde_json::json;

use self::around::Around;
use self::machine::Fact;
use self::obstacle::Obstacle;
use self::probe::{Findings, ProbeError};
use crate::confine::Got;
use crate::policy::plan::Protection;

/// Arguments of `cofferdam doctor`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How to report
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Be the child that is examined
    #[arg(long, hide = true)]
    probe: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For people: a line for each protection
    Text,
    /// For programs: one JSON object
    Json,
}

/// Examines this machine. Exit code 0: every protection can be given, perhaps by the next best
/// thing; 1: some can't; 3: it could not be examined.
pub fn run(args: &Args) -> ExitCode {
    if args.probe {
        return probe::child();
    }
    let around = Around::here();
    let findings = match probe::examine() {
        Ok(findings) => findings,
        Err(error) => return fail(&error, &around),
    };
    let facts = machine::facts(&findings);
    let obstacles = obstacle::all(&around, Some(&findings));
    let written = match args.format {
        Format::Text => print_text(&findings, &facts, &around, &obstacles),
        Format::Json => print_json(&findings, &facts, &obstacles),
    };
    // Whoever closed the pipe has seen enough; the exit code still tells.
    if let Err(failure) = super::audit::written(written) {
        return failure.tell();
    }
    let lacks = |protection: Protection| !findings.receipt.got(protection).satisfies();
    ExitCode::from(u8::from(Protection::ALL.into_iter().any(lacks)))
}

/// What is in the way is told all the same: it may be why nothing could be found.
fn fail(error: &ProbeError, around: &Around) -> ExitCode {
    let mut stderr = io::stderr().lock();
    let _ = writeln!(stderr, "error: this machine can't be examined: {error}");
    let _ = print_obstacles(&mut stderr, around, &obstacle::all(around, None));
    ExitCode::from(3)
}

fn print_obstacles(
    out: &mut impl Write,
    around: &Around,
    obstacles: &[Obstacle],
) -> io::Result<()> {
    if obstacles.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nIn the way in {}:", around.name())?;
    for Obstacle { what, cause, remedy } in obstacles {
        writeln!(out, "  - {what}\n    cause:  {cause}\n    remedy: {remedy}")?;
    }
    Ok(())
}

fn word(got: Got) -> &'static str {
    match got {
        Got::Enforced => "yes",
        Got::Fallback => "fallback",
        Got::NotApplicable => "not needed",
        Got::Missing(_) | Got::Untried => "no",
    }
}

fn print_text(
    findings: &Findings,
    facts: &[Fact],
    around: &Around,
    obstacles: &[Obstacle],
) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{}\n", machine::title())?;
    for protection in Protection::ALL {
        let got = findings.receipt.got(protection);
        let name = protection.name();
        let advice = advice::on(protection, got, findings);
        writeln!(out, "{}", format!("{name:18} {:10}  {advice}", word(got)).trim_end())?;
    }
    writeln!(out)?;
    for fact in facts {
        let line = format!("{:26} {:22}  {}", fact.name, fact.value, fact.consequence);
        writeln!(out, "{}", line.trim_end())?;
    }
    print_obstacles(&mut out, around, obstacles)?;
    let lacking = Protection::ALL
        .into_iter()
        .filter(|protection| !findings.receipt.got(*protection).satisfies())
        .map(|protection| format!("\"{}\"", protection.name()))
        .collect::<Vec<_>>();
    if lacking.is_empty() {
        writeln!(out, "\nEvery protection can be given here.")
    } else {
        let list = lacking.join(", ");
        writeln!(out, "\nNot to be had here: {list}.")?;
        writeln!(
            out,
            "A layer that demands one of them doesn't start; to run without, and so with"
        )?;
        writeln!(out, "what is said above of each:")?;
        writeln!(out, "    optional = [{list}]")
    }
}

fn print_json(findings: &Findings, facts: &[Fact], obstacles: &[Obstacle]) -> io::Result<()> {
    let protections = Protection::ALL.map(|protection| {
        let got = findings.receipt.got(protection);
        json!({
            "name": protection.name(),
            "given": word(got),
            "consequence": advice::on(protection, got, findings),
        })
    });
    let facts = facts.iter().map(
        |fact| json!({ "name": fact.name, "value": fact.value, "consequence": fact.consequence }),
    );
    let obstacles = obstacles
        .iter()
        .map(|it| json!({ "what": it.what, "cause": it.cause, "remedy": it.remedy }));
    let report = json!({
        "landlock_abi": findings.receipt.landlock_abi(),
        "rootless": findings.rootless,
        "protections": protections,
        "machine": facts.collect::<Vec<_>>(),
        "obstacles": obstacles.collect::<Vec<_>>(),
    });
    let mut out = io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, &report)?;
    writeln!(out)
}
