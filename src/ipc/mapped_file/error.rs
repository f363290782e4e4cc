//! What can go wrong with a mapped file, by who is to blame.

use std::io;

use crate::ident::Name;

/// Why a mapped file can't be used as asked.
#[derive(Debug, thiserror::Error)]
pub enum MappedFileError {
    /// The policy lets this layer read only.
    #[error(
        "`[mapped-file.{file}] grant = {{ {layer} = \"r\" }}`: to commit, it would need \"rw\""
    )]
    ReadOnly {
        /// The file.
        file: Name,
        /// This layer.
        layer: Name,
    },
    /// The content is larger than the file takes.
    #[error(
        "`[mapped-file.{file}] size`: this content has {bytes} bytes, and the largest that fits \
         has {most}: half of the size, less 4 KiB"
    )]
    TooLarge {
        /// The file.
        file: Name,
        /// The content's size in bytes.
        bytes: usize,
        /// The largest, in bytes.
        most: usize,
    },
    /// Somebody else commits to this file.
    #[error(
        "[mapped-file.{file}] has a writer already, and takes one: another copy of this layer, or \
         another layer with \"rw\""
    )]
    Taken {
        /// The file.
        file: Name,
    },
    /// Somebody outside of the daemon has cut the file, or its disk failed, or is full. What was
    /// in it may be lost; this handle is of no further use.
    #[error("[mapped-file.{file}] has been cut behind the daemon's back, or its disk failed")]
    Cut {
        /// The file.
        file: Name,
    },
    /// Neither half of the file is whole: it was written to from outside, or its disk failed.
    #[error(
        "[mapped-file.{file}] neither half of it is whole: restore it from a copy, or remove it to \
         begin with an empty one"
    )]
    Damaged {
        /// The file.
        file: Name,
    },
    /// The system refused.
    #[error(transparent)]
    System(#[from] io::Error),
}
