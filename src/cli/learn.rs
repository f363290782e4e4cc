//! `cofferdam learn -- PROGRAM ARG...`: a policy for a program, from what it does. `cofferdam learn
//! POLICY`: what a layer's policy lacks for what its program does.

mod address;
mod again;
mod denied;
mod launch;
mod note;
mod paths;
mod peaks;
mod policy;
pub(super) mod program;
mod scratch;
mod streams;
mod tell;
mod watch;

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use self::denied::Denials;
use self::launch::{LaunchError, Order};
use self::note::Notes;
use self::paths::Resolver;
use self::peaks::Watch;
use self::policy::Learned;
use self::program::Chosen;
use self::streams::Prints;
use self::watch::Outcome;
use super::read::{Format, Outside};
use crate::daemon::flags::variable;
use crate::review::learn::Seen;
use crate::text::neutralise;

/// Arguments of `cofferdam learn`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The program runs with what you may do, but for your files: what it changes of them
is gone when it ends, unless with --write-through. Connections are real. It is
learned from until all of it has ended, or until SIGINT or SIGTERM, which is
passed on.

What needs a reason is not granted but asked, as a comment in the policy, unless
--because gives one.

Exit code 0: learned, and nothing more is needed; 1: the policy, enforced, failed
where the program didn't, or something was asked; 2: wrong usage; 3: the program
can't be run or watched.")]
pub struct Args {
    /// Learn what this policy lacks, and show it as a difference
    policy: Option<PathBuf>,
    /// The program, and its arguments
    #[arg(last = true, required_unless_present = "policy")]
    command: Vec<OsString>,
    /// Learn from what this audit log says that layers were refused, and run nothing
    #[arg(long, value_name = "DIR", requires = "policy", conflicts_with = "command")]
    from: Option<PathBuf>,
    /// The layer of the policy that is learned for; needed where several execute a program
    #[arg(long, value_name = "LAYER", requires = "policy")]
    layer: Option<String>,
    /// Write the difference into the policy
    #[arg(long, requires = "policy")]
    write: bool,
    /// Write only this one of the numbered proposals into the policy
    #[arg(long, value_name = "N", requires = "policy")]
    take: Option<usize>,
    /// Write the new policy to this file, and leave standard output to the program
    #[arg(long, value_name = "FILE", conflicts_with = "policy")]
    output: Option<PathBuf>,
    /// Call the new policy's layer so, in place of the program's name
    #[arg(long, value_name = "NAME", conflicts_with = "policy")]
    name: Option<String>,
    /// Be this user, by name or number; as root only
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// Give the program a variable of its environment, which has few without
    #[arg(long = "env", value_name = "NAME=VALUE", value_parser = variable)]
    env: Vec<(String, String)>,
    /// Let the program change files for good
    #[arg(long)]
    write_through: bool,
    /// Give the program a network of its own, with nobody else on it
    #[arg(long)]
    offline: bool,
    /// Grant, for this reason, to start programs, to run what was written to memory and to use System
    /// V's objects, if it did, and calls that are in no group
    #[arg(long, value_name = "REASON")]
    because: Option<String>,
    #[command(flatten)]
    trial: Trial,
    /// How to report
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    #[command(flatten)]
    outside: Outside,
}

/// Whether the new policy is run by itself afterwards: otherwise it is if the program ended by itself.
#[derive(Clone, Copy, Debug, clap::Args)]
struct Trial {
    /// Run the new policy afterwards even if the program had to be stopped
    #[arg(long, conflicts_with_all = ["never", "policy"])]
    again: bool,
    /// Don't run the new policy afterwards
    #[arg(long = "no-again", conflicts_with = "policy")]
    never: bool,
}

/// Why there is nothing to tell, and the exit code.
pub(super) struct Refusal(pub(super) u8, pub(super) String);

/// Learns.
pub fn run(args: &Args) -> ExitCode {
    let done = match &args.policy {
        Some(policy) => add(policy, args),
        None => make(args),
    };
    done.unwrap_or_else(|Refusal(code, words)| {
        let _ = writeln!(anstream::stderr(), "error: {}", neutralise(words.as_bytes()));
        ExitCode::from(code)
    })
}

