//! Rights on files that a layer's system calls can't use: warnings.
//!
//! | right | takes |
//! |---|---|
//! | read, write | a call that reads or writes; beneath a directory also one that opens for that |
//! | truncate | a call that cuts, or opens to cut |
//! | create | a call that makes, or moves here |
//! | remove | a call that removes, or moves away |
//! | move | a right to make what is moved |
//! | list | one that opens, and one that lists; to sync a directory takes the right too |
//! | execute | one that starts programs, or maps code |
//!
//! A single file is opened by the supervisor. What lies beneath a grant with `deny`, `max-open` or
//! `append`, which the kernel's own rules can't say, is opened by a helper, which makes no links,
//! sockets and FIFOs. The other rights on directories bring their calls along.

use crate::policy::code::Code;
use crate::policy::diagnostic::Diagnostics;
use crate::policy::document::{At, FileText, LayerText};
use crate::policy::plan::{FileRight, SyscallPlan};
use crate::policy::syscall::meaning::overlap;
use crate::policy::syscall::{self, CallItem, Item};

/// Calls of which one is needed, and how to say so.
struct Need {
    words: &'static str,
    calls: &'static [&'static str],
}

const OPEN: Need =
    Need { words: "it takes `openat2`, `openat` or `open`", calls: &["openat2", "openat", "open"] };

const OPEN_TO_WRITE: Need = Need {
    words: "it takes `openat2`, or `openat` with O_WRONLY or O_RDWR",
    calls: &[
        "openat2",
        "openat(_, _, & O_WRONLY|O_RDWR in {O_WRONLY, O_RDWR})",
        "open(_, & O_WRONLY|O_RDWR in {O_WRONLY, O_RDWR})",
        "creat",
    ],
};

const READ: Need = Need {
    words: "it takes `read`, or another call that reads",
    calls: &[
        "read",
        "pread64",
        "readv",
        "preadv",
        "preadv2",
        "mmap(_, _, & PROT_READ == PROT_READ)",
        "sendfile",
        "splice",
        "copy_file_range",
        "io_uring_enter",
    ],
};

const WRITE: Need = Need {
    words: "it takes `write`, or another call that writes",
    calls: &[
        "write",
        "pwrite64",
        "writev",
        "pwritev",
        "pwritev2",
        "mmap(_, _, & PROT_WRITE == PROT_WRITE)",
        "sendfile",
        "splice",
        "copy_file_range",
        "fallocate",
        "io_uring_enter",
    ],
};

const TRUNCATE: Need = Need {
    words: "it takes `ftruncate`, `truncate`, or `openat` with O_TRUNC",
    calls: &[
        "ftruncate",
        "truncate",
        "openat2",
        "openat(_, _, & O_TRUNC == O_TRUNC)",
        "open(_, & O_TRUNC == O_TRUNC)",
        "creat",
    ],
};

const CREATE: Need = Need {
    words: "it takes `openat2`, `openat` with O_CREAT, or a rename",
    calls: &[
        "openat2",
        "openat(_, _, & O_CREAT == O_CREAT)",
        "open(_, & O_CREAT == O_CREAT)",
        "creat",
        "mknod",
        "mknodat",
        "link",
        "linkat",
        "rename",
        "renameat",
        "renameat2",
    ],
};

const REMOVE: Need = Need {
    words: "it takes `unlinkat`, `unlink`, or a rename",
    calls: &["unlinkat", "unlink", "rename", "renameat", "renameat2"],
};

const LIST: Need = Need {
    words: "it takes `getdents64` to list, or `fsync` to sync the directory",
    calls: &["getdents64", "getdents", "fsync"],
};

const EXECUTE: Need = Need {
    words: "it takes `execve`, `execveat`, or `mmap` with PROT_EXEC",
    calls: &["execve", "execveat", "mmap(_, _, & PROT_EXEC == PROT_EXEC)"],
};

/// Everything that a right takes; of each one call.
fn needs(right: FileRight, opened: Opened) -> &'static [Need] {
    match (right, opened) {
        (FileRight::Read, Opened::ByLayer) => &[OPEN, READ],
        (FileRight::Read, _) => &[READ],
        (FileRight::Write, Opened::ByLayer) => &[OPEN_TO_WRITE, WRITE],
        (FileRight::Write | FileRight::Append, _) => &[WRITE],
        (FileRight::Execute, _) => &[EXECUTE],
        // These bring their calls along.
        (
            FileRight::Mkdir
            | FileRight::Rmdir
            | FileRight::Move
            | FileRight::Symlink
            | FileRight::Socket
            | FileRight::Fifo,
            _,
        )
        | (_, Opened::ByBroker) => &[],
        (FileRight::Truncate, _) => &[TRUNCATE],
        (FileRight::Create, _) => &[CREATE],
        (FileRight::Remove, _) => &[REMOVE],
        (FileRight::List, _) => &[OPEN, LIST],
    }
}

