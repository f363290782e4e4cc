//! What an audit log says that layers were refused, as if it had been watched.

use std::collections::BTreeMap;
use std::path::Path;

use super::Refusal;
use crate::audit::entry::{Facility, Kind, Record};
use crate::audit::query::{Filter, query};
use crate::audit::store::Store;
use crate::cli::audit::names::{Names, layer};
use crate::policy::plan::FileRight;
use crate::policy::syscall::name_of;
use crate::review::learn::{Evidence, Proposal, Seen};
use crate::wire::refusal::Asked;

/// What a log has of one layer.
#[derive(Default)]
pub(super) struct Denied {
    /// What it was refused, as far as it is known to the argument.
    pub seen: Seen,
    /// The rest, of which nobody knows more than the call: questions.
    pub vague: BTreeMap<String, Evidence>,
}

/// What layers were refused, by their names.
#[derive(Default)]
pub(super) struct Denials {
    pub layers: BTreeMap<String, Denied>,
    /// Refusals that name nothing which a policy could grant.
    pub nameless: u64,
}

impl Denials {
    /// Reads a log.
    pub(super) fn read(directory: &Path) -> Result<Self, Refusal> {
        let failed = |error: &dyn std::fmt::Display| Refusal(3, error.to_string());
        let store = Store::open(directory).map_err(|error| failed(&error))?;
        let names = Names::read(&store).map_err(|error| failed(&error))?;
        let mut denials = Self::default();
        let wanted = Filter { kinds: vec![Kind::Denial], ..Filter::default() };
        query(&store, &wanted, |record| {
            let name = layer(names.at(record.index), record.entry.peer.layer).into_owned();
            denials.take(&name, &record);
            true
        })
        .map_err(|error| failed(&error))?;
        Ok(denials)
    }

    fn take(&mut self, layer: &str, record: &Record) {
        let entry = &record.entry;
        let parts: Vec<_> =
            entry.detail.split(|&byte| byte == 0).map(String::from_utf8_lossy).collect();
        let by = parts.get(1).map_or(layer, |program| program.as_ref());
        let asked = parts.get(5).and_then(|part| Asked::parse(part));
        if entry.facility != Facility::Syscall {
            self.nameless += 1;
            return;
        }
        let denied = self.layers.entry(layer.to_owned()).or_default();
        let seen = &mut denied.seen;
        match asked {
            Some(Asked::Call(arguments)) => seen.call(entry.method, arguments, by),
            Some(Asked::Listen(address)) => seen.bound(&address, by),
            Some(Asked::Connect(address)) => seen.connected(&address, by),
            Some(Asked::Path { path, rights }) => {
                let known =
                    |word: &String| FileRight::ALL.into_iter().find(|right| right.name() == word);
                let rights: Vec<FileRight> = rights.iter().filter_map(known).collect();
                seen.file(&path, Path::new(&path).is_dir(), &rights, by);
            }
            None => match name_of(entry.method) {
                Some(call) => denied.vague.entry(call.to_owned()).or_default().count(by),
                None => self.nameless += 1,
            },
        }
    }
}

impl Denied {
    /// What somebody has to answer, for the log doesn't tell the arguments.
    pub(super) fn questions(&self) -> impl Iterator<Item = Proposal> {
        self.vague.iter().map(|(call, evidence)| Proposal::Question {
            line: format!("syscalls = [{call:?}]"),
            why: "the log doesn't say with which arguments".to_owned(),
            evidence: evidence.clone(),
        })
    }
}
