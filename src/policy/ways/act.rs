//! Acts: the verbs of authority.

use std::fmt;

use crate::policy::plan::FileRight;

/// What a layer does to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Act {
    /// Read a file, or memory that is mapped.
    Read,
    /// Write a file without truncating it, or memory that is mapped.
    Write,
    /// Cut a file.
    Truncate,
    /// Make files in a directory.
    Create,
    /// Remove what is no directory from a directory.
    Remove,
    /// List a directory.
    List,
    /// Execute a file.
    Execute,
    /// Write at the end of a file.
    Append,
    /// Make directories in a directory.
    Mkdir,
    /// Remove directories from a directory.
    Rmdir,
    /// Rename and link from one directory to another.
    Move,
    /// Make symbolic links in a directory.
    Symlink,
    /// Make Unix sockets in a directory.
    Socket,
    /// Make FIFOs in a directory.
    Fifo,
    /// Call a channel's methods.
    Call,
    /// Answer a channel's calls.
    Answer,
    /// Send one-way messages or bytes.
    Send,
    /// Receive one-way messages, bytes or lines.
    Receive,
    /// Pass a descriptor of this kind in a message.
    Pass,
    /// Send a signal.
    Signal,
    /// Lease a permit.
    Lease,
    /// Accept connections.
    Accept,
    /// Use a connection to an address outside.
    Connect,
    /// Do in a directory of the layer's own whatever its user may: all but execute.
    Own,
    /// Make a system call.
    Make,
    /// Use a capability.
    Use,
}

impl Act {
    /// Every act.
    pub const ALL: [Self; 26] = [
        Self::Read,
        Self::Write,
        Self::Truncate,
        Self::Create,
        Self::Remove,
        Self::List,
        Self::Execute,
        Self::Append,
        Self::Mkdir,
        Self::Rmdir,
        Self::Move,
        Self::Symlink,
        Self::Socket,
        Self::Fifo,
        Self::Call,
        Self::Answer,
        Self::Send,
        Self::Receive,
        Self::Pass,
        Self::Signal,
        Self::Lease,
        Self::Accept,
        Self::Connect,
        Self::Own,
        Self::Make,
        Self::Use,
    ];

    /// The word of the command line and of JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Truncate => "truncate",
            Self::Create => "create",
            Self::Remove => "remove",
            Self::List => "list",
            Self::Execute => "execute",
            Self::Append => "append",
            Self::Mkdir => "mkdir",
            Self::Rmdir => "rmdir",
            Self::Move => "move",
            Self::Symlink => "symlink",
            Self::Socket => "socket",
            Self::Fifo => "fifo",
            Self::Call => "call",
            Self::Answer => "answer",
            Self::Send => "send",
            Self::Receive => "receive",
            Self::Pass => "pass",
            Self::Signal => "signal",
            Self::Lease => "lease",
            Self::Accept => "accept",
            Self::Connect => "connect",
            Self::Own => "own",
            Self::Make => "make",
            Self::Use => "use",
        }
    }

    /// The verb of a sentence about a layer: `keeper reads file.key`.
    pub const fn verb(self) -> &'static str {
        match self {
            Self::Read => "reads",
            Self::Write => "writes",
            Self::Truncate => "truncates",
            Self::Create => "creates files in",
            Self::Remove => "removes files from",
            Self::List => "lists",
            Self::Execute => "executes",
            Self::Append => "appends to",
            Self::Mkdir => "makes directories in",
            Self::Rmdir => "removes directories from",
            Self::Move => "moves between directories of",
            Self::Symlink => "makes symbolic links in",
            Self::Socket => "makes sockets in",
            Self::Fifo => "makes FIFOs in",
            Self::Call => "calls",
            Self::Answer => "answers",
            Self::Send => "sends to",
            Self::Receive => "receives from",
            Self::Pass => "passes descriptors on",
            Self::Signal => "sends",
            Self::Lease => "leases",
            Self::Accept => "accepts on",
            Self::Connect => "connects to",
            Self::Own => "owns",
            Self::Make => "makes",
            Self::Use => "uses",
        }
    }

    /// Whether who does this learns what is in the object.
    pub(crate) const fn learns(self) -> bool {
        matches!(
            self,
            Self::Read
                | Self::List
                | Self::Call
                | Self::Answer
                | Self::Receive
                | Self::Accept
                | Self::Connect
                | Self::Own
        )
    }
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl From<FileRight> for Act {
    fn from(right: FileRight) -> Self {
        match right {
            FileRight::Read => Self::Read,
            FileRight::Write => Self::Write,
            FileRight::Truncate => Self::Truncate,
            FileRight::Create => Self::Create,
            FileRight::Remove => Self::Remove,
            FileRight::List => Self::List,
            FileRight::Execute => Self::Execute,
            FileRight::Append => Self::Append,
            FileRight::Mkdir => Self::Mkdir,
            FileRight::Rmdir => Self::Rmdir,
            FileRight::Move => Self::Move,
            FileRight::Symlink => Self::Symlink,
            FileRight::Socket => Self::Socket,
            FileRight::Fifo => Self::Fifo,
        }
    }
}