/// Learns a new policy.
fn make(args: &Args) -> Result<ExitCode, Refusal> {
    let chosen = program::choose(args)?;
    if let Some(file) = args.output.as_ref().filter(|file| file.exists()) {
        let file = file.display();
        let words = format!("{file} is there already: `cofferdam learn {file}` adds to a policy");
        return Err(Refusal(2, words));
    }
    let signals = watch::signals().map_err(|error| Refusal(3, error.to_string()))?;
    let (seen, outcome) = learn(args, &chosen, &signals)?;
    let learned = Learned::new(&seen, &chosen, args.because.as_deref())?;
    match &args.output {
        Some(file) => std::fs::write(file, &learned.text)
            .map_err(|error| Refusal(3, format!("{}: {error}", file.display())))?,
        None if args.format == Format::Text => {
            let _ = anstream::stdout().write_all(learned.text.as_bytes());
        }
        None => {}
    }
    tell::learned(&learned, &seen, &outcome);
    let by_itself = !outcome.is_stopped && !outcome.is_spent && outcome.end.is_some();
    let tried = if !args.trial.never && (args.trial.again || by_itself) {
        Some(again::run(args, &chosen, &learned, &signals, &outcome)?)
    } else {
        None
    };
    tell::explained(&learned);
    if args.format == Format::Json {
        tell::json(&learned, &outcome, tried.as_ref());
    }
    let is_whole = learned.questions() == 0 && tried.is_none_or(|tried| tried.is_alike);
    Ok(ExitCode::from(u8::from(!is_whole)))
}

/// Learns what a policy lacks.
fn add(path: &Path, args: &Args) -> Result<ExitCode, Refusal> {
    let old = policy::Old::read(path, args)?;
    if let Some(directory) = &args.from {
        let denials = Denials::read(directory)?;
        let learned = old.denied(&denials, args.take)?;
        tell::denied(&learned, &denials, &old, args.format);
        return taken_over(path, args, &learned);
    }
    let chosen = program::of_layer(old.layer()?, args)?;
    let signals = watch::signals().map_err(|error| Refusal(3, error.to_string()))?;
    let (seen, outcome) = learn(args, &chosen, &signals)?;
    let learned = old.lacks(&seen, args.take)?;
    tell::lacking(&learned, &seen, &outcome, &old, args.format);
    taken_over(path, args, &learned)
}

/// Writes what is to be written, and gives the exit code.
fn taken_over(path: &Path, args: &Args, learned: &Learned) -> Result<ExitCode, Refusal> {
    if args.write || args.take.is_some() {
        replace(path, &learned.text)
            .map_err(|error| Refusal(3, format!("{}: {error}", path.display())))?;
    }
    Ok(ExitCode::from(u8::from(!learned.proposals.is_empty() && !args.write)))
}

/// Puts a text in a file's place, all of it or nothing, with the file's mode and owner. What a link leads
/// to is replaced, not the link.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let path = path.canonicalize()?;
    let before = path.metadata()?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".learn-{}", std::process::id()));
    let draft = path.with_file_name(name);
    let write = || -> io::Result<()> {
        let mut file =
            fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        file.write_all(text.as_bytes())?;
        let (uid, gid) = (before.uid(), before.gid());
        if file.metadata().is_ok_and(|own| (own.uid(), own.gid()) != (uid, gid)) {
            std::os::unix::fs::fchown(&file, Some(uid), Some(gid))?;
        }
        file.set_permissions(before.permissions())?;
        file.sync_all()?;
        fs::rename(&draft, &path)
    };
    write().inspect_err(|_| drop(fs::remove_file(&draft)))
}

/// Runs the program and notes what it does.
fn learn(
    args: &Args,
    chosen: &Chosen,
    signals: &nix::sys::signalfd::SignalFd,
) -> Result<(Seen, Outcome), Refusal> {
    let filter = watch::filter().map_err(|error| Refusal(3, error.to_string()))?;
    let order = Order {
        program: chosen.path.clone().into(),
        argv: chosen.words.iter().map(OsString::from).collect(),
        env: chosen.env.clone(),
        user: chosen.user,
        cwd: chosen.cwd.clone(),
        writes_through: args.write_through,
        offline: args.offline,
        prints: if args.output.is_none() { Prints::Apart } else { Prints::Through },
        filter: Some(filter),
    };
    let mut started = launch::start(&order).map_err(LaunchError::into_refusal)?;
    if started.is_loose {
        tell::loose();
    }
    let again =
        |fd: &std::os::fd::OwnedFd| fd.try_clone().map_err(|error| Refusal(3, error.to_string()));
    let watch = Watch::new(again(&started.proc)?, again(&started.root)?);
    let as_root = rustix::process::geteuid().is_root() && chosen.user.is_none();
    let resolver = Resolver::new(again(&started.root)?);
    let mut notes = Notes::new(resolver, watch, &chosen.cwd, as_root);
    let outcome =
        watch::watch(&mut started, signals, &mut notes).map_err(|words| Refusal(3, words))?;
    let mut seen = notes.finish();
    seen.streams = started.streams.inherited(!outcome.is_stopped);
    Ok((seen, outcome))
}

impl LaunchError {
    fn into_refusal(self) -> Refusal {
        Refusal(3, self.to_string())
    }
}
