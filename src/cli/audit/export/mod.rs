//! `cofferdam audit export DIR`: the records for other programs.

mod chrome;
mod clock;
mod otlp;
mod pcapng;

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use super::filter::{Wanted, Window, search};
use super::names::{Names, Said};
use super::{Dir, Failure, damaged, save};
use crate::audit::query::Effort;
use crate::audit::{Record, Store};

/// Arguments of `cofferdam audit export`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
json    an object a line, as `query --format json` writes it
pcapng  for Wireshark, link type 147, with docs/cofferdam.lua:
        tshark -X lua_script:docs/cofferdam.lua -r audit.pcapng
chrome  a trace for chrome://tracing and ui.perfetto.dev: a process for each
        layer, a thread for each instance, calls as spans, messages as arrows
otlp    spans for OpenTelemetry, a request a line: of what names its trace

Exit code 0: exported; 1: a part of the log can't be read.")]
pub struct Args {
    #[command(flatten)]
    dir: Dir,
    #[command(flatten)]
    wanted: Wanted,
    #[command(flatten)]
    window: Window,
    /// What to write
    #[arg(long, value_enum)]
    format: Form,
    /// Into this file, which its owner alone may read, instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    /// JSON Lines
    Json,
    /// A capture file
    Pcapng,
    /// Trace events
    Chrome,
    /// OpenTelemetry's spans as JSON Lines
    Otlp,
}

/// What writes one of the forms.
trait Writer {
    /// What comes before the records.
    fn begin(&mut self, out: &mut dyn Write) -> io::Result<()>;
    /// One record.
    fn record(
        &mut self,
        era: usize,
        record: &Record,
        said: &Said<'_>,
        out: &mut dyn Write,
    ) -> io::Result<()>;
    /// What comes behind them.
    fn end(&mut self, out: &mut dyn Write) -> io::Result<()>;
}

/// JSON Lines: nothing but the records.
struct Lines;

impl Writer for Lines {
    fn begin(&mut self, _: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }

    fn record(
        &mut self,
        _: usize,
        _: &Record,
        said: &Said<'_>,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        serde_json::to_writer(&mut *out, said)?;
        out.write_all(b"\n")
    }

    fn end(&mut self, _: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }
}

/// Exports.
pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let store = args.dir.open()?;
    let names = Names::read(&store)?;
    args.wanted.check(&names).map_err(Failure::usage)?;
    if args.format == Form::Pcapng && args.output.is_none() && io::stdout().is_terminal() {
        return Err(Failure::usage("a capture is not for terminals: give -o FILE, or a pipe"));
    }
    let mut writer: Box<dyn Writer> = match args.format {
        Form::Json => Box::new(Lines),
        Form::Pcapng => Box::new(pcapng::Capture::new(names.at(u64::MAX))),
        Form::Chrome => Box::new(chrome::Trace::new(&names)),
        Form::Otlp => Box::new(otlp::Spans::new(&names)),
    };
    let mut effort = Ok(Effort::default());
    save(args.output.as_deref(), |out| {
        writer.begin(out)?;
        effort = records(&store, &names, args, &mut *writer, out)?;
        writer.end(out)
    })?;
    let effort = effort?;
    if effort.damaged > 0 { Err(damaged(effort.damaged)) } else { Ok(ExitCode::SUCCESS) }
}

/// Writes the records. The outer error is the output's, the inner one the log's.
fn records(
    store: &Store,
    names: &Names,
    args: &Args,
    writer: &mut dyn Writer,
    out: &mut dyn Write,
) -> io::Result<Result<Effort, Failure>> {
    let mut result = Ok(());
    let wanted = (&args.wanted, &args.window);
    let effort = search(store, names, wanted, (0..u64::MAX, false), |record| {
        let said = names.say(&record);
        result = writer.record(names.era(record.index), &record, &said, out);
        result.is_ok()
    });
    result.map(|()| effort.map_err(Failure::from))
}
