//! What is proposed to a policy, one thing at a time.

use std::collections::BTreeSet;
use std::fmt;

use super::seen::Evidence;
use crate::policy::plan::{FileRight, ViewPart, Word as _};
use crate::policy::value::show_size;
use crate::text::neutralise;

/// One thing that a layer's policy lacks for what was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proposal {
    /// An item of `syscalls`.
    Call {
        /// A group, or a call with its conditions.
        item: String,
        /// By whom.
        evidence: Evidence,
    },
    /// A call that isn't granted, and is to fail in place of ending the program.
    Refuse {
        /// Its name.
        call: String,
        /// The error's name.
        errno: &'static str,
        /// By whom.
        evidence: Evidence,
    },
    /// The user that a layer is.
    User {
        /// By number.
        uid: u32,
        /// By whom files of that user were used.
        evidence: Evidence,
    },
    /// A grant of a file or directory.
    File {
        /// Where.
        path: String,
        /// What may be done there.
        rights: BTreeSet<FileRight>,
        /// By whom.
        evidence: Evidence,
    },
    /// A part of the view.
    View {
        /// With the size that it may have.
        part: ViewPart,
        /// By whom what it shows was used.
        evidence: Evidence,
    },
    /// A directory of the layer's own.
    Directory {
        /// Its key: `state`, `cache`, `logs` or `runtime-directory`.
        key: &'static str,
        /// Where.
        path: String,
        /// By whom it was made.
        evidence: Evidence,
    },
    /// The working directory.
    Cwd {
        /// Where.
        path: String,
        /// By whom paths from there on were used.
        evidence: Evidence,
    },
    /// Memory that is written and then run.
    Execmem {
        /// By whom.
        evidence: Evidence,
    },
    /// The reason that somebody gave for what needs one.
    Because {
        /// In their words.
        reason: String,
    },
    /// An address to listen on or to connect to.
    Socket {
        /// `listen` or `connect`.
        key: &'static str,
        /// As policies write it.
        address: String,
        /// By whom.
        evidence: Evidence,
    },
    /// A standard stream that is who starts the daemon's.
    Stream {
        /// `stdin` or `stdout`.
        key: &'static str,
        /// What says so.
        why: &'static str,
    },
    /// A limit.
    Limit {
        /// Its key in `limits`.
        key: &'static str,
        /// What there may be.
        value: u64,
        /// What there was.
        peak: u64,
        /// Whether it counts bytes.
        bytes: bool,
    },
    /// What somebody must answer before it is granted.
    Question {
        /// The line that would grant it.
        line: String,
        /// What it would mean.
        why: String,
        /// By whom.
        evidence: Evidence,
    },
    /// What is never proposed.
    LeftOut {
        /// What it is.
        what: String,
        /// By whom.
        evidence: Evidence,
    },
}

impl Proposal {
    /// Whether it can be taken over: it is neither a question nor left out.
    pub fn is_grant(&self) -> bool {
        !matches!(self, Self::Question { .. } | Self::LeftOut { .. })
    }

    /// What kind it is, in a word.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Call { .. } => "call",
            Self::Refuse { .. } => "refuse",
            Self::User { .. } => "user",
            Self::File { .. } => "file",
            Self::View { .. } => "view",
            Self::Directory { .. } => "directory",
            Self::Cwd { .. } => "cwd",
            Self::Execmem { .. } => "execmem",
            Self::Because { .. } => "because",
            Self::Socket { .. } => "socket",
            Self::Stream { .. } => "stream",
            Self::Limit { .. } => "limit",
            Self::Question { .. } => "question",
            Self::LeftOut { .. } => "left-out",
        }
    }

    /// The same as a question, for this reason.
    #[must_use]
    pub fn ask(self, why: &str) -> Self {
        let line = self.to_string();
        match self {
            Self::Call { evidence, .. }
            | Self::File { evidence, .. }
            | Self::Refuse { evidence, .. }
            | Self::User { evidence, .. }
            | Self::View { evidence, .. }
            | Self::Directory { evidence, .. }
            | Self::Cwd { evidence, .. }
            | Self::Execmem { evidence }
            | Self::Socket { evidence, .. } => {
                Self::Question { line, why: why.to_owned(), evidence }
            }
            Self::Limit { .. } | Self::Stream { .. } | Self::Because { .. } => {
                Self::Question { line, why: why.to_owned(), evidence: Evidence::default() }
            }
            other => other,
        }
    }

    /// What stands beside it as a comment.
    pub fn comment(&self) -> String {
        match self {
            Self::Call { evidence, .. }
            | Self::File { evidence, .. }
            | Self::Refuse { evidence, .. }
            | Self::Execmem { evidence }
            | Self::Socket { evidence, .. } => evidence.to_string(),
            Self::View { part, evidence } => format!("{}, used {evidence}", part.meaning()),
            Self::Directory { evidence, .. } => format!("it was made {evidence}"),
            Self::Cwd { evidence, .. } => format!("paths from there on were used {evidence}"),
            Self::Because { .. } => "said to `cofferdam learn`".to_owned(),
            Self::User { evidence, .. } => format!("files of this user were used {evidence}"),
            Self::Stream { why, .. } => (*why).to_owned(),
            Self::Limit { peak, bytes, .. } => {
                format!("at most {} were used", amount(*peak, *bytes))
            }
            Self::Question { why, evidence, .. } => {
                format!("{}; {evidence}", why.trim_end_matches('.'))
            }
            Self::LeftOut { evidence, .. } => {
                format!("holds secrets, so no learned policy grants it; {evidence}")
            }
        }
    }
}

impl fmt::Display for Proposal {
    /// As the policy says it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call { item, .. } => write!(f, "syscalls = [{item:?}]"),
            Self::Refuse { call, errno, .. } => write!(f, "refuse.{call} = {errno:?}"),
            Self::User { uid, .. } => write!(f, "uid = {uid}"),
            Self::File { path, rights, .. } => {
                write!(f, "path = {path:?}, rights {}", words(rights))
            }
            Self::View { part, .. } => write!(f, "view = [{:?}]", part_word(*part)),
            Self::Directory { key, path, .. } => write!(f, "{key} = {:?}", shown(path)),
            Self::Cwd { path, .. } => write!(f, "cwd = {:?}", shown(path)),
            Self::Execmem { .. } => f.write_str("execmem = true"),
            Self::Because { reason } => write!(f, "because = {:?}", shown(reason)),
            Self::Socket { key, address, .. } => write!(f, "{key} = {:?}", shown(address)),
            Self::Stream { key, .. } => write!(f, "{key} = \"inherit\""),
            Self::Limit { key, value, bytes, .. } => {
                write!(f, "limits.{key} = {}", amount(*value, *bytes))
            }
            Self::Question { line, .. } => f.write_str(line),
            Self::LeftOut { what, .. } => f.write_str(&shown(what)),
        }
    }
}

fn shown(text: &str) -> String {
    neutralise(text.as_bytes())
}

/// A part of a view as policies write it: `tmp=16MiB`.
pub(super) fn part_word(part: ViewPart) -> String {
    let size = part.size().map(|size| format!("={}", show_size(size)));
    format!("{}{}", part.name(), size.unwrap_or_default())
}

/// A number as policies write it.
pub(super) fn amount(number: u64, bytes: bool) -> String {
    if bytes { show_size(number) } else { number.to_string() }
}

/// `["read", "list"]`.
pub(super) fn words(rights: &BTreeSet<FileRight>) -> String {
    let words: Vec<String> = rights.iter().map(|right| format!("{:?}", right.word())).collect();
    format!("[{}]", words.join(", "))
}
