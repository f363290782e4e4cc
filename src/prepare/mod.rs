//! What is done before the first layer starts, by a process that ends before it does.
//!
//! The kernel object behind a facility is made by name: a path is walked, a file that is there
//! already is looked into, a FIFO that a killed daemon left is cleared away. None of that belongs
//! into the process that lives as long as the daemon. So a child makes the objects, hands their
//! descriptors over in the plan's order, and exits. It reads nothing but the plan and what lies at
//! the plan's own paths, and no layer is there yet that could speak to it.
//!
//! Reading order: [`child`] is how such a process works and hands over; [`planner`] makes the plan,
//! [`log_directory`] looks where the audit log will be, [`assembler`] works out of both how every
//! layer is started, with [`own`] and [`image`], and [`maker`] makes the objects; one file a
//! facility makes its object and says which descriptors come of it.

pub(crate) mod assembler;
mod child;
mod fifo;
pub(crate) mod image;
mod log_directory;
mod maker;
mod mapped_file;
pub(crate) mod own;
pub(crate) mod planner;
pub mod policy_file;
mod queue;
mod region;
pub(crate) mod walk;

pub(crate) use child::PrepareError;
pub(crate) use fifo::FifoAtPath;
pub(crate) use log_directory::LogDirectory;
pub(crate) use maker::{Descriptors, make};
