//! The groups of system calls that policies name with `@`.
//!
//! They are data, in `policies/groups/syscalls.toml`, which is part of the program. Every group has a
//! title, plain members, and `noted` members: those that carry power, each with what it gives and
//! why it is there. A member is a call expression; one that the running architecture lacks is
//! left out, and so is a refusal of such a call.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;

use super::call::{self, CallItem};
use super::error::{Fault, ItemError};
use super::names;

/// A named set of system calls.
#[derive(Debug, PartialEq, Eq)]
pub struct Group {
    /// The name without the `@`.
    pub name: String,
    /// What it is for, in one sentence.
    pub title: String,
    /// Why a policy must say `because` to grant it; `None` for an ordinary group.
    pub dangerous: Option<String>,
    /// The members that the running architecture has.
    pub members: Vec<Member>,
    /// Calls that answer an error where nothing allows them and the policy says nothing, by
    /// number.
    pub refuse: Vec<(u32, u16)>,
}

/// One member of a group.
#[derive(Debug, PartialEq, Eq)]
pub struct Member {
    /// The expression, as it is written.
    pub text: String,
    /// What it stands for.
    pub call: CallItem,
    /// What power it carries; `None` for a plain member.
    pub note: Option<String>,
}

/// The text that [`groups`] was read from.
pub const SOURCE: &str = include_str!("../../../policies/groups/syscalls.toml");

/// Every group, sorted by name.
pub fn groups() -> &'static [Group] {
    // A test reads the same text, so it is sound. Were it not, no group would exist, and every
    // policy that names one would be refused.
    static GROUPS: LazyLock<Vec<Group>> = LazyLock::new(|| read(SOURCE).unwrap_or_default());
    &GROUPS
}

/// The groups that grant a call in some form, ordinary ones first: what to name to a person whose
/// layer was ended for it.
pub fn offering(number: u32) -> Vec<&'static Group> {
    let grants = |group: &&Group| group.members.iter().any(|member| member.call.number == number);
    let mut offering: Vec<_> = groups().iter().filter(grants).collect();
    offering.sort_by_key(|group| group.dangerous.is_some());
    offering
}

/// Finds a group by the name after `@`; `span` is the name's place.
pub(super) fn find(name: &str) -> Result<&'static Group, ItemError> {
    groups().iter().find(|group| group.name == name).ok_or_else(|| {
        let fault = Fault::UnknownGroup(name.to_owned());
        let error = ItemError::new(fault, 0..name.len() + 1)
            .suggest(name, groups().iter().map(|group| group.name.as_str()));
        ItemError { nearest: error.nearest.map(|near| format!("@{near}")), ..error }
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    title: String,
    dangerous: Option<String>,
    #[serde(default)]
    members: Vec<String>,
    #[serde(default)]
    noted: BTreeMap<String, String>,
    #[serde(default)]
    refuse: BTreeMap<String, String>,
}

fn read(text: &str) -> Result<Vec<Group>, String> {
    let table: BTreeMap<String, Text> = toml::from_str(text).map_err(|error| error.to_string())?;
    table.into_iter().map(|(name, text)| group(name, text)).collect()
}

fn group(name: String, text: Text) -> Result<Group, String> {
    let plain = text.members.into_iter().map(|member| (member, None));
    let noted = text.noted.into_iter().map(|(member, note)| (member, Some(note)));
    let mut members = Vec::new();
    for (member, note) in plain.chain(noted) {
        match call::parse(&member) {
            Ok(call) => members.push(Member { text: member, call, note }),
            Err(ItemError { fault: Fault::ElsewhereCall(_), .. }) => {}
            Err(error) => return Err(format!("@{name}: {member}: {error}")),
        }
    }
    let mut refuse = Vec::new();
    for (call, error) in &text.refuse {
        let errno = names::errno(error).ok_or_else(|| format!("@{name}: refuse: {error}"))?;
        match names::by_name(call) {
            Some(number) => refuse.push((number, errno)),
            None if names::exists_elsewhere(call) => {}
            None => return Err(format!("@{name}: refuse: {call}")),
        }
    }
    Ok(Group { name, title: text.title, dangerous: text.dangerous, members, refuse })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_file_is_whole() {
        let groups = read(SOURCE).unwrap();
        let names: Vec<_> = groups.iter().map(|group| group.name.as_str()).collect();
        for name in [
            "core",
            "exec",
            "file-read",
            "file-write",
            "loader",
            "net-connect",
            "net-datagram",
            "net-stream",
            "process",
            "shared-memory",
            "thread",
            "time",
        ] {
            assert!(names.contains(&name), "{name}");
        }
        for group in &groups {
            assert!(group.title.ends_with('.'), "@{}: a title is a sentence", group.name);
            assert!(!group.members.is_empty(), "@{}", group.name);
        }
    }

    #[test]
    fn no_ordinary_group_grants_what_ends_confinement() {
        let forbidden = [
            "ptrace",
            "bpf",
            "mount",
            "unshare",
            "setns",
            "seccomp",
            "keyctl",
            "clone3",
            "userfaultfd",
            "process_vm_readv",
            "pidfd_getfd",
            "io_uring_setup",
            "perf_event_open",
            "personality",
            "open_by_handle_at",
            "mknodat",
            "init_module",
            "setuid",
            "capset",
            "chroot",
            "kcmp",
        ];
        for group in groups().iter().filter(|group| group.dangerous.is_none()) {
            for member in &group.members {
                // To make FIFOs is all that is left of the call.
                let fifos = member.text.ends_with("& S_IFMT == S_IFIFO)");
                let ends = forbidden.contains(&member.call.name) && !fifos;
                assert!(!ends, "@{}: {}", group.name, member.text);
            }
        }
    }

    #[test]
    fn a_call_is_offered_by_its_groups() {
        let names = |call| {
            let number = names::by_name(call).unwrap();
            offering(number).iter().map(|group| group.name.as_str()).collect::<Vec<_>>()
        };
        assert_eq!(names("mprotect"), ["core", "loader", "execmem", "memory-exec"]);
        assert_eq!(names("ptrace"), ["debug"]);
        assert!(names("get_mempolicy").is_empty());
    }

    #[test]
    fn a_broken_file_is_an_error() {
        for bad in [
            "[a]\nmembers = []",
            "[a]\ntitle = 'A.'\nmember = []",
            "[a]\ntitle = 'A.'\nmembers = ['raed']",
            "[a]\ntitle = 'A.'\nrefuse = { read = 'ENOPE' }",
            "[a]\ntitle = 'A.'\n[a.noted]\n'read(1)' = 'x'",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
