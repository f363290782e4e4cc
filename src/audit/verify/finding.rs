//! What can be wrong with a log, and what can't be known.

use std::fmt;

use crate::audit::frame::FrameError;
use crate::audit::note::NoteError;
use crate::audit::segment::HeaderError;

/// Something that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which file.
    pub file: String,
    /// Which segment, if it is one.
    pub segment: Option<u64>,
    /// Which record, as far as one can be named.
    pub record: Option<u64>,
    /// Where in the file.
    pub byte: Option<u64>,
    /// What is wrong.
    pub what: What,
    /// Between which records of the log something was altered, if records were.
    pub region: Option<Region>,
}

/// Records that can't be trusted, between two that can. However many of them were altered, taken
/// out or put in: where nothing that was signed stands between them, they are one region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// The last record before it that is as it was signed; `None` at the log's beginning.
    pub after: Option<u64>,
    /// The first record behind it of which that is known again; `None` at the log's end.
    pub before: Option<u64>,
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.after, self.before) {
            (Some(after), Some(before)) => {
                write!(f, "one altered region, between records {after} and {before}")
            }
            (None, Some(before)) => {
                write!(f, "one altered region, from the log's beginning to record {before}")
            }
            (Some(after), None) => {
                write!(f, "one altered region, from record {after} to the log's end")
            }
            (None, None) => write!(f, "nothing of the log is as it was signed"),
        }
    }
}

