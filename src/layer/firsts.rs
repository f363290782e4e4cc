//! What a layer takes to itself and then uses without a word: reported when it first does.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};

use super::Shared;
use super::run::say;
use crate::policy::plan::{Audit, FilePlan, FileRight};
use crate::report::{Facility, Facts, Side};
use crate::wire::broker::open;

/// What has been reported so far, by kind and number, and of which files it was said that they
/// have lost their name.
#[derive(Debug, Default)]
pub(crate) struct Firsts(Mutex<BTreeSet<(Facility, u16)>>, Mutex<BTreeSet<u16>>);

impl Shared {
    /// Reports that this layer takes a descriptor, the first time that it does.
    pub(super) fn report_first(
        &self,
        (facility, number): (Facility, u16),
        audit: Audit,
        method: u32,
        detail: &[u8],
    ) {
        let Some(tap) = self.desk.tap(facility, number, audit) else { return };
        let mut reported = self.firsts.0.lock().unwrap_or_else(PoisonError::into_inner);
        if reported.insert((facility, number)) {
            tap.report(&Facts { method, ..tap.facts(Side::None) }, &[], detail);
        }
    }
}

impl Shared {
    /// Says once that a file has lost its name since it was opened.
    pub(super) fn tell_replaced(&self, number: u16, plan: &FilePlan, file: &OwnedFd) {
        if !rustix::fs::fstat(file).is_ok_and(|stat| stat.st_nlink == 0) {
            return;
        }
        let mut told = self.firsts.1.lock().unwrap_or_else(PoisonError::into_inner);
        if told.insert(number) {
            say(&format!(
                "[file.{}] {}: it was replaced or removed since this layer started, which still \
                 gets the old one; `follow = true` gives it the one that has the name",
                plan.name, plan.path
            ));
        }
    }
}

/// What a file is opened for that the supervisor hands over with these rights, in bits of [`open`].
pub(super) fn opened(rights: &[FileRight]) -> u16 {
    let bits = rights.iter().map(|right| match right {
        FileRight::Read => open::READ,
        FileRight::Write => open::WRITE,
        FileRight::Append => open::APPEND,
        _ => 0,
    });
    bits.fold(0, |all, bit| all | bit)
}
