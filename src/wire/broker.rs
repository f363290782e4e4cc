//! What a layer asks the supervisor to do for it, and the answers.
//!
//! A request names everything by its number in the plan, and the supervisor looks up whether the
//! sender may: nothing in a request says who sends it. Each has a fixed layout; only a path, as the
//! last part, takes what is left.

use serde::{Deserialize, Serialize};

use super::report::Verdict;

/// The longest path in a request, in bytes.
pub const MAX_PATH: usize = 1024;

/// A wait of this many milliseconds has no end.
pub const FOR_EVER: u32 = u32::MAX;

/// In place of one copy of a layer: all that run.
pub const EVERY_COPY: u16 = u16::MAX;

/// Bytes by which a source of connections is known, in [`Ask::Serve`].
pub const SOURCE: usize = 9;

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Send a signal.
    Signal {
        /// The grant's number in the plan.
        grant: u16,
        /// Which copy of the receiving layer; see [`EVERY_COPY`].
        index: u16,
        /// Which life of that copy; 0 for the present one.
        generation: u64,
        /// The signal's number.
        signal: u8,
    },
    /// Lease a permit of a semaphore.
    Acquire {
        /// The semaphore's number in the plan.
        semaphore: u16,
        /// How long to wait for one, in milliseconds; see [`FOR_EVER`].
        wait: u32,
    },
    /// Open something beneath a directory.
    Open {
        /// The file grant's number in the plan.
        file: u16,
        /// What for, in bits of [`open`].
        how: u16,
        /// Where, relative to the directory.
        path: Vec<u8>,
    },
    /// Connect to an address.
    Connect {
        /// The address's number in the layer's own plan.
        address: u16,
    },
    /// Serve the connection that was accepted: whoever serves each by a process of its own is told
    /// before it reads a byte. Answered only where the policy bounds connections of one source.
    Serve {
        /// Who connects, as far as limits tell them apart.
        source: [u8; SOURCE],
    },
    /// Make room in a full queue whose oldest message may go.
    MakeRoom {
        /// The queue's number in the plan.
        queue: u16,
        /// The priority for which room is needed.
        priority: u8,
    },
}

/// What a file is opened for: bits of [`Ask::Open`].
pub mod open {
    /// To read.
    pub const READ: u16 = 1;
    /// To write.
    pub const WRITE: u16 = 1 << 1;
    /// Every write goes to the end.
    pub const APPEND: u16 = 1 << 2;
    /// Cut to nothing when it is opened.
    pub const TRUNCATE: u16 = 1 << 3;
    /// Made if it isn't there.
    pub const CREATE: u16 = 1 << 4;
    /// Made, and refused if it is there.
    pub const EXCLUSIVE: u16 = 1 << 5;
    /// Not opened but removed: a regular file.
    pub const REMOVE: u16 = 1 << 6;
    /// A nameless file on the same file system, to replace another with.
    pub const DRAFT: u16 = 1 << 7;
    /// Not opened: the draft made last gets this name, in place of whatever had it.
    pub const REPLACE: u16 = 1 << 8;
    /// Not opened: what is there is written, name by name with a zero after each, into memory of
    /// which the descriptor comes. An empty path is the granted directory itself.
    pub const LIST: u16 = 1 << 9;
    /// Not opened: a directory is made.
    pub const MKDIR: u16 = 1 << 10;
    /// Not opened: an empty directory is removed.
    pub const RMDIR: u16 = 1 << 11;
    /// Not opened but renamed: a regular file with [`CREATE`] and [`REMOVE`], a directory with
    /// [`MKDIR`] and [`RMDIR`]. The path is the old one, a zero, and the new one.
    pub const RENAME: u16 = 1 << 12;
    /// It is renamed from one directory to another one.
    pub const MOVE: u16 = 1 << 13;

    /// What a request to rename a regular file within a directory has.
    pub const RENAME_FILE: u16 = RENAME | CREATE | REMOVE;
    /// The same of a directory.
    pub const RENAME_DIRECTORY: u16 = RENAME | MKDIR | RMDIR;

    /// The two paths of a request to rename, where both are there.
    pub fn both(path: &[u8]) -> Option<(&[u8], &[u8])> {
        let zero = path.iter().position(|byte| *byte == 0)?;
        Some((&path[..zero], &path[zero + 1..]))
    }

    /// Whether two paths lie in different directories.
    pub fn moves(from: &[u8], to: &[u8]) -> bool {
        let above = |path: &[u8]| path.iter().rposition(|byte| *byte == b'/');
        let parent = |path| above(path).map_or(0, |slash| slash);
        from[..parent(from)] != to[..parent(to)]
    }
}

