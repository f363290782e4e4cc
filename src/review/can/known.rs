//! Which objects there are to ask about.

use std::collections::BTreeSet;

use super::QuestionError;
use crate::policy::beneath::denied;
use crate::policy::capability::CAPABILITIES;
use crate::policy::nearest::nearest;
use crate::policy::plan::{DescriptorKind, Plan};
use crate::policy::syscall::{all, by_name};
use crate::policy::ways::act::{KINDS, meant};
use crate::policy::ways::facts::Facts;

/// The full name of an object, if there is one.
///
/// Every system call and every capability is one, also if no layer has it. `capability.net_raw`
/// is `capability.CAP_NET_RAW`.
pub(super) fn object(plan: &Plan, facts: &Facts, asked: &str) -> Result<String, QuestionError> {
    if facts.about(asked).next().is_some() {
        return Ok(asked.to_owned());
    }
    let known = match asked.split_once('.') {
        Some(("layer", name)) => plan.layer(name).is_some(),
        Some(("syscall", name)) => by_name(name).is_some(),
        Some(("channel", rest)) => descriptors(plan, rest),
        Some(("capability", name)) => {
            let wanted = name.to_ascii_uppercase();
            let short = wanted.trim_start_matches("CAP_");
            let found = CAPABILITIES.iter().find(|it| it.strip_prefix("CAP_") == Some(short));
            if let Some(found) = found {
                return Ok(format!("capability.{found}"));
            }
            false
        }
        _ => false,
    };
    if known { Ok(asked.to_owned()) } else { Err(unknown(plan, facts, asked)) }
}

/// What is granted at a path of the host, by the letters of the path: of all that it lies in, what
/// answers yes, or else the nearest.
pub(super) fn at_path(
    plan: &Plan,
    facts: &Facts,
    (layer, act): (&str, &str),
    path: &str,
) -> Result<String, QuestionError> {
    let files = plan.files.iter().filter(|file| {
        let beneath = path.get(file.path.len()..).unwrap_or("").trim_start_matches('/');
        denied(&file.deny, beneath.as_bytes()).is_none()
    });
    let files = files.map(|file| (&file.path, format!("file.{}", file.name)));
    let mapped = plan.facilities.mapped_files.iter();
    let mapped = mapped.map(|file| (&file.path, format!("mapped-file.{}", file.name)));
    let owned = plan.layers.iter().flat_map(|owner| {
        // What isn't kept is there for its layer alone.
        let seen = owner.directories.iter().filter(|it| it.kind.is_kept() || owner.name == layer);
        seen.map(|it| (&it.path, format!("{}.{}", it.kind.name(), owner.name)))
    });
    let all = files.chain(mapped).chain(owned);
    let mut around: Vec<_> = all.filter(|(place, _)| is_within(path, place)).collect();
    around.sort_by_key(|(place, _)| place.len());
    let may = |object: &str| {
        let acts = meant(act, object);
        facts.about(object).any(|fact| fact.layer == layer && acts.contains(&fact.act))
    };
    let found = around.iter().rev().find(|(_, object)| may(object)).or(around.last());
    found.map(|(_, object)| object.clone()).ok_or_else(|| QuestionError::Object {
        asked: path.to_owned(),
        hint: "no grant of this policy and no layer's own directory holds that path; what `view` shows \
               a layer, `cofferdam explain POLICY LAYER` says"
            .to_owned(),
    })
}

fn is_within(path: &str, place: &str) -> bool {
    let rest = path.strip_prefix(place.trim_end_matches('/'));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Every kind of descriptor is one that could be passed: `open.fds.stream`.
fn descriptors(plan: &Plan, rest: &str) -> bool {
    rest.split_once(".fds.").is_some_and(|(channel, kind)| {
        plan.channel(channel).is_some() && DescriptorKind::ALL.iter().any(|it| it.name() == kind)
    })
}

fn unknown(plan: &Plan, facts: &Facts, asked: &str) -> QuestionError {
    let told = |hint| QuestionError::Object { asked: asked.to_owned(), hint };
    let objects: BTreeSet<&str> = facts.all().map(|fact| &*fact.object).collect();
    // A name without its kind: all that end with it.
    let ending = format!(".{asked}");
    let mut whole: Vec<String> = objects
        .iter()
        .filter(|object| object.ends_with(&ending))
        .map(|object| format!("`{object}`"))
        .collect();
    if plan.layer(asked).is_some() {
        whole.push(format!("`layer.{asked}`"));
    }
    if !whole.is_empty() {
        whole.truncate(3);
        return told(format!("did you mean {}?", whole.join(" or ")));
    }
    let layers = plan.layers.iter().map(|layer| format!("layer.{}", layer.name));
    let calls = all().map(|(_, name)| format!("syscall.{name}"));
    let capabilities = CAPABILITIES.iter().map(|it| format!("capability.{it}"));
    let more: Vec<String> = layers.chain(calls).chain(capabilities).collect();
    // Of one kind first: `syscall.opn` is no file.
    let kind = asked.split('.').next().unwrap_or_default();
    let all = || objects.iter().copied().chain(more.iter().map(String::as_str));
    let alike = all().filter(|object| object.split('.').next() == Some(kind));
    if let Some(near) = nearest(asked, alike).or_else(|| nearest(asked, all())) {
        return told(format!("did you mean `{near}`?"));
    }
    let of_kind: Vec<String> = objects
        .iter()
        .filter(|object| object.split('.').next() == Some(kind) && object.split('.').count() == 2)
        .take(8)
        .map(|object| format!("`{object}`"))
        .collect();
    let kinds: Vec<&str> = KINDS.iter().map(|(kind, _)| *kind).chain(["layer"]).collect();
    match of_kind.as_slice() {
        [] if kinds.contains(&kind) => told(format!("it has no {kind}s of that name")),
        [] => told(format!("an object is KIND.NAME, and kinds are {}", kinds.join(", "))),
        some => told(format!("it has {}", some.join(", "))),
    }
}
