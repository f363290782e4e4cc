//! What a layer's code asks for by name, a file for each facility.

mod fifo;
mod mapped_file;
mod message;
mod pipe;
mod queue;
mod region;
mod semaphore;
mod signal;
mod socket;
mod trace;

use std::collections::BTreeMap;
use std::sync::Mutex;

pub use self::socket::LayerConnectError;

use crate::ipc::mapped_file::MappedFile;
use crate::ipc::region::Region;

/// What is mapped so far, by number in the plan: a second handle shares the first one's mapping.
#[derive(Debug, Default)]
pub(crate) struct Maps {
    regions: Mutex<BTreeMap<u16, Region>>,
    mapped_files: Mutex<BTreeMap<u16, MappedFile>>,
}
