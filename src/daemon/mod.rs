//! A daemon as its program writes it: a policy, and a function for every layer.

pub mod flags;
mod inherited;
mod manager;
mod setup;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::error::Error;
use std::future::Future;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::layer::enter;
use crate::layer::logger::log::Log;
use crate::layer::slice::MAX_SETTINGS;
use crate::layer::{Function, Layer};
use crate::log::LogFormat;
use crate::prepare::planner::{self, Refusal, Request, Text};
use crate::prepare::steward::{self, Found, Steward};
use crate::prepare::upgrade::{self, Part, rehearsal};
use crate::supervisor::{self, Outcome, Start};
use crate::wire::life::Ending;

pub use self::flags::Flags;
pub use self::setup::{Setup, SetupError};
pub use crate::prepare::policy_file;

/// Exit code when the policy is invalid or the daemon gave up: a finding.
const FINDING: u8 = 1;

/// Exit code when the system refused.
const REFUSED: u8 = 3;

/// A daemon: what its policy is, and what runs in its layers.
///
/// ```no_run
/// # use cofferdam::{Daemon, Layer, LayerError};
/// async fn greeter(layer: Layer) -> Result<(), LayerError> {
///     layer.stopping().await;
///     Ok(())
/// }
///
/// fn main() -> std::process::ExitCode {
///     Daemon::new("policies/greeter.toml").layer("greeter", greeter).main()
/// }
/// ```
///
/// The program runs once as the supervisor and once more in every layer, up to
/// [`Daemon::main`]; work that only the supervisor may do belongs into [`Daemon::from_setup`].
pub struct Daemon {
    source: Source,
    settings: Vec<u8>,
    functions: BTreeMap<String, Function>,
    flags: Flags,
    launches: bool,
}

/// Where the policy comes from.
enum Source {
    File(PathBuf),
    Setup(Box<dyn FnMut() -> Result<Setup, SetupError>>),
}

