//! The policy that comes of what was seen.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use toml_edit::DocumentMut;

use super::denied::Denials;
use super::program::Chosen;
use super::{Args, Refusal};
use crate::cli::read::{self, Sound};
use crate::policy::diagnostic::Severity;
use crate::policy::plan::{FileRight, LayerPlan, Plan, Program, View};
use crate::policy::{Checked, check};
use crate::review::learn::write::{self, Layer};
use crate::review::learn::{File, Learner, Proposal, Seen, calls, objects};

/// What was learned.
pub(super) struct Learned {
    /// Its layer's name.
    pub layer: String,
    /// The policy, with everything that could be granted.
    pub text: String,
    /// Its plan.
    pub plan: Plan,
    /// What was proposed.
    pub proposals: Vec<Proposal>,
    /// The layer of each of them.
    pub owners: Vec<String>,
}

impl Learned {
    /// A policy of its own.
    pub(super) fn new(
        seen: &Seen,
        chosen: &Chosen,
        because: Option<&str>,
    ) -> Result<Self, Refusal> {
        let layer = Layer {
            name: chosen.name.clone(),
            exec: chosen.words.clone(),
            env: environment(&chosen.env, seen),
            uid: chosen.user.map(|(uid, _)| uid).filter(|uid| *uid != 0),
        };
        let document = write::start(&layer);
        let name = layer.name.as_str();
        let start = plan(&document.to_string())?;
        let home = std::env::var("HOME").ok();
        let learner =
            Learner { plan: &start, layer: name, is_new: true, home: home.as_deref(), because };
        let (document, proposals) = both(document, seen, &learner)?;
        let text = with_remarks(document, &proposals);
        let owners = vec![name.to_owned(); proposals.len()];
        Ok(Self { layer: name.to_owned(), plan: plan(&text)?, text, proposals, owners })
    }

    /// How many things somebody must answer.
    pub(super) fn questions(&self) -> usize {
        self.proposals.iter().filter(|it| matches!(it, Proposal::Question { .. })).count()
    }
}

/// What the program had, and of the directories of `PATH` those that its layer sees: the system's, and
/// where it executed something. Each once, and by what links lead to.
fn environment(env: &[(String, String)], seen: &Seen) -> Vec<(String, String)> {
    let executed = |file: &File| file.rights.contains(&FileRight::Execute);
    let programs = seen.files.iter().filter(|(_, file)| executed(file));
    let used: BTreeSet<_> = programs.filter_map(|(path, _)| Path::new(path).parent()).collect();
    let view = View::system();
    let kept = |directory: &Path| {
        used.contains(directory) || view.paths().any(|shown| directory.starts_with(shown))
    };
    let search = |directories: &str| {
        let mut all: Vec<PathBuf> = Vec::new();
        let absolute = directories.split(':').filter(|it| it.starts_with('/'));
        for real in absolute.filter_map(|it| Path::new(it).canonicalize().ok()) {
            if kept(&real) && !all.contains(&real) {
                all.push(real);
            }
        }
        let all: Vec<_> = all.iter().map(|it| it.to_string_lossy()).collect();
        all.join(":")
    };
    let shorter = |(name, value): &(String, String)| match name.as_str() {
        "PATH" => (name.clone(), search(value)),
        _ => (name.clone(), value.clone()),
    };
    env.iter().map(shorter).filter(|(name, value)| name != "PATH" || !value.is_empty()).collect()
}

/// Writes all that a layer lacks: first what brings calls along, then the calls that are missing.
fn both(
    document: DocumentMut,
    seen: &Seen,
    learner: &Learner<'_>,
) -> Result<(DocumentMut, Vec<Proposal>), Refusal> {
    let (document, mut all) = granted(document, learner.layer, objects(seen, learner));
    let between = plan(&document.to_string())?;
    let calls = calls(seen, &Learner { plan: &between, ..*learner });
    let (document, calls) = granted(document, learner.layer, calls);
    all.extend(calls);
    Ok((document, all))
}

/// Writes proposals one after the other; what the language doesn't take becomes a question.
fn granted(
    document: DocumentMut,
    layer: &str,
    proposals: Vec<Proposal>,
) -> (DocumentMut, Vec<Proposal>) {
    let mut whole = document.clone();
    if write::apply(&mut whole, layer, &proposals) && plan(&whole.to_string()).is_ok() {
        return (whole, proposals);
    }
    let (mut document, mut all) = (document, Vec::new());
    for proposal in proposals {
        let mut next = document.clone();
        let written = write::apply(&mut next, layer, std::slice::from_ref(&proposal));
        match plan(&next.to_string()) {
            Ok(_) if written => {
                document = next;
                all.push(proposal);
            }
            refused => {
                let why = match refused {
                    Err(Refusal(_, why)) => why,
                    Ok(_) => "the policy has something else there".to_owned(),
                };
                all.push(proposal.ask(&why));
            }
        }
    }
    (document, all)
}

fn with_remarks(mut document: DocumentMut, proposals: &[Proposal]) -> String {
    write::remark(&mut document, proposals);
    document.to_string()
}

/// The plan of a policy without mistakes.
fn plan(text: &str) -> Result<Plan, Refusal> {
    let Checked { plan, diagnostics, .. } = check("learned.toml", text.as_bytes());
    plan.ok_or_else(|| {
        let error = diagnostics.into_iter().find(|it| it.severity == Severity::Error);
        Refusal(3, error.map_or_else(String::new, |error| error.message))
    })
}

