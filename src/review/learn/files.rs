//! Which files and directories a policy needs for what was opened, made and removed.
//!
//! - What the layer's view shows anyway is not granted again; what a part of it would show, or give
//!   room for, is that [part](super::views).
//! - What is [guarded](super::guarded) is never proposed. What the language demands a reason for, and
//!   writing to what the view shows, is asked.
//! - Three or more things in one directory with which the same was done become a grant of the
//!   directory; so does one thing, if the directory itself was listed. This goes on upwards. Never
//!   taken as a whole is a directory that many share, a person's home, or one that holds something
//!   guarded.
//! - A grant within another one has its rights too, for so the kernel counts them; one that has no
//!   more is left out.

use std::collections::{BTreeMap, BTreeSet};

use super::Proposal;
use super::guarded::{is_guarded, is_joinable, is_within};
use super::proposal::words;
use super::seen::{Evidence, File, Seen};
use super::views;
use crate::policy::plan::{FileRight, View, ViewPart};
use crate::policy::{check, value};

/// How many things in a directory make it one grant.
const MANY: usize = 3;

/// Besides [`View::system`], what the view of an `exec` layer shows; and a terminal, which no layer has
/// and none of whose programs had here.
const SHOWN: [&str; 7] = [
    "/etc/ld.so.cache",
    "/dev/full",
    "/dev/null",
    "/dev/random",
    "/dev/tty",
    "/dev/urandom",
    "/dev/zero",
];

/// What is made for such a layer, to be read.
const MADE: [&str; 4] = ["/etc/group", "/etc/hosts", "/etc/nsswitch.conf", "/etc/passwd"];

/// What a view gives without a grant.
const FREE: [FileRight; 3] = [FileRight::Read, FileRight::List, FileRight::Execute];

type Rights = BTreeSet<FileRight>;

/// What is to be granted at one path.
#[derive(Clone)]
struct Grant {
    rights: Rights,
    evidence: Evidence,
}

/// The grants that a layer needs besides those that it `has`; `home` is where the person lives who
/// learns.
pub(super) fn choose(
    seen: &Seen,
    has: &[(String, Rights)],
    view: &View,
    home: Option<&str>,
) -> Vec<Proposal> {
    let mut proposals = Vec::new();
    let mut grants = BTreeMap::new();
    let mut parts: BTreeMap<&str, (ViewPart, Vec<&Evidence>)> = BTreeMap::new();
    for (path, file) in &seen.files {
        match place(path, file, seen.peaks.file_size) {
            Place::Shown => {}
            Place::Part(part) => {
                let is_held = view.parts().iter().any(|it| it.name() == part.name())
                    || has.iter().any(|(above, rights)| {
                        is_within(path, above) && own(&file.rights).is_subset(rights)
                    });
                if !is_held {
                    parts.entry(part.name()).or_insert((part, Vec::new())).1.push(&file.evidence);
                }
            }
            Place::Guarded => {
                let what = path.clone();
                proposals.push(Proposal::LeftOut { what, evidence: file.evidence.clone() });
            }
            Place::Asked(why) => proposals.push(question(path, &file.rights, &file.evidence, why)),
            Place::Plain => {
                let (rights, evidence) = (own(&file.rights), file.evidence.clone());
                grants.insert(path.clone(), Grant { rights, evidence });
            }
        }
    }
    proposals.extend(
        parts
            .into_values()
            .map(|(part, all)| Proposal::View { part, evidence: Evidence::sum(all.into_iter()) }),
    );
    join(&mut grants, &|directory| home != Some(directory) && is_joinable(directory));
    nest(&mut grants);
    for (path, Grant { rights, evidence }) in grants {
        let above = has.iter().filter(|(above, _)| is_within(&path, above));
        let held: Rights = above.flat_map(|(_, rights)| rights).copied().collect();
        if rights.is_subset(&held) {
            continue;
        }
        proposals.push(if runs_own(&rights.union(&held).copied().collect()) {
            question(&path, &rights, &evidence, RUNS_OWN)
        } else {
            Proposal::File { path, rights, evidence }
        });
    }
    proposals
}

/// Whether a layer with these rights could run what it wrote.
fn runs_own(rights: &Rights) -> bool {
    let writes = [FileRight::Write, FileRight::Create];
    rights.contains(&FileRight::Execute) && writes.iter().any(|right| rights.contains(right))
}

const RUNS_OWN: &str = "the layer could run what it wrote";

