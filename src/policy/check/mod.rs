//! The checker: a document in, a plan out, or every mistake of the document.

mod channel;
mod danger;
mod file;
mod layer;
mod program;
mod syscalls;

pub(super) use program::CAPABILITIES;

use std::collections::BTreeMap;

use super::code::Code;
use super::diagnostic::{Diagnostic, Diagnostics, Severity, Span};
use super::document::{self, At, Document};
use super::nearest::nearest;
use super::places::Places;
use super::plan::{Facilities, Plan};
use super::source;
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
    /// Where its rules stand.
    pub places: Places,
    pub(super) text: String,
}

/// Checks a policy's bytes, whatever they are.
///
/// `source_name` is what messages call the file. One run tells every mistake; a plan comes only
/// of a policy without any.
#[must_use]
pub fn check(source_name: &str, bytes: &[u8]) -> Checked {
    let mut out = Diagnostics::default();
    let (text, worth_reading) = source::decode(bytes, &mut out);
    let plan = if worth_reading { plan(&text, &mut out) } else { None };
    let plan = plan.filter(|_| !out.has_errors());
    let (diagnostics, more) = out.finish();
    Checked {
        plan,
        diagnostics,
        more,
        source_name: source_name.to_owned(),
        places: Places { name: source_name.to_owned(), text: text.clone().into_owned() },
        text: text.into_owned(),
    }
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

fn plan(text: &str, out: &mut Diagnostics) -> Option<Plan> {
    let (tree, wrong_lines) = source::parse(text, out);
    let document = document::read(&tree, out);
    let plan = judge(&document, out);
    if !wrong_lines.is_empty() {
        // Where the syntax is broken things are missing that were meant to be there.
        let broken = |span: &Span| {
            wrong_lines.iter().any(|line| line.start <= span.start && span.start <= line.end)
        };
        out.retain(|item| match item.code {
            Code::Syntax | Code::Duplicate | Code::NotUtf8 | Code::ByteOrderMark => true,
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
    )
}

/// Checks everything against everything; the plan is only valid if nothing was told.
fn judge(document: &Document, out: &mut Diagnostics) -> Option<Plan> {
    let daemon = document.name.as_ref().and_then(|text| name(text, "the daemon", out));
    let layers = Layers::new(document);
    // Everything is looked at before anything that is missing ends the work.
    let confined = layer::all(document, out);
    let channels = channel::all(document, &layers, out);
    let files = file::all(document, &layers, out);
    let mut plan = Plan {
        name: daemon?,
        layers: confined,
        channels,
        files,
        facilities: Facilities::default(),
        never: Vec::new(),
    };
    plan.layers.sort_by(|a, b| a.name.cmp(&b.name));
    plan.channels.sort_by(|a, b| a.name.cmp(&b.name));
    plan.files.sort_by(|a, b| a.name.cmp(&b.name));
    Some(plan)
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

/// A name, or the rule that it breaks.
fn name(text: &At<String>, what: &str, out: &mut Diagnostics) -> Option<Name> {
    match Name::new(&text.value) {
        Ok(name) => Some(name),
        Err(why) => {
            let message = format!("`{}` can't be the name of {what}", text.value.escape_debug());
            let mistake = out.error(Code::BadName, &text.span, message);
            mistake.label(why.to_string());
            let better = text.value.to_ascii_lowercase().replace([' ', '.'], "-");
            if better != text.value && Name::new(&better).is_ok() {
                mistake.did_you_mean(Some(&better));
            }
            None
        }
    }
}

/// A number within a range, or `default` where none is written or it is told. `show` writes the
/// ends of the range.
fn within<N, D>(
    number: Option<&At<N>>,
    what: &str,
    range: std::ops::RangeInclusive<N>,
    default: D,
    show: fn(N) -> String,
    out: &mut Diagnostics,
) -> D
where
    N: PartialOrd + Copy,
    D: TryFrom<N>,
{
    let Some(number) = number else { return default };
    if range.contains(&number.value)
        && let Ok(value) = D::try_from(number.value)
    {
        return value;
    }
    let (least, most) = (show(*range.start()), show(*range.end()));
    out.error(Code::OutOfRange, &number.span, format!("`{what}` is out of range"))
        .label(format!("it is from {least} to {most}"));
    default
}

/// A plain number, for [`within`].
fn digits(number: i128) -> String {
    number.to_string()
}
