//! One layer: what runs in it, its limits, and what follows its end.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    ConnectPlan, DirectoryPlan, ListenPlan, Protection, Rate, Stream, SyscallPlan, View, words,
};
use crate::ident::Name;

/// One layer: what runs, and what it may do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LayerPlan {
    /// The layer's name.
    pub name: Name,
    /// What runs in it.
    pub program: Program,
    /// How many copies run at once, 1 to [`LayerPlan::MAX_INSTANCES`]; of a layer with `hosts`, on
    /// each of them. None in the [part](super::Plan::on) of a plan that is another host's.
    pub instances: u16,
    /// The number of its first copy. Only in the [part](super::Plan::on) of a host, where those of the hosts
    /// before come first.
    pub first: u16,
    /// The hosts on which it runs, sorted. Empty where the policy names none.
    pub hosts: Vec<Name>,
    /// How many of them there are, if that changes with what there is to do; then `instances` is how
    /// many at most.
    pub elastic: Option<Elastic>,
    /// What its lives are for, if each serves one connection; then `instances` is how many serve and
    /// wait at most.
    pub workers: Option<Workers>,
    /// System calls, sorted by number, at most one entry a number.
    pub syscalls: Vec<SyscallPlan>,
    /// Listening sockets that the supervisor binds for it, sorted by name.
    pub listen: Vec<ListenPlan>,
    /// Addresses that the supervisor connects to for it, sorted by name.
    pub connect: Vec<ConnectPlan>,
    /// What an `exec` layer reads as its standard input; `None` is the null device.
    pub stdin: Option<Stream>,
    /// What an `exec` layer writes as its standard output; `None` is the log.
    pub stdout: Option<Stream>,
    /// What an `exec` layer writes as its standard error; `None` is the log.
    pub stderr: Option<Stream>,
    /// Resource limits.
    pub limits: Limits,
    /// What happens when it ends.
    pub restart: Restart,
    /// Layers that must be ready before it starts, sorted. When the daemon stops, it ends before
    /// them.
    pub after: Vec<Name>,
    /// From when on it is ready.
    pub ready: Ready,
    /// What it does when the program's settings are others.
    pub reload: OnReload,
    /// How it is asked whether it is well; `None`: it isn't.
    pub health: Option<Health>,
    /// Protections that may be missing, sorted. Everything else is demanded.
    pub optional: Vec<Protection>,
    /// What of the host's file system it sees besides its file grants.
    pub view: View,
    /// Directories that belong to it, sorted by kind, at most one of each.
    pub directories: Vec<DirectoryPlan>,
    /// Where it begins: its working directory, as it sees it.
    pub cwd: String,
    /// Permission bits that its files don't get (`umask(2)`).
    pub umask: u16,
    /// Its environment; nothing else is ever in it.
    pub env: BTreeMap<String, String>,
    /// Worker threads of a `run` layer's async runtime; `None` is one that runs in the layer's
    /// first thread alone.
    pub threads: Option<u16>,
    /// Variables of the policy that its code may read, with their values.
    pub vars: BTreeMap<String, String>,
    /// How long it may take to finish once it was asked to.
    pub grace: Duration,
    /// What asks the program of an `exec` layer to finish.
    pub stop_signal: StopSignal,
    /// What of its lines the log shows.
    pub log: LogPlan,
    /// Capabilities left to it, by number (`CAP_NET_RAW` is 13), sorted. Nearly always empty.
    pub capabilities: Vec<u8>,
    /// Whether it may make memory executable that was writable (turns off
    /// `PR_SET_MDWE`).
    pub execmem: bool,
    /// User and group, when the policy fixes them; otherwise every instance gets its own.
    pub uid: Option<u32>,
    /// Its group, when it isn't of its user's number.
    pub group: Option<u32>,
}

impl LayerPlan {
    /// The most copies of one layer.
    pub const MAX_INSTANCES: u16 = 64;
    /// The `grace` of a layer whose policy says nothing of it.
    pub const DEFAULT_GRACE: Duration = Duration::from_secs(10);
    /// The `umask` of a layer whose policy says nothing of it: nobody else reads its files.
    pub const DEFAULT_UMASK: u16 = 0o077;
    /// The most worker threads of one instance.
    pub const MAX_THREADS: u16 = 256;
    /// How the names of the framework's own layers begin, and no policy's: the auditor's, and the
    /// witness's.
    pub const RESERVED: &str = "cofferdam-";

    /// The numbers of its copies.
    pub fn copies(&self) -> Range<u16> {
        self.first..self.first.saturating_add(self.instances)
    }

    /// Which of this host's copies the one of that number is, from 0.
    pub fn turn(&self, copy: u16) -> u16 {
        copy.saturating_sub(self.first)
    }

    /// How many copies begin before anybody needs more.
    pub fn first_instances(&self) -> u16 {
        let warm = self.workers.as_ref().map(|workers| workers.warm);
        warm.or(self.elastic.map(|elastic| elastic.min)).unwrap_or(self.instances)
    }
}

/// A layer with as many copies as there is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Elastic {
    /// How many there are at least.
    pub min: u16,
    /// How long one beyond those has had nothing in its hands when it is asked to finish.
    pub idle: Duration,
    /// How much in its hands makes a copy busy.
    pub busy: u32,
}

impl Elastic {
    /// The `idle` of a layer whose policy says nothing of it.
    pub const DEFAULT_IDLE: Duration = Duration::from_secs(30);
}

/// A layer each of whose lives serves one connection, and ends with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workers {
    /// How many wait for a connection, confined.
    pub warm: u16,
    /// How long one may serve its connection until it is asked to finish.
    pub lifetime: Option<Duration>,
    /// How long a connection waits while all serve others; `None`: as long as the client does.
    pub wait: Option<Duration>,
}

