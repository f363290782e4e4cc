//! System calls by name. A stand-in: the smallest thing that the checker can be tried with.
#![allow(missing_docs)]

use std::ops::Range;
use std::str::FromStr;

use super::plan::{CallRule, SyscallPlan};

#[derive(Clone, Debug)]
pub enum Item {
    Group(&'static Group),
    Call(CallItem),
}

#[derive(Debug)]
pub struct Group {
    pub name: &'static str,
    pub calls: &'static [&'static str],
}

#[derive(Clone, Debug)]
pub struct CallItem {
    pub number: u32,
    pub name: &'static str,
    pub rule: CallRule,
}

#[derive(Clone, Copy, Debug)]
pub enum Implied {
    Run,
    Exec,
}

#[derive(Debug, thiserror::Error)]
#[error("there is no system call or group `{}`", text.escape_debug())]
pub struct ItemError {
    text: String,
}

impl ItemError {
    pub fn nearest(&self) -> Option<String> {
        let names = syscalls::Sysno::iter().map(|call| call.name());
        let names = names.chain(GROUPS.iter().map(|group| group.name));
        super::nearest::nearest(&self.text, names).map(str::to_owned)
    }
    pub fn span(&self) -> Range<usize> {
        0..self.text.len()
    }
}

const GROUPS: [Group; 4] = [
    Group { name: "@core", calls: &["read", "write", "close", "exit_group"] },
    Group { name: "@net-stream", calls: &["accept4", "recvfrom", "sendto"] },
    Group { name: "@file", calls: &["openat", "fstat", "lseek"] },
    Group { name: "@thread", calls: &["clone", "futex"] },
];

pub fn parse_item(text: &str) -> Result<Item, ItemError> {
    if let Some(group) = GROUPS.iter().find(|group| group.name == text) {
        return Ok(Item::Group(group));
    }
    let (name, conditions) = text.split_once('(').unwrap_or((text, ""));
    let error = || ItemError { text: name.to_owned() };
    let call = syscalls::Sysno::from_str(name).map_err(|()| error())?;
    let condition = super::plan::Condition {
        argument: 1,
        width: super::plan::Width::Dword,
        compare: super::plan::Compare::Eq(0x541b),
    };
    let rule = CallRule(if conditions.is_empty() { vec![] } else { vec![condition] });
    Ok(Item::Call(CallItem { number: call as u32, name: call.name(), rule }))
}

pub fn assemble(grants: &[Item], refusals: &[(u32, u16)], _: Implied) -> Vec<SyscallPlan> {
    let mut plans = std::collections::BTreeMap::new();
    let fresh = |number| SyscallPlan { number, allow: vec![], otherwise: None };
    for item in grants {
        match item {
            Item::Group(group) => {
                for number in group.calls.iter().filter_map(|name| by_name(name)) {
                    let plan = plans.entry(number).or_insert_with(|| fresh(number));
                    plan.allow = vec![CallRule(vec![])];
                }
            }
            Item::Call(call) => {
                let plan = plans.entry(call.number).or_insert_with(|| fresh(call.number));
                plan.allow.push(call.rule.clone());
            }
        }
    }
    for (number, errno) in refusals {
        plans.entry(*number).or_insert_with(|| fresh(*number)).otherwise = Some(*errno);
    }
    let clone3 = SyscallPlan { number: 435, allow: vec![], otherwise: Some(38) };
    plans.insert(435, clone3);
    plans.into_values().collect()
}

pub fn is_dangerous(item: &Item) -> Option<&'static str> {
    match item {
        Item::Call(call) if call.name.starts_with("io_uring") => {
            Some("io_uring does what no filter sees")
        }
        Item::Call(call) if matches!(call.name, "ptrace" | "bpf" | "mount") => {
            Some("this call is in no group")
        }
        _ => None,
    }
}

pub fn errno(name: &str) -> Option<u16> {
    match name {
        "ENOENT" => Some(2),
        "EPERM" => Some(1),
        "ENOSYS" => Some(38),
        _ => None,
    }
}

pub fn by_name(name: &str) -> Option<u32> {
    syscalls::Sysno::from_str(name).ok().map(|call| call as u32)
}

pub fn name_of(number: u32) -> Option<&'static str> {
    syscalls::Sysno::new(number as usize).map(|call| call.name())
}