/// The words that a question may use beside the names of acts, and the acts that each stands for.
pub(crate) const UMBRELLAS: [(&str, &[Act]); 4] = [
    (
        "open",
        &[
            Act::Read,
            Act::Write,
            Act::Truncate,
            Act::Create,
            Act::Remove,
            Act::List,
            Act::Execute,
            Act::Append,
            Act::Mkdir,
            Act::Rmdir,
            Act::Move,
            Act::Symlink,
            Act::Socket,
            Act::Fifo,
        ],
    ),
    ("map", &[Act::Read, Act::Write]),
    ("send", &[Act::Send, Act::Call]),
    ("receive", &[Act::Receive, Act::Answer]),
];

/// The kinds of objects, as the first part of an object's name, and the acts on each.
pub(crate) const KINDS: [(&str, &[Act]); 17] = [
    ("file", UMBRELLAS[0].1),
    ("channel", &[Act::Call, Act::Answer, Act::Send, Act::Receive, Act::Pass]),
    ("signal", &[Act::Signal]),
    ("queue", &[Act::Send, Act::Receive]),
    ("pipe", &[Act::Send, Act::Receive]),
    ("fifo", &[Act::Receive]),
    ("semaphore", &[Act::Lease]),
    ("region", &[Act::Read, Act::Write]),
    ("mapped-file", &[Act::Read, Act::Write]),
    ("listen", &[Act::Accept]),
    ("connect", &[Act::Connect]),
    ("state", &[Act::Own]),
    ("cache", &[Act::Own]),
    ("logs", &[Act::Own]),
    ("runtime-directory", &[Act::Own]),
    ("syscall", &[Act::Make]),
    ("capability", &[Act::Use]),
];

/// The acts on objects of this one's kind; none if there is no such kind.
pub fn acts_on(object: &str) -> &'static [Act] {
    let kind = object.split('.').next().unwrap_or_default();
    KINDS.iter().find(|(name, _)| *name == kind).map_or(&[], |(_, acts)| acts)
}

/// The acts that a question's word stands for on this object; none if it means nothing there.
pub fn meant(word: &str, object: &str) -> Vec<Act> {
    let umbrella = UMBRELLAS.iter().find(|(name, _)| *name == word).map(|(_, acts)| *acts);
    let possible = acts_on(object);
    let kind = object.split('.').next().unwrap_or_default();
    match (word, kind) {
        ("open", _) if possible == [Act::Own] => return vec![Act::Own],
        ("open", kind) if kind != "file" => return Vec::new(),
        ("map", kind) if !matches!(kind, "region" | "mapped-file") => return Vec::new(),
        _ => {}
    }
    // Whoever owns a directory may do all of that in it.
    let of_owner = |act: &&Act| act.name() == word && **act != Act::Execute;
    if possible == [Act::Own] && UMBRELLAS[0].1.iter().any(|act| of_owner(&act)) {
        return vec![Act::Own];
    }
    Act::ALL
        .into_iter()
        .filter(|act| possible.contains(act))
        .filter(|act| match umbrella {
            Some(acts) => acts.contains(act),
            None => act.name() == word,
        })
        .collect()
}

/// The words that mean something on this object.
pub(crate) fn words_on(object: &str) -> Vec<&'static str> {
    let acts = acts_on(object).iter().map(|act| act.name());
    let umbrellas = UMBRELLAS.iter().map(|(word, _)| *word);
    let mut words: Vec<&str> =
        umbrellas.filter(|word| !meant(word, object).is_empty()).chain(acts).collect();
    let mut seen = Vec::new();
    words.retain(|word| {
        !seen.contains(word) && {
            seen.push(*word);
            true
        }
    });
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_mean_acts_where_they_make_sense() {
        assert_eq!(meant("open", "file.key").len(), 14);
        assert_eq!(meant("read", "file.key"), [Act::Read]);
        assert_eq!(meant("open", "region.a"), []);
        assert_eq!(meant("map", "region.a"), [Act::Read, Act::Write]);
        assert_eq!(meant("send", "channel.a"), [Act::Call, Act::Send]);
        assert_eq!(meant("send", "queue.a"), [Act::Send]);
        assert_eq!(meant("read", "teapot.a"), []);
        for word in ["own", "open", "read", "append", "mkdir"] {
            assert_eq!(meant(word, "state.a"), [Act::Own], "{word}");
        }
        assert_eq!(meant("execute", "state.a"), []);
        assert_eq!(meant("send", "state.a"), []);
    }
}