impl Workers {
    /// Connections of one layer whose time is kept while they wait.
    pub const MOST_HELD: usize = 64;
}

/// What a life of a layer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Per {
    /// One connection.
    Connection,
}

words!(Per { Connection = "connection" });

/// What runs in a layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Program {
    /// A function that the daemon's program registered under this name.
    Run(Name),
    /// Another program, by absolute path, with its arguments (the path is `argv[0]`).
    Exec(Vec<String>),
}

/// What asks the program of an `exec` layer to finish (`signal(7)`). Of those that its init passes
/// on in any case, so that naming one gives nobody a right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum StopSignal {
    /// SIGTERM.
    #[default]
    Term,
    /// SIGINT.
    Int,
    /// SIGQUIT.
    Quit,
    /// SIGHUP.
    Hup,
    /// SIGUSR1.
    Usr1,
    /// SIGUSR2.
    Usr2,
}

words!(StopSignal {
    Term = "TERM",
    Int = "INT",
    Quit = "QUIT",
    Hup = "HUP",
    Usr1 = "USR1",
    Usr2 = "USR2",
});

/// What runs the tasks of a `run` layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runtime {
    /// The layer's first thread alone.
    SingleThread,
    /// Worker threads besides.
    MultiThread,
}

words!(Runtime { SingleThread = "single-thread", MultiThread = "multi-thread" });

/// Resource limits of one instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Memory in bytes: by cgroup where there is one, else by `RLIMIT_DATA`.
    pub memory: u64,
    /// Open descriptors (`RLIMIT_NOFILE`).
    pub files: u64,
    /// Tasks, that is processes and threads: by cgroup where there is one, else `RLIMIT_NPROC`.
    pub tasks: u64,
    /// Share of one processor in percent (200 is two processors); needs a cgroup.
    pub cpu: Option<u32>,
    /// Largest file it may write, in bytes (`RLIMIT_FSIZE`).
    pub file_size: u64,
}

/// How much of something an instance may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// Bytes.
    Bytes(u64),
    /// A number of things.
    Count(u64),
    /// Percent of one.
    Percent(u32),
}

impl Limits {
    /// How many limits there are.
    pub const COUNT: usize = 5;

    /// Every limit by its key, and how much there may be; `None` is no limit.
    pub fn each(&self) -> [(&'static str, Option<Amount>); Self::COUNT] {
        let &Self { memory, files, tasks, cpu, file_size } = self;
        [
            ("memory", Some(Amount::Bytes(memory))),
            ("files", Some(Amount::Count(files))),
            ("tasks", Some(Amount::Count(tasks))),
            ("cpu", cpu.map(Amount::Percent)),
            ("file-size", Some(Amount::Bytes(file_size))),
        ]
    }
}

impl Amount {
    /// The number.
    pub fn number(self) -> u64 {
        match self {
            Self::Bytes(number) | Self::Count(number) => number,
            Self::Percent(number) => number.into(),
        }
    }
}

/// What happens when an instance ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restart {
    /// Which endings are followed by a new start.
    pub on: RestartOn,
    /// How many restarts within [`Restart::within`] are tolerated; one more and the supervisor
    /// gives up as [`Restart::then`] says.
    pub max: u32,
    /// The window of [`Restart::max`].
    pub within: Duration,
    /// What giving up means.
    pub then: GiveUp,
    /// The longest wait before a restart.
    pub backoff: Duration,
}

/// From when on a layer is ready, for those that start after it and for a service manager.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ready {
    /// As soon as it is confined.
    #[default]
    Confined,
    /// Once its function says so.
    Told,
    /// Once it has ended in order: it does something that others need done.
    Finished,
}

words!(Ready { Confined = "confined", Told = "told", Finished = "finished" });

/// What a layer does when a reload finds that the program's settings are others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnReload {
    /// It ends, and begins anew with them.
    #[default]
    Restart,
    /// It is told, and takes them.
    Told,
}

words!(OnReload { Restart = "restart", Told = "told" });

/// How a layer is asked whether it is well, from when on it is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// How long after an answer it is asked again.
    pub every: Duration,
    /// How long it may take to answer; one that takes longer is killed.
    pub within: Duration,
}

/// Which endings are followed by a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RestartOn {
    /// None.
    Never,
    /// A nonzero exit code, or death by a signal.
    Failure,
    /// Every ending that was not asked for.
    Always,
}

words!(RestartOn { Never = "never", Failure = "failure", Always = "always" });

/// What happens when a layer has used up its restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GiveUp {
    /// The daemon stops, with exit code 1.
    StopDaemon,
    /// The layer stays down, the others go on.
    LeaveDown,
}

words!(GiveUp { StopDaemon = "stop-daemon", LeaveDown = "leave-down" });

/// What of a layer's lines the log shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPlan {
    /// Events of a `run` layer that say less are left out.
    pub level: LogLevel,
    /// How many lines all of its instances may have shown together; more are dropped and counted.
    pub rate: Rate,
}

impl LogPlan {
    /// The `rate` of a layer whose policy says nothing of it.
    pub const DEFAULT_RATE: Rate = Rate { count: 1000, per: Duration::from_secs(1) };
}

impl Default for LogPlan {
    /// What holds where a policy says nothing.
    fn default() -> Self {
        Self { level: LogLevel::Info, rate: Self::DEFAULT_RATE }
    }
}

/// How much an event matters, the most first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum LogLevel {
    /// Something failed.
    Error,
    /// Something may be wrong.
    Warn,
    /// What people want to know of a daemon at work.
    Info,
    /// What helps to find a mistake.
    Debug,
    /// Everything.
    Trace,
}

words!(LogLevel {
    Error = "error",
    Warn = "warn",
    Info = "info",
    Debug = "debug",
    Trace = "trace",
});