/// What becomes of a request. A descriptor may come with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// It was done.
    Done,
    /// A permit is leased.
    Leased {
        /// The semaphore's number in the plan.
        semaphore: u16,
        /// Names this lease; larger than that of every earlier one of this semaphore.
        fence: u64,
        /// Whether the permit's last holder died with it, or let its time run out.
        abandoned: bool,
        /// When it runs out, in nanoseconds of `CLOCK_MONOTONIC`, which all processes share.
        until: Option<u64>,
    },
    /// There is room in the queue; the oldest message has gone for it.
    Dropped,
    /// It was not done.
    Refused(Refusal),
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// The policy doesn't grant it.
    NotGranted,
    /// More often than the policy allows, or more at once.
    Limit,
    /// The other layer isn't running.
    PeerDead,
    /// The time to wait has passed.
    Timeout,
    /// A permit that would have to be taken before one that is held.
    Order,
    /// A name that the policy denies (`deny`).
    Denied,
    /// A path that is no plain path, or acts that make no sense together.
    Malformed,
    /// What is there is no regular file.
    NotRegular,
    /// The host's name leads to no address.
    NotResolved,
    /// The system refused, with this errno.
    System(i32),
    /// Whoever should have answered has ended, and it may have been done or not; or nobody is left
    /// to answer to.
    Unanswered,
}

impl Refusal {
    /// What it is in the audit log. A peer that is gone, a name that leads nowhere and the system's
    /// own refusal are no matter of policy.
    pub const fn verdict(self) -> Verdict {
        match self {
            Self::PeerDead
            | Self::Timeout
            | Self::NotResolved
            | Self::System(_)
            | Self::Unanswered => Verdict::Failed,
            _ => Verdict::Refused,
        }
    }

    /// Its number in the audit log: its place above, from 1.
    pub const fn code(self) -> u32 {
        match self {
            Self::NotGranted => 1,
            Self::Limit => 2,
            Self::PeerDead => 3,
            Self::Timeout => 4,
            Self::Order => 5,
            Self::Denied => 6,
            Self::Malformed => 7,
            Self::NotRegular => 8,
            Self::NotResolved => 9,
            Self::System(_) => 10,
            Self::Unanswered => 11,
        }
    }
}

const SIGNAL: u8 = 1;
const ACQUIRE: u8 = 2;
const OPEN: u8 = 3;
const CONNECT: u8 = 4;
const MAKE_ROOM: u8 = 5;
const SERVE: u8 = 6;

impl Ask {
    /// Whether it does no harm to ask for it again, where nobody knows what became of it.
    pub fn is_repeatable(&self) -> bool {
        match self {
            // The same number gets the same lease; what is full no more needs no more room.
            Self::Acquire { .. } | Self::MakeRoom { .. } | Self::Connect { .. } => true,
            // Not what is cut, removed, replaced, or must not be there yet.
            Self::Open { how, .. } => {
                let repeatable = open::READ | open::WRITE | open::APPEND | open::CREATE;
                how & !(repeatable | open::LIST | open::DRAFT) == 0
            }
            Self::Signal { .. } | Self::Serve { .. } => false,
        }
    }

    /// Appends the request's bytes.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Signal { grant, index, generation, signal } => {
                out.push(SIGNAL);
                out.extend_from_slice(&grant.to_le_bytes());
                out.extend_from_slice(&index.to_le_bytes());
                out.extend_from_slice(&generation.to_le_bytes());
                out.push(*signal);
            }
            Self::Acquire { semaphore, wait } => {
                out.push(ACQUIRE);
                out.extend_from_slice(&semaphore.to_le_bytes());
                out.extend_from_slice(&wait.to_le_bytes());
            }
            Self::Open { file, how, path } => {
                out.push(OPEN);
                out.extend_from_slice(&file.to_le_bytes());
                out.extend_from_slice(&how.to_le_bytes());
                out.extend_from_slice(path);
            }
            Self::Connect { address } => {
                out.push(CONNECT);
                out.extend_from_slice(&address.to_le_bytes());
            }
            Self::Serve { source } => {
                out.push(SERVE);
                out.extend_from_slice(source);
            }
            Self::MakeRoom { queue, priority } => {
                out.push(MAKE_ROOM);
                out.extend_from_slice(&queue.to_le_bytes());
                out.push(*priority);
            }
        }
    }

    /// Reads a request; `None` for anything that [`encode`](Self::encode) would not have written.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let pair = |low: &u8, high: &u8| u16::from_le_bytes([*low, *high]);
        match bytes {
            [SIGNAL, g0, g1, i0, i1, generation @ .., signal] => Some(Self::Signal {
                grant: pair(g0, g1),
                index: pair(i0, i1),
                generation: u64::from_le_bytes(generation.try_into().ok()?),
                signal: *signal,
            }),
            [ACQUIRE, s0, s1, w0, w1, w2, w3] => Some(Self::Acquire {
                semaphore: pair(s0, s1),
                wait: u32::from_le_bytes([*w0, *w1, *w2, *w3]),
            }),
            [OPEN, f0, f1, h0, h1, path @ ..] if path.len() <= MAX_PATH => {
                Some(Self::Open { file: pair(f0, f1), how: pair(h0, h1), path: path.to_vec() })
            }
            [MAKE_ROOM, q0, q1, priority] => {
                Some(Self::MakeRoom { queue: pair(q0, q1), priority: *priority })
            }
            [SERVE, source @ ..] => Some(Self::Serve { source: source.try_into().ok()? }),
            [CONNECT, a0, a1] => Some(Self::Connect { address: pair(a0, a1) }),
            _ => None,
        }
    }
}
