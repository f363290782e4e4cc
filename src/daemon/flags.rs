//! The flags that every daemon takes, whoever wrote it.

use std::path::PathBuf;

use crate::log::LogFormat;
use crate::users::Key;

/// What `cofferdam run` takes besides a policy, for a daemon's own command line to take too: with
/// `#[command(flatten)]` in its own `clap::Parser`, or by [`Daemon::args`](crate::Daemon::args).
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Flags {
    /// Run this policy in place of the program's own
    #[arg(long = "policy", id = "policy-file", value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// Keep the audit log in this directory, which is made if it isn't there
    #[arg(long, value_name = "DIR")]
    pub audit: Option<PathBuf>,
    /// Refuse a policy that grants anything above this one
    #[arg(long, value_name = "FILE")]
    pub ceiling: Option<PathBuf>,
    /// Give a variable of the policy's `[vars]` another value
    #[arg(long = "var", value_name = "NAME=VALUE", value_parser = variable)]
    pub vars: Vec<(String, String)>,
    /// Let the layers be the users of the daemon that is recorded as NAME, or NAME+2 for the second
    /// of a name; as root only
    #[arg(long, value_name = "NAME", value_parser = key)]
    pub users: Option<Key>,
    /// Write the log as text, as objects of JSON, or to the journal, with fields
    #[arg(long, value_name = "FORMAT", value_parser = log_format)]
    pub log_format: Option<LogFormat>,
    /// Where the private key of this host is, for a policy whose layers run on several hosts [default:
    /// /etc/cofferdam/host.key, or as an ordinary user ~/.config/cofferdam/host.key]
    #[arg(long, value_name = "FILE")]
    pub host_key: Option<PathBuf>,
    /// Run the layers of all hosts on this machine, as if the policy named no keys of theirs
    #[arg(long, conflicts_with = "host_key")]
    pub one_machine: bool,
    /// Show for every layer and protection what was asked beside what the kernel enforces
    #[arg(long)]
    pub receipts: bool,
    /// Look at the paths that programs of `exec` layers open, make and remove, and tell of those that
    /// the policy doesn't grant; each such call takes longer
    #[arg(long)]
    pub tell_paths: bool,
}

impl Flags {
    /// Adds what others say: of what there can be only one, the later wins.
    pub(super) fn add(&mut self, other: Self) {
        let Self {
            policy,
            audit,
            ceiling,
            vars,
            users,
            log_format,
            host_key,
            one_machine,
            receipts,
            tell_paths,
        } = other;
        self.policy = policy.or(self.policy.take());
        self.audit = audit.or(self.audit.take());
        self.ceiling = ceiling.or(self.ceiling.take());
        self.vars.extend(vars);
        self.users = users.or(self.users.take());
        self.log_format = log_format.or(self.log_format.take());
        self.host_key = host_key.or(self.host_key.take());
        self.one_machine |= one_machine;
        self.receipts |= receipts;
        self.tell_paths |= tell_paths;
    }
}

/// A daemon's own command line, where it takes nothing else.
#[derive(Debug, clap::Parser)]
#[command(about = "A daemon in confined layers")]
pub(super) struct Alone {
    #[command(flatten)]
    pub(super) flags: Flags,
}

fn key(text: &str) -> Result<Key, String> {
    text.parse()
        .map_err(|()| "write the name of a daemon, or NAME+2 for the second of it".to_owned())
}

/// The forms of the log, as a command line has them.
fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        "journal" => Ok(LogFormat::Journal),
        _ => Err("write `text`, `json` or `journal`".to_owned()),
    }
}

/// Reads `NAME=VALUE`.
pub fn variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}
