//! A program without a policy's file: the policy is made of the command line.
//!
//! What a program does to itself and within its layer is granted, whatever it is. What reaches
//! anything else is not: no file to write but in memory, no network, no device, no other process.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use toml_edit::{Array, DocumentMut, InlineTable, Item, Table, Value};

use super::Args;
use crate::Daemon;
use crate::cli::learn::Refusal;
use crate::cli::learn::program::{KEPT, find, locate, name_of, no_text};
use crate::ident::Name;
use crate::layer::script::{Interpreter, first_line};
use crate::policy::plan::{Stream, ViewPart};
use crate::policy::{Checked, check};
use crate::review::learn::guarded::{is_guarded, is_joinable, is_within};
use crate::text::neutralise;

/// What stays within the layer.
const CALLS: [&str; 7] =
    ["@core", "@time", "@thread", "@process", "@exec", "@file-read", "@file-write"];

/// Why, where a group needs a reason.
const BECAUSE: &str = "the program is all that runs here, and starts what it sees";

/// What of the machine is seen, and what the program has of its own in memory.
const VIEW: [&str; 6] = ["system", "zone", "locale", "proc", "tmp=64MiB", "shm=64MiB"];

/// Room for a shell and a compiler; a policy of its own says less.
const LIMITS: [(&str, &str); 3] = [("memory", "'1GiB'"), ("files", "1024"), ("tasks", "256")];

const HEAD: &str = "\
# What `cofferdam run -- PROGRAM` has: all that stays within the layer, and nothing that reaches
# anything else. Take out what the program doesn't need.
";

/// Why a program may miss its files.
const HIDDEN: &str = " (the current directory is somebody's home or the system's, and not shown)";