impl Finding {
    pub(super) fn of(file: String, segment: Option<u64>, what: What) -> Self {
        Self { file, segment, record: None, byte: None, what, region: None }
    }
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum What {
    /// A segment's header is none.
    #[error("{0}; none of its records can be placed")]
    Header(HeaderError),
    /// A file with the name of one segment holds another.
    #[error("this is segment {found}: files were renamed")]
    Misplaced {
        /// The number in the header.
        found: u64,
    },
    /// A record isn't one.
    #[error("{0}")]
    Frame(FrameError),
    /// The segment can't be read from here on.
    #[error("{0}; the {bytes} bytes from here on can't be told apart", bytes = .1)]
    Lost(FrameError, u64),
    /// The last segment ends within a record.
    #[error(
        "the log ends within a record, {bytes} bytes into it: a crash, or a cut; the writer cuts it at its next start and says so"
    )]
    Torn {
        /// How much of it there is.
        bytes: u64,
    },
    /// Another record stands where this one should.
    #[error("record {found} stands here: records were removed, swapped or repeated")]
    Order {
        /// The number in the record.
        found: u64,
    },
    /// The chain doesn't lead from the record before to this one.
    #[error("the chain breaks here: this record or the one before was altered or put in")]
    Chain,
    /// A payload is not the one that the record names.
    #[error("the payload was altered")]
    Payload,
    /// A payload is marked as removed and is still there.
    #[error("the payload is marked as removed, but bytes of it are there: remove it again")]
    Leftover,
    /// A payload is gone, and no record says who removed it.
    #[error("the payload was removed, and no record says by whom and why")]
    Unrecorded,
    /// A record says that a payload was removed, and it is there.
    #[error("record {by} says that this payload was removed, and it is there: remove it again")]
    NotRemoved {
        /// Which record says so.
        by: u64,
    },
    /// A segment doesn't begin where the one before ends.
    #[error("the segment doesn't go on where the one before ends: records are missing or put in")]
    Seam,
    /// The records at a segment's end are not those that the next one follows.
    #[error(
        "the records at this segment's end are not those that the next segment follows: they were altered, or some are missing or put in"
    )]
    End,
    /// A segment is gone that no checkpoint says was dropped.
    #[error("the segment is missing, and no checkpoint says that it was dropped")]
    SegmentMissing,
    /// A file of checkpoints holds something else.
    #[error("{0}")]
    Note(NoteError),
    /// A file of checkpoints ends within one.
    #[error("the file ends within a checkpoint: a crash, or a cut")]
    TornNote,
    /// The first checkpoint, whose key the log's id is made of, is not there.
    #[error("the log's first checkpoint is missing: no key can be trusted")]
    NoGenesis,
    /// A checkpoint is signed with another key than its epoch's.
    #[error("epoch {epoch} has another key, or none: the checkpoint is not by this log's writer")]
    Key {
        /// The epoch that it names.
        epoch: u64,
    },
    /// `epochs.note` doesn't say with which key an epoch signs that there was.
    #[error(
        "checkpoints of epoch {epoch} are there, and its key is not announced: the file was cut"
    )]
    EpochsCut {
        /// The first one.
        epoch: u64,
    },
    /// A checkpoint is not in the file of the segment that was written then, or not in order.
    #[error(
        "a checkpoint of {size} records doesn't belong here: checkpoints were moved or repeated"
    )]
    NotePlace {
        /// Its records.
        size: u64,
    },
    /// A checkpoint is not between its epoch's first and last.
    #[error("a checkpoint of {size} records is outside of epoch {epoch}")]
    Epoch {
        /// The epoch that it names.
        epoch: u64,
        /// Its records.
        size: u64,
    },
    /// Another log's file or checkpoint.
    #[error("this is of another log")]
    OtherLog,
    /// A checkpoint signs more records than there are.
    #[error("{signed} records were signed for and only {there} are there: the tail was cut")]
    TailCut {
        /// How many were signed for.
        signed: u64,
        /// How many are there.
        there: u64,
    },
    /// A log begins with something else than a start.
    #[error("the log doesn't begin with a start record: what stands here was put in")]
    NoStart,
    /// A start says that the life before ended in order, and it didn't.
    #[error("a life begins here and says that the one before ended in order: its end is missing")]
    NoStop,
    /// After the end of a life comes something else than the next one's start.
    #[error("this follows a stop record and is no start: it was put in after the end")]
    AfterStop,
    /// A life ended in order, and nothing signs its end.
    #[error(
        "the log was closed here and no checkpoint signs it: that was removed, or the auditor was killed between the two"
    )]
    StopUnsigned,
    /// Records stayed unsigned though the writer went on.
    #[error(
        "records {from} to {to} (the last not counted) were written over {seconds} s and not signed, though the writer signs every minute at least: checkpoints were removed, or couldn't be written"
    )]
    Unsigned {
        /// The first of them.
        from: u64,
        /// The number behind the last.
        to: u64,
        /// How long it took.
        seconds: u64,
    },
    /// An index is not what the segment says.
    #[error(
        "the index is not that of its segment: queries may miss records; remove it, it is made again"
    )]
    Index,
    /// What was asked for by [`Options::closed`](super::Options::closed).
    #[error("the log wasn't closed in order, or records are not signed: {from} to {to}")]
    NotClosed {
        /// The first one that isn't signed.
        from: u64,
        /// The number behind the last.
        to: u64,
    },
    /// The records are not those that were signed for.
    #[error(
        "the log's first {size} records are not those that the key of epoch {epoch} signed: history was rewritten"
    )]
    Rewritten {
        /// How many records.
        size: u64,
        /// Whose key.
        epoch: u64,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if let Some(record) = self.record {
            write!(f, ", record {record}")?;
        }
        if let Some(byte) = self.byte {
            write!(f, ", byte {byte}")?;
        }
        write!(f, ": {}", self.what)?;
        match self.region {
            Some(region) => write!(f, "; {region}"),
            None => Ok(()),
        }
    }
}

/// What can't be known from what was given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unknown {
    /// The last records are later than the last checkpoint.
    #[error(
        "records {from} to {to} (the last not counted) are not signed yet: who can write the files can have changed them"
    )]
    Unsigned {
        /// The first of them.
        from: u64,
        /// The number behind the last.
        to: u64,
    },
    /// The last record isn't a stop.
    #[error("the log was not closed: more records may have followed")]
    NotClosed,
    /// No checkpoint from elsewhere.
    #[error(
        "without a checkpoint kept elsewhere, a tail that was cut off together with its checkpoints can't be noticed"
    )]
    NoOutside,
    /// Nothing from elsewhere at all.
    #[error(
        "without the log's id or a checkpoint kept elsewhere, a wholly new log in its place can't be noticed"
    )]
    Replaced,
    /// Records were dropped.
    #[error(
        "what stood in the records before {before} was dropped and can't be known; {checkpoints} checkpoints of that time can't be compared"
    )]
    Dropped {
        /// The first record kept.
        before: u64,
        /// How many checkpoints.
        checkpoints: u64,
    },
    /// The end of a log that is being written.
    #[error("record {record} is being written")]
    Growing {
        /// Which.
        record: u64,
    },
}
