//! Taking grants out of a policy's text, and nothing else: comments and layout stay.
//!
//! What is taken out is named as rules are: `channel.sign.methods.sign`, `queue.jobs.send.worker`.
//! A table that is left empty goes as a whole, with the comment above it, and so does a
//! `[[never]]` about a facility that is gone. What remains is a policy without mistakes: a grant
//! that the others need stays, and is told.

mod edit;

use std::collections::BTreeMap;

use toml_edit::DocumentMut;

use crate::policy::Inputs;
use crate::policy::check::{Checked, check_with};
use crate::policy::code::Code;
use crate::policy::diagnostic::Severity;

/// What is to be taken out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The rules that become void.
    pub rules: Vec<String>,
    /// The path that is taken out: of one rule, or of a facility as a whole.
    pub path: String,
}

/// A policy without what was to be taken out.
#[derive(Clone, Debug, Default)]
pub struct Tightened {
    /// The files that are different now.
    pub files: Vec<Change>,
    /// The rules that had to stay, and why.
    pub kept: Vec<(String, String)>,
}

/// One file's text before and after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The file, as messages call it.
    pub name: String,
    /// What it says.
    pub old: String,
    /// What it would say.
    pub new: String,
}

/// Takes as many of `cuts` out of a checked policy as can be; `inputs` are those that it was
/// checked with, whose `load` isn't asked again. `None` if it has mistakes.
pub fn tighten(checked: &Checked, inputs: &Inputs<'_>, cuts: &[Cut]) -> Option<Tightened> {
    checked.plan.as_ref()?;
    let before = Files::of(checked, inputs)?;
    let mut files = before.clone();
    let mut kept = Vec::new();
    // Together first: what needs each other goes together, and often nothing is wrong with that.
    let whole = cuts.iter().all(|cut| files.cut(checked, cut));
    if !whole || files.check(inputs).is_err() {
        files = before.clone();
        for cut in cuts {
            let mut next = files.clone();
            let outcome = if next.cut(checked, cut) {
                next.check(inputs)
            } else {
                Err("it is not written where it could be taken out".to_owned())
            };
            match outcome {
                Ok(()) => files = next,
                Err(why) => kept.extend(cut.rules.iter().map(|rule| (rule.clone(), why.clone()))),
            }
        }
    }
    files.drop_variables(checked, inputs);
    let changed = files.documents.into_iter().filter_map(|(name, document)| {
        let new = document.to_string();
        let old = before.documents.get(&name)?.to_string();
        (old != new).then_some(Change { name, old, new })
    });
    Some(Tightened { files: changed.collect(), kept })
}

/// The files of a policy.
#[derive(Clone, Debug)]
struct Files {
    /// The one that includes the others.
    own: String,
    documents: BTreeMap<String, DocumentMut>,
}

impl Files {
    /// Those that the policy was read from.
    fn of(checked: &Checked, inputs: &Inputs<'_>) -> Option<Self> {
        let ceiling = inputs.ceiling.map(|(name, _)| name);
        let texts = checked.places.texts.all().filter(|text| Some(text.name.as_str()) != ceiling);
        let read = texts.map(|text| Some((text.name.clone(), text.text.parse().ok()?)));
        let own = checked.source_name.clone();
        read.collect::<Option<_>>().map(|documents| Self { own, documents })
    }

    /// Takes one thing out; `false` if it is not there.
    fn cut(&mut self, checked: &Checked, cut: &Cut) -> bool {
        // A facility, or an address of a layer, may be one that is never to be reached.
        let parts: Vec<&str> = cut.path.split('.').collect();
        let objects = match parts.as_slice() {
            ["layer", layer, kind @ ("listen" | "connect"), name] => {
                vec![format!("{kind}.{layer}.{name}"), format!("{kind}.{name}")]
            }
            [_, _] => vec![cut.path.clone()],
            _ => Vec::new(),
        };
        // `rw` has no place of its own for its `w`.
        let written = cut.path.strip_suffix(".write").filter(|_| parts[0] != "file");
        let path = written.unwrap_or(&cut.path);
        // A right may be one of those that `owner` stands for.
        let owner = || checked.places.find(&format!("{}.owner", path.rsplit_once('.')?.0));
        let place = checked.places.find(path).or_else(|| owner().filter(|_| parts[0] == "file"));
        let Some(place) = place else { return false };
        let Some(document) = self.documents.get_mut(&place.file) else { return false };
        let done = edit::take(document, &parts);
        for document in self.documents.values_mut().filter(|_| done) {
            edit::take_guards(document, &objects);
        }
        done
    }

    /// Whether what the files say now has no mistakes; or the first one.
    fn check(&self, inputs: &Inputs<'_>) -> Result<(), String> {
        let checked = self.checked(inputs)?;
        if checked.plan.is_some() {
            return Ok(());
        }
        let error = checked.diagnostics.iter().find(|it| it.severity == Severity::Error);
        Err(error.map_or_else(|| "it is needed".to_owned(), |it| it.message.clone()))
    }

    fn checked(&self, inputs: &Inputs<'_>) -> Result<Checked, String> {
        let load = |path: &str| match self.documents.get(path) {
            Some(document) => Ok(document.to_string().into_bytes()),
            None => Err("it is not among the policy's files".to_owned()),
        };
        let own = load(&self.own)?;
        let ceiling = inputs.ceiling;
        let inputs = Inputs { load: Some(&load), vars: inputs.vars, ceiling };
        Ok(check_with(&self.own, &own, &inputs))
    }

    /// Takes variables out that nothing uses any more, unless they are set from outside.
    fn drop_variables(&mut self, before: &Checked, inputs: &Inputs<'_>) {
        let unused = |checked: &Checked| {
            checked.diagnostics.iter().filter(|it| it.code == Code::UnusedVariable).count()
        };
        let Ok(now) = self.checked(inputs) else { return };
        if unused(&now) == unused(before) {
            return;
        }
        let names: Vec<(String, String)> =
            self.documents.iter().flat_map(edit::variables).collect();
        for (file, variable) in names {
            let mut next = self.clone();
            let Some(document) = next.documents.get_mut(&file) else { continue };
            edit::take(document, &["vars", &variable]);
            let fewer =
                |checked: &Checked| checked.plan.is_some() && unused(checked) < unused(&now);
            // A variable in use is missed, so the policy would not be sound without it.
            if next.checked(inputs).is_ok_and(|checked| fewer(&checked)) {
                *self = next;
            }
        }
    }
}
