//! The checker: a document in, a plan out, or every mistake of the document.

mod audit;
mod broker;
mod ceiling;
mod channel;
mod connect;
mod danger;
mod directory;
mod elastic;
mod ends;
mod file;
mod hosts;
mod implied;
mod inetd;
mod layer;
mod memory;
mod never;
mod order;
mod paths;
mod permits;
mod program;
mod rate;
mod rights;
mod socket;
mod standard;
mod start;
mod stream;
mod syscalls;
mod useless;
mod workers;

use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) use danger::reach as reaches;

use super::code::Code;
use super::diagnostic::{Diagnostic, Diagnostics, Severity, Span};
use super::document::{self, At, CeilingText, Document, Gathered};
use super::inputs::Inputs;
use super::nearest::nearest;
use super::plan::{Facilities, Plan, ReloadPlan};
use super::source_map::SourceMap;
use super::tree::Table;
use crate::ident::Name;

/// What came of checking one policy.
#[derive(Debug)]
pub struct Checked {
    /// The plan, if nothing was wrong.
    pub plan: Option<Plan>,
    /// What was wrong, and the warnings, in the order of the text. At most 100.
    pub diagnostics: Vec<Diagnostic>,
    /// How many more there were.
    pub more: usize,
    /// The policy's name in messages, usually its path.
    pub source_name: String,
    /// Where each rule stands.
    pub places: SourceMap,
}

/// Checks a policy's bytes, whatever they are.
///
/// `source_name` is what messages call the file. One run tells every mistake; a plan comes only
/// of a policy without any.
#[must_use]
pub fn check(source_name: &str, bytes: &[u8]) -> Checked {
    check_with(source_name, bytes, &Inputs::default())
}

/// Checks a policy that may include others, has variables set from outside, or is bounded by a
/// ceiling.
#[must_use]
pub fn check_with(source_name: &str, bytes: &[u8], inputs: &Inputs<'_>) -> Checked {
    let mut out = Diagnostics::default();
    let (mut gathered, worth_reading) = document::gather(source_name, bytes, inputs, &mut out);
    let ceiling = inputs
        .ceiling
        .and_then(|(name, bytes)| document::lone(name, bytes, &mut gathered.texts, &mut out))
        .and_then(|tree| document::read_ceiling(&tree, &mut out));
    let plan = if worth_reading { plan(&gathered, ceiling.as_ref(), &mut out) } else { None };
    let plan = plan.filter(|_| !out.has_errors());
    let (diagnostics, more) = out.finish();
    let places = SourceMap { tree: Arc::new(gathered.tree), texts: Arc::new(gathered.texts) };
    Checked { plan, diagnostics, more, source_name: source_name.to_owned(), places }
}

impl Checked {
    /// How many mistakes are in [`Checked::diagnostics`].
    pub fn errors(&self) -> usize {
        self.count(Severity::Error)
    }

    /// How many warnings are in [`Checked::diagnostics`].
    pub fn warnings(&self) -> usize {
        self.count(Severity::Warning)
    }

    fn count(&self, severity: Severity) -> usize {
        self.diagnostics.iter().filter(|item| item.severity == severity).count()
    }
}

fn plan(gathered: &Gathered, ceiling: Option<&CeilingText>, out: &mut Diagnostics) -> Option<Plan> {
    let wrong_lines = &gathered.wrong;
    let document = document::read(&gathered.tree, out);
    let plan = judge(&document, &gathered.tree, out);
    if let Some(ceiling) = ceiling {
        ceiling::hold(&document, ceiling, out);
    }
    if !wrong_lines.is_empty() {
        // Where the syntax is broken things are missing that were meant to be there.
        let broken = |span: &Span| {
            wrong_lines.iter().any(|line| line.start <= span.start && span.start <= line.end)
        };
        out.retain(|item| match item.code {
            Code::Syntax
            | Code::Duplicate
            | Code::NotUtf8
            | Code::ByteOrderMark
            | Code::Include
            | Code::IncludeCycle
            | Code::UndefinedVariable => true,
            code if follows_from_absence(code) => false,
            _ => !item.labels.iter().any(|label| broken(&label.span)),
        });
    }
    plan
}

/// Mistakes that a missing line can cause elsewhere.
fn follows_from_absence(code: Code) -> bool {
    matches!(
        code,
        Code::Version
            | Code::Missing
            | Code::Empty
            | Code::NoProgram
            | Code::NoLayer
            | Code::UnknownLayer
            | Code::NeedsBecause
            | Code::DescriptorKinds
            | Code::UnknownMethod
            | Code::UnknownPipe
            | Code::UnknownObject
            | Code::NobodyOpens
            | Code::NoKey
    )
}