impl Daemon {
    /// A daemon whose policy is in a file. The file, and the directories that it lies in, must not
    /// be writable to other users.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self::from_source(Source::File(path.into()))
    }

    /// A daemon whose policy is part of the program.
    pub fn from_text(name: &str, text: &str) -> Self {
        let setup = Setup::from_text(name, text);
        Self::from_source(Source::Setup(Box::new(move || Ok(setup.clone()))))
    }

    /// A daemon whose policy is made by `setup`, which runs in the supervisor alone and before
    /// anything else.
    ///
    /// [`Setup::from_file`] reads a policy from a file that nobody else may write to. With
    /// `--policy FILE` among the flags of the [`Setup`] that one is run in place of its text, and
    /// checked likewise; [`Flags::setup`] gives its text to the function before.
    ///
    /// A reload runs it once more, in a process forked right after the first time, which has what
    /// the function kept then; what it keeps now is gone afterwards.
    pub fn from_setup<E: Into<Box<dyn Error>>>(
        mut setup: impl FnMut() -> Result<Setup, E> + 'static,
    ) -> Self {
        let setup = move || setup().map_err(|error| SetupError::of(error.into()));
        Self::from_source(Source::Setup(Box::new(setup)))
    }

    fn from_source(source: Source) -> Self {
        Self {
            source,
            settings: Vec::new(),
            functions: BTreeMap::new(),
            flags: Flags::default(),
            launches: false,
        }
    }

    /// Bytes that every layer reads with [`Layer::settings`]: at most 64 KiB. No secret belongs
    /// here. Added to by those of a [`Setup`].
    #[must_use]
    pub fn settings(mut self, settings: impl Into<Vec<u8>>) -> Self {
        self.settings = settings.into();
        self
    }

    /// Whether the log shows the whole receipt of each layer: for every protection, what the
    /// policy asks beside what the kernel enforces. Otherwise it shows a line.
    #[must_use]
    pub fn receipts(mut self, shown: bool) -> Self {
        self.flags.receipts = shown;
        self
    }

    /// Gives a variable that the policy declares in `[vars]` another value.
    #[must_use]
    pub fn var(mut self, name: &str, value: &str) -> Self {
        self.flags.vars.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Refuses a policy that grants anything above the ceiling in this file, which must be as safe
    /// as the policy's own.
    #[must_use]
    pub fn ceiling(mut self, path: impl Into<PathBuf>) -> Self {
        self.flags.ceiling = Some(path.into());
        self
    }

    /// Takes the flags that a person gave; they are added to what was said before.
    #[must_use]
    pub fn flags(mut self, flags: Flags) -> Self {
        self.flags.add(flags);
        self
    }

    /// Reads the process's own arguments as [`Flags`]: for a program that takes no others. Wrong
    /// ones end the process with exit code 2, `--help` with 0.
    #[must_use]
    pub fn args(self) -> Self {
        if enter::is_layer() {
            return self;
        }
        self.flags(<flags::Alone as clap::Parser>::parse().flags)
    }

    /// In which form the log on standard error is written, unless a flag says otherwise.
    #[must_use]
    pub fn log_format(mut self, format: LogFormat) -> Self {
        self.flags.log_format = Some(format);
        self
    }

    /// Is there for one program alone: says nothing of what goes as it should, and its exit code is
    /// the program's, or 128 and the signal that killed it.
    pub(crate) fn launching(mut self) -> Self {
        self.launches = true;
        self
    }

    /// Keeps the audit log in this directory, which is made if it isn't there. Wins over
    /// `directory` in the policy's `[audit]`.
    ///
    /// Nobody else may write there, or put another directory in its place. As root it is the auditor
    /// that writes; the directory stays root's.
    #[must_use]
    pub fn audit(mut self, directory: impl Into<PathBuf>) -> Self {
        self.flags.audit = Some(directory.into());
        self
    }

    /// Registers the async function of the layers whose policy says `run = "name"`.
    #[must_use]
    pub fn layer<F, R, E>(mut self, name: &str, function: F) -> Self
    where
        F: Fn(Layer) -> R + 'static,
        R: Future<Output = Result<(), E>> + 'static,
        E: std::fmt::Display,
    {
        self.functions.insert(name.to_owned(), Function::from_async(function));
        self
    }

    /// Registers a function that doesn't use the async runtime.
    #[must_use]
    pub fn blocking_layer<F, E>(mut self, name: &str, function: F) -> Self
    where
        F: Fn(Layer) -> Result<(), E> + 'static,
        E: std::fmt::Display,
    {
        self.functions.insert(name.to_owned(), Function::from_blocking(function));
        self
    }

    /// Runs the daemon: the supervisor in the process that the user started, a layer's function in
    /// a process that the supervisor started.
    ///
    /// The exit code is 0 after an orderly end, 1 if the policy is invalid or a layer failed more
    /// often than it tolerates, 3 if the system refused something.
    pub fn main(self) -> ExitCode {
        if enter::is_layer() {
            return enter::main(&self.functions);
        }
        let part = match upgrade::part() {
            None => None,
            Some(Ok(Part::Supervise(state))) => Some(state),
            Some(other) => return self.rehearse(other),
        };
        let mut log = Log::default();
        let launches = self.launches;
        if launches {
            log.hush();
        }
        let outcome = match part {
            Some(state) => supervisor::resume(&state, &mut log)
                .map_err(|why| Refusal::system(format!("the upgrade has failed: {why}"))),
            None => self.supervise(&mut log),
        };
        let code = match outcome {
            Ok(Outcome::Fine) => ExitCode::SUCCESS,
            Ok(Outcome::GaveUp(ending)) if launches => ExitCode::from(as_shells(ending)),
            Ok(Outcome::GaveUp(_)) => ExitCode::from(FINDING),
            Ok(Outcome::Refused) => ExitCode::from(REFUSED),
            Err(Refusal { is_finding, lines }) => {
                for line in &lines {
                    log.say(line);
                }
                ExitCode::from(if is_finding { FINDING } else { REFUSED })
            }
        };
        log.flush();
        code
    }

    /// Has its part in an upgrade of a daemon that runs this program, or is about to.
    fn rehearse(mut self, part: Result<Part, String>) -> ExitCode {
        let mut find = || self.find_anew();
        ExitCode::from(match part {
            Ok(Part::Prepare(tools)) => rehearsal::prepare(tools, &supervisor::NEEDED, &mut find),
            Ok(Part::Try(state)) => rehearsal::tried(&state),
            Ok(Part::Steward(socket, path)) => steward::serve(&socket, &path, &mut find),
            Ok(Part::Supervise(_)) | Err(_) => REFUSED,
        })
    }

    /// What the daemon starts from, as it is now; an error is for a person.
    fn find_anew(&mut self) -> Result<Found, String> {
        let found = self.set_up().and_then(|setup| self.find(&setup));
        found.map_err(|(notes, refusal)| [notes, refusal.lines.join("\n")].concat())
    }

    fn supervise(mut self, log: &mut Log) -> Result<Outcome, Refusal> {
        // The kernel gives a process's first thread the process's number.
        if rustix::thread::gettid() != rustix::process::getpid() {
            return Err(Refusal::system(enter::NOT_MAIN.to_owned()));
        }
        let passed = inherited::take().map_err(|error| Refusal::system(error.to_string()))?;
        let manager =
            manager::find().map_err(|error| Refusal::system(format!("NOTIFY_SOCKET: {error}")))?;
        let setup = self.set_up().map_err(|(_, refusal)| refusal)?;
        let flags = self.flags_with(&setup);
        let format = flags.log_format.unwrap_or_default();
        log.write_as(format).map_err(|error| {
            Refusal::system(format!("`--log-format journal`: {error}; write `text` or `json`"))
        })?;
        let passed = Cell::new(passed);
        let steward = Steward::begin(&mut || self.find_anew(), || drop(passed.take()));
        let steward = steward.map_err(|error| {
            Refusal::system(format!("the process that prepares reloads can't be started: {error}"))
        })?;
        let found = self.find(&setup).map_err(|(notes, refusal)| {
            log.print(&notes);
            refusal
        })?;
        log.print(&found.notes);
        log.belong_to(found.planned.plan.name.as_str());
        let Flags { audit, users, receipts, .. } = flags;
        let passed = passed.take();
        let start = Start { found, passed, audit, users, receipts, steward, manager };
        supervisor::run(start, log).map_err(|error| Refusal::system(error.to_string()))
    }

    /// The policy, and what its program says besides.
    fn set_up(&mut self) -> Result<Setup, (String, Refusal)> {
        match &mut self.source {
            Source::Setup(setup) => setup().map_err(|e| (String::new(), Refusal::setup(&e))),
            Source::File(_) => Ok(Setup::default()),
        }
    }

    fn flags_with(&self, setup: &Setup) -> Flags {
        let mut flags = self.flags.clone();
        flags.add(setup.flags.clone());
        flags
    }

    /// What the daemon starts from, or its mistakes and why it doesn't start.
    fn find(&self, setup: &Setup) -> Result<Found, (String, Refusal)> {
        let flags = self.flags_with(setup);
        let system = |line: String| (String::new(), Refusal::system(line));
        let settings = [setup.settings.as_slice(), &self.settings].concat();
        if settings.len() > MAX_SETTINGS {
            return Err(system(format!(
                "the settings have {} bytes, more than {MAX_SETTINGS}",
                settings.len()
            )));
        }
        let file = match &self.source {
            Source::File(path) => Some(path.as_path()),
            Source::Setup(_) => None,
        };
        let policy = match flags.policy.as_deref().or(file) {
            Some(path) => Text::File(path),
            None => Text::Here { name: &setup.name, text: &setup.text, in_a_file: setup.in_a_file },
        };
        let answer = planner::plan(&Request {
            policy,
            ceiling: flags.ceiling.as_deref(),
            vars: &flags.vars,
            host_key: flags.host_key.as_deref(),
            one_machine: flags.one_machine,
            functions: self.functions.keys().map(String::as_str).collect(),
        })
        .map_err(|error| system(error.to_string()))?;
        let notes = answer.notes;
        match answer.result {
            Ok(planned) => Ok(Found { planned, notes, settings, tells_paths: flags.tell_paths }),
            Err(refusal) => Err((notes, refusal)),
        }
    }
}

/// A program's end as shells tell it.
fn as_shells(ending: Ending) -> u8 {
    let (Ending::Exited(code) | Ending::Killed(code)) = ending;
    let killed = if matches!(ending, Ending::Killed(_)) { 128 } else { 0 };
    u8::try_from(code + killed).unwrap_or(FINDING)
}

impl Refusal {
    fn system(line: String) -> Self {
        Self { is_finding: false, lines: vec![line] }
    }

    fn setup(error: &SetupError) -> Self {
        Self { is_finding: error.is_finding(), lines: vec![error.to_string()] }
    }
}
