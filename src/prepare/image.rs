//! What every life of a layer has in common, as data: all that follows from the plan.

use std::io;

use rustix::fs::FileType;
use serde::{Deserialize, Serialize};

use super::own::{Own, OwnImage};
use crate::confine::filter::{self, Action, Answers, Arch, Filter, FilterError};
use crate::confine::generated;
use crate::confine::paths::{Contents, Grant};
use crate::ident::{Name, PolicyId};
use crate::ipc::message::Side;
use crate::layer::auditor::orders as auditor;
use crate::layer::exec::{AT_PATHS, PATH_CALLS, placeholders};
use crate::layer::logger::orders::Marks;
use crate::layer::share::Share;
use crate::layer::slice::{ChannelSlice, Part};
use crate::policy::plan::{
    ChannelPlan, FilePlan, FileRight, LayerPlan, ListenAddress, ListenPlan, Pass, Plan, Program,
    SyscallPlan,
};
use crate::policy::syscall::{by_name, init_plan, spawner_plan};
use crate::sys::pin::pin;
use crate::wire::control::Service;

/// A layer as it is started, any number of times.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LayerImage {
    /// What confines it, beside the filter: of its system calls nothing is left here.
    pub plan: LayerPlan,
    /// Its [`Part`] of the plan, encoded. Only the layer reads it.
    pub part: Vec<u8>,
    /// What is in its root, besides what its view shows.
    pub contents: Contents,
    /// Files that are handed to it open.
    pub files: Vec<HeldFile>,
    /// Helpers that do something for it.
    pub services: Vec<Service>,
    /// Whether it reports to the auditor.
    pub reports: bool,
    /// What is special about it, if it is one of the framework's own.
    pub own: Option<OwnImage>,
}

impl LayerImage {
    /// What is left of it once its layer, of which `plan` is left, is dropped.
    pub(super) fn vacant(&self, plan: &LayerPlan) -> Self {
        let (part, services) = (self.part.clone(), self.services.clone());
        let own = self.own.clone();
        Self {
            plan: LayerPlan { syscalls: Vec::new(), ..plan.clone() },
            part,
            contents: Contents::default(),
            files: Vec::new(),
            services,
            reports: self.reports,
            own,
        }
    }
}

/// A single file that a layer gets as a descriptor, opened anew for every life.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct HeldFile {
    /// The grant's name.
    pub name: Name,
    /// Absolute, and nothing on it is a symbolic link.
    pub path: String,
    /// What can be done by the descriptor.
    pub access: Access,
    /// Whether the file can be truncated by it.
    pub truncates: bool,
}

/// What can be done by a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Access {
    /// Only reading, or less: looking at what it is.
    Read,
    /// Only writing, anywhere.
    Write,
    /// Both.
    ReadWrite,
    /// Only writing at the end.
    Append,
}

impl Access {
    /// `None`: to read and to append alone can't be one descriptor, for memory that is mapped by
    /// one that reads and writes is written anywhere.
    fn of(rights: &[FileRight]) -> Option<Self> {
        let writes = rights.iter().any(|r| matches!(r, FileRight::Write | FileRight::Truncate));
        let appends = rights.contains(&FileRight::Append);
        Some(match (rights.contains(&FileRight::Read), writes, appends) {
            (true, true, _) => Self::ReadWrite,
            (false, true, _) => Self::Write,
            (true, false, true) => return None,
            (false, false, true) => Self::Append,
            (_, false, false) => Self::Read,
        })
    }
}

/// What images are derived from.
pub(super) struct Derivation<'a> {
    /// The plan as the policy states it.
    pub stated: &'a Plan,
    /// The same with the framework's own layers.
    pub plan: &'a Plan,
    /// The plan's digest.
    pub policy: PolicyId,
    /// What the auditor must know; `None`: there is no log.
    pub auditor: Option<&'a auditor::Orders>,
    /// What the events of layers begin with.
    pub marks: &'a Marks,
    /// Whether paths that aren't granted are told of.
    pub tells_paths: bool,
}

