//! System calls as policies write them: names, groups, and conditions on arguments.
//!
//! An item of a layer's `syscalls` is a group (`"@core"`), a call (`"getpid"`), or a call with
//! conditions (`"ioctl(_, FIONREAD)"`; the grammar is in [`call`]). Items become plan entries in
//! [`assemble`]; `confine::filter` makes the kernel's filter of those.
//!
//! Reading order: [`groups`](groups()) and their text, [`call`], [`assemble`], [`meaning`]; then
//! [`refused`], which explains a call that no filter let through.

mod assemble;
pub mod call;
mod constants;
mod error;
mod groups;
pub mod meaning;
mod names;
mod number;
mod prototype;
pub mod refused;
mod scan;

pub use assemble::{assemble, init_plan, is_dangerous, keep_append, spawner_plan};
pub use call::CallItem;
pub use error::ItemError;
pub use groups::{Group, Member, SOURCE, groups, offering};
pub use names::{ARCHITECTURE, all, by_name, errno, errno_name, name_of};

/// The descriptor at which the init of an `exec` layer opens the layer's program, close-on-exec.
///
/// High enough to be past the descriptors that a layer starts with, low enough for every sensible
/// limit on open files.
pub const EXEC_FD: i32 = 15;

/// Calls that a kernel which has them answers before any filter (`__secure_computing` in
/// kernel/seccomp.c), with what it answers outside of trampolines of its own. Older kernels leave
/// the numbers to the filter, which kills.
pub const UNFILTERED: &[(u32, &str, &str)] = if cfg!(target_arch = "x86_64") {
    &[(335, "uretprobe", "SIGILL"), (336, "uprobe", "errno:ENXIO")]
} else {
    &[]
};

/// One item of a `syscalls` list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A group of calls.
    Group(&'static Group),
    /// One call, perhaps with conditions.
    Call(CallItem),
}

/// What is granted by what a layer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Implied {
    /// A function of the daemon's own program: nothing.
    Run,
    /// Another program: what the loader and libraries need or try, and its `execveat`.
    Exec,
}

/// Reads an item of a `syscalls` list.
pub fn parse_item(text: &str) -> Result<Item, ItemError> {
    match text.strip_prefix('@') {
        Some(name) => groups::find(name).map(Item::Group),
        None => call::parse(text).map(Item::Call).map_err(|error| {
            // Without its `@` a group reads as a call that doesn't exist.
            match groups().iter().find(|group| group.name == text.trim()) {
                Some(group) => ItemError::a_group(text, &group.name),
                None => error,
            }
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_and_calls_are_told_apart() {
        assert!(matches!(parse_item("@core"), Ok(Item::Group(group)) if group.name == "core"));
        assert!(matches!(parse_item("read"), Ok(Item::Call(call)) if call.name == "read"));
    }

    #[test]
    fn a_group_without_its_sign_is_named() {
        let error = parse_item("net-stream").unwrap_err();
        assert_eq!((error.nearest().as_deref(), error.span()), (Some("@net-stream"), 0..10));
        assert_eq!(error.to_string(), "there is no system call `net-stream`");
    }

    #[test]
    fn an_unknown_group_names_the_nearest() {
        let error = parse_item("@cor").unwrap_err();
        assert_eq!(error.to_string(), "there is no group `@cor`");
        assert_eq!((error.nearest().as_deref(), error.span()), (Some("@core"), 0..4));
        assert_eq!(parse_item("@").unwrap_err().span(), 0..1);
    }
}
