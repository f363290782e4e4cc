//! A daemon as its program writes it: a policy, and a function for every layer.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::log::Log;
use super::{Outcome, Supervisor, policy_file};
use crate::layer::enter;
use crate::layer::slice::MAX_SETTINGS;
use crate::layer::{Function, Layer};
use crate::policy::plan::{Plan, Program};
use crate::policy::{self, Inputs};

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
    vars: Vec<(String, String)>,
    ceiling: Option<PathBuf>,
}

/// Where the policy comes from.
enum Source {
    File(PathBuf),
    Setup(Box<dyn FnOnce() -> Result<Setup, String>>),
}

/// A policy that the program makes or embeds, and what its layers shall know.
#[derive(Clone, Debug)]
pub struct Setup {
    /// What the policy is called in messages.
    pub name: String,
    /// The policy.
    pub text: String,
    /// See [`Daemon::settings`].
    pub settings: Vec<u8>,
}

impl Daemon {
    /// A daemon whose policy is in a file. The file, and the directories that it lies in, must not
    /// be writable to other users.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self::from_source(Source::File(path.into()))
    }

    /// A daemon whose policy is part of the program.
    pub fn from_text(name: &str, text: &str) -> Self {
        let setup = Setup { name: name.to_owned(), text: text.to_owned(), settings: Vec::new() };
        Self::from_setup(|| Ok(setup))
    }

    /// A daemon whose policy is made by `setup`, which runs in the supervisor alone and before
    /// anything else.
    pub fn from_setup(setup: impl FnOnce() -> Result<Setup, String> + 'static) -> Self {
        Self::from_source(Source::Setup(Box::new(setup)))
    }

    fn from_source(source: Source) -> Self {
        let (settings, functions) = (Vec::new(), BTreeMap::new());
        Self { source, settings, functions, vars: Vec::new(), ceiling: None }
    }

    /// Bytes that every layer reads with [`Layer::settings`]: at most 64 KiB. No secret belongs
    /// here. Added to by those of a [`Setup`].
    #[must_use]
    pub fn settings(mut self, settings: impl Into<Vec<u8>>) -> Self {
        self.settings = settings.into();
        self
    }

    /// Gives a variable that the policy declares in `[vars]` another value.
    #[must_use]
    pub fn var(mut self, name: &str, value: &str) -> Self {
        self.vars.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Refuses a policy that grants anything above the ceiling in this file, which must be as safe
    /// as the policy's own.
    #[must_use]
    pub fn ceiling(mut self, path: impl Into<PathBuf>) -> Self {
        self.ceiling = Some(path.into());
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
        let mut log = Log::default();
        let outcome = self.supervise(&mut log);
        log.flush();
        outcome
    }

    fn supervise(self, log: &mut Log) -> ExitCode {
        let Self { source, settings, functions, vars, ceiling } = self;
        // What a program embeds has nothing beside it that it could include.
        let in_a_file = matches!(source, Source::File(_));
        let setup = match source {
            Source::Setup(setup) => setup(),
            Source::File(path) => read(&path),
        };
        let mut setup = match setup {
            Ok(setup) => setup,
            Err(error) => {
                log.say(&error);
                return ExitCode::from(REFUSED);
            }
        };
        setup.settings.extend(settings);
        if setup.settings.len() > MAX_SETTINGS {
            log.say(&format!(
                "the settings have {} bytes, more than {MAX_SETTINGS}",
                setup.settings.len()
            ));
            return ExitCode::from(REFUSED);
        }

        let ceiling = match ceiling.map(|path| read(&path)).transpose() {
            Ok(ceiling) => ceiling,
            Err(error) => {
                log.say(&error);
                return ExitCode::from(REFUSED);
            }
        };
        let load = |path: &str| policy_file::read(Path::new(path)).map_err(|e| e.to_string());
        let inputs = Inputs {
            load: if in_a_file { Some(&load) } else { None },
            vars: &vars,
            ceiling: ceiling.as_ref().map(|file| (file.name.as_str(), file.text.as_bytes())),
        };
        let checked = policy::check_with(&setup.name, setup.text.as_bytes(), &inputs);
        log.print(&checked.render(false));
        let Some(plan) = checked.plan else { return ExitCode::from(FINDING) };
        let missing = policy::unbuilt(&plan);
        if !missing.is_empty() {
            for text in &missing {
                log.say(text);
            }
            return ExitCode::from(REFUSED);
        }
        let unbound = unbound(&plan, &functions);
        if !unbound.is_empty() {
            for text in &unbound {
                log.say(text);
            }
            return ExitCode::from(FINDING);
        }
        let outcome = Supervisor::new(plan, setup.settings, log).map(|mut daemon| daemon.run());
        match outcome {
            Ok(Outcome::Fine) => ExitCode::SUCCESS,
            Ok(Outcome::GaveUp) => ExitCode::from(FINDING),
            Ok(Outcome::Refused) => ExitCode::from(REFUSED),
            Err(error) => {
                log.say(&error.to_string());
                ExitCode::from(REFUSED)
            }
        }
    }
}

fn read(path: &Path) -> Result<Setup, String> {
    let bytes = policy_file::read(path).map_err(|error| error.to_string())?;
    let name = path.display().to_string();
    // What isn't UTF-8 is refused by the checker, which says where.
    Ok(Setup { name, text: String::from_utf8_lossy(&bytes).into_owned(), settings: Vec::new() })
}

/// Names that the policy runs and the program doesn't register, and the other way round.
fn unbound(plan: &Plan, functions: &BTreeMap<String, Function>) -> Vec<String> {
    let run = |program: &Program| match program {
        Program::Run(name) => Some(name.as_str().to_owned()),
        Program::Exec(_) => None,
    };
    let missing = plan.layers.iter().filter_map(|layer| {
        let name = run(&layer.program).filter(|name| !functions.contains_key(name))?;
        Some(format!(
            "[layer.{}] run = \"{name}\": this program registers no function of that name; it has \
             {}",
            layer.name,
            if functions.is_empty() {
                "none: `exec = [\"/path/of/program\"]` runs an ordinary one".to_owned()
            } else {
                functions.keys().cloned().collect::<Vec<_>>().join(", ")
            }
        ))
    });
    let unused = functions.keys().filter(|&name| {
        !plan.layers.iter().any(|layer| run(&layer.program).as_ref() == Some(name))
    });
    let unused = unused.map(|name| {
        format!("the program registers the function {name}, and no layer of the policy runs it")
    });
    missing.chain(unused).collect()
}
