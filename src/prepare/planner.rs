//! The child that reads the policy and makes the plan.
//!
//! The text of a policy is anything but simple, and so are the parser, the checker and the compiler
//! of filters. They run here: in a process that may read files and write to what it holds, and
//! that ends before there is a layer.

use std::path::Path;

use serde::{Deserialize, Serialize};

use caps::Capability;

use super::child::{self, Kind, PrepareError};
use super::policy_file::{self, PolicyFileError};
use crate::host_key;
use crate::ident::{PolicyId, hex};
use crate::policy::plan::{Plan, Program};
use crate::policy::{self, Checked, Inputs};

/// It reads files, at most with root's eyes, and writes to descriptors.
pub(super) const KIND: Kind = Kind {
    does: "reads the policy",
    without: "no policy can be read",
    capabilities: &[Capability::CAP_DAC_READ_SEARCH],
    calls: &[
        "@core",
        "openat(_, _, subset of O_CLOEXEC|O_DIRECTORY|O_LARGEFILE|O_NOFOLLOW|O_NONBLOCK|O_NOCTTY|O_PATH)",
        "open(_, subset of O_CLOEXEC|O_DIRECTORY|O_LARGEFILE|O_NOFOLLOW|O_NONBLOCK)",
        "stat",
        "lstat",
        "fstat",
        "newfstatat",
        "statx",
        "readlink",
        "readlinkat",
        "getcwd",
        "geteuid",
        "getuid",
        "lseek",
        "pread64",
        "memfd_create",
        "ftruncate",
        "fcntl",
        "sendmsg",
        "getpid",
    ],
};

/// What a policy is made a plan from.
pub(crate) struct Request<'a> {
    /// The policy.
    pub policy: Text<'a>,
    /// A policy that bounds what this one may grant.
    pub ceiling: Option<&'a Path>,
    /// Values for what it declares in `[vars]`.
    pub vars: &'a [(String, String)],
    /// Where the private key of this host is, if not where it usually is.
    pub host_key: Option<&'a Path>,
    /// The layers of all hosts run on this machine.
    pub one_machine: bool,
    /// The functions that the program has registered.
    pub functions: Vec<&'a str>,
}

/// Where a policy's text is.
pub(crate) enum Text<'a> {
    /// In this file, which nobody else may be able to write to.
    File(&'a Path),
    /// Here. Only one that was read from a file has something beside it that it can include.
    Here { name: &'a str, text: &'a str, in_a_file: bool },
}

/// What came of it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Answer {
    /// Mistakes and warnings, for a person.
    pub notes: String,
    /// The plan, or why there is none.
    pub result: Result<Planned, Refusal>,
}

/// A policy that can be run.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Planned {
    /// What it is called in messages.
    pub name: String,
    /// What it comes to.
    pub plan: Plan,
    /// The plan's digest.
    pub id: PolicyId,
}

/// Why a daemon doesn't begin, as it is told to a person.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Refusal {
    /// The policy is at fault (exit code 1), and not the system (exit code 3).
    pub is_finding: bool,
    /// One line each; none where the notes say all.
    pub lines: Vec<String>,
}

/// Reads, checks and plans in a child.
pub(crate) fn plan(request: &Request<'_>) -> Result<Answer, PrepareError> {
    let (answer, _) = child::run(&KIND, 0, |_| Ok(answer(request)))?;
    Ok(answer)
}

/// The child's work.
fn answer(request: &Request<'_>) -> Answer {
    match check(request) {
        Ok((name, checked)) => {
            let notes = checked.render(false);
            let plan = checked.plan.ok_or(Refusal { is_finding: true, lines: Vec::new() });
            Answer { notes, result: plan.and_then(|plan| accept(name, plan, request)) }
        }
        Err(error) => {
            let refusal =
                Refusal { is_finding: error.is_finding(), lines: vec![error.to_string()] };
            Answer { notes: String::new(), result: Err(refusal) }
        }
    }
}

