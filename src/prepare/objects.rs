//! The objects behind the facilities, and who gets them.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;

use serde::{Deserialize, Serialize};

use super::arrange::is_vacant;
use super::{FifoAtPath, mapped_file, queue, region};
use crate::ident::Name;
use crate::layer::ledger;
use crate::policy::plan::{
    Facilities, FifoPlan, FilePlan, FileRight, MapRight, MappedFilePlan, OnFull, Plan, QueuePlan,
    RegionPlan,
};
use crate::sys::process::landlock_abi;
use crate::wire::control::{Object, ToLayer, mapped_file_part};

/// What becomes of a descriptor.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Use {
    /// Every life of these layers gets a copy, with this message.
    Handed(ToLayer, Vec<Name>),
    /// Nobody gets it. It holds a lock as long as the daemon runs.
    Kept,
}

/// An object, one of its descriptors after the other.
type Made = Vec<(Use, OwnedFd)>;

/// How many descriptors [`make`] and its FIFOs give at most.
pub(super) fn most(plan: &Plan) -> usize {
    let all = &plan.facilities;
    let queues: usize = all.queues.iter().map(|plan| 2 * usize::from(plan.lanes())).sum();
    queues + 3 * all.mapped_files.len() + 2 * all.regions.len() + 2 * all.fifos.len()
}

/// Makes everything; a failure names its place in the policy. FIFOs come apart, for somebody else
/// sees them: dropped, they are removed again.
pub(super) fn make(plan: &Plan) -> Result<(Made, Vec<FifoAtPath>), String> {
    for file in &plan.files {
        can_be_opened(file).map_err(|error| blame("file", &file.name, &error))?;
    }
    let all = &plan.facilities;
    let mut made = Vec::new();
    let lifted = queue::lift_limits(&all.queues);
    // What nobody takes part in is there already, or isn't any more.
    let queues = (0..).zip(&all.queues).filter(|(_, it)| !it.receive.is_empty());
    for (number, plan) in queues {
        made.extend(of_queue(number, plan).map_err(|error| blame("queue", &plan.name, &error))?);
    }
    drop(lifted);
    for (number, plan) in (0..).zip(&all.mapped_files).filter(|(_, it)| !it.grant.is_empty()) {
        let file = of_mapped_file(number, plan);
        made.extend(file.map_err(|error| blame("mapped-file", &plan.name, &error))?);
    }
    for (number, plan) in (0..).zip(&all.regions).filter(|(_, it)| !it.grant.is_empty()) {
        made.extend(of_region(number, plan).map_err(|error| blame("region", &plan.name, &error))?);
    }
    let fifo =
        |plan: &FifoPlan| FifoAtPath::make(plan).map_err(|error| blame("fifo", &plan.name, &error));
    let fifos = made_fifos(all).map(fifo).collect::<Result<Vec<_>, _>>()?;
    Ok((made, fifos))
}

/// The FIFOs that are to be made.
pub(super) fn made_fifos(all: &Facilities) -> impl Iterator<Item = &FifoPlan> {
    all.fifos.iter().filter(|fifo| !is_vacant(&fifo.to))
}

/// The ends of a queue's lanes, for those who send and receive. Who makes room in it receives too.
fn of_queue(number: u16, plan: &QueuePlan) -> io::Result<Made> {
    let mut receivers = plan.receive.clone();
    if plan.on_full == OnFull::DropOldest {
        receivers.extend(Name::new(ledger::NAME).ok());
    }
    let mut made = Vec::new();
    for (part, [sending, receiving]) in (0..).zip(queue::make(plan)?) {
        let object = |kind| ToLayer::Object { kind, number, part };
        made.push((Use::Handed(object(Object::QueueSend), plan.send.clone()), sending));
        made.push((Use::Handed(object(Object::QueueReceive), receivers.clone()), receiving));
    }
    Ok(made)
}

/// The file for those who write it and for those who read it, and its lock; or a copy.
///
/// That layers share a descriptor is to nobody's harm: maps know neither the position nor the flags
/// of an open file, and nobody locks it.
fn of_mapped_file(number: u16, plan: &MappedFilePlan) -> io::Result<Made> {
    let given = |part, right| {
        let message = ToLayer::Object { kind: Object::MappedFile, number, part };
        Use::Handed(message, holders(&plan.grant, right))
    };
    let uses = if plan.is_written() {
        let live = |right| given(mapped_file_part::LIVE, right);
        // The lock is nobody's, and goes with the rest.
        let lock =
            ToLayer::Object { kind: Object::MappedFile, number, part: mapped_file_part::LIVE };
        vec![live(MapRight::ReadWrite), live(MapRight::Read), Use::Handed(lock, Vec::new())]
    } else {
        vec![given(mapped_file_part::COPY, MapRight::Read)]
    };
    Ok(uses.into_iter().zip(mapped_file::make(plan)?).collect())
}

fn of_region(number: u16, plan: &RegionPlan) -> io::Result<Made> {
    let given = |right| {
        let message = ToLayer::Object { kind: Object::Region, number, part: 0 };
        Use::Handed(message, holders(&plan.grant, right))
    };
    let uses = [MapRight::ReadWrite, MapRight::Read].map(given);
    Ok(uses.into_iter().zip(region::make(plan)?).collect())
}

/// Who has a right on mapped memory.
fn holders(grant: &BTreeMap<Name, MapRight>, right: MapRight) -> Vec<Name> {
    grant.iter().filter(|(_, has)| **has == right).map(|(layer, _)| layer.clone()).collect()
}

/// Whether the broker can open a file for everybody who is granted it: what may be changed and not
/// truncated takes Landlock.
fn can_be_opened(file: &FilePlan) -> io::Result<()> {
    let lacks_truncate = file.grant.iter().any(|(layer, rights)| {
        let has = |right| rights.contains(&right);
        file.is_brokered(layer)
            && (has(FileRight::Write) || has(FileRight::Append))
            && !has(FileRight::Truncate)
    });
    if !lacks_truncate || matches!(landlock_abi(), Ok(3..)) {
        return Ok(());
    }
    Err(io::Error::other(
        "to open for writing and not for truncating takes Linux 6.2 with Landlock; grant \
         `truncate` too",
    ))
}

fn blame(kind: &str, name: &Name, error: &io::Error) -> String {
    format!("[{kind}.{name}] {error}")
}
