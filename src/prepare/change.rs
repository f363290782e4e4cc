//! What is another in a plan that takes the place of the one before, while the daemon runs.

use std::collections::{BTreeMap, BTreeSet};

use super::arrange;
use super::assembly::{Assembly, Change, Lasting};
use super::image::LayerImage;
use super::own::Role;
use crate::confine::filter::supervisor::let_through;
use crate::ident::{Name, PolicyId};
use crate::layer::slice::Part;
use crate::policy::plan::{
    Elastic, FileRight, LayerPlan, ListenAddress, OnReload, Plan, Program, Restart, Workers,
};
use crate::policy::syscall::{init_plan, spawner_plan};
use crate::review::diff::{diff, lines};
use crate::wire::control::Service;

/// The new plan in the order of the old one, unless it is one for which the daemon must be started
/// anew.
pub(super) fn arranged(before: &Assembly, stated: &Plan) -> Result<Plan, String> {
    let restart = |what: &str| Err(format!("{what}: that takes a restart of the daemon"));
    if stated.name != before.stated.name {
        return restart("the policy has another `name`");
    }
    let (was, is) = (&before.stated.audit, &stated.audit);
    if (&was.directory, was.demanded) != (&is.directory, is.demanded) {
        return restart("[audit] has another directory");
    }
    if stated.audit.ring_bytes != before.stated.audit.ring_bytes {
        return restart("[audit] has rings of another size");
    }
    for layer in &stated.layers {
        let old = before.images.iter().find(|it| it.plan.name == layer.name);
        let runs = |program: &Program| matches!(program, Program::Run(_));
        if old.is_some_and(|old| runs(&old.plan.program) != runs(&layer.program)) {
            return restart(&format!(
                "[layer.{}] was `run` and is `exec`, or the reverse",
                layer.name
            ));
        }
    }
    let all = &stated.facilities;
    for new in &all.fifos {
        let mut old = before.stated.facilities.fifos.iter().filter(|it| it.path == new.path);
        if old.any(|old| old != new) {
            return restart(&format!("[fifo.{}] is another at the same path", new.name));
        }
    }
    for new in &all.mapped_files {
        let mut old = before.stated.facilities.mapped_files.iter().filter(|it| it.path == new.path);
        if old.any(|old| old != new) {
            return restart(&format!("[mapped-file.{}] is another at the same path", new.name));
        }
    }
    let layers: Vec<_> = before.images.iter().map(|image| image.plan.clone()).collect();
    arrange::arrange(&before.plan, &layers, stated)
}

/// What the supervisor has from its start, unless a plan's layers, the framework's own among them, need more
/// than that.
pub(super) fn within<'l>(plan: &Plan, lasting: &'l Lasting) -> Result<&'l Lasting, String> {
    let restart = |what: &str| Err(format!("{what}: that takes a restart of the daemon"));
    if capabilities(plan).difference(&lasting.capabilities).next().is_some() {
        return restart("a layer is granted a capability that the supervisor has given up");
    }
    if calls(plan).difference(&lasting.calls).next().is_some() {
        return restart("a layer is granted a system call that the supervisor's own filter lacks");
    }
    Ok(lasting)
}

/// The calls that a supervisor needs for a plan's layers, by number.
pub(super) fn calls(plan: &Plan) -> BTreeSet<u32> {
    let runs_programs = plan.layers.iter().any(|it| matches!(it.program, Program::Exec(_)));
    let init = if runs_programs { init_plan() } else { Vec::new() };
    let serves = plan.layers.iter().any(LayerPlan::is_inetd);
    let spawner = if serves { spawner_plan(&[]) } else { Vec::new() };
    let granted = plan.layers.iter().flat_map(|layer| &layer.syscalls);
    let_through(granted.chain(&init).chain(&spawner))
}

/// The capabilities that a plan's layers are granted.
pub(super) fn capabilities(plan: &Plan) -> BTreeSet<u8> {
    plan.layers.iter().flat_map(|layer| layer.capabilities.iter().copied()).collect()
}

/// What is another in `new`; `program`: what it is run by, too.
pub(super) fn between(old: &Assembly, new: &Assembly, program: bool) -> Change {
    let settings = old.settings != new.settings;
    let found = diff(&old.stated, &new.stated);
    let (mut touched, mut informed) = (Vec::new(), Vec::new());
    for (number, image) in new.images.iter().enumerate() {
        let was = old.images.get(number);
        let is_same = was.is_some_and(|was| same(was, image));
        let knows = settings
            && image.own.is_none()
            && matches!(image.plan.program, Program::Run(_))
            && image.plan.instances > 0;
        let takes = image.plan.reload == OnReload::Told;
        touched.push(!is_same || knows && !takes);
        informed.push(knows && takes);
    }
    // What was leased from a ledger that begins anew nobody must go on holding.
    let ledger = |it: &LayerImage| {
        it.own.as_ref().is_some_and(|own| own.role == Role::Service(Service::Ledger))
    };
    let ledgers = new.images.iter().zip(&touched);
    if ledgers.into_iter().any(|(image, touched)| *touched && ledger(image)) {
        for (touched, image) in touched.iter_mut().zip(&new.images) {
            *touched |= image.services.contains(&Service::Ledger);
        }
    }
    let (was, is) = (&old.plan.facilities, &new.plan.facilities);
    Change {
        lines: lines(&found),
        gains: found.gained(),
        program,
        overlaps: program && !settings && old.policy == new.policy && overlaps(new),
        is_none: !program && !settings && old.policy == new.policy,
        touched,
        told: informed,
        kept: [
            alike(&was.queues, &is.queues),
            alike(&was.fifos, &is.fifos),
            alike(&was.regions, &is.regions),
            alike(&was.mapped_files, &is.mapped_files),
        ],
        listen: listens(&old.images, &new.images),
    }
}

