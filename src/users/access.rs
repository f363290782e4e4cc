//! What owner and mode of a file keep a layer's user from, whatever its policy grants.

use rustix::fs::{Access, AtFlags, CWD, FileType, Stat, accessat};

use crate::policy::plan::{FilePlan, FileRight, LayerPlan, Program};

/// Who a layer is, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// This very user, with all its groups.
    Me,
    /// A user with one group.
    User {
        /// Its number.
        uid: u32,
        /// Its group's.
        gid: u32,
    },
    /// Some user that nothing belongs to yet.
    Nobody,
}

/// Whether the layer itself opens it, as its own user; otherwise it gets descriptors.
pub fn is_by_path(file: &FilePlan, layer: &LayerPlan, stat: &Stat) -> bool {
    let is_foreign = matches!(layer.program, Program::Exec(_));
    file.grant.contains_key(&layer.name)
        && !(is_directory(stat) && file.is_brokered(&layer.name))
        && (is_directory(stat) || is_foreign)
}

/// What `who` can't do of what the rights on `path` are for, as verbs.
pub fn lacking(rights: &[FileRight], path: &str, stat: &Stat, who: Who) -> Vec<&'static str> {
    let has = match who {
        Who::Me => own_access(path),
        Who::User { uid, .. } if uid == stat.st_uid => (stat.st_mode >> 6) & 7,
        Who::User { gid, .. } if gid == stat.st_gid => (stat.st_mode >> 3) & 7,
        Who::User { .. } | Who::Nobody => stat.st_mode & 7,
    };
    let lacks = wanted(rights, is_directory(stat)) & !has;
    [(4, "read"), (2, "write"), (1, if is_directory(stat) { "enter" } else { "execute" })]
        .into_iter()
        .filter(|(bit, _)| lacks & bit != 0)
        .map(|(_, verb)| verb)
        .collect()
}

fn is_directory(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

/// The permission bits that the rights take, as in one digit of a mode.
fn wanted(rights: &[FileRight], is_directory: bool) -> u32 {
    let bits = rights.iter().map(|right| match right {
        // Of what lies beneath a directory, its own mode says nothing but whether one may enter.
        FileRight::Read | FileRight::Write | FileRight::Append | FileRight::Truncate
            if is_directory =>
        {
            1
        }
        FileRight::Read | FileRight::List => 4,
        FileRight::Write | FileRight::Append | FileRight::Truncate => 2,
        FileRight::Create
        | FileRight::Remove
        | FileRight::Mkdir
        | FileRight::Rmdir
        | FileRight::Move
        | FileRight::Symlink
        | FileRight::Socket
        | FileRight::Fifo => 3,
        FileRight::Execute => 1,
    });
    bits.fold(0, |all, one| all | one)
}

/// What this user may do, as one digit of a mode.
fn own_access(path: &str) -> u32 {
    let may = |access| accessat(CWD, path, access, AtFlags::EACCESS).is_ok();
    [(4, Access::READ_OK), (2, Access::WRITE_OK), (1, Access::EXEC_OK)]
        .into_iter()
        .filter(|(_, access)| may(*access))
        .fold(0, |all, (bit, _)| all | bit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_take_permissions() {
        assert_eq!(wanted(&[FileRight::Read], false), 4);
        assert_eq!(wanted(&[FileRight::Read], true), 1);
        assert_eq!(wanted(&[FileRight::Read, FileRight::Create], true), 3);
        assert_eq!(wanted(&[FileRight::List], true), 4);
        assert_eq!(wanted(&[FileRight::Write, FileRight::Truncate], false), 2);
    }
}
