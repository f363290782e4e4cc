//! Facts that a layer's own table states: system calls, capabilities, sockets.

use super::{Bound, Fact};
use crate::policy::judge::act::Act;
use crate::policy::judge::names;
use crate::policy::plan::{LayerPlan, Plan};
use crate::policy::syscall::name_of;

/// Adds what the layers' tables state.
pub(super) fn all(plan: &Plan, out: &mut Vec<Fact>) {
    for layer in &plan.layers {
        syscalls(layer, out);
        for &number in &layer.capabilities {
            let object = format!("capability.{}", names::capability(number));
            out.push(fact(layer, Act::Use, object, "capabilities"));
        }
        for listen in &layer.listen {
            let object = format!("listen.{}.{}", layer.name, listen.name);
            let mut fact = fact(layer, Act::Accept, object, &format!("listen.{}", listen.name));
            fact.bounds.push(Bound::flag("address", true, listen.address.to_string()));
            fact.bounds.push(Bound::rate(listen.rate));
            let open = listen.per_source.map_or(u128::MAX, u128::from);
            let text = listen.per_source.map_or("any number".to_owned(), |most| most.to_string());
            fact.bounds.push(Bound { name: "per-source", amount: open, text });
            out.push(fact);
        }
        for connect in &layer.connect {
            let object = format!("connect.{}.{}", layer.name, connect.name);
            let mut fact = fact(layer, Act::Connect, object, &format!("connect.{}", connect.name));
            fact.bounds.push(Bound::flag("address", true, connect.address.to_string()));
            out.push(fact);
        }
    }
}

fn syscalls(layer: &LayerPlan, out: &mut Vec<Fact>) {
    for call in layer.syscalls.iter().filter(|call| !call.allow.is_empty()) {
        let object = match name_of(call.number) {
            Some(name) => format!("syscall.{name}"),
            None => format!("syscall.{}", call.number),
        };
        let mut fact = fact(layer, Act::Make, object, "syscalls");
        fact.calls.clone_from(&call.allow);
        out.push(fact);
    }
}

fn fact(layer: &LayerPlan, act: Act, object: String, key: &str) -> Fact {
    Fact {
        layer: layer.name.clone(),
        act,
        object,
        rule: format!("layer.{}.{key}", layer.name),
        calls: Vec::new(),
        bounds: Vec::new(),
    }
}
