//! Calls that are answered as the filter would by itself, and told of: those that it refuses, and
//! those whose path is granted to nobody.

use rustix::fs::{AtFlags, CWD, FileType};
use rustix::io::Errno;
use rustix::process::Pid;
use std::io;

use super::condemned::Condemned;
use super::paths::{self, Look};
use super::teller::{Teller, read};
use crate::confine::filter::{Filter, Verdict};
use crate::confine::paths::ViewEntry;
use crate::sys::notify::{Listener, Notification, Reply};
use crate::wire::refusal::{Answer, Lacks, TEXT};

/// Answers a call that is refused by `rules`, what the filter answers where it leaves nothing to
/// anybody; `false`: it is granted, and left to who observes it. The last of the answerer is the
/// layer's program.
pub(super) fn answer(
    call: &Notification,
    rules: &Filter,
    (listener, condemned, program): (&Listener, &mut Condemned, Pid),
    teller: &mut Teller,
) -> io::Result<bool> {
    match rules.evaluate(call.arch, call.number, call.arguments) {
        Verdict::Notify => return Ok(false),
        Verdict::Errno(errno) => {
            teller.tell(call, Answer::Failed(errno), Lacks::Call);
            listener.answer(call, Reply::Refused(errno.into()))?;
        }
        _ => {
            teller.tell(call, Answer::Killed, Lacks::Call);
            condemned.end(listener, call, program)?;
        }
    }
    Ok(true)
}

/// Tells of what a call asks of paths and isn't granted. It is granted as a call, so the kernel
/// carries it out, and refuses it if the path isn't.
pub(super) fn look_at_paths(
    call: &Notification,
    entries: &[ViewEntry],
    teller: &mut Teller,
) -> Reply {
    for need in paths::needs(call.number, &call.arguments, &Process(call)) {
        if let Some(lack) = paths::lack(&need, entries) {
            let errno = if lack.is_seen { Errno::ACCESS } else { Errno::NOENT };
            let errno = u16::try_from(errno.raw_os_error()).unwrap_or(0);
            let rights = lack.rights.iter().map(|right| right.name().to_owned()).collect();
            let lacks = Lacks::Path { path: lack.path, rights, is_seen: lack.is_seen };
            teller.tell(call, Answer::Likely(errno), lacks);
        }
    }
    Reply::CarriedOut
}

/// The process that makes a call.
struct Process<'a>(&'a Notification);

impl Look for Process<'_> {
    fn text(&self, address: u64) -> Option<String> {
        text(self.0, address)
    }

    fn kind(&self, path: &str) -> Option<FileType> {
        let found = rustix::fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        Some(FileType::from_raw_mode(found.st_mode))
    }
}

/// The text at an address of the process that makes a call, up to its zero.
pub(super) fn text(call: &Notification, address: u64) -> Option<String> {
    let mut bytes = [0; TEXT];
    let length = read(call, address, &mut bytes);
    let text = bytes.get(..length)?;
    let text = &text[..text.iter().position(|&byte| byte == 0)?];
    String::from_utf8(text.to_vec()).ok()
}
