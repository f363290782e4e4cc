//! Facts that a layer's own table states: system calls, capabilities, directories of its own, sockets.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Bound, Fact, fact};
use crate::policy::plan::{LayerPlan, Pass, Plan};
use crate::policy::syscall::name_of;
use crate::policy::ways::act::Act;
use crate::policy::ways::names;

/// Adds what the layers' tables state.
pub(super) fn all(plan: &Plan, out: &mut Vec<Fact>) {
    // Most layers make the same calls, so their names are shared.
    let mut objects = BTreeMap::new();
    for layer in &plan.layers {
        let name = &layer.name;
        let rule = |key: &str| format!("layer.{name}.{key}");
        syscalls(layer, &mut objects, out);
        for &number in &layer.capabilities {
            let object = format!("capability.{}", names::capability(number));
            out.push(fact(name, Act::Use, object, rule("capabilities"), []));
        }
        for it in &layer.directories {
            let (kind, size) = (it.kind.name(), it.size.map(|most| Bound::size("size", most)));
            let mut bounds = vec![Bound::flag("path", true, it.path.clone())];
            bounds.extend(size);
            out.push(fact(name, Act::Own, format!("{kind}.{name}"), rule(kind), bounds));
        }
        for listen in &layer.listen {
            let object = format!("listen.{name}.{}", listen.name);
            let open = listen.per_source.map_or(u128::MAX, u128::from);
            let text = listen.per_source.map_or("any number".to_owned(), |most| most.to_string());
            let mut bounds = vec![
                Bound::flag("address", true, listen.address.to_string()),
                Bound::rate(listen.rate),
                Bound { name: "per-source", amount: open, text },
            ];
            if listen.pass != Pass::Name {
                bounds.push(Bound::flag("pass", true, listen.pass.to_string()));
            }
            bounds.extend(listen.max.map(|most| Bound::count("max", most)));
            let rule = rule(&format!("listen.{}", listen.name));
            out.push(fact(name, Act::Accept, object, rule, bounds));
        }
        for connect in &layer.connect {
            let object = format!("connect.{name}.{}", connect.name);
            let mut bounds = vec![Bound::flag("address", true, connect.address.to_string())];
            if let Some(inject) = &connect.inject {
                // What it may do there in another's name.
                let text = format!("{} from {}", inject.header, inject.file);
                bounds.push(Bound::flag("inject", true, text));
            }
            let rule = rule(&format!("connect.{}", connect.name));
            out.push(fact(name, Act::Connect, object, rule, bounds));
        }
    }
}

fn syscalls(layer: &LayerPlan, objects: &mut BTreeMap<u32, Arc<str>>, out: &mut Vec<Fact>) {
    let rule: Arc<str> = format!("layer.{}.syscalls", layer.name).into();
    for call in layer.syscalls.iter().filter(|call| !call.allow.is_empty()) {
        let object =
            objects.entry(call.number).or_insert_with(|| self::syscall(call.number).into());
        out.push(fact(&layer.name, Act::Make, object.clone(), rule.clone(), []));
    }
}

/// A system call as an object: `syscall.openat`.
pub(crate) fn syscall(number: u32) -> String {
    match name_of(number) {
        Some(name) => format!("syscall.{name}"),
        None => format!("syscall.{number}"),
    }
}
