//! Which file imports from which, and whether a way leads back.
//!
//! What this sees: every path that begins with `crate`, `super`, `self` or a child module's name,
//! in a `use` or in the midst of code. A path counts for the file that holds what it names, found
//! through re-exports: what comes by way of a `mod.rs` counts for the child that it is from. A
//! module's own children may import from it: they complete it, and see what is private to it.
//!
//! What it does not see: methods, which are called without a path, and code that a macro makes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::{code, sources};

/// A module's path from the crate's root on.
type Module = Vec<String>;

/// A file's own names and what it uses.
struct File {
    path: PathBuf,
    /// What it imports: the name by which it knows it, the path, and whether it passes it on.
    uses: Vec<Use>,
    /// Paths in the midst of its code.
    mentions: Vec<Vec<String>>,
}

struct Use {
    name: String,
    path: Vec<String>,
    passes_on: bool,
}

/// The files of the crate by module.
struct Crate {
    files: BTreeMap<Module, File>,
}

/// Groups of files that import from each other in a circle, each group sorted.
pub(crate) fn circles() -> Vec<Vec<PathBuf>> {
    let files = sources().into_iter().filter(|(path, _)| {
        !matches!(path.file_name().and_then(|name| name.to_str()), Some("main.rs" | "tests.rs"))
    });
    let files = files.map(|(path, text)| (module(&path), read(path, &code(&text))));
    Crate { files: files.collect() }.circles()
}

fn module(path: &Path) -> Module {
    let path = path.with_extension("");
    let names = path.iter().map(|name| name.to_str().unwrap().to_owned());
    names.filter(|name| name != "mod" && name != "lib").collect()
}

fn read(path: PathBuf, code: &str) -> File {
    let mut file = File { path, uses: Vec::new(), mentions: Vec::new() };
    let tokens = tokens(code);
    let mut at = 0;
    while at < tokens.len() {
        if tokens[at] == "use" {
            let passes_on = at > 0 && (tokens[at - 1] == "pub" || tokens[at - 1] == ")");
            at += 1;
            tree(&tokens, &mut at, &mut Vec::new(), passes_on, &mut file.uses);
        } else if tokens.get(at + 1) == Some(&"::") && (at == 0 || tokens[at - 1] != "::") {
            let mut path = vec![tokens[at].to_owned()];
            while tokens.get(at + 1) == Some(&"::") && tokens.get(at + 2).is_some_and(is_name) {
                path.push(tokens[at + 2].to_owned());
                at += 2;
            }
            file.mentions.push(path);
        }
        at += 1;
    }
    file
}