impl Derivation<'_> {
    /// What one of the plan's layers comes to. An error is for a person.
    pub(super) fn image(&self, layer: &LayerPlan) -> Result<LayerImage, String> {
        let Self { stated, plan, policy, auditor, marks, tells_paths } = *self;
        let name = &layer.name;
        let own = Own::find(name);
        let unlisted = own.map_or(Action::Kill, |own| own.unlisted);
        let is_exec = matches!(layer.program, Program::Exec(_));
        let compile = |tells| {
            let answers = Answers { unlisted, observed: &observed(layer, tells_paths), tells };
            filter::compile_observed(&layer.syscalls, Arch::NATIVE, answers)
                .map_err(|error| format!("[layer.{name}] syscalls: {error}"))
        };
        let (filter, rules) = (compile(is_exec)?, is_exec.then(|| compile(false)).transpose()?);
        let mut files = Files::default();
        for (file, rights) in plan.files_of(name) {
            let no_links = plan.is_misled(file, name);
            let granted = files.grant(layer, file, rights, no_links);
            granted.map_err(|error| format!("[file.{}] {}: {error}", file.name, file.path))?;
        }
        files.grants.extend(own.into_iter().flat_map(|own| (own.view)(stated)));
        let services = Own::services(stated, layer);
        let init = is_exec.then(|| init_filter(layer)).transpose();
        let init = init.map_err(|error| error.to_string())?;
        let part = Part {
            policy,
            daemon: plan.name.clone(),
            filter,
            rules,
            tells_paths: is_exec && tells_paths,
            init,
            channels: channels_of(plan, name),
            directories: files.directories,
            share: Share::of(plan, name),
            own: own.is_some(),
            services: services.clone(),
            events: matches!(layer.program, Program::Run(_)).then(|| marks.of(name)),
        };
        let reports = own.is_none_or(|own| own.reports);
        let own = own.map(|own| own.image(stated, auditor, marks)).transpose();
        Ok(LayerImage {
            plan: confined(layer),
            part: part.encode().map_err(|error| error.to_string())?,
            contents: Contents {
                grants: files.grants,
                generated: generated::of_system(layer, &placeholders(&layer.connect)),
            },
            files: files.held,
            services,
            reports: auditor.is_some()
                && reports
                && (matches!(layer.program, Program::Run(_)) || layer.is_inetd()),
            own: own.map_err(|error| error.to_string())?,
        })
    }
}

/// The filter of the init of an `exec` layer.
fn init_filter(layer: &LayerPlan) -> Result<Filter, FilterError> {
    if !layer.is_inetd() {
        return filter::compile(&init_plan(), Arch::NATIVE);
    }
    // It starts programs for as long as it lives, so its filter is theirs too, and by its answer it
    // leaves what they are refused to their own. Who debugs a process may pass over that answer.
    let debugs =
        |plan: &SyscallPlan| Some(plan.number) == by_name("ptrace") && !plan.allow.is_empty();
    let is_debugged = layer.syscalls.iter().any(debugs);
    let unlisted = if is_debugged { Action::Kill } else { Action::Trace };
    filter::compile_with(&spawner_plan(&layer.syscalls), Arch::NATIVE, unlisted)
}

/// The init of an `exec` layer is a task too, and the policy doesn't count it. The system calls are
/// the filter's.
fn confined(layer: &LayerPlan) -> LayerPlan {
    let mut plan = LayerPlan { syscalls: Vec::new(), ..layer.clone() };
    if matches!(plan.program, Program::Exec(_)) {
        plan.limits.tasks += 1;
    }
    plan
}

/// The calls of a layer, by number, that its init answers though they are granted: those by which a
/// program could do with the host's sockets what nobody granted, or reach an address that its policy
/// doesn't declare; and those that would remove or change a Unix socket that was bound for it. `tells_paths`: those that name paths as well.
fn observed(layer: &LayerPlan, tells_paths: bool) -> Vec<u32> {
    if matches!(layer.program, Program::Run(_)) {
        return Vec::new();
    }
    let has_sockets = !layer.listen.is_empty() || !layer.connect.is_empty();
    // A connection can't be made into another socket by what such a program is granted.
    let sockets: &[&str] = match layer.is_inetd() {
        true => &[],
        false if has_sockets => &["bind", "connect", "listen"],
        false => &["bind", "connect"],
    };
    let is_path =
        |it: &ListenPlan| it.pass == Pass::Bind && matches!(it.address, ListenAddress::Unix(_));
    let at_paths = layer.listen.iter().any(is_path).then_some(AT_PATHS.map(|(name, _)| name));
    let granted = |number: &u32| {
        layer.syscalls.iter().any(|call| call.number == *number && !call.allow.is_empty())
    };
    let paths = tells_paths.then_some(PATH_CALLS).into_iter().flatten();
    sockets
        .iter()
        .copied()
        .chain(paths)
        .chain(at_paths.into_iter().flatten())
        .filter_map(by_name)
        .filter(granted)
        .collect()
}

