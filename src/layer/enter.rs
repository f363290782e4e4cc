//! The way into a layer: from the re-executed program to the layer's function, confined.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use super::inbox::{Heard, Inbox};
use super::run::{Function, LayerResult};
use super::slice::Slice;
use super::{Layer, Shared, Stop};
use crate::confine::Confined;
use crate::confine::init;
use crate::confine::receipt::Receipt;
use crate::ident::Name;
use crate::ipc::message::{Channel, ChannelSpec};
use crate::policy::plan::Program;
use crate::seal::secret::Identity;
use crate::sys::pidfd::Ended;
use crate::wire::control::{FromLayer, ToLayer};

/// What the supervisor puts before the instance's name in `argv[0]`.
pub(crate) const TITLE: &str = "cofferdam-layer:";

/// Where the re-executed program finds its slice and its control socket.
const SLICE_FD: i32 = 3;
const CONTROL_FD: i32 = 4;

/// A layer that could not be confined or set up exits with this.
const SETUP_FAILED: u8 = 70;

/// Whether this process was started by a supervisor to become a layer.
pub(crate) fn is_layer() -> bool {
    let title = std::env::args_os().next();
    title.is_some_and(|title| title.as_encoded_bytes().starts_with(TITLE.as_bytes()))
}
