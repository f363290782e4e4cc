//! `cofferdam doctor`: what this kernel and this user can enforce, and what follows where they
//! can't.
//!
//! Nothing is concluded from version numbers: a child goes through the very recipe that layers go
//! through, with everything optional, and its receipt is the answer.

mod advice;
mod machine;
mod probe;

use std::io::{self, Write};
use std::process::ExitCode;

use serde_json::json;

use self::machine::Fact;
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
    let findings = match probe::examine() {
        Ok(findings) => findings,
        Err(error) => return fail(&error),
    };
    let facts = machine::facts(&findings);
    let written = match args.format {
        Format::Text => print_text(&findings, &facts),
        Format::Json => print_json(&findings, &facts),
    };
    // Whoever closed the pipe has seen enough; the exit code still tells.
    let _ = written;
    let lacks = |protection: Protection| !findings.receipt.got(protection).satisfies();
    ExitCode::from(u8::from(Protection::ALL.into_iter().any(lacks)))
}

fn fail(error: &ProbeError) -> ExitCode {
    let _ = writeln!(io::stderr(), "error: this machine can't be examined: {error}");
    ExitCode::from(3)
}

fn word(got: Got) -> &'static str {
    match got {
        Got::Enforced => "yes",
        Got::Fallback => "fallback",
        Got::NotApplicable => "not needed",
        Got::Missing(_) | Got::Untried => "no",
    }
}

fn print_text(findings: &Findings, facts: &[Fact]) -> io::Result<()> {
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
        writeln!(out, "A layer that demands one of them doesn't start; to run without:")?;
        writeln!(out, "    optional = [{list}]")
    }
}

fn print_json(findings: &Findings, facts: &[Fact]) -> io::Result<()> {
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
    let report = json!({
        "landlock_abi": findings.receipt.landlock_abi(),
        "rootless": findings.rootless,
        "protections": protections,
        "machine": facts.collect::<Vec<_>>(),
    });
    let mut out = io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, &report)?;
    writeln!(out)
}