/// Whether two lives of each copy may be there at a time. What they hold must be theirs alone, only be read,
/// or be made for any number: so nothing of before is half done by the one and half by the other.
pub(super) fn overlaps(assembly: &Assembly) -> bool {
    let plan = &assembly.plan;
    let all = &plan.facilities;
    let alone = |layer: &LayerPlan| {
        matches!(layer.program, Program::Run(_))
            && layer.workers.is_none()
            && layer.elastic.is_none()
            && layer.directories.is_empty()
    };
    let only_reads =
        |right: &FileRight| matches!(right, FileRight::Read | FileRight::List | FileRight::Execute);
    // Connections go through the one, and the other lends to each life.
    let single = |image: &LayerImage| {
        let service = image.own.as_ref().map(|own| own.role);
        matches!(service, Some(Role::Service(Service::Proxy | Service::Ledger)))
    };
    let stated = plan.layers.iter().filter(|layer| layer.instances > 0);
    let mut stated = stated.filter(|layer| !layer.name.as_str().starts_with(LayerPlan::RESERVED));
    stated.all(alone)
        && plan.files.iter().flat_map(|file| file.grant.values().flatten()).all(only_reads)
        && !plan.channels.iter().any(|channel| channel.witness)
        && all.pipes.iter().all(|pipe| arrange::is_vacant(&pipe.from))
        && all.fifos.iter().all(|fifo| arrange::is_vacant(&fifo.to))
        && all.semaphores.iter().all(|semaphore| semaphore.holders.is_empty())
        && all.regions.iter().all(|region| region.grant.is_empty())
        && all.mapped_files.iter().all(|file| file.grant.is_empty())
        && !assembly.images.iter().any(|it| it.plan.instances > 0 && single(it))
}

fn alike<T: PartialEq>(old: &[T], new: &[T]) -> Vec<bool> {
    new.iter().enumerate().map(|(number, it)| old.get(number) == Some(it)).collect()
}

/// Whether a life that was started from one needn't end for the other.
fn same(old: &LayerImage, new: &LayerImage) -> bool {
    match (level(old), level(new)) {
        (Some(old), Some(new)) => old == new,
        _ => false,
    }
}

/// All that a life of a layer has of its image: neither the policy's id nor what the supervisor alone
/// goes by.
fn level(image: &LayerImage) -> Option<Vec<u8>> {
    let mut image = image.clone();
    let mut part: Part = postcard::from_bytes(&image.part).ok()?;
    part.policy = PolicyId([0; 32]);
    image.part = part.encode().ok()?;
    let plan = &mut image.plan;
    plan.restart = Restart::default();
    plan.reload = OnReload::default();
    plan.after = Vec::new();
    plan.instances = plan.instances.min(1);
    // How many wait, and for how long, is no matter of who serves.
    plan.workers = plan.workers.take().map(|_| Workers { warm: 1, lifetime: None, wait: None });
    // Of these a life knows only from when on it is busy.
    plan.elastic = plan.elastic.map(|it| Elastic { min: 1, idle: Elastic::DEFAULT_IDLE, ..it });
    postcard::to_stdvec(&image).ok()
}

/// Which of the sockets that are there each layer's are.
fn listens(old: &[LayerImage], new: &[LayerImage]) -> Vec<Vec<Option<(usize, usize)>>> {
    type Key<'a> = (Option<(&'a Name, &'a Name)>, &'a ListenAddress);
    let mut there: BTreeMap<(usize, usize), (&Name, &Name, &ListenAddress)> = BTreeMap::new();
    for (number, image) in old.iter().enumerate() {
        for (place, it) in image.plan.listen.iter().enumerate() {
            there.insert((number, place), (&image.plan.name, &it.name, &it.address));
        }
    }
    let mut found: Vec<Vec<Option<(usize, usize)>>> =
        new.iter().map(|image| vec![None; image.plan.listen.len()]).collect();
    // Those of the same name first, so that nobody takes another's at an address of any port.
    for by_name in [true, false] {
        for (number, image) in new.iter().enumerate() {
            for (place, it) in image.plan.listen.iter().enumerate() {
                if found[number][place].is_some() {
                    continue;
                }
                let named = by_name.then_some((&image.plan.name, &it.name));
                let key: Key<'_> = (named, &it.address);
                let is_it = |(layer, name, address): &(&Name, &Name, &ListenAddress)| {
                    *address == key.1 && key.0.is_none_or(|own| own == (*layer, *name))
                };
                let at = there.iter().find(|(_, socket)| is_it(socket)).map(|(at, _)| *at);
                if let Some(at) = at {
                    there.remove(&at);
                }
                found[number][place] = at;
            }
        }
    }
    found
}
