//! From files to one tree: what a policy includes is read, and nothing is ever merged silently.

use super::{VERSION, vars};
use crate::policy::code::Code;
use crate::policy::diagnostic::{Diagnostics, Span};
use crate::policy::inputs::Inputs;
use crate::policy::language::{integer_of, strings};
use crate::policy::source::{self, MAX_SIZE};
use crate::policy::texts::Texts;
use crate::policy::tree::{Table, Value, in_order};

/// As deep may files include others; a policy that needs more hides what it grants.
const MAX_DEPTH: usize = 8;
/// As many files make up one policy.
const MAX_FILES: usize = 64;

/// A policy with all that it includes.
#[derive(Default)]
pub(crate) struct Gathered {
    /// The one tree, its places in the common space of [`Gathered::texts`].
    pub(crate) tree: Table,
    /// The files.
    pub(crate) texts: Texts,
    /// The lines whose syntax is wrong, and strings and files that could not be put in: what is
    /// told of them or of what is missing says nothing new.
    pub(crate) wrong: Vec<Span>,
}

/// Reads a policy and what it includes; `None` if there is nothing in it worth checking.
pub(crate) fn gather(
    name: &str,
    bytes: &[u8],
    inputs: &Inputs<'_>,
    out: &mut Diagnostics,
) -> (Gathered, bool) {
    let mut gathering = Gathering { inputs, done: Gathered::default(), open: Vec::new() };
    let worth_reading = gathering.file(name, bytes, out);
    let mut done = gathering.done;
    if worth_reading {
        done.wrong.extend(vars::fill_in(&mut done.tree, inputs.vars, out));
    }
    (done, worth_reading)
}

/// Reads a file that stands for itself: a ceiling. Its tree, if there is something in it.
pub(crate) fn lone(
    name: &str,
    bytes: &[u8],
    texts: &mut Texts,
    out: &mut Diagnostics,
) -> Option<Table> {
    let mut own = Diagnostics::default();
    let (text, worth_reading) = source::decode(bytes, &mut own);
    let base = texts.add(name, text.clone().into_owned());
    let tree = worth_reading.then(|| source::parse(&text, base, &mut own).0);
    out.absorb(own, base);
    let tree = tree?;
    version(&tree, base, out);
    Some(tree)
}

struct Gathering<'a> {
    inputs: &'a Inputs<'a>,
    done: Gathered,
    /// The files that are being read, each included by the one before.
    open: Vec<String>,
}

impl Gathering<'_> {
    /// Adds one file, then those that it includes.
    fn file(&mut self, name: &str, bytes: &[u8], out: &mut Diagnostics) -> bool {
        let mut own = Diagnostics::default();
        let (text, worth_reading) = source::decode(bytes, &mut own);
        let base = self.done.texts.add(name, text.clone().into_owned());
        let (mut tree, wrong) =
            if worth_reading { source::parse(&text, base, &mut own) } else { Default::default() };
        out.absorb(own, base);
        if !worth_reading {
            return false;
        }
        self.done.wrong.extend(wrong.iter().map(|line| line.start + base..line.end + base));
        version(&tree, base, out);
        let included = tree.get("include").and_then(|it| strings(&it.node, "include", out));
        if !self.open.is_empty() {
            tree.remove("cofferdam");
            tree.remove("include");
        }
        merge(&mut self.done.tree, tree, out);
        self.open.push(name.to_owned());
        for path in included.iter().flat_map(|list| &list.value) {
            self.include(name, &path.value, &path.span, out);
        }
        self.open.pop();
        true
    }

    fn include(&mut self, from: &str, path: &str, span: &Span, out: &mut Diagnostics) {
        let wrong = &mut self.done.wrong;
        let mut refuse = |code, why: String, help: &str| {
            wrong.push(span.clone());
            let message = format!("`{}` can't be included", path.escape_debug());
            out.error(code, span, message).label(why).help(help);
        };
        let Some(load) = self.inputs.load else {
            let why = "this policy is not in a file, so there is nothing beside it".into();
            return refuse(Code::Include, why, "put the tables into the policy itself");
        };
        if path.is_empty() || path.chars().any(char::is_control) {
            let why = "a path has characters, and no control characters".into();
            return refuse(Code::Include, why, "write the file's path, as in `\"base.toml\"`");
        }
        let whole = beside(from, path);
        if self.open.contains(&whole) {
            let why = "it includes this file, directly or through others".into();
            return refuse(Code::IncludeCycle, why, "take one of the two out");
        }
        if self.done.texts.named(&whole).is_some() {
            let why = "it is included already".into();
            return refuse(Code::IncludeCycle, why, "include each file once");
        }
        if self.open.len() > MAX_DEPTH || self.done.texts.count() >= MAX_FILES {
            let why = format!("at most {MAX_FILES} files, {MAX_DEPTH} deep, make up a policy");
            return refuse(Code::Include, why, "put several of them into one");
        }
        match load(&whole) {
            Err(why) => refuse(Code::Include, why, "its path is relative to the including file"),
            Ok(bytes) if bytes.len() + self.done.texts.size() > MAX_SIZE => {
                let why = format!("with it, the policy is larger than {MAX_SIZE} bytes");
                refuse(Code::TooLarge, why, "is this the right file?");
            }
            Ok(bytes) => {
                self.file(&whole, &bytes, out);
            }
        }
    }
}

/// The path of a file that is named relative to another one, in one spelling.
fn beside(from: &str, path: &str) -> String {
    if path.starts_with('/') {
        return path.to_owned();
    }
    let path = path.trim_start_matches("./");
    match from.rsplit_once('/') {
        Some((folder, _)) => format!("{folder}/{path}"),
        None => path.to_owned(),
    }
}

/// Each file says which language it is written in.
fn version(tree: &Table, base: usize, out: &mut Diagnostics) {
    let written = tree.get("cofferdam");
    match written.and_then(|it| integer_of(&it.node, "cofferdam", out)) {
        Some(version) if version.value != VERSION => {
            let message = format!("version {} of the policy language is not known", version.value);
            out.error(Code::Version, &version.span, message)
                .help(format!("this program reads version {VERSION}"));
        }
        None if written.is_none() => {
            let message = "the policy does not say its language version";
            out.error(Code::Version, &(base..base), message)
                .help("begin the file with the line `cofferdam = 1`");
        }
        _ => {}
    }
}

/// Puts the tables of an included file beside those that are there.
fn merge(into: &mut Table, from: Table, out: &mut Diagnostics) {
    for (key, entry) in in_order(from) {
        let Some(known) = into.get_mut(&key) else {
            into.insert(key, entry);
            continue;
        };
        match (&mut known.node.value, entry.node.value) {
            (Value::Table(whole), Value::Table(more)) => {
                for (name, entry) in in_order(more) {
                    match whole.get(&name) {
                        Some(first) => {
                            twice(&format!("{key}.{name}"), &entry.key, &first.key, out);
                        }
                        None => {
                            whole.insert(name, entry);
                        }
                    }
                }
            }
            (Value::List(whole), Value::List(more)) if key == "never" => whole.extend(more),
            _ => twice(&key, &entry.key, &known.key, out),
        }
    }
}

fn twice(what: &str, span: &Span, first: &Span, out: &mut Diagnostics) {
    let message = format!("`{}` is defined twice", what.escape_debug());
    out.error(Code::Duplicate, span, message)
        .label("here again")
        .also(first, "first defined here")
        .help("write it once: a second definition is never merged into the first");
}
