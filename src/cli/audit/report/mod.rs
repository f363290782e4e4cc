//! `cofferdam audit report DIR`: one page of HTML that tells the whole log.
//!
//! The page needs nothing from elsewhere and no script; whatever a log holds, it is only text in
//! it. Its size is bounded, however long the log is.

mod draw;
mod html;
mod page;
pub(in crate::cli) mod show;
mod story;
mod ways;

use std::path::PathBuf;
use std::process::ExitCode;

use self::story::Story;
use super::filter::{Wanted, Window};
use super::names::Names;
use super::{Dir, Failure, damaged, save};

/// Arguments of `cofferdam audit report`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The page tells of what is asked for. Whether the log is sound, whether its
reporters agree, and which grants nothing used, it says of the whole log.

Exit code 0: written; 1: written, and the log is broken.")]
pub struct Args {
    #[command(flatten)]
    dir: Dir,
    #[command(flatten)]
    wanted: Wanted,
    #[command(flatten)]
    window: Window,
    /// Where to write it, instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Show the ways of so many of the newest and of the slowest requests
    #[arg(long, value_name = "COUNT", default_value_t = 20, value_parser = clap::value_parser!(u16).range(..=500))]
    ways: u16,
}

/// Writes it. Exit code 0: written; 1: written, and the log is broken.
pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let log = args.dir.open()?;
    let names = Names::read(&log)?;
    args.wanted.check(&names).map_err(Failure::usage)?;
    let story = Story::gather(&log, names, usize::from(args.ways), &args.wanted, &args.window)?;
    let text = page::page(&story);
    save(args.output.as_deref(), |out| out.write_all(text.as_bytes()))?;
    if story.effort.damaged > 0 {
        return Err(damaged(story.effort.damaged));
    }
    Ok(ExitCode::from(u8::from(!story.verified.sound())))
}