/// Checks everything against everything; the plan is only valid if nothing was told.
fn judge(document: &Document, tree: &Table, out: &mut Diagnostics) -> Option<Plan> {
    let daemon = document.name.as_ref().and_then(|text| name(text, "the daemon", out));
    let layers = Layers::new(document);
    // Everything is looked at before anything that is missing ends the work.
    let confined = layer::all(document, out);
    let hosts = hosts::all(document, out);
    let channels = channel::all(document, &layers, out);
    let files = file::all(document, &layers, out);
    let facilities = facilities(document, &layers, out);
    let never = never::all(document, &layers, out);
    paths::all(document, out);
    directory::apart(document, out);
    order::calls(document, out);
    useless::nobody_opens(document, out);
    let audit = audit::plan(document, out);
    let reload = document
        .reload
        .as_ref()
        .map_or_else(ReloadPlan::default, |text| ReloadPlan { gain: text.gain() });
    let metrics = socket::metrics(document, out);
    let mut plan = Plan {
        name: daemon?,
        hosts,
        here: None,
        layers: confined,
        channels,
        files,
        facilities,
        audit,
        reload,
        metrics,
        never,
    };
    hosts::place(document, &mut plan, out);
    plan.layers.sort_by(|a, b| a.name.cmp(&b.name));
    plan.channels.sort_by(|a, b| a.name.cmp(&b.name));
    plan.files.sort_by(|a, b| a.name.cmp(&b.name));
    plan.never.sort();
    plan.never.dedup();
    audit::reach(document, &plan, tree, out);
    // Ways through a plan with mistakes would be ways through another policy.
    if !out.has_errors() {
        never::hold(document, &plan, tree, out);
        useless::all(document, &plan, out);
        permits::all(document, out);
    }
    Some(plan)
}

fn facilities(document: &Document, layers: &Layers<'_>, out: &mut Diagnostics) -> Facilities {
    fn each<T, P>(
        texts: &[T],
        layers: &Layers<'_>,
        out: &mut Diagnostics,
        one: fn(&T, &Layers<'_>, &mut Diagnostics) -> Option<P>,
        name: fn(&P) -> &Name,
    ) -> Vec<P> {
        let mut plans: Vec<_> = texts.iter().filter_map(|text| one(text, layers, out)).collect();
        plans.sort_by(|a, b| name(a).cmp(name(b)));
        plans
    }
    let mut facilities = Facilities {
        signals: broker::signals(&document.signals, layers, out),
        queues: each(&document.queues, layers, out, stream::queue, |plan| &plan.name),
        pipes: each(&document.pipes, layers, out, stream::pipe, |plan| &plan.name),
        fifos: each(&document.fifos, layers, out, stream::fifo, |plan| &plan.name),
        semaphores: broker::semaphores(&document.semaphores, layers, out),
        regions: each(&document.regions, layers, out, memory::region, |plan| &plan.name),
        mapped_files: each(&document.mapped_files, layers, out, memory::mapped_file, |plan| {
            &plan.name
        }),
    };
    facilities.signals.sort_by(|a, b| a.name.cmp(&b.name));
    facilities.semaphores.sort_by(|a, b| a.name.cmp(&b.name));
    facilities
}

/// The layers that a document defines, by name.
struct Layers<'d>(BTreeMap<&'d str, &'d document::LayerText>);

impl<'d> Layers<'d> {
    fn new(document: &'d Document) -> Self {
        Self(document.layers.iter().map(|layer| (layer.name.value.as_str(), layer)).collect())
    }

    /// The layer that a text refers to; told if there is none. A layer whose own name is bad is
    /// told where it is defined only.
    fn find(&self, text: &At<String>, out: &mut Diagnostics) -> Option<&'d document::LayerText> {
        if let Some(layer) = self.0.get(text.value.as_str()) {
            return Some(layer);
        }
        if self.0.keys().any(|name| Name::new(name).is_err() && better(name) == text.value) {
            return None;
        }
        let message = format!("there is no layer `{}`", text.value.escape_debug());
        let mistake = out.error(Code::UnknownLayer, &text.span, message);
        match nearest(&text.value, self.0.keys().copied()) {
            Some(near) => {
                mistake.did_you_mean(Some(near));
                if let Some(layer) = self.0.get(near) {
                    mistake.also(&layer.name.span, "this one is defined");
                }
            }
            None => {
                mistake.help("define it with `[layer.NAME]`");
            }
        }
        None
    }
}

/// What a bad name was perhaps meant to be.
fn better(name: &str) -> String {
    name.to_ascii_lowercase().replace([' ', '.'], "-")
}

/// A name, or the rule that it breaks.
fn name(text: &At<String>, what: &str, out: &mut Diagnostics) -> Option<Name> {
    match Name::new(&text.value) {
        Ok(name) => Some(name),
        Err(why) => {
            let message = format!("`{}` can't be the name of {what}", text.value.escape_debug());
            let mistake = out.error(Code::BadName, &text.span, message);
            mistake.label(why.to_string());
            let better = better(&text.value);
            if better != text.value && Name::new(&better).is_ok() {
                mistake.did_you_mean(Some(&better));
            }
            None
        }
    }
}
