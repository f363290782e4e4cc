//! The layer's part of the plan, as the supervisor hands it to the re-executed child.
//!
//! It travels in a memfd that is sealed before the child exists, never in argv or environment: it
//! can't be seen in `/proc`, and nobody can alter it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use serde::{Deserialize, Serialize};

use super::share::Share;
use crate::confine::Order;
use crate::confine::filter::Filter;
use crate::ident::{Name, PolicyId};
use crate::ipc::message::Side;
use crate::policy::plan::{ChannelPlan, LogFull};
use crate::sys::memory;
use crate::wire::control::Service;
use crate::wire::event::Mark;

/// The largest slice, in bytes. A filter has at most 32 KiB, settings at most 64 KiB; the rest
/// is names and paths.
const MAX: u64 = 1 << 20;

/// The most that [`Slice::settings`] holds, in bytes.
pub const MAX_SETTINGS: usize = 64 << 10;

/// Where another program's init finds what is for standard input, output and error, in this order,
/// where the policy attaches something, and after them the pipe in which it tells what was refused.
/// Of one that accepts connections, the first is the ring for reports if there is an auditor.
pub(crate) const PIPE_FDS: std::ops::Range<i32> = 5..9;

/// All that a layer learns before it is confined.
#[derive(Debug, Deserialize)]
pub struct Slice {
    /// How to confine it; holds its instance and what its policy says of it.
    pub order: Order,
    /// How it reports to the auditor, if there is one.
    pub reports: Option<ReportsSlice>,
    /// What the daemon's program wants every layer to know; for one of the framework's own, what
    /// it must know of the plan.
    pub settings: Vec<u8>,
    /// What is the same in all of its lives.
    pub part: Part,
}

/// A layer's part of the plan. The supervisor has it as bytes, and looks at none of them.
#[derive(Debug, Serialize, Deserialize)]
pub struct Part {
    /// The digest of the whole plan.
    pub policy: PolicyId,
    /// The daemon's name.
    pub daemon: Name,
    /// The system-call filter.
    pub filter: Filter,
    /// Of an `exec` layer, whose filter leaves what it refuses to init: what it answers otherwise.
    pub rules: Option<Filter>,
    /// Whether its init looks at the paths of calls too, and tells of what its policy doesn't grant.
    pub tells_paths: bool,
    /// Of an `exec` layer, the filter of its init.
    pub init: Option<Filter>,
    /// Its channels, with their numbers.
    pub channels: Vec<ChannelSlice>,
    /// Directories that it reaches by path, by the grant's name.
    pub directories: Vec<(Name, String)>,
    /// Its part in the other facilities.
    pub share: Share,
    /// Whether it is one of the framework's own.
    pub own: bool,
    /// Helpers that do something for it.
    pub services: Vec<Service>,
    /// What its events begin with, if it has a function of this library's kind.
    pub events: Option<Mark>,
}

/// One end of a channel.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ChannelSlice {
    /// The channel's number in the plan.
    pub number: u16,
    /// What the policy says of it.
    pub plan: ChannelPlan,
    /// Which end is this layer's.
    pub side: Side,
}

/// How a layer reports to the auditor.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReportsSlice {
    /// Bytes of the ring.
    pub bytes: u32,
    /// What happens when the ring is full.
    pub on_full: LogFull,
    /// The plan's layers, in its order.
    pub layers: Vec<Name>,
    /// The key that payloads are sealed to.
    pub payload_key: Option<[u8; 32]>,
}

impl Part {
    /// As a part of the [`Slice`].
    pub fn encode(&self) -> Result<Vec<u8>, postcard::Error> {
        postcard::to_stdvec(self)
    }
}

impl Slice {
    /// Writes a slice into a new sealed memfd: [`Slice::part`] as [`Part::encode`] gives it, and
    /// before it the others.
    pub fn seal(
        order: &Order,
        reports: Option<&ReportsSlice>,
        settings: &[u8],
        part: &[u8],
    ) -> io::Result<OwnedFd> {
        let mut bytes =
            postcard::to_stdvec(&(order, reports, settings)).map_err(io::Error::other)?;
        bytes.extend_from_slice(part);
        if bytes.len() as u64 > MAX {
            return Err(io::Error::other(format!(
                "a layer's part of the plan has {} bytes, more than {MAX}",
                bytes.len()
            )));
        }
        memory::sealed("cofferdam-slice", &bytes)
    }

    /// Reads the slice back, from a memfd that carries every seal.
    pub fn unseal(fd: impl AsFd) -> io::Result<Self> {
        let bytes = memory::read_sealed(fd, MAX)?;
        let (slice, rest) = postcard::take_from_bytes(&bytes).map_err(io::Error::other)?;
        if !rest.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "bytes are left over"));
        }
        Ok(slice)
    }
}
