//! Files: opened, made, replaced, removed and listed for layers that see nothing of them.

use std::os::fd::OwnedFd;

use rustix::fs::OFlags;

use super::super::objects::{Access, FolderError};
use super::super::{Life, Supervisor};
use crate::mark;
use crate::policy::beneath::{denied, is_plain};
use crate::policy::plan::FileRight;
use crate::wire::broker::{Answer, Refusal, open};

/// What the broker has opened for one instance.
#[derive(Debug, Default)]
pub struct Opened {
    /// How many descriptors of each file grant it hasn't said to have closed.
    counts: std::collections::BTreeMap<u16, u32>,
    /// The draft that it was given last, and of which grant.
    draft: Option<(u16, OwnedFd)>,
}

/// The bits that say how a file is opened.
const OPENING: u16 =
    open::READ | open::WRITE | open::APPEND | open::TRUNCATE | open::CREATE | open::EXCLUSIVE;

type Done = Result<Option<OwnedFd>, Refusal>;

impl Supervisor<'_> {
    /// Does what the layer at `place` asks for of the file grant `number`.
    pub(super) fn opened(
        &mut self,
        place: usize,
        number: u16,
        how: u16,
        path: &[u8],
    ) -> (Answer, Option<OwnedFd>) {
        mark::reached("file.open.asked");
        match self.open(place, number, how, path) {
            Ok(fd) => {
                mark::reached("file.open.done");
                (Answer::Done, fd)
            }
            Err(refusal) => (Answer::Refused(refusal), None),
        }
    }

    fn open(&mut self, place: usize, number: u16, how: u16, path: &[u8]) -> Done {
        let spot = &mut self.places[place];
        let Life::Running(child) = &mut spot.life else { return Err(Refusal::NotGranted) };
        let layer = &self.plan.layers[spot.seat.layer].name;
        let file = self.plan.files.get(usize::from(number)).ok_or(Refusal::NotGranted)?;
        let rights = file.grant.get(layer).ok_or(Refusal::NotGranted)?;
        let folder = self.objects.folder(number).ok_or(Refusal::NotGranted)?;

        let whole = how == open::DRAFT || how == open::LIST && path.is_empty();
        if !whole && !is_plain(path) {
            return Err(Refusal::Malformed);
        }
        if !needed(how, rights)?.iter().all(|right| rights.contains(right)) {
            return Err(Refusal::NotGranted);
        }
        if folder.is_own(path) || denied(&file.deny, path).is_some() {
            return Err(Refusal::Denied);
        }
        mark::reached("file.open.granted");

        let held = &mut child.opened;
        let gives = how & (open::READ | open::WRITE | open::APPEND | open::DRAFT) != 0;
        let count = held.counts.get(&number).copied().unwrap_or(0);
        if gives && file.max_open.is_some_and(|most| count >= most) {
            return Err(Refusal::Limit);
        }
        let done = match how {
            open::REMOVE => folder.remove(path).map(|()| None),
            open::LIST => folder.list(path, |name| denied(&file.deny, name).is_some()).map(Some),
            open::DRAFT => folder.draft().and_then(|draft| {
                let copy = draft.try_clone()?;
                held.draft = Some((number, draft));
                mark::reached("file.replace.drafted");
                Ok(Some(copy))
            }),
            open::REPLACE => {
                let draft = held.draft.take().filter(|(of, _)| *of == number);
                let (_, draft) = draft.ok_or(Refusal::Malformed)?;
                mark::reached("file.replace.asked");
                folder.replace(&draft, path).map(|()| None)
            }
            _ => folder.open(path, access(how, rights)),
        };
        let done = done.map_err(|error| match error {
            FolderError::NotRegular => Refusal::NotRegular,
            FolderError::System(errno) => Refusal::System(errno.raw_os_error()),
        })?;
        if gives {
            held.counts.insert(number, count.saturating_add(1));
        }
        Ok(done)
    }

    /// The layer at `place` has closed a descriptor of the file grant `number`, or says so: a
    /// layer that lies gets no further than its own limit on descriptors.
    pub(in super::super) fn closed(&mut self, place: usize, number: u16) {
        mark::reached("file.close.heard");
        let Life::Running(child) = &mut self.places[place].life else { return };
        if let Some(count) = child.opened.counts.get_mut(&number) {
            *count = count.saturating_sub(1);
        }
        mark::reached("file.close.counted");
    }
}

/// The rights that a request takes; [`Refusal::Malformed`] for one that makes no sense.
fn needed(how: u16, rights: &[FileRight]) -> Result<Vec<FileRight>, Refusal> {
    let has = |bits| how & bits == bits;
    match how {
        open::REMOVE => return Ok(vec![FileRight::Remove]),
        open::LIST => return Ok(vec![FileRight::List]),
        // What is replaced is as good as cut and written anew.
        open::DRAFT | open::REPLACE => {
            return Ok(vec![FileRight::Create, FileRight::Write, FileRight::Truncate]);
        }
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

fn access(how: u16, rights: &[FileRight]) -> Access {
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
        use FileRight::{Append, Create, Read, Remove, Truncate, Write};
        let rights = [Read, Append];
        assert_eq!(needed(open::READ, &rights).unwrap(), [Read]);
        assert_eq!(needed(open::APPEND, &rights).unwrap(), [Append]);
        assert_eq!(needed(open::READ | open::APPEND, &rights), Err(Refusal::NotGranted));
        assert_eq!(needed(open::READ | open::APPEND, &[Read, Write]).unwrap(), [Read]);
        assert_eq!(needed(open::REMOVE, &rights).unwrap(), [Remove]);
        let make = open::WRITE | open::CREATE | open::TRUNCATE;
        assert_eq!(needed(make, &rights).unwrap(), [Write, Truncate, Create]);
        for how in [
            0,
            1 << 10,
            1 << 15,
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
