//! What a request for a file takes.

use rustix::fs::OFlags;

use super::folder::Access;
use crate::policy::plan::FileRight;
use crate::wire::broker::{Refusal, open};

/// The bits that say how a file is opened.
const OPENING: u16 =
    open::READ | open::WRITE | open::APPEND | open::TRUNCATE | open::CREATE | open::EXCLUSIVE;

/// The rights that a request takes; [`Refusal::Malformed`] for one that makes no sense.
pub(super) fn needed(how: u16, rights: &[FileRight]) -> Result<Vec<FileRight>, Refusal> {
    let has = |bits| how & bits == bits;
    match how {
        open::REMOVE => return Ok(vec![FileRight::Remove]),
        open::MKDIR => return Ok(vec![FileRight::Mkdir]),
        open::RMDIR => return Ok(vec![FileRight::Rmdir]),
        open::LIST => return Ok(vec![FileRight::List]),
        // What is replaced is as good as cut and written anew.
        open::DRAFT | open::REPLACE => {
            return Ok(vec![FileRight::Create, FileRight::Write, FileRight::Truncate]);
        }
        how if has(open::RENAME) => return renaming(how),
        0 => return Err(Refusal::Malformed),
        other if other & !OPENING != 0 => return Err(Refusal::Malformed),
        open::EXCLUSIVE => return Err(Refusal::Malformed),
        _ => {}
    }
    let mut needed = Vec::new();
    if has(open::READ) {
        needed.push(FileRight::Read);
    }
    if has(open::WRITE) {
        needed.push(FileRight::Write);
    }
    if has(open::APPEND) && !rights.contains(&FileRight::Write) {
        needed.push(FileRight::Append);
        // Memory mapped by a descriptor that reads and writes is written anywhere.
        if has(open::READ) {
            return Err(Refusal::NotGranted);
        }
    }
    if has(open::TRUNCATE) {
        needed.push(FileRight::Truncate);
    }
    if has(open::CREATE) {
        needed.push(FileRight::Create);
    } else if has(open::EXCLUSIVE) {
        return Err(Refusal::Malformed);
    }
    Ok(needed)
}

/// The rights that it takes to rename.
fn renaming(how: u16) -> Result<Vec<FileRight>, Refusal> {
    let mut needed = match how & !open::MOVE {
        open::RENAME_FILE => vec![FileRight::Create, FileRight::Remove],
        open::RENAME_DIRECTORY => vec![FileRight::Mkdir, FileRight::Rmdir],
        _ => return Err(Refusal::Malformed),
    };
    needed.extend((how & open::MOVE != 0).then_some(FileRight::Move));
    Ok(needed)
}

/// How a file is opened for a request whose rights are granted.
pub(super) fn access(how: u16, rights: &[FileRight]) -> Access {
    let has = |bits| how & bits == bits;
    let append = if has(open::APPEND) { OFlags::APPEND } else { OFlags::empty() };
    let flags = match (has(open::READ), has(open::WRITE) || has(open::APPEND)) {
        (true, true) => Some(OFlags::RDWR | append),
        (true, false) => Some(OFlags::RDONLY),
        (false, true) => Some(OFlags::WRONLY | append),
        (false, false) => None,
    };
    Access {
        flags,
        cut: has(open::TRUNCATE),
        make: has(open::CREATE).then(|| has(open::EXCLUSIVE)),
        truncates: rights.contains(&FileRight::Truncate),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_act_takes_its_right_and_nonsense_is_refused() {
        use FileRight::{Append, Create, Mkdir, Move, Read, Remove, Rmdir, Truncate, Write};
        let rights = [Read, Append];
        assert_eq!(needed(open::READ, &rights).unwrap(), [Read]);
        assert_eq!(needed(open::APPEND, &rights).unwrap(), [Append]);
        assert_eq!(needed(open::READ | open::APPEND, &rights), Err(Refusal::NotGranted));
        assert_eq!(needed(open::READ | open::APPEND, &[Read, Write]).unwrap(), [Read]);
        assert_eq!(needed(open::REMOVE, &rights).unwrap(), [Remove]);
        let make = open::WRITE | open::CREATE | open::TRUNCATE;
        assert_eq!(needed(make, &rights).unwrap(), [Write, Truncate, Create]);
        assert_eq!(needed(open::RENAME_FILE, &rights).unwrap(), [Create, Remove]);
        let moved = open::RENAME_DIRECTORY | open::MOVE;
        assert_eq!(needed(moved, &rights).unwrap(), [Mkdir, Rmdir, Move]);
        for how in [
            0,
            1 << 15,
            open::MOVE,
            open::RENAME,
            open::RENAME | open::CREATE,
            open::RENAME_FILE | open::RENAME_DIRECTORY,
            open::RENAME_FILE | open::READ,
            open::MKDIR | open::CREATE,
            open::EXCLUSIVE,
            open::READ | open::EXCLUSIVE,
            open::REMOVE | open::READ,
            open::DRAFT | open::REPLACE,
            open::LIST | open::READ,
        ] {
            assert_eq!(needed(how, &rights), Err(Refusal::Malformed), "{how}");
        }
    }
}
