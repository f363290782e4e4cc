//! May this layer do that, by itself or through others?

mod change;
mod known;

use super::calls::{Verdict, verdict};
use crate::ident::Name;
use crate::policy::diagnostic::{Diagnostic, Severity};
use crate::policy::nearest::{nearest, one_of};
use crate::policy::plan::Plan;
use crate::policy::syscall::by_name;
use crate::policy::ways::act::{Act, acts_on, meant, words_on};
use crate::policy::ways::facts::Fact;
use crate::policy::ways::reach::{Step, Ways};
use crate::policy::{check, print};

pub use change::Change;

use change::{Advice, for_yes};

/// The word that asks for a way of any length.
pub const REACH: &str = "reach";

/// The answer to a question.
#[derive(Debug)]
pub struct Answer {
    /// The layer that was asked about.
    pub layer: Name,
    /// The act, as it was asked.
    pub act: String,
    /// The object, by its full name.
    pub object: String,
    /// Yes or no. For every act but [`REACH`], what the layer may do by itself decides.
    pub yes: bool,
    /// What the layer may do of that by itself.
    pub facts: Vec<Fact>,
    /// Where the object is a system call: what the filter answers.
    pub verdict: Option<Verdict>,
    /// The shortest way through others, where it may not by itself.
    pub way: Option<Vec<Step>>,
    /// Those of the way that no way avoids: the last one to decide.
    pub through: Vec<Name>,
    /// What to change for a yes; `None` where it is one, or where no one line makes it one. Made,
    /// it is a yes, or its note says what else the checker asks for.
    pub change: Option<Change>,
    /// What to do where no one line does, in words.
    pub hint: Option<String>,
}

/// A question that has no answer. Displays with the nearest that has one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuestionError {
    /// No such layer.
    #[error("there is no layer `{name}`; {hint}", name = asked.escape_debug())]
    Layer {
        /// What was asked for.
        asked: String,
        /// The way out.
        hint: String,
    },
    /// No such object.
    #[error("there is no `{name}` in this policy; {hint}", name = asked.escape_debug())]
    Object {
        /// What was asked for.
        asked: String,
        /// The way out.
        hint: String,
    },
    /// No such act, or not on this object.
    #[error("`{word}` is nothing that is done to {object}; {hint}", word = asked.escape_debug())]
    Act {
        /// What was asked for.
        asked: String,
        /// To what.
        object: String,
        /// The way out.
        hint: String,
    },
}

/// Answers whether a layer may do something.
///
/// `act` is a word of [`Act`], one of `open`, `map`, `send`, `receive` that stand for several, or
/// [`REACH`]. `object` is as in [`Fact::object`]; `layer.NAME` can only be reached. An absolute path
/// stands for what is granted there: the grant or the layer's own directory that it lies in, the
/// one that makes the answer yes if there are several, or else the nearest.
pub fn can(plan: &Plan, layer: &str, act: &str, object: &str) -> Result<Answer, QuestionError> {
    let mut answer = ask(plan, &Ways::of(plan), layer, act, object)?;
    if !answer.yes {
        advise(plan, &mut answer)?;
    }
    Ok(answer)
}

/// Finds what to change, changes it in a copy, and asks that.
fn advise(plan: &Plan, answer: &mut Answer) -> Result<(), QuestionError> {
    let Some(asked) = plan.layer(answer.layer.as_str()) else { return Ok(()) };
    let acts = acts(&answer.act, &answer.object)?;
    match for_yes(plan, asked, &acts, &answer.object) {
        Advice::None => {}
        Advice::Words(words) => answer.hint = Some(words),
        Advice::Change(mut change, changed) => {
            let again = check("changed", print(&changed).as_bytes());
            let refused = again.diagnostics.iter().find(|it| it.severity == Severity::Error);
            if let Some(mistake) = refused {
                let also = if change.note.is_empty() { "" } else { "; " };
                let Diagnostic { code, message, .. } = mistake;
                let more = format!("but the checker refuses it as it is: {code}, {message}");
                change.note.extend([also, more.as_str()]);
            }
            let yes = again.plan.as_ref().is_none_or(|plan| {
                let layer = answer.layer.as_str();
                ask(plan, &Ways::of(plan), layer, &answer.act, &answer.object)
                    .is_ok_and(|it| it.yes)
            });
            answer.change = yes.then_some(change);
        }
    }
    Ok(())
}

/// As [`can`], for many questions to one plan; it says nothing about what to change.
pub fn ask(
    plan: &Plan,
    ways: &Ways,
    layer: &str,
    act: &str,
    object: &str,
) -> Result<Answer, QuestionError> {
    let Some(asked) = plan.layer(layer) else {
        let layers = plan.layers.iter().map(|layer| layer.name.as_str());
        let hint = did_you_mean(layer, layers, "layers are");
        return Err(QuestionError::Layer { asked: layer.to_owned(), hint });
    };
    let object = if object.starts_with('/') {
        known::at_path(plan, &ways.facts, (layer, act), object)?
    } else {
        known::object(plan, &ways.facts, object)?
    };
    let acts = acts(act, &object)?;
    let facts: Vec<Fact> = ways
        .facts
        .about(&object)
        .filter(|fact| fact.layer == layer && acts.contains(&fact.act))
        .cloned()
        .collect();
    let itself = !facts.is_empty();
    let way = if itself { None } else { ways.reach(layer, &object, &acts, &[]) };
    let through = way.iter().flatten().filter(|step| step.layer != layer);
    let mut through: Vec<Name> = through.map(|step| step.layer.clone()).collect();
    through.dedup();
    through.retain(|name| ways.reach(layer, &object, &acts, std::slice::from_ref(name)).is_none());
    let number = object.strip_prefix("syscall.").and_then(by_name);
    let yes = itself || act == REACH && way.is_some();
    Ok(Answer {
        yes,
        verdict: number.map(|number| verdict(asked, number)),
        change: None,
        hint: None,
        layer: asked.name.clone(),
        act: act.to_owned(),
        object,
        facts,
        way,
        through,
    })
}

/// The acts that a word means.
fn acts(word: &str, object: &str) -> Result<Vec<Act>, QuestionError> {
    if word == REACH {
        return Ok(acts_on(object).to_vec());
    }
    let acts = meant(word, object);
    if acts.is_empty() {
        let words = words_on(object);
        let hint = did_you_mean(word, words.iter().copied().chain([REACH]), "ask for");
        let (asked, object) = (word.to_owned(), object.to_owned());
        return Err(QuestionError::Act { asked, object, hint });
    }
    Ok(acts)
}

/// A hint at the nearest of the known, or at all of them.
fn did_you_mean<'a>(
    word: &str,
    known: impl Iterator<Item = &'a str> + Clone,
    list: &str,
) -> String {
    match nearest(word, known.clone()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("{list} {}", one_of(known)),
    }
}

#[cfg(test)]
mod tests;
