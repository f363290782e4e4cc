//! Seccomp profiles of containers: `linux.seccomp` of the OCI runtime specification, which Docker,
//! Podman and Kubernetes read too.

use serde_json::{Value, json};

use super::masks::{Test, alternatives};
use super::{Export, facilities};
use crate::policy::plan::{Compare, LayerPlan, Plan, SyscallPlan};
use crate::policy::syscall;

/// The profile of one layer.
///
/// What it allows, the policy allows. Where a rule has no exact form in a profile, it is left out
/// and told, so the profile is then narrower.
pub fn oci_seccomp(plan: &Plan, layer: &LayerPlan) -> Export<Value> {
    let mut not_expressed = Vec::new();
    let mut always = Vec::new();
    let mut entries = Vec::new();
    for call in &layer.syscalls {
        match syscall::name_of(call.number) {
            Some(name) if call.allow.iter().any(|rule| rule.0.is_empty()) => always.push(name),
            Some(name) => one(name, call, &mut entries, &mut not_expressed),
            None => not_expressed.push(format!("system call {} has no name", call.number)),
        }
    }
    entries.insert(0, json!({ "names": always, "action": "SCMP_ACT_ALLOW" }));
    beside_calls(plan, layer, &mut not_expressed);
    let value = json!({
        "defaultAction": "SCMP_ACT_KILL_PROCESS",
        "architectures": [architecture()],
        "syscalls": entries,
    });
    Export { value, not_expressed }
}

fn one(name: &str, call: &SyscallPlan, entries: &mut Vec<Value>, not_expressed: &mut Vec<String>) {
    for rule in &call.allow {
        let Some(alternatives) = alternatives(rule) else {
            not_expressed.push(format!(
                "{name}: one of its rules would take too many masks; the profile is narrower"
            ));
            continue;
        };
        for tests in alternatives {
            let args: Vec<_> = tests.iter().map(argument).collect();
            entries.push(json!({ "names": [name], "action": "SCMP_ACT_ALLOW", "args": args }));
        }
    }
    match call.otherwise {
        Some(errno) if call.allow.is_empty() => entries.push(json!({
            "names": [name],
            "action": "SCMP_ACT_ERRNO",
            "errnoRet": errno,
        })),
        // An entry without conditions would hide those with some.
        Some(errno) => not_expressed.push(format!(
            "{name}: where its conditions don't hold, the policy answers {}; the profile ends the \
             process",
            syscall::errno_name(errno).unwrap_or("an error")
        )),
        None => {}
    }
}

/// `value` is the mask where there is one, and `valueTwo` what must be beneath it.
fn argument(test: &Test) -> Value {
    let (operator, value, two) = match test.compare {
        Compare::Eq(value) => ("SCMP_CMP_EQ", value, 0),
        Compare::Ne(value) => ("SCMP_CMP_NE", value, 0),
        Compare::Lt(value) => ("SCMP_CMP_LT", value, 0),
        Compare::Le(value) => ("SCMP_CMP_LE", value, 0),
        Compare::Gt(value) => ("SCMP_CMP_GT", value, 0),
        Compare::Ge(value) => ("SCMP_CMP_GE", value, 0),
        Compare::Masked { mask, value } => ("SCMP_CMP_MASKED_EQ", mask, value),
    };
    json!({ "index": test.argument, "value": value, "valueTwo": two, "op": operator })
}

const fn architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") { "SCMP_ARCH_AARCH64" } else { "SCMP_ARCH_X86_64" }
}

/// A profile is about system calls alone.
fn beside_calls(plan: &Plan, layer: &LayerPlan, not_expressed: &mut Vec<String>) {
    let execve = syscall::by_name("execve");
    if !layer.syscalls.iter().any(|call| Some(call.number) == execve && !call.allow.is_empty()) {
        not_expressed.push(
            "execve: the policy grants none, but a runtime that loads the profile before it starts \
             the program needs it"
                .to_owned(),
        );
    }
    let files: Vec<_> = plan.files_of(&layer.name).map(|(file, _)| file.path.as_str()).collect();
    if !files.is_empty() {
        not_expressed.push(format!("files are no matter of a profile: {}", files.join(", ")));
    }
    if !layer.listen.is_empty() || !layer.connect.is_empty() {
        not_expressed.push("sockets that the supervisor passes are no matter of a profile".into());
    }
    if !layer.capabilities.is_empty() {
        not_expressed.push("capabilities are no matter of a profile".to_owned());
    }
    if plan.audit.demanded {
        not_expressed.push("the audit log is no matter of a profile".to_owned());
    }
    not_expressed.push("limits, users and namespaces are no matter of a profile".to_owned());
    let others = facilities(plan, layer);
    if !others.is_empty() {
        not_expressed.push(format!("only cofferdam makes these: {}", others.join(", ")));
    }
}
