//! Learning: from what was seen of a program to what its policy lacks.
//!
//! - [`Seen`] is what was noted, within bounds that the program can't move;
//! - [`objects`] and then [`calls`](calls()) say what a layer needs besides what it has, each with
//!   its evidence. What needs a reason is asked, and what is guarded is left out;
//! - [`write`] puts proposals into a policy's text.
//!
//! Equal sights give equal proposals, and what was proposed and taken over isn't proposed again. How
//! what was seen comes here, nobody here knows: see the verb `learn`.

mod calls;
mod choosing;
mod files;
pub(crate) mod guarded;
mod limits;
mod proposal;
mod seen;
mod views;
pub mod write;

use std::collections::{BTreeMap, BTreeSet};

pub use calls::ALWAYS;
pub use choosing::choosing;
pub use limits::HEAD_ROOM;
pub use proposal::Proposal;
pub use seen::{Evidence, File, Peaks, Seen};

use crate::policy::plan::{FilePlan, FileRight, LayerPlan, Plan};

/// The layer that is learned for.
#[derive(Clone, Copy, Debug)]
pub struct Learner<'a> {
    /// Its policy's plan.
    pub plan: &'a Plan,
    /// Its name.
    pub layer: &'a str,
    /// Whether the policy is made for what was seen, so that its limits are those that peaks call for
    /// and not those that it happens to have.
    pub is_new: bool,
    /// Where the person lives who learns: never granted as a whole.
    pub home: Option<&'a str>,
    /// Why the layer may start programs and run what it writes to memory, if somebody has said so.
    pub because: Option<&'a str>,
}

/// What the layer lacks of files, sockets, limits and the like for what was seen. Empty if the plan
/// has no such layer.
pub fn objects(seen: &Seen, learner: &Learner<'_>) -> Vec<Proposal> {
    let Some(layer) = learner.plan.layer(learner.layer) else { return Vec::new() };
    let rights = |file: &FilePlan| {
        let rights = file.grant.get(&layer.name)?;
        Some((file.path.clone(), rights.iter().copied().collect()))
    };
    let granted: Vec<(String, BTreeSet<FileRight>)> =
        learner.plan.files.iter().filter_map(rights).collect();
    let limits = (!learner.is_new).then_some(&layer.limits);
    let listens = layer.listen.iter().map(|it| it.address.to_string()).collect();
    let connects = layer.connect.iter().map(|it| it.address.to_string()).collect();

    let mut all: Vec<Proposal> = user(seen, layer).into_iter().collect();
    all.extend(limits::choose(&seen.peaks, !seen.bound.is_empty(), limits));
    let is_attached = |key| match key {
        "stdin" => layer.stdin.is_some(),
        _ => layer.stdout.is_some(),
    };
    let streams = seen.streams.iter().filter(|(key, _)| !is_attached(*key));
    all.extend(streams.map(|&(key, why)| Proposal::Stream { key, why }));
    all.extend(sockets("listen", &seen.bound, &listens));
    all.extend(sockets("connect", &seen.connected, &connects));
    let files = files::choose(seen, &granted, &layer.view, learner.home);
    let cwd = cwd(seen, layer, &granted, &files);
    let is_own = |path: &str| layer.directories.iter().any(|it| it.path == path);
    all.extend(
        directories(seen)
            .filter(|it| !is_own(&it.1))
            .map(|(key, path, evidence)| Proposal::Directory { key, path, evidence }),
    );
    all.extend(files);
    all.extend(cwd);
    all
}

/// What the layer lacks of system calls. The plan has the [`objects`] that bring calls along.
pub fn calls(seen: &Seen, learner: &Learner<'_>) -> Vec<Proposal> {
    let layer = learner.plan.layer(learner.layer);
    layer.map_or_else(Vec::new, |layer| calls::choose(seen, layer, learner.because))
}

/// The owner of what nobody else could use. Of several, none is right for all.
fn user(seen: &Seen, layer: &LayerPlan) -> Option<Proposal> {
    let (uid, evidence) = seen.owners.iter().next()?;
    let evidence = evidence.clone();
    let ask = |why: &str| Proposal::User { uid: *uid, evidence: evidence.clone() }.ask(why);
    match seen.owners.len() {
        _ if layer.uid.is_some() => None,
        1 if *uid == 0 => Some(ask("root owns most files of the system")),
        1 => Some(Proposal::User { uid: *uid, evidence }),
        _ => Some(ask("files of several users were used: change their owners or modes")),
    }
}

fn directories(seen: &Seen) -> impl Iterator<Item = (&'static str, String, Evidence)> {
    seen.made.iter().map(|(path, (key, evidence))| (*key, path.clone(), evidence.clone()))
}

/// The working directory, if the layer sees it: else the layer would not start.
fn cwd(
    seen: &Seen,
    layer: &LayerPlan,
    granted: &[(String, BTreeSet<FileRight>)],
    files: &[Proposal],
) -> Option<Proposal> {
    let (path, evidence) = seen.cwd.as_ref()?;
    let proposed = files.iter().filter_map(|it| match it {
        Proposal::File { path, .. } => Some(path.as_str()),
        _ => None,
    });
    let mut shown = proposed.chain(granted.iter().map(|(path, _)| path.as_str()));
    let is_seen = shown
        .any(|file| guarded::is_within(file, path) || guarded::is_within(path, file))
        || layer.view.paths().any(|shown| guarded::is_within(path, shown));
    (is_seen && layer.cwd != *path && path != "/")
        .then(|| Proposal::Cwd { path: path.clone(), evidence: evidence.clone() })
}

fn sockets(
    key: &'static str,
    seen: &BTreeMap<String, Evidence>,
    known: &BTreeSet<String>,
) -> Vec<Proposal> {
    let new = seen.iter().filter(|(address, _)| !known.contains(*address));
    let socket = |(address, evidence): (&String, &Evidence)| Proposal::Socket {
        key,
        address: address.clone(),
        evidence: evidence.clone(),
    };
    new.map(socket).collect()
}
