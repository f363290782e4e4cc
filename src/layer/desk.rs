//! The ring by which a layer reports to the auditor.

use std::io;
use std::os::fd::AsFd;

use super::slice::ReportsSlice;
use crate::report::{Desk, Reporter};
use crate::seal::capture::Capture;
use crate::seal::{OsChance, PublicKey};
use crate::sys::inherit::inherited;

/// Where a layer finds the ring for its reports, if there is an auditor: one of our own code, which has
/// no pipes, or an init that accepts connections, whose program has none.
pub(crate) const REPORTS_FD: i32 = 5;

/// Maps the ring for reports: before there is a filter, and before its descriptor is closed with
/// all that nobody declared.
pub(super) fn desk(reports: &ReportsSlice) -> io::Result<Desk> {
    let ring = inherited(REPORTS_FD)?;
    let bytes = usize::try_from(reports.bytes).map_err(io::Error::other)?;
    let reporter = Reporter::new(ring.as_fd(), bytes, reports.on_full)?;
    let capture = reports.payload_key.map(|key| Capture::new(&PublicKey(key), &mut OsChance));
    let capture = capture.transpose().map_err(io::Error::other)?;
    Ok(Desk::open(reporter, reports.layers.clone(), capture))
}