/// Runs the program, or writes its policy.
pub(super) fn run(args: &Args) -> Result<ExitCode, Refusal> {
    let chosen = Chosen::of(args)?;
    let text = chosen.policy();
    if let Checked { plan: None, diagnostics, .. } = check("run", text.as_bytes()) {
        let first = diagnostics.into_iter().next();
        return Err(Refusal(2, first.map_or_else(String::new, |it| it.message)));
    }
    if args.print {
        let _ = anstream::stdout().write_all(text.as_bytes());
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(line) = &chosen.warning {
        say(line);
    }
    let code =
        Daemon::from_text(chosen.name.as_str(), &text).flags(args.flags.clone()).launching().main();
    if code != ExitCode::SUCCESS {
        let words: Vec<_> =
            args.command.iter().map(|word| quoted(&word.to_string_lossy())).collect();
        let command = words.join(" ");
        let here = if chosen.here.is_some() { "" } else { HIDDEN };
        say(&format!(
            "if it failed for want of something{here}: `cofferdam learn -- {command}` writes a policy \
             from what it does, `cofferdam run --print -- {command}` the one that it had"
        ));
    }
    Ok(code)
}

/// A word as a shell reads it.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "%+,-./:=@_".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

fn say(line: &str) {
    let _ = writeln!(anstream::stderr(), "cofferdam: {}", neutralise(line.as_bytes()));
}

/// What is run.
struct Chosen {
    /// Daemon and layer.
    name: Name,
    /// The program's path and its arguments.
    words: Vec<String>,
    env: BTreeMap<String, String>,
    /// The current directory, if the program may see it.
    here: Option<String>,
    /// An interpreter that the view doesn't have.
    interpreter: Option<String>,
    /// What is told before the program runs.
    warning: Option<String>,
}

impl Chosen {
    fn of(args: &Args) -> Result<Self, Refusal> {
        let text = |text: &OsString| {
            text.clone().into_string().map_err(|text| Refusal(2, no_text(Path::new(&text))))
        };
        let mut words = args.command.iter().map(text).collect::<Result<Vec<_>, _>>()?;
        let program = words.first().cloned().unwrap_or_default();
        let real = find(&program)?;
        let cwd = std::env::current_dir().ok();
        // By the name that it is called by, for programs that go by it, where that can be seen.
        let called = locate(&program)?;
        let called = cwd.as_ref().map_or(called.clone(), |cwd| cwd.join(&called));
        let called = called.to_str().filter(|path| shows(path) && is_plain(path));
        called.unwrap_or(&real).clone_into(&mut words[0]);
        let interpreter = match first_line(&real) {
            None => None,
            Some(line) => Some(
                Interpreter::named(&line)
                    .map_err(|why| Refusal(3, format!("`{program}` can't be run: {why}")))?
                    .path,
            ),
        };
        if let Some(path) = interpreter.as_ref().filter(|path| !Path::new(path).exists()) {
            let words = format!("`{program}` can't be run: its interpreter {path} isn't there");
            return Err(Refusal(3, words));
        }
        let kept = KEPT.iter().filter_map(|it| Some(((*it).to_owned(), std::env::var(it).ok()?)));
        let mut env: BTreeMap<_, _> = kept.collect();
        env.extend(
            ["TERM"].iter().filter_map(|it| Some(((*it).to_owned(), std::env::var(it).ok()?))),
        );
        env.extend(args.env.iter().cloned());
        let mode = Path::new(&real).metadata().map_or(0, |found| found.permissions().mode());
        let special = mode & 0o6000 != 0;
        Ok(Self {
            name: name_of(&real),
            words,
            env,
            here: cwd.and_then(shown),
            interpreter: interpreter.filter(|path| !shows(path)),
            warning: special.then(|| {
                format!("{real} is set-user-id or set-group-id, which has no effect in a layer")
            }),
        })
    }

    fn policy(&self) -> String {
        let mut document = DocumentMut::new();
        document.decor_mut().set_prefix(HEAD);
        document.insert("cofferdam", Item::Value(1.into()));
        document.insert("name", text(self.name.as_str()));
        let mut layer = Table::new();
        layer.insert("exec", list(self.words.iter().map(String::as_str)));
        layer.insert("syscalls", list(CALLS.into_iter()));
        layer.insert("because", text(BECAUSE));
        layer.insert("view", list(VIEW.into_iter()));
        for stream in ["stdin", "stdout", "stderr"] {
            layer.insert(stream, text(Stream::INHERITED));
        }
        if let Some(here) = &self.here {
            layer.insert("cwd", text(here));
        }
        let env = self.env.iter().map(|(name, value)| (name.as_str(), Value::from(plain(value))));
        layer.insert("env", inline(env));
        let limits = LIMITS.iter().map(|&(key, limit)| {
            let words = limit.trim_matches('\'');
            (key, limit.parse::<i64>().map_or_else(|_| words.into(), Value::from))
        });
        layer.insert("limits", inline(limits));
        layer.insert("restart", inline([("on", "never".into())].into_iter()));
        document.insert("layer", table(self.name.as_str(), layer));
        let mut files = Table::new();
        files.set_implicit(true);
        let here =
            self.here.as_deref().map(|path| ("here", path, &["read", "list", "execute"][..]));
        let interpreter = self.interpreter.as_deref();
        let interpreter = interpreter.map(|path| ("interpreter", path, &["read", "execute"][..]));
        for (name, path, rights) in here.into_iter().chain(interpreter) {
            let mut file = Table::new();
            file.insert("path", text(path));
            let rights: Array = rights.iter().copied().collect();
            let grant = [(self.name.as_str(), Value::Array(rights))];
            file.insert("grant", inline(grant.into_iter()));
            files.insert(name, Item::Table(file));
        }
        if !files.is_empty() {
            document.insert("file", Item::Table(files));
        }
        document.to_string()
    }
}

/// The current directory as a policy says it, if a program may see it whole.
fn shown(cwd: PathBuf) -> Option<String> {
    let path = cwd.into_os_string().into_string().ok()?;
    let home = std::env::var("HOME").is_ok_and(|home| home == path);
    let is_shown = is_joinable(&path) && !is_guarded(&path) && !home && is_plain(&path);
    (is_shown && !shows(&path)).then_some(path)
}

/// Whether the system's part of the view has a path.
fn shows(path: &str) -> bool {
    ViewPart::System.paths().iter().any(|shown| is_within(path, shown))
}

/// Whether a path is written as policies write them.
fn is_plain(path: &str) -> bool {
    crate::policy::value::path(path).is_ok()
}

/// A string in which nothing stands for a variable of the policy.
fn plain(text: &str) -> String {
    text.replace("${", "$${")
}

fn text(words: &str) -> Item {
    Item::Value(plain(words).into())
}

fn list<'a>(words: impl Iterator<Item = &'a str>) -> Item {
    Item::Value(Value::Array(words.map(plain).collect()))
}

fn inline<'a>(entries: impl Iterator<Item = (&'a str, Value)>) -> Item {
    Item::Value(Value::InlineTable(entries.collect::<InlineTable>()))
}

fn table(name: &str, inner: Table) -> Item {
    let mut outer = Table::new();
    outer.set_implicit(true);
    outer.insert(name, Item::Table(inner));
    Item::Table(outer)
}