fn check(request: &Request<'_>) -> Result<(String, Checked), PolicyFileError> {
    let read = |path: &Path| {
        let bytes = policy_file::read(path)?;
        Ok::<_, policy_file::PolicyFileError>((path.display().to_string(), bytes))
    };
    let (name, text, in_a_file) = match request.policy {
        Text::File(path) => read(path).map(|(name, text)| (name, text, true))?,
        Text::Here { name, text, in_a_file } => {
            (name.to_owned(), text.as_bytes().to_vec(), in_a_file)
        }
    };
    let ceiling = request.ceiling.map(read).transpose()?;
    let load = |path: &str| policy_file::read(Path::new(path)).map_err(|e| e.to_string());
    let inputs = Inputs {
        load: if in_a_file { Some(&load) } else { None },
        vars: request.vars,
        ceiling: ceiling.as_ref().map(|(name, text)| (name.as_str(), text.as_slice())),
    };
    let checked = policy::check_with(&name, &text, &inputs);
    Ok((name, checked))
}

/// A sound plan that this program can run.
fn accept(name: String, plan: Plan, request: &Request<'_>) -> Result<Planned, Refusal> {
    let unbuilt = policy::unbuilt(&plan);
    if !unbuilt.is_empty() {
        return Err(Refusal { is_finding: false, lines: unbuilt });
    }
    let unbound = unbound(&plan, &request.functions);
    if !unbound.is_empty() {
        return Err(Refusal { is_finding: true, lines: unbound });
    }
    let plan =
        placed(plan, request).map_err(|line| Refusal { is_finding: false, lines: vec![line] })?;
    match plan.id() {
        Ok(id) => Ok(Planned { name, plan, id }),
        Err(error) => {
            let line = format!("the plan can't be encoded: {error}");
            Err(Refusal { is_finding: false, lines: vec![line] })
        }
    }
}

/// What of the plan this machine runs.
fn placed(plan: Plan, request: &Request<'_>) -> Result<Plan, String> {
    if request.one_machine || !plan.is_shared() {
        return Ok(plan.on_one_machine());
    }
    let is_root = rustix::process::geteuid().is_root();
    let path = request.host_key.map_or_else(|| host_key::default_path(is_root), Path::to_owned);
    let path = std::path::absolute(&path).map_err(|error| error.to_string())?;
    let public = host_key::public(&path);
    let read = policy_file::read(&public).map_err(|error| {
        format!(
            "the policy is for several hosts, and which of them this is can't be told: {error}; \
             `cofferdam host key` makes a key and prints the line for the policy, `--host-key FILE` \
             names another file, and with `--one-machine` all layers run here"
        )
    })?;
    let key = host_key::parse(&read).ok_or_else(|| {
        format!("{} is no host's key; `cofferdam host key` writes it anew", public.display())
    })?;
    let host = plan.hosts.iter().find(|host| host.keys.contains(&key));
    let host = host.map(|host| host.name.clone()).ok_or_else(|| {
        format!(
            "the key of this host, {}, is none that the policy names: it belongs into [host.NAME], \
             as `key`",
            hex(&key)
        )
    })?;
    Ok(plan.on(&host, &path.display().to_string()))
}

/// Names that the policy runs and the program doesn't register, and the other way round.
fn unbound(plan: &Plan, functions: &[&str]) -> Vec<String> {
    let run = |program: &Program| match program {
        Program::Run(name) => Some(name.as_str().to_owned()),
        Program::Exec(_) => None,
    };
    let missing = plan.layers.iter().filter_map(|layer| {
        let name = run(&layer.program).filter(|name| !functions.contains(&name.as_str()))?;
        Some(format!(
            "[layer.{}] run = \"{name}\": this program registers no function of that name; it has \
             {}",
            layer.name,
            if functions.is_empty() {
                "none: `exec = [\"/path/of/program\"]` runs an ordinary one".to_owned()
            } else {
                functions.join(", ")
            }
        ))
    });
    let unused = functions.iter().filter(|&&name| {
        !plan.layers.iter().any(|layer| run(&layer.program).as_deref() == Some(name))
    });
    let unused = unused.map(|name| {
        format!("the program registers the function {name}, and no layer of the policy runs it")
    });
    missing.chain(unused).collect()
}
