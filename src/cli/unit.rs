//! `cofferdam unit POLICY`: the unit by which systemd runs the whole daemon.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::read;
use crate::policy::plan::{Plan, Program};
use crate::review::export::service_unit;

/// Arguments of `cofferdam unit`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Put it into /etc/systemd/system/NAME.service, NAME being the policy's. It runs
`cofferdam run` where all layers are programs, and /usr/bin/NAME, which has the
others as functions, where not.

Exit code 0: the unit is written; 1: the policy has mistakes.")]
pub struct Args {
    /// The policy of the daemon, by the path at which the service finds it
    #[arg(value_name = "POLICY")]
    policy: PathBuf,
    /// The program that is started instead, by its whole path, and its arguments
    #[arg(last = true, value_name = "PROGRAM")]
    program: Vec<String>,
    #[command(flatten)]
    outside: read::Outside,
}

/// Writes the unit to standard output.
///
/// Exit code 0: it is written; 1: the policy has mistakes; 2: the program's path isn't whole; 3:
/// the system refused.
pub fn run(args: &Args) -> ExitCode {
    let plan = match read::sound(&args.policy, &args.outside) {
        Ok(policy) => policy.plan,
        Err(code) => return code,
    };
    let mut stderr = anstream::stderr().lock();
    if let Some(program) = args.program.first().filter(|it| !Path::new(it).is_absolute()) {
        let program = crate::text::neutralise(program.as_bytes());
        let _ = writeln!(stderr, "error: `{program}`: a service needs the program's whole path");
        return ExitCode::from(2);
    }
    let text = match command(&plan, args) {
        Ok(command) => service_unit(&plan, &command),
        Err(error) => {
            let _ = writeln!(stderr, "error: the policy's whole path: {error}");
            return ExitCode::from(3);
        }
    };
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            let _ = writeln!(stderr, "error: can't write the unit: {error}");
            ExitCode::from(3)
        }
        _ => ExitCode::SUCCESS,
    }
}

/// What the service executes.
fn command(plan: &Plan, args: &Args) -> io::Result<Vec<String>> {
    if !args.program.is_empty() {
        return Ok(args.program.clone());
    }
    let policy = std::path::absolute(&args.policy)?.to_string_lossy().into_owned();
    let are_programs = plan.layers.iter().all(|layer| matches!(layer.program, Program::Exec(_)));
    let mut words = if are_programs {
        vec!["/usr/bin/cofferdam".to_owned(), "run".to_owned(), policy]
    } else {
        vec![format!("/usr/bin/{}", plan.name), "--policy".to_owned(), policy]
    };
    words.extend(args.outside.words());
    Ok(words)
}