/// The rights that a foreign program can use: of appending alone the kernel knows nothing, and it
/// has no helper that would.
fn own(rights: &Rights) -> Rights {
    let plain = |right: &FileRight| match right {
        FileRight::Append => FileRight::Write,
        other => *other,
    };
    rights.iter().map(plain).collect()
}

/// What can be said of a path by itself.
enum Place {
    Shown,
    Part(ViewPart),
    Guarded,
    Asked(&'static str),
    Plain,
}

fn place(path: &str, file: &File, largest: u64) -> Place {
    let shown = View::system().paths().any(|system| is_within(path, system));
    let is_harmless = SHOWN.contains(&path);
    let is_free = file.rights.iter().all(|right| FREE.contains(right));
    if is_harmless || ((shown || MADE.contains(&path)) && is_free) {
        return Place::Shown;
    }
    if let Some(part) = views::part(path, file, largest) {
        return Place::Part(part);
    }
    if is_guarded(path) {
        return Place::Guarded;
    }
    if shown {
        return Place::Asked("the programs of the whole system lie there");
    }
    if value::path(path).is_err() {
        return Place::Asked("no policy can write its name");
    }
    match check::reaches(path) {
        Some(why) => Place::Asked(why),
        None if runs_own(&own(&file.rights)) => Place::Asked(RUNS_OWN),
        None => Place::Plain,
    }
}

fn question(path: &str, rights: &Rights, evidence: &Evidence, why: &str) -> Proposal {
    let path = crate::text::neutralise(path.as_bytes());
    Proposal::Question {
        line: format!("path = {path:?}, rights {}", words(rights)),
        why: why.to_owned(),
        evidence: evidence.clone(),
    }
}

/// Joins what lies in one directory, the deepest first.
fn join(grants: &mut BTreeMap<String, Grant>, is_joinable: &dyn Fn(&str) -> bool) {
    while let Some((directory, rights)) = next(grants, is_joinable) {
        let within: Vec<String> = grants
            .iter()
            .filter(|(path, grant)| parent(path) == Some(&directory) && grant.rights == rights)
            .map(|(path, _)| path.clone())
            .collect();
        let gone: Vec<Grant> = within.iter().filter_map(|path| grants.remove(path)).collect();
        let before = grants.remove(&directory);
        let mut all =
            before.iter().map(|it| &it.rights).fold(rights, |a, b| a.union(b).copied().collect());
        all.extend(gone.iter().flat_map(|grant| &grant.rights));
        let evidence = Evidence::sum(before.iter().chain(&gone).map(|grant| &grant.evidence));
        grants.insert(directory, Grant { rights: all, evidence });
    }
}

/// The deepest directory that is to be one grant, and the rights of those in it.
fn next(
    grants: &BTreeMap<String, Grant>,
    is_joinable: &dyn Fn(&str) -> bool,
) -> Option<(String, Rights)> {
    let mut kinds: BTreeMap<(&str, &Rights), usize> = BTreeMap::new();
    for (path, grant) in grants {
        if let Some(directory) = parent(path) {
            *kinds.entry((directory, &grant.rights)).or_default() += 1;
        }
    }
    let is_listed = |directory: &str| {
        grants.get(directory).is_some_and(|grant| grant.rights.contains(&FileRight::List))
    };
    let only_looks = |rights: &Rights| rights.iter().all(|right| FREE.contains(right));
    kinds
        .into_iter()
        .filter(|((directory, rights), count)| {
            (*count >= MANY || (is_listed(directory) && only_looks(rights)))
                && is_joinable(directory)
        })
        .map(|(key, _)| key)
        .max_by_key(|(directory, rights)| (directory.matches('/').count(), *directory, *rights))
        .map(|(directory, rights)| (directory.to_owned(), rights.clone()))
}

/// Gives what lies within a grant its rights as well, and leaves out what has no more then.
fn nest(grants: &mut BTreeMap<String, Grant>) {
    let all: Vec<(String, Rights)> =
        grants.iter().map(|(path, grant)| (path.clone(), grant.rights.clone())).collect();
    grants.retain(|path, grant| {
        let above = all.iter().filter(|(other, _)| other != path && is_within(path, other));
        let held: Rights = above.flat_map(|(_, rights)| rights).copied().collect();
        let has_more = held.is_empty() || !grant.rights.is_subset(&held);
        grant.rights.extend(held);
        has_more
    });
}

fn parent(path: &str) -> Option<&str> {
    let (parent, _) = path.rsplit_once('/')?;
    (!parent.is_empty()).then_some(parent)
}