/// Who opens what a grant is about.
#[derive(Clone, Copy)]
enum Opened {
    /// The layer, beneath a directory: only one can be listed, made in or removed from.
    ByLayer,
    /// The supervisor, file by file, as the layer asks.
    ByBroker,
    /// The supervisor, as long as it is not known to be a directory.
    AtStart,
}

impl Opened {
    fn of(file: &FileText, layer: &str) -> Self {
        if file.is_brokered(layer) {
            return Self::ByBroker;
        }
        let mut rights = file.grant.iter().flat_map(|it| &it.value).flat_map(|(_, it)| &it.value);
        if rights.any(|right| right.value.is_of_directory()) {
            Self::ByLayer
        } else {
            Self::AtStart
        }
    }
}

/// Tells the rights on a file that the layer's calls can't use.
pub(super) fn unusable(
    layer: &LayerText,
    calls: &[SyscallPlan],
    file: &FileText,
    out: &mut Diagnostics,
) {
    let mut grants = file.grant.iter().flat_map(|grant| &grant.value);
    let Some((at, rights)) = grants.find(|(one, _)| one.value == layer.name.value) else { return };
    let opened = Opened::of(file, &at.value);
    without_effect(at, &rights.value, opened, out);
    let mut told = Vec::new();
    for right in &rights.value {
        let needs = needs(right.value, opened).iter();
        let missing = needs.map(|need| need.words_if_missing(calls)).find_map(|it| it);
        // What several rights lack is told at the first.
        let Some(words) = missing.filter(|words| !told.contains(words)) else { continue };
        told.push(words);
        let message = format!("layer `{}` can't use this right", at.value.escape_debug());
        out.warning(Code::UnusableFile, &right.span, message)
            .label(words)
            .also(&layer.name.span, "this layer has none of them")
            .help("grant the call, or take the right out");
    }
}

/// Tells the rights that nothing can be done by, whatever the layer calls.
fn without_effect(
    layer: &At<String>,
    rights: &[At<FileRight>],
    opened: Opened,
    out: &mut Diagnostics,
) {
    // One of several that a word stands for is at the place of the others.
    let stated = |right: &&At<FileRight>| {
        rights.iter().filter(|other| other.span == right.span).count() == 1
    };
    let mut tell = |right: &At<FileRight>, why, help| {
        let message = format!("layer `{}` can't use this right", layer.value.escape_debug());
        out.warning(Code::UnusableFile, &right.span, message).label(why).help(help);
    };
    if matches!(opened, Opened::ByBroker)
        && let Some(right) = rights.iter().find(|it| it.value.is_direct_only() && stated(it))
    {
        tell(
            right,
            "the helper that opens for it makes no links, sockets and FIFOs",
            "take `deny`, `max-open` and `append` out, or `symlink`, `socket` and `fifo`",
        );
    }
    let makes = [
        FileRight::Create,
        FileRight::Mkdir,
        FileRight::Symlink,
        FileRight::Socket,
        FileRight::Fifo,
    ];
    if let Some(right) = rights.iter().find(|right| right.value == FileRight::Move)
        && !rights.iter().any(|right| makes.contains(&right.value))
    {
        tell(
            right,
            "it may make nothing where it would move to",
            "to move files takes `create` and `remove` too, directories `mkdir` and `rmdir`",
        );
    }
}

impl Need {
    fn words_if_missing(&self, calls: &[SyscallPlan]) -> Option<&'static str> {
        // A call that this architecture lacks is none that a layer could make.
        let mut useful = self.calls.iter().filter_map(|text| syscall::parse_item(text).ok());
        let met = useful.any(|item| matches!(item, Item::Call(call) if may(calls, &call)));
        (!met).then_some(self.words)
    }
}

/// Whether a layer may make a call in some of these forms.
fn may(calls: &[SyscallPlan], call: &CallItem) -> bool {
    let Ok(at) = calls.binary_search_by_key(&call.number, |plan| plan.number) else {
        return false;
    };
    let allowed = || calls[at].allow.iter();
    call.rules.iter().any(|wanted| allowed().any(|rule| overlap(rule, wanted)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [&Need; 9] =
        [&OPEN, &OPEN_TO_WRITE, &READ, &WRITE, &TRUNCATE, &CREATE, &REMOVE, &LIST, &EXECUTE];

    #[test]
    fn every_call_that_is_there_can_be_read() {
        for call in ALL.iter().flat_map(|need| need.calls) {
            let here = syscall::by_name(call.split('(').next().unwrap()).is_some();
            assert_eq!(syscall::parse_item(call).is_ok(), here, "{call}");
        }
    }
}
