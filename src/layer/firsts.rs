//! What a layer takes to itself and then uses without a word: reported when it first does.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use super::Shared;
use crate::policy::plan::{Audit, FileRight};
use crate::report::{Facility, Facts, Side};
use crate::wire::broker::open;

/// What has been reported so far, by kind and number.
#[derive(Debug, Default)]
pub(crate) struct Firsts(Mutex<BTreeSet<(Facility, u16)>>);

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