fn channels_of(plan: &Plan, layer: &Name) -> Vec<ChannelSlice> {
    let side = |channel: &ChannelPlan| match layer {
        layer if *layer == channel.from => Some(Side::From),
        layer if *layer == channel.to => Some(Side::To),
        _ => None,
    };
    (0..)
        .zip(&plan.channels)
        .filter_map(|(number, channel)| {
            Some(ChannelSlice { number, plan: channel.clone(), side: side(channel)? })
        })
        .collect()
}

/// How a layer gets its files.
#[derive(Default)]
struct Files {
    grants: Vec<Grant>,
    directories: Vec<(Name, String)>,
    held: Vec<HeldFile>,
}

impl Files {
    /// Decides how the layer gets a file: a directory by path, a single file as a descriptor,
    /// except that another program can only open paths.
    fn grant(
        &mut self,
        layer: &LayerPlan,
        file: &FilePlan,
        rights: &[FileRight],
        no_links: bool,
    ) -> io::Result<()> {
        let (name, path) = (file.name.clone(), file.path.clone());
        let refuse = |what| Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        let by_path = matches!(layer.program, Program::Exec(_));
        let kind = match pin(&path) {
            Ok((_, stat)) => FileType::from_raw_mode(stat.st_mode),
            Err(error) if file.optional && error.kind() == io::ErrorKind::NotFound => {
                // A life that finds it is shown it; a helper looks for it whenever it is asked.
                if by_path || !file.is_brokered(&layer.name) {
                    self.show(file, rights, no_links);
                }
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        match kind {
            FileType::Directory if file.follow => {
                return refuse(
                    "`follow` is for a single file: a directory shows what is in it now",
                );
            }
            // The helper for files opens what lies beneath.
            FileType::Directory if file.is_brokered(&layer.name) => {}
            FileType::RegularFile if file.max_open.is_some() || !file.deny.is_empty() => {
                return refuse("`deny` and `max-open` are for directories, and this is a file");
            }
            FileType::Directory | FileType::RegularFile
                if by_path || kind == FileType::Directory =>
            {
                self.show(file, rights, no_links);
            }
            FileType::RegularFile => {
                let Some(access) = Access::of(rights) else {
                    return refuse(
                        "one descriptor can't both read and append alone: grant the directory \
                         that it lies in",
                    );
                };
                if file.is_opened_on_demand() {
                    return Ok(());
                }
                let truncates = rights.contains(&FileRight::Truncate);
                self.held.push(HeldFile { name, path, access, truncates });
            }
            _ => return refuse("it is neither a regular file nor a directory"),
        }
        Ok(())
    }

    /// Has the layer see it, where the policy says.
    fn show(&mut self, file: &FilePlan, rights: &[FileRight], no_links: bool) {
        let path = file.seen_at().to_owned();
        self.directories.push((file.name.clone(), path.clone()));
        let optional = file.optional;
        self.grants.push(Grant { path, no_links, optional, ..Grant::new(&file.path, rights) });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::confine::filter::Verdict;
    use crate::policy::{Inputs, check_with};

    /// How a layer gets the file of that name in `directory`.
    fn granted(directory: &std::path::Path, program: &str, name: &str, rights: &str) -> String {
        let path = directory.join(name);
        let text = format!(
            "cofferdam = 1\nname = \"x\"\n\
             [layer.a]\n{program}\nsyscalls = [\"@core\"]\n\
             [file.f]\npath = \"{}\"\ngrant = {{ a = [{rights}] }}\n",
            path.display()
        );
        let inputs = Inputs { load: None, vars: &[], ceiling: None };
        let checked = check_with("test.toml", text.as_bytes(), &inputs);
        let complaint = checked.render(false);
        let plan = checked.plan.unwrap_or_else(|| panic!("{complaint}"));
        let mut files = Files::default();
        let (file, rights) = plan.files_of(&plan.layers[0].name).next().unwrap();
        match files.grant(&plan.layers[0], file, rights, false) {
            Err(error) => error.to_string(),
            Ok(()) => match (&files.grants[..], &files.held[..]) {
                ([_], []) => "by path".to_owned(),
                ([], [held]) => format!("{:?} {}", held.access, held.truncates),
                ([], []) => "by the helper".to_owned(),
                other => panic!("{other:?}"),
            },
        }
    }

    /// What the init of a layer that accepts connections answers to calls of its own.
    fn answers(syscalls: &str) -> impl Fn(&str, [u64; 6]) -> Verdict {
        let text = format!(
            "cofferdam = 1\nname = \"x\"\n\
             [layer.a]\nexec = [\"/a\"]\nsyscalls = [{syscalls}]\nbecause = \"tests\"\n\
             listen = {{ door = {{ address = \"tcp:127.0.0.1:1\", pass = \"inetd\" }} }}\n"
        );
        let inputs = Inputs { load: None, vars: &[], ceiling: None };
        let checked = check_with("test.toml", text.as_bytes(), &inputs);
        let complaint = checked.render(false);
        let plan = checked.plan.unwrap_or_else(|| panic!("{complaint}"));
        let filter = init_filter(&plan.layers[0]).unwrap();
        move |call, arguments| {
            filter.evaluate(Arch::NATIVE.audit(), by_name(call).unwrap(), arguments)
        }
    }

    /// Who debugs a process passes over an answer that yields.
    #[test]
    fn an_init_yields_to_its_programs_filter_unless_they_may_debug() {
        let verdict = answers("\"@core\", \"socket(AF_UNIX, SOCK_STREAM)\"");
        let (unix, internet) = ([1, 1, 0, 0, 0, 0], [2, 1, 0, 0, 0, 0]);
        assert_eq!(verdict("socket", unix), Verdict::Allow);
        assert_eq!(verdict("socket", internet), Verdict::Trace);
        assert_eq!(verdict("bpf", [0; 6]), Verdict::Trace);
        let verdict = answers("\"@core\", \"ptrace\", \"socket(AF_UNIX, SOCK_STREAM)\"");
        assert_eq!(verdict("socket", unix), Verdict::Allow);
        assert_eq!(verdict("socket", internet), Verdict::Kill);
        assert_eq!(verdict("bpf", [0; 6]), Verdict::Kill);
    }

    #[test]
    fn what_a_path_names_decides_how_a_layer_gets_it() {
        let directory = tempfile::tempdir().unwrap();
        let dir = directory.path();
        std::fs::create_dir(dir.join("d")).unwrap();
        std::fs::write(dir.join("f"), "").unwrap();
        std::os::unix::fs::symlink("d", dir.join("link")).unwrap();
        std::os::unix::net::UnixListener::bind(dir.join("socket")).unwrap();
        let cases = BTreeMap::from([
            (("f", "\"read\""), "Read false"),
            (("f", "\"read\", \"write\""), "ReadWrite false"),
            (("f", "\"write\", \"truncate\""), "Write true"),
            (("f", "\"append\""), "Append false"),
            (("f", "\"read\", \"append\""), "one descriptor can't both read and append alone"),
            (("d", "\"read\", \"list\""), "by path"),
            (("d", "\"append\""), "by the helper"),
            (("link", "\"read\""), "a part of this path is a symbolic link"),
            (("link/x", "\"read\""), "a part of this path is a symbolic link"),
            (("socket", "\"read\""), "it is neither a regular file nor a directory"),
            (("none", "\"read\""), "No such file"),
        ]);
        for ((name, rights), how) in cases {
            let got = granted(dir, "run = \"a\"", name, rights);
            assert!(got.starts_with(how), "{name} {rights}: {got}");
        }
        assert_eq!(granted(dir, "exec = [\"/a\"]", "f", "\"read\""), "by path");
    }
}
