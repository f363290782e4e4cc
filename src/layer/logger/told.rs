//! What is said of a system call that an instance was killed for.

use super::kernel::Call;
use super::orders::Orders;
use crate::ident::{Instance, Name};
use crate::policy::plan::LayerPlan;
use crate::policy::syscall::refused::{Advice, Grant, Way, advise_some, answer, granted};
use crate::policy::syscall::{Implied, name_of};

/// Which call it was, what the layer has of it, and what would allow it.
pub(super) fn sentence(instance: &Instance, call: Call, orders: &Orders) -> String {
    let number = match call {
        Call::Foreign { arch, number } => {
            return format!(
                "{instance} made system call {number} of another architecture ({arch:#x}), which \
                 no policy grants"
            );
        }
        Call::Native(number) => number,
    };
    let Some(name) = name_of(number) else {
        return format!("{instance} made a system call of the unknown number {number}");
    };
    let what = format!("{instance} made the system call {name}");
    let layer = &instance.layer;
    if layer.as_str().starts_with(LayerPlan::RESERVED) {
        return format!("{what}, which its part in the framework doesn't take");
    }
    let nothing = Grant { calls: &[], implied: Implied::Run, appends: false };
    let grant = orders.grant(layer).unwrap_or(nothing);
    match advise_some(number, &grant) {
        Way::Advice(advice) => {
            let has = granted(number, grant.calls);
            let has = if has.is_empty() {
                String::new()
            } else {
                format!("[layer.{layer}] has {}; ", has.join(", "))
            };
            format!(
                "{what} in a way that isn't granted: {has}{} would allow it, `refuse = {{ {name} = \
                 \"{}\" }}` would refuse it without killing",
                grants(&advice, layer),
                answer(number)
            )
        }
        Way::Granted => {
            format!("{what}, which [layer.{layer}] has: its policy isn't what ended it")
        }
        Way::Never(why) => format!("{what}, which no policy grants: {why}"),
    }
}

/// The texts of which each would do.
fn grants(advice: &Advice, layer: &Name) -> String {
    let reason = advice.because().map(|line| format!(" (with a reason, such as `{line}`)"));
    let groups = advice.groups.iter().map(|group| format!(" or \"@{}\"", group.name));
    format!(
        "\"{}\" in `syscalls` of [layer.{layer}]{}{}",
        advice.item,
        reason.unwrap_or_default(),
        groups.collect::<String>()
    )
}
