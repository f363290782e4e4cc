//! System calls that neither `nix` nor `rustix` has, and all unsafe code of the crate.
//!
//! | module | what is here |
//! |---|---|
//! | [`spawn`] | a child by `clone3`, with pidfd, namespaces, cgroup, and nothing of ours in it |
//! | `clone` | the few instructions of assembly beneath it |
//! | [`fork`] | a copy of this process that ends when its work is done |
//! | [`inherit`] | descriptors that this process was started with |
//! | [`pidfd`] | waiting for and signalling a child without its number |
//! | [`memory`] | files in memory |
//! | [`mount`] | `mount_setattr` |
//! | [`mqueue`] | POSIX message queues by descriptor |
//! | [`notify`] | calls of a process that its observer answers |
//! | [`observe`] | loading filters, with a listener or without |
//! | [`original`] | whether this process is a copy that fork has made |
//! | [`pin`](mod@pin) | a handle on what is at a path, through no symbolic link |
//! | [`reopen`] | opening a descriptor once more, also so that the file can't be truncated by it |
//! | [`resolve`] | `openat2`, also where a filter refuses it |
//! | [`secret_page`] | memory for a private key |
//! | [`socket`] | socket options |
//! | [`exec`] | another program in this process |
//! | [`inherit`] | descriptors that the process was started with |
//! | [`mapping`] | memory that other processes map as well |
//! | `fault` | what becomes of an access to a mapped file that was cut |
//! | [`futex`] | sleeping on several words at once |
//! | [`probe`] | what only `cofferdam doctor` asks |
//! | [`process`] | what a process asks for itself: `PR_SET_MDWE`, keyring, personality, `close_range` |
//!
//! Every function here is safe to call; what the kernel demands of the caller is met inside.
//!
//! # Which crate makes which call
//!
//! | crate | what it is used for |
//! |---|---|
//! | `rustix` | everything that it has, in all of the crate: files, sockets, pipes, polling, mounts, user and group of the calling thread. It takes and gives owned and borrowed descriptors |
//! | `caps` | capabilities, by their names; `confine::identity` asks `rustix` about those that have none yet, and to look afterwards |
//! | `nix` | what `rustix` hasn't: namespaces of the calling process (`unshare`, `setns`), signal sets and signal descriptors, `getrlimit` with soft and hard limit apart |
//! | `landlock`, `seccompiler` | rulesets; loading filters |
//! | `libc` | raw calls beneath this module, which none of them has; elsewhere only its constants |
#![allow(unsafe_code)]

pub mod clock;
mod clone;
pub mod exec;
mod fault;
pub mod fork;
pub mod futex;
pub mod inherit;
pub mod mapping;
pub mod memory;
pub mod mount;
pub mod mqueue;
pub mod notify;
pub mod observe;
pub mod original;
pub mod passing;
pub mod pidfd;
pub mod pin;
pub mod poller;
pub mod probe;
pub mod process;
pub mod reopen;
pub mod resolve;
pub mod secret_page;
pub mod socket;
pub mod spawn;
