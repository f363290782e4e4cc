//! `cofferdam graph POLICY`: a picture of a policy.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::read;
use crate::policy::ways::Ways;
use crate::review::exposure;
use crate::review::graph::Graph;

/// Arguments of `cofferdam graph`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The policy to draw
    #[arg(value_name = "POLICY")]
    policy: PathBuf,
    /// What to write
    #[arg(long, value_enum, default_value_t = Format::Svg)]
    format: Format,
    /// Where to write it, instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    outside: read::Outside,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// A picture for browsers, light and dark
    Svg,
    /// Text for Graphviz
    Dot,
    /// Text for viewers of Markdown
    Mermaid,
}

/// Draws the policy. Exit code 0: drawn; 1: the policy has mistakes; 3: it can't be read, or the
/// picture can't be written.
pub fn run(args: &Args) -> ExitCode {
    let plan = match read::sound(&args.policy, &args.outside) {
        Ok(policy) => policy.plan,
        Err(code) => return code,
    };
    let ways = Ways::of(&plan);
    let graph = Graph::new(&plan, &|layer| exposure(layer, &ways).score);
    let text = match args.format {
        Format::Svg => graph.svg(),
        Format::Dot => graph.dot(),
        Format::Mermaid => graph.mermaid(),
    };
    match write(args.output.as_deref(), &text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let place = args.output.as_deref().unwrap_or(Path::new("standard output"));
            let _ = writeln!(
                anstream::stderr(),
                "error: can't write the picture to {}: {error}",
                place.display()
            );
            ExitCode::from(3)
        }
    }
}

fn write(path: Option<&Path>, text: &str) -> io::Result<()> {
    match path {
        Some(path) => std::fs::write(path, text),
        None => match io::stdout().lock().write_all(text.as_bytes()) {
            // Whoever closed the pipe has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            done => done,
        },
    }
}