fn is_name(token: &&str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Words, `::`, and single characters.
fn tokens(code: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = code.trim_start();
    while let Some(first) = rest.chars().next() {
        let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        let length = match word {
            0 if rest.starts_with("::") => 2,
            0 => first.len_utf8(),
            word => word,
        };
        tokens.push(&rest[..length]);
        rest = rest[length..].trim_start();
    }
    tokens
}

/// Reads a use tree from `at` on: what it names goes to `uses`.
fn tree(
    tokens: &[&str],
    at: &mut usize,
    before: &mut Vec<String>,
    passes_on: bool,
    uses: &mut Vec<Use>,
) {
    let depth = before.len();
    while let Some(&token) = tokens.get(*at) {
        match token {
            "{" => loop {
                *at += 1;
                tree(tokens, at, before, passes_on, uses);
                if tokens.get(*at) == Some(&"}") {
                    *at += 1;
                    return before.truncate(depth);
                }
            },
            "," | "}" | ";" => break,
            "as" => {
                uses.push(Use { name: tokens[*at + 1].to_owned(), path: path(before), passes_on });
                *at += 2;
                return before.truncate(depth);
            }
            "::" => *at += 1,
            name => {
                before.push(name.to_owned());
                *at += 1;
            }
        }
    }
    if before.len() > depth {
        let path = path(before);
        uses.push(Use { name: path.last().unwrap().clone(), path, passes_on });
        before.truncate(depth);
    }
}

/// A path as it is written, and `a` for `a::self`.
fn path(written: &[String]) -> Vec<String> {
    let length = written.len();
    let is_self = length > 1 && written[length - 1] == "self";
    written[..length - usize::from(is_self)].to_vec()
}

impl Crate {
    /// The path from the root on, if it is one within this crate.
    fn absolute(&self, from: &Module, path: &[String]) -> Option<Vec<String>> {
        let mut base = from.clone();
        let mut rest = path;
        match path.first()?.as_str() {
            "crate" => (base, rest) = (Vec::new(), &path[1..]),
            "self" => rest = &path[1..],
            "super" => {
                while rest.first().is_some_and(|name| name == "super") {
                    base.pop()?;
                    rest = &rest[1..];
                }
            }
            child => {
                let own = [&from[..], &[child.to_owned()]].concat();
                if !self.files.contains_key(&own) {
                    return None;
                }
            }
        }
        Some([&base[..], rest].concat())
    }

    /// The module whose file holds what a path from the root names.
    fn holder(&self, path: &[String], depth: u8) -> Option<Module> {
        let longest = (0..=path.len()).rev().find(|&n| self.files.contains_key(&path[..n]))?;
        let (module, rest) = path.split_at(longest);
        let known = self.files[module].uses.iter();
        let used = rest.first().and_then(|name| known.clone().find(|one| one.name == *name));
        match used {
            Some(used) if depth < 8 => {
                let target = self.absolute(&module.to_vec(), &used.path);
                // What comes from another crate is as good as its own.
                target.map_or(Some(module.to_vec()), |target| self.holder(&target, depth + 1))
            }
            _ => Some(module.to_vec()),
        }
    }

    /// The modules that a file itself uses.
    fn edges(&self, module: &Module) -> BTreeSet<Module> {
        let file = &self.files[module];
        let used = file.uses.iter().filter(|one| !one.passes_on).map(|one| &one.path);
        let paths = used.chain(&file.mentions);
        let targets = paths.filter_map(|path| self.holder(&self.absolute(module, path)?, 0));
        // A module's parts complete it, and see what is private to it: that way is no import.
        targets.filter(|target| !module.starts_with(target)).collect()
    }

    /// Sets of files each of which reaches all others of its set.
    fn circles(&self) -> Vec<Vec<PathBuf>> {
        let edges: BTreeMap<&Module, BTreeSet<Module>> =
            self.files.keys().map(|module| (module, self.edges(module))).collect();
        let reached = |from: &Module| {
            let mut seen = BTreeSet::new();
            let mut next: Vec<Module> = edges[from].iter().cloned().collect();
            while let Some(module) = next.pop() {
                if seen.insert(module.clone()) {
                    next.extend(edges[&module].iter().cloned());
                }
            }
            seen
        };
        let reach: BTreeMap<&Module, BTreeSet<Module>> =
            self.files.keys().map(|module| (module, reached(module))).collect();
        let mut circles = BTreeSet::new();
        for (module, others) in &reach {
            let together = others.iter().filter(|other| reach[other].contains(*module));
            let mut group: Vec<PathBuf> =
                together.map(|other| self.files[other].path.clone()).collect();
            group.sort();
            if group.len() > 1 {
                circles.insert(group);
            }
        }
        circles.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(files: &[(&str, &str)]) -> Vec<Vec<String>> {
        let files = files.iter().map(|(path, code)| {
            let path = PathBuf::from(path);
            (module(&path), read(path, code))
        });
        let circles = Crate { files: files.collect() }.circles();
        let names = |group: Vec<PathBuf>| group.iter().map(|p| p.display().to_string()).collect();
        circles.into_iter().map(names).collect()
    }

    #[test]
    fn a_circle_of_imports_is_found() {
        let found = of(&[
            ("lib.rs", "mod a; mod b; mod c;"),
            ("a.rs", "use crate::b::{self, Other as O};"),
            ("b.rs", "fn f() -> crate::c::Type { crate::c::make() }"),
            ("c.rs", "use std::fmt;\nuse super::a::{x::{y}, z};"),
            ("d.rs", "use crate::a::z;"),
        ]);
        assert_eq!(found, [["a.rs", "b.rs", "c.rs"]]);
    }

    #[test]
    fn what_a_parent_passes_on_is_its_childs() {
        let mut files = [
            ("lib.rs", "mod a; mod z;"),
            ("a/mod.rs", "mod one; mod two; pub(crate) use one::One; fn f() { two::g() }"),
            ("a/one.rs", "use super::Parent; use crate::z;"),
            ("a/two.rs", "use super::*;"),
            ("z.rs", "use crate::a::One;"),
        ];
        assert_eq!(of(&files), [["a/one.rs", "z.rs"]]);
        files[4].1 = "use crate::a::Parent;";
        assert_eq!(of(&files), [] as [[&str; 0]; 0]);
        files[3].1 = "use crate::z;";
        assert_eq!(of(&files), [["a/mod.rs", "a/two.rs", "z.rs"]]);
    }
}