const NONE: &str = "no layer of the policy executes a program of its own, and what a `run` layer does can't be \
                    watched from outside: run the daemon with `--audit DIR`, and ask `cofferdam audit \
                    unused` and its denials what to change";

/// A policy that is there already.
pub(super) struct Old {
    sound: Sound,
    /// Its text.
    pub text: String,
    layer: Option<String>,
    because: Option<String>,
}

impl Old {
    pub(super) fn read(path: &Path, args: &Args) -> Result<Self, Refusal> {
        let sound = read::sound(path, &args.outside)
            .map_err(|_| Refusal(1, format!("{} has mistakes", path.display())))?;
        let text = std::fs::read_to_string(path)
            .map_err(|error| Refusal(3, format!("{}: {error}", path.display())))?;
        Ok(Self { sound, text, layer: args.layer.clone(), because: args.because.clone() })
    }

    /// What it is called in messages.
    pub(super) fn name(&self) -> &str {
        &self.sound.name
    }

    /// Whether it has no layer of that name.
    pub(super) fn has_no(&self, layer: &str) -> bool {
        self.sound.plan.layer(layer).is_none()
    }

    /// The layer that is learned for.
    pub(super) fn layer(&self) -> Result<&LayerPlan, Refusal> {
        let layers = &self.sound.plan.layers;
        let foreign: Vec<&LayerPlan> =
            layers.iter().filter(|it| matches!(it.program, Program::Exec(_))).collect();
        if let Some(name) = &self.layer {
            return layers
                .iter()
                .find(|layer| layer.name == **name)
                .ok_or_else(|| Refusal(2, format!("there is no layer `{name}`")));
        }
        match foreign.as_slice() {
            [one] => Ok(one),
            [] => Err(Refusal(2, NONE.to_owned())),
            several => {
                let names: Vec<&str> = several.iter().map(|it| it.name.as_str()).collect();
                Err(Refusal(2, format!("say --layer with one of {}", names.join(", "))))
            }
        }
    }

    /// The policy with what it lacks for what its layer was seen to do, or with one of that.
    pub(super) fn lacks(&self, seen: &Seen, only: Option<usize>) -> Result<Learned, Refusal> {
        self.lacking(&[(self.layer()?.name.to_string(), seen, Vec::new())], only)
    }

    /// The policy with what its layers lack for what they were refused, or with one of that.
    pub(super) fn denied(
        &self,
        denials: &Denials,
        only: Option<usize>,
    ) -> Result<Learned, Refusal> {
        let is_asked = |name: &str| self.layer.as_ref().is_none_or(|layer| layer == name);
        let known = |name: &str| self.sound.plan.layer(name).is_some() && is_asked(name);
        let of_layers = denials.layers.iter().filter(|(name, _)| known(name));
        let all: Vec<_> = of_layers
            .map(|(name, denied)| (name.clone(), &denied.seen, denied.questions().collect()))
            .collect();
        self.lacking(&all, only)
    }

    /// The same of several layers, each with questions besides.
    fn lacking(
        &self,
        layers: &[(String, &Seen, Vec<Proposal>)],
        only: Option<usize>,
    ) -> Result<Learned, Refusal> {
        let home = std::env::var("HOME").ok();
        let before: DocumentMut = self
            .text
            .parse()
            .map_err(|error| Refusal(3, format!("{}: {error}", self.sound.name)))?;
        let (mut document, mut proposals, mut owners) = (before.clone(), Vec::new(), Vec::new());
        for (layer, seen, questions) in layers {
            let learner = Learner {
                plan: &self.sound.plan,
                layer,
                is_new: false,
                home: home.as_deref(),
                because: self.because.as_deref(),
            };
            let (next, found) = both(document, seen, &learner)?;
            document = next;
            proposals.extend(found.into_iter().chain(questions.iter().cloned()));
            owners.resize(proposals.len(), layer.clone());
        }
        if let Some(number) = only {
            let count = proposals.len();
            let at = number.checked_sub(1).filter(|at| *at < count);
            let Some(at) = at.filter(|at| proposals[*at].is_grant()) else {
                let words = format!("there is no grant number {number} among {count} proposals");
                return Err(Refusal(2, words));
            };
            owners = vec![owners.swap_remove(at)];
            (document, proposals) = granted(before, &owners[0], vec![proposals.swap_remove(at)]);
        }
        let text = document.to_string();
        let layer = layers.first().map_or_else(String::new, |(layer, ..)| layer.clone());
        Ok(Learned { layer, plan: plan(&text)?, text, proposals, owners })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_learned_path_has_what_the_layer_sees() {
        let directory = tempfile::tempdir().unwrap();
        let real = directory.path().canonicalize().unwrap();
        for name in ["used", "unused"] {
            std::fs::create_dir(real.join(name)).unwrap();
        }
        std::os::unix::fs::symlink("used", real.join("link")).unwrap();
        let at = |name: &str| real.join(name).display().to_string();
        let mut seen = Seen::default();
        seen.file(&at("used/tool"), false, &[FileRight::Read, FileRight::Execute], "sh");
        seen.file(&at("unused/list"), false, &[FileRight::Read], "sh");
        let path = ["/usr/bin", &at("unused"), &at("link"), "/usr/bin/", "", ".", &at("none")];
        let env = |path: &str| environment(&[("PATH".to_owned(), path.to_owned())], &seen);
        let learned = format!("/usr/bin:{}", at("used"));
        assert_eq!(env(&path.join(":")), [("PATH".to_owned(), learned)]);
        assert_eq!(env(&at("unused")), []);
        let other = [("TZ".to_owned(), "UTC".to_owned())];
        assert_eq!(environment(&other, &seen), other);
    }
}
