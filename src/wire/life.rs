//! What is told of an instance's life: how the kernel's log names it, how it ended, and why.

use serde::{Deserialize, Serialize};

use crate::ident::Instance;

/// Whose doings are looked up in the kernel's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Culprit {
    /// The process of this number and user. Other instances, and other programs, may be the same
    /// user: an ordinary user's layers all are, and the copies of a layer with `uid`. What a
    /// program does that such a layer has executed can't be told from what theirs does.
    Process {
        /// The process, by its number outside.
        pid: i32,
        /// The user, by its number outside.
        uid: u32,
    },
    /// Any process of this user, which is one instance's alone.
    User(u32),
}

impl Culprit {
    /// Whether what the process `pid` of the user `uid` did was done by this one.
    pub fn is(self, pid: i32, uid: u32) -> bool {
        match self {
            Self::Process { pid: own, uid: user } => (own, user) == (pid, uid),
            Self::User(user) => user == uid,
        }
    }
}

/// How an instance ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ending {
    /// It returned or exited with this code.
    Exited(i32),
    /// A signal killed it.
    Killed(i32),
}

impl Ending {
    /// What a life counts as that could not begin.
    pub const UNBEGUN: Self = Self::Exited(70);

    /// Whether this counts as a failure: anything but exit code 0.
    pub fn is_failure(self) -> bool {
        self != Self::Exited(0)
    }
}

/// A limit of the policy that an instance came up against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LimitMet {
    /// It wrote past the largest size of a file, which is this many bytes.
    FileSize(u64),
    /// It used more memory than it has, which is this many bytes.
    Memory(u64),
    /// It was refused another task.
    Tasks {
        /// How often.
        refused: u64,
        /// How many it may have.
        most: u64,
    },
    /// It didn't answer the question whether it is well within this many milliseconds.
    Health(u64),
}

impl LimitMet {
    /// Its key in the policy.
    pub fn key(self) -> &'static str {
        match self {
            Self::FileSize(_) => "limits.file-size",
            Self::Memory(_) => "limits.memory",
            Self::Tasks { .. } => "limits.tasks",
            Self::Health(_) => "health",
        }
    }
}

/// All that is known of the end of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Its place among the daemon's instances.
    pub seat: u32,
    /// Who it was.
    pub instance: Instance,
    /// What the kernel's log calls it.
    pub culprit: Culprit,
    /// How it ended.
    pub ending: Ending,
    /// Whether it had been confined.
    pub served: bool,
    /// Why it could not be confined, in its own words.
    pub failure: Option<String>,
    /// Which limit it met, if that is why.
    pub limit: Option<LimitMet>,
}

/// How one of the daemon's instances is, for those who ask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Its place among the daemon's instances.
    pub seat: u32,
    /// Its present life, or its last.
    pub instance: Instance,
    /// How far it is.
    pub stage: Stage,
    /// Since when: `CLOCK_MONOTONIC`, in nanoseconds.
    pub since: u64,
    /// The process, by its number outside; 0 if there is none.
    pub pid: u32,
    /// What the kernel enforces on it: the receipt in its fixed form, empty before there is one.
    pub receipt: Vec<u8>,
    /// How much it has to do, where its policy has as many copies as there is to do.
    pub load: Option<Load>,
    /// How the life before ended, or the last one.
    pub last: Option<End>,
}

/// How much an instance has in its hands, by its own count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Load {
    /// Nothing.
    #[default]
    Idle,
    /// Something, and room for more.
    Serving,
    /// As much as its policy calls busy, or more.
    Busy,
}

impl Load {
    /// In a word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Serving => "serving",
            Self::Busy => "busy",
        }
    }
}

/// How far an instance is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// It will be started.
    Waiting,
    /// It confines itself, or isn't ready yet.
    Confining,
    /// It is confined and runs.
    Running,
    /// It was asked to finish.
    Finishing,
    /// It has ended, and is not started again.
    Down,
    /// Nobody is there, until one more is needed for a connection.
    Spare,
    /// Its layer, or so many copies of it, aren't in the policy any more.
    Gone,
}
