//! What a daemon says of itself, and what is asked of it: lines of JSON over the socket at which it
//! is found. `docs/json.md` has the fields.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::ident::{Instance, Name};
use crate::wire::life::Load;

/// The longest request, in bytes.
pub(crate) const MAX_REQUEST: usize = 1024;

/// What is asked: one line, once a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "ask", deny_unknown_fields)]
pub(crate) enum Request {
    /// How the daemon is. One line comes: [`Reply::Status`].
    Status,
    /// That a layer, or every layer of the policy, ends in order and begins anew, one copy after the
    /// other. A line comes for each, then [`Reply::Done`].
    Restart {
        /// Which layer; without it all of the policy's, by name.
        #[serde(default)]
        layer: Option<String>,
    },
    /// That the daemon stops in order. [`Reply::Done`] comes at once, the connection's end when the
    /// layers have ended.
    Stop,
    /// That the policy is read anew, and what it changes takes effect. A line comes for each
    /// difference in authority, then [`Reply::Done`] once all runs.
    Reload {
        /// Whether authority may be gained.
        gain: bool,
    },
    /// That the program which is at the daemon's path now takes its place, and the policy is read anew.
    /// The answer is that of [`Request::Reload`].
    Upgrade {
        /// Whether authority may be gained.
        gain: bool,
    },
}

/// What is answered: a line each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Reply {
    /// How the daemon is.
    Status(Status),
    /// How far it is with what was asked.
    Progress(String),
    /// It is done.
    Done,
    /// There is no such layer, or the request is none.
    Wrong(String),
    /// It could not be done.
    Failed(String),
}

/// How a daemon is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The name by which it is found: `web`, or `web-2` for the second of that name.
    #[serde(default)]
    pub name: String,
    /// Its supervisor's process.
    #[serde(default)]
    pub pid: u32,
    /// Its policy's file.
    #[serde(default)]
    pub file: PathBuf,
    /// The directory of its audit log, if it keeps one.
    #[serde(default)]
    pub audit: Option<PathBuf>,
    /// The policy's digest, as `cofferdam check` prints it.
    pub policy: String,
    /// How long it has been running, in seconds.
    #[serde(default)]
    pub uptime: u64,
    /// Whether it was asked to stop.
    pub stopping: bool,
    /// Every instance of every layer of the policy, by name, then the framework's own.
    pub instances: Vec<InstanceStatus>,
}

/// How one copy of a layer is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InstanceStatus {
    /// The layer.
    pub layer: String,
    /// Which copy, from 0.
    pub copy: u16,
    /// Which life, from 1; 0: it was never started.
    pub generation: u64,
    /// Whether it is one of the framework's own.
    pub own: bool,
    /// How far it is.
    pub state: State,
    /// Whether it is down and nothing is wrong with that: it ended in order, or was never needed.
    pub finished: bool,
    /// For how long it has been so, in milliseconds.
    pub since: u64,
    /// Its process; for an `exec` layer that of its init.
    pub pid: Option<u32>,
    /// How much it has in its hands, by its own count; `None` where its policy doesn't say that there
    /// are as many copies as there is to do, or where it doesn't run.
    #[serde(default)]
    pub load: Option<Load>,
    /// How often it was started again.
    pub restarts: u64,
    /// How the life before ended, or the last one, in words.
    pub last: Option<String>,
    /// What the kernel enforces on it, in brief.
    pub receipt: Option<String>,
    /// What it uses of the machine's memory now, in bytes, and of its processors so far, in
    /// microseconds: all its processes together where it has a cgroup of its own.
    #[serde(default)]
    pub usage: Option<Usage>,
}

impl InstanceStatus {
    /// Who it is, unless its layer's name is none.
    pub(crate) fn instance(&self) -> Option<Instance> {
        let layer = Name::new(&self.layer).ok()?;
        Some(Instance { layer, index: self.copy, generation: self.generation })
    }
}

/// What an instance uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Memory, in bytes.
    pub memory: u64,
    /// Processor time, in microseconds.
    pub cpu: u64,
}

/// How far an instance is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It will be started.
    Waiting,
    /// It confines itself, or hasn't told yet that it is ready.
    Starting,
    /// It is confined, ready, and runs.
    Running,
    /// It was asked to finish.
    Stopping,
    /// It has ended, and the policy starts it no more.
    Down,
}

impl State {
    /// In a word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Down => "down",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_reads_as_it_is_documented() {
        let read = |text: &str| serde_json::from_str::<Request>(text);
        assert_eq!(read(r#"{"ask":"status"}"#).unwrap(), Request::Status);
        let restart = |layer: Option<&str>| Request::Restart { layer: layer.map(str::to_owned) };
        assert_eq!(read(r#"{"ask":"restart"}"#).unwrap(), restart(None));
        assert_eq!(read(r#"{"ask":"restart","layer":"a"}"#).unwrap(), restart(Some("a")));
        assert_eq!(read(r#"{"ask":"stop"}"#).unwrap(), Request::Stop);
        for wrong in [r#"{"ask":"reboot"}"#, r#"{"ask":"restart","x":1}"#, "[]", ""] {
            read(wrong).unwrap_err();
        }
        assert_eq!(serde_json::to_string(&Reply::Done).unwrap(), r#""done""#);
    }
}
