//! `cofferdam check POLICY...`: every mistake of each policy, or a line that it is fine.

use std::cell::RefCell;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Value, json};

use super::here;
use super::read::{self, Outside};
use crate::daemon::policy_file::{self, PolicyFile, PolicyFileError};
use crate::policy::code::Code;
use crate::policy::diagnostic::{Diagnostic, Severity};
use crate::policy::{self, Checked, Inputs};

/// Arguments of `cofferdam check`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The policies to check
    #[arg(value_name = "POLICY", required = true)]
    policies: Vec<PathBuf>,
    /// How to report
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Count warnings as mistakes
    #[arg(long)]
    deny_warnings: bool,
    /// The policy is for this machine: warn of what isn't here as it says, instead of noting it
    #[arg(long)]
    here: bool,
    #[command(flatten)]
    outside: Outside,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For people: mistakes on standard error, `ok` lines on standard output
    Text,
    /// For programs: one JSON object on standard output
    Json,
}

/// Checks each policy. Exit code 0: all are fine; 1: one is not; 3: one can't be read.
pub fn run(args: &Args) -> ExitCode {
    let reports: Vec<_> = args.policies.iter().map(|path| Report::of(path, args)).collect();
    let written = match args.format {
        Format::Text => reports.iter().try_for_each(|report| report.print(args)),
        Format::Json => print_json(&reports, args),
    };
    let code = reports.iter().map(|report| report.exit_code(args)).max().unwrap_or(0);
    read::given(written, code)
}

/// What is to be said of one policy.
enum Report {
    Checked(Box<Checked>),
    Unread(PathBuf, PolicyFileError),
}

impl Report {
    fn of(path: &Path, args: &Args) -> Self {
        let outside = &args.outside;
        let name = path.display().to_string();
        let found = RefCell::new(Vec::new());
        let inspect = |path: &Path| {
            policy_file::inspect(path).map(|PolicyFile { bytes, defects }| {
                found.borrow_mut().extend(defects);
                bytes
            })
        };
        let bytes = match inspect(path) {
            Ok(bytes) => bytes,
            Err(error) => return Self::Unread(path.to_owned(), error),
        };
        let ceiling = match outside.ceiling.as_ref().map(|path| (path, inspect(path))) {
            Some((path, Ok(bytes))) => Some((path.display().to_string(), bytes)),
            Some((path, Err(error))) => return Self::Unread(path.clone(), error),
            None => None,
        };
        let load = |path: &str| inspect(Path::new(path)).map_err(|error| error.to_string());
        let inputs = Inputs {
            load: Some(&load),
            vars: &outside.vars,
            ceiling: ceiling.as_ref().map(|(name, bytes)| (name.as_str(), bytes.as_slice())),
        };
        let mut checked = policy::check_with(&name, &bytes, &inputs);
        // A checkout may be writable by a team; what runs may not, so it is told.
        let warn = |defect: policy_file::Defect| {
            let mut warning =
                Diagnostic::about_file(Code::UnsafeFile, Severity::Warning, defect.to_string());
            warning.help("`cofferdam run` will refuse this file until then");
            warning
        };
        let mut defects = found.take();
        // Several files in one directory have its defects in common.
        let mut seen = Vec::new();
        defects.retain(|defect| {
            !seen.contains(defect) && {
                seen.push(defect.clone());
                true
            }
        });
        checked.diagnostics.splice(0..0, defects.into_iter().map(warn));
        if let Some(plan) = &checked.plan {
            let severity = if args.here { Severity::Warning } else { Severity::Note };
            checked.diagnostics.extend(here::look(plan, &checked.places, severity));
            checked.diagnostics.extend(here::kept(plan, &checked.places));
        }
        Self::Checked(Box::new(checked))
    }

    fn exit_code(&self, args: &Args) -> u8 {
        match self {
            Self::Checked(checked) if fine(checked, args) => 0,
            Self::Checked(_) => 1,
            Self::Unread(_, error) if error.is_finding() => 1,
            Self::Unread(..) => 3,
        }
    }

    fn print(&self, args: &Args) -> std::io::Result<()> {
        let mut stderr = anstream::stderr().lock();
        let checked = match self {
            Self::Checked(checked) => checked,
            Self::Unread(_, error) => return writeln!(stderr, "error: {error}"),
        };
        // The stream takes the colours out again where there is no terminal.
        write!(stderr, "{}", checked.render(true))?;
        let path = checked.source_name.escape_debug();
        let Some(plan) = checked.plan.as_ref().filter(|_| fine(checked, args)) else {
            let errors = count(checked.errors() + checked.more, "mistake");
            let warnings = count(checked.warnings(), "warning");
            return writeln!(stderr, "{path}: {errors}, {warnings}");
        };
        let mut stdout = anstream::stdout().lock();
        if args.policies.len() > 1 {
            write!(stdout, "{path}: ")?;
        }
        let id = plan.id().map_or_else(|_| "unknown".to_owned(), |id| id.short());
        let layers = count(plan.layers.len(), "layer");
        let channels = count(plan.channels.len(), "channel");
        writeln!(stdout, "ok: {layers}, {channels}, id {id}")
    }

    fn json(&self) -> Value {
        match self {
            Self::Checked(checked) => checked.json(),
            Self::Unread(path, error) => json!({
                "path": path.display().to_string(),
                "ok": false,
                "error": error.to_string(),
            }),
        }
    }
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

fn fine(checked: &Checked, args: &Args) -> bool {
    checked.plan.is_some() && !(args.deny_warnings && checked.warnings() > 0)
}

fn print_json(reports: &[Report], args: &Args) -> std::io::Result<()> {
    let report = json!({
        "ok": reports.iter().all(|report| report.exit_code(args) == 0),
        "policies": reports.iter().map(Report::json).collect::<Vec<_>>(),
    });
    writeln!(anstream::stdout().lock(), "{report:#}")
}
