//! `cofferdam top [NAME]`: a running daemon at a glance, out of its audit log.

mod asked;
mod frame;
mod said;
mod terminal;
pub(super) mod view;

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use self::asked::Asked;
use self::frame::{Line, frame};
use self::said::said;
use self::terminal::{Input, Terminal};
use self::view::View;
use super::audit::{Failure, Format, open, written};
use super::running;

/// How often it is drawn anew.
const PAUSE: Duration = Duration::from_millis(500);

/// Arguments of `cofferdam top`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
? shows what keys do; q, Escape and Ctrl-C quit. Rates are those of the last five seconds; all else of
an edge is since the log's last segment began.")]
pub struct Args {
    /// Which daemon, if several run
    name: Option<String>,
    /// The directory of an audit log, whether or not a daemon runs
    #[arg(long, value_name = "DIR", conflicts_with = "name")]
    audit: Option<PathBuf>,
    /// Print one picture of 80 columns and end
    #[arg(long)]
    once: bool,
    /// How to report; `json` is one object, once
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// Watches. Exit code 0: seen; 1: no daemon runs, or it keeps no log; 2: none has that name.
pub(super) fn run(args: &Args) -> ExitCode {
    watch(args).unwrap_or_else(|failure| failure.tell())
}

fn watch(args: &Args) -> Result<ExitCode, Failure> {
    let directory = match &args.audit {
        Some(directory) => directory.clone(),
        None => running::log_of(&running::find(args.name.as_deref())?)?,
    };
    let store = open(&directory)?;
    let mut view = View::begin(&store)?;
    if args.format == Format::Json {
        view.look(&store)?;
        let text = format!("{:#}\n", said(&view));
        written(anstream::stdout().write_all(text.as_bytes()))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut asked = Asked::default();
    let terminal = std::io::stdout().is_terminal() && std::io::stdin().is_terminal();
    if args.once || !terminal {
        view.look(&store)?;
        let lines = frame(&view, &mut asked, (80, usize::MAX));
        let mut text = String::new();
        for line in &lines {
            text.push_str(line.text.trim_end());
            text.push('\n');
        }
        written(anstream::stdout().write_all(text.as_bytes()))?;
        return Ok(ExitCode::SUCCESS);
    }
    let refused = |error: std::io::Error| Failure::system(format!("the terminal: {error}"));
    let mut terminal = Terminal::take().map_err(refused)?;
    loop {
        view.look(&store)?;
        let lines: Vec<Line> = frame(&view, &mut asked, Terminal::size());
        Terminal::draw(&lines).map_err(refused)?;
        match terminal.wait(PAUSE).map_err(refused)? {
            Input::Keys(keys) if asked.take(&keys) => {}
            Input::Keys(_) | Input::Quit => return Ok(ExitCode::SUCCESS),
            Input::Nothing => {}
        }
    }
}
