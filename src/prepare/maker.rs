//! The child that makes what layers hold from their start: users, listening sockets, objects.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use caps::Capability;
use serde::{Deserialize, Serialize};

use super::child::{self, Kind, PrepareError};
use super::inherited::Passed;
use super::objects::{self, Use};
use super::{FifoAtPath, LogDirectory, directory, listener};
use crate::ident::Name;
use crate::policy::plan::Plan;
use crate::registry::{Entered, Registry};
use crate::report::AUDITOR;
use crate::sys::pin::pin;
use crate::users::access::{Who, is_by_path, lacking};
use crate::users::{Claim, Key, Users, UsersError, is_layers};

/// It makes everything that a plan names by a path, an address or a number.
pub(super) const KIND: Kind = Kind {
    does: "makes the daemon's objects",
    without: "objects can't be made",
    capabilities: &[
        // The way to a path, and files and directories of other users there.
        Capability::CAP_DAC_OVERRIDE,
        Capability::CAP_DAC_READ_SEARCH,
        // Owner and mode of a FIFO, and of the audit log.
        Capability::CAP_CHOWN,
        Capability::CAP_FOWNER,
        // Ports below 1024.
        Capability::CAP_NET_BIND_SERVICE,
        // A namespace for message queues, and more bytes in them than an ordinary user has.
        Capability::CAP_SYS_ADMIN,
        Capability::CAP_SYS_RESOURCE,
    ],
    calls: &[
        "@core",
        // Files at the plan's paths, the record of users and who uses them, the registry.
        "@file-read",
        "@file-write",
        "fcntl(_, F_OFD_SETLK)",
        "mknod",
        "mknodat",
        "fchmod",
        "fchown",
        "fchownat",
        // Memory files and queues.
        "@shared-memory",
        "mq_open",
        "mq_unlink",
        "mq_getsetattr",
        "unshare(CLONE_NEWIPC)",
        "prlimit64(0)",
        "getrlimit",
        "setrlimit",
        // Listening sockets, also at which the daemon is asked; and whether somebody listens at a
        // path.
        "socket(in {AF_UNIX, AF_INET, AF_INET6})",
        "bind",
        "listen",
        "connect",
        "getsockname",
        "getsockopt",
        "setsockopt",
        "umask",
        // The thread in whose domain a file is opened that can't be truncated.
        "@thread",
        "landlock_create_ruleset",
        "landlock_restrict_self",
        "prctl(PR_SET_NO_NEW_PRIVS)",
    ],
};

/// What is to be made.
#[derive(Debug)]
pub(crate) struct Wanted<'a> {
    /// The plan, with the framework's own layers.
    pub plan: &'a Plan,
    /// What the policy is called: its file's path, if it has one.
    pub policy: &'a str,
    /// Whose users the layers shall be, if the operator says so.
    pub users: Option<&'a Key>,
    /// Whether the daemon runs, and has been found and holds its users' lock already: only what is
    /// new is made.
    pub runs: bool,
    /// Where the audit log is, if the daemon keeps one.
    pub log: Option<&'a LogDirectory>,
    /// Sockets that were passed to this process.
    pub passed: Vec<Passed>,
}

/// What was made.
pub(crate) struct Made {
    /// The user of each copy of each layer whose policy names none, as root.
    pub users: BTreeMap<(Name, u16), u32>,
    /// Whose users they are.
    pub key: Option<String>,
    /// What the operator should know.
    pub notes: Vec<String>,
    /// By what the daemon is found, if it can be.
    pub entered: Option<Entry>,
    /// The listening sockets of all layers, in the plan's order.
    pub listeners: std::vec::IntoIter<OwnedFd>,
    /// What layers get, and what is held as long as the daemon runs.
    pub objects: Vec<(Use, OwnedFd)>,
    /// The plan's FIFOs, in its order.
    pub fifos: Vec<FifoAtPath>,
}

/// By what the daemon is found as long as it runs; see [`Registry`].
pub(crate) struct Entry {
    /// The file, for its end.
    pub path: PathBuf,
    /// Locks it.
    pub lock: OwnedFd,
    /// The socket at which the daemon is asked.
    pub door: OwnedFd,
}

/// What the child says of the descriptors that it hands over, in their order.
#[derive(Serialize, Deserialize)]
pub(crate) struct Answer {
    users: BTreeMap<(Name, u16), u32>,
    key: Option<String>,
    notes: Vec<String>,
    listeners: usize,
    entered: Option<OsString>,
    objects: Vec<Use>,
}

impl Answer {
    /// Whether it is one of that plan: a socket for each `listen` and, as root, for each copy whose
    /// policy names no user a number that no other user of the machine has.
    fn is_of(&self, plan: &Plan, is_root: bool) -> bool {
        let open = plan.layers.iter().filter(|layer| is_root && layer.uid.is_none());
        let mut copies = open.flat_map(|it| (0..it.instances).map(|copy| (it.name.clone(), copy)));
        self.listeners == listening(plan)
            && copies.all(|copy| self.users.get(&copy).is_some_and(|uid| is_layers(*uid)))
    }
}

/// How many sockets listen.
fn listening(plan: &Plan) -> usize {
    plan.layers.iter().map(|layer| layer.listen.len()).sum()
}

/// Makes everything.
///
/// # Errors
/// [`PrepareError::Garbled`] for an answer that isn't of this plan.
///
/// Nothing is left behind at the plan's paths but sockets, files and the audit log's directory,
/// except where the child was killed: what it leaves then is cleared away by the daemon's next
/// start.
pub(crate) fn make(wanted: Wanted<'_>) -> Result<Made, PrepareError> {
    let plan = wanted.plan;
    let (answer, fds) = have_made(wanted)?;
    sort(plan, answer, fds).map_err(|error| PrepareError::Garbled(KIND.does, error))
}

/// Makes everything, and leaves it to somebody else to [`sort`] it.
pub(super) fn have_made(wanted: Wanted<'_>) -> Result<(Answer, Vec<OwnedFd>), PrepareError> {
    let plan = wanted.plan;
    let supervisor = std::process::id();
    // Beside objects, the locks of directories and of the users, and what the registry gives.
    let most = listening(plan) + objects::most(plan) + directory::most(plan) + 3;
    child::run(&KIND, most, |handover| {
        let (answer, fds, mut fifos) = work(wanted, supervisor)?;
        let fifos = fifos.iter_mut().flat_map(FifoAtPath::give_away);
        let mut fds = fds.iter().map(AsFd::as_fd).chain(fifos);
        fds.try_for_each(|fd| handover.give(fd)).map_err(|error| error.to_string())?;
        Ok(answer)
    })
}

/// The child's work. FIFOs come apart, for somebody else sees them: dropped, they are removed
/// again.
fn work(
    wanted: Wanted<'_>,
    supervisor: u32,
) -> Result<(Answer, Vec<OwnedFd>, Vec<FifoAtPath>), String> {
    let Wanted { plan, policy, users, runs, log, passed } = wanted;
    let users = claim(plan, policy, users, runs).map_err(|error| error.to_string())?;
    let key = users.as_ref().map(|users| users.key.to_string());
    let (users, mut notes, lock) = match users {
        Some(users) => {
            let (numbers, note, lock) = users.into_parts();
            (numbers, Vec::from_iter(note.filter(|_| !runs)), Some(lock))
        }
        None => (BTreeMap::new(), Vec::new(), None),
    };
    let lock = lock.filter(|_| !runs);
    if let Some(log) = log {
        let auditor = users.iter().find(|((layer, _), _)| *layer == AUDITOR);
        log.give_to(auditor.map(|(_, uid)| *uid)).map_err(|error| error.to_string())?;
    }
    let directories = directory::all(plan, &users)?;
    notes.extend(out_of_reach(plan, &users));
    let mut fds = listener::all(plan, passed)?;
    let listeners = fds.len();
    let (made, fifos) = objects::make(plan)?;
    let entered = (!runs).then(|| enter(plan, policy, supervisor, log, &mut notes)).flatten();
    let entered = entered.map(|entered| {
        fds.extend([entered.lock, entered.door]);
        entered.path.into_os_string()
    });
    let kept = lock.into_iter().chain(directories).map(|lock| (Use::Kept, lock));
    let made = kept.chain(made);
    let (objects, made): (Vec<_>, Vec<_>) = made.unzip();
    fds.extend(made);
    Ok((Answer { users, key, notes, listeners, entered, objects }, fds, fifos))
}

/// Says of each descriptor what it is.
pub(crate) fn sort(plan: &Plan, answer: Answer, fds: Vec<OwnedFd>) -> io::Result<Made> {
    if !answer.is_of(plan, rustix::process::geteuid().is_root()) {
        return Err(io::Error::other("it speaks of another plan"));
    }
    let Answer { users, key, notes, listeners, entered, objects } = answer;
    let fifos: Vec<_> = objects::made_fifos(&plan.facilities).collect();
    let told = [listeners, 2 * entered.iter().len(), objects.len(), 2 * fifos.len()];
    if told.into_iter().try_fold(0, usize::checked_add) != Some(fds.len()) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut fds = fds.into_iter();
    let listeners: Vec<OwnedFd> = fds.by_ref().take(listeners).collect();
    let entered = entered
        .and_then(|path| Some(Entry { path: path.into(), lock: fds.next()?, door: fds.next()? }));
    let objects = objects.into_iter().map_while(|it| Some((it, fds.next()?))).collect();
    let fifos = fifos.into_iter().map_while(|plan| Some((plan, fds.next()?, fds.next()?)));
    let fifos =
        fifos.map(|(plan, held, directory)| FifoAtPath::of_descriptors(plan, held, directory));
    let fifos = fifos.collect::<Result<_, _>>()?;
    Ok(Made { users, key, notes, entered, listeners: listeners.into_iter(), objects, fifos })
}

/// Claims a user for every copy of every layer that the policy names none for. An ordinary user's
/// layers are itself.
fn claim(
    plan: &Plan,
    policy: &str,
    told: Option<&Key>,
    is_held: bool,
) -> Result<Option<Users>, UsersError> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    if let Some((layer, group)) = groups_of_layers(plan).next() {
        return Err(UsersError::Group { layer: layer.clone(), group });
    }
    let open = plan.layers.iter().filter(|layer| layer.uid.is_none());
    let layers: Vec<_> = open.map(|layer| (&layer.name, layer.instances)).collect();
    let fixed = plan.layers.iter().filter_map(|layer| Some((&layer.name, layer.uid?)));
    let fixed: Vec<_> = fixed.collect();
    let home = &home_of(policy);
    let claim = Claim { daemon: &plan.name, home, told, is_held, layers: &layers, fixed: &fixed };
    Users::claim(&claim).map(Some)
}

/// What the policy grants to a layer and owner and mode keep its user from: the program would find
/// it out by itself, and say less.
fn out_of_reach(plan: &Plan, users: &BTreeMap<(Name, u16), u32>) -> Vec<String> {
    const DAC_OVERRIDE: u8 = 1;
    let mut notes = Vec::new();
    for file in &plan.files {
        let Ok((_, stat)) = pin(&file.path) else { continue };
        for layer in plan.layers.iter().filter(|layer| is_by_path(file, layer, &stat)) {
            let Some(rights) = file.grant.get(&layer.name) else { continue };
            let uid = layer.uid.or_else(|| users.get(&(layer.name.clone(), 0)).copied());
            let who = match uid.filter(|_| rustix::process::geteuid().is_root()) {
                Some(uid) => Who::User { uid, gid: layer.group.unwrap_or(uid) },
                None => Who::Me,
            };
            let verbs = lacking(rights, &file.path, &stat, who);
            if verbs.is_empty() || layer.capabilities.contains(&DAC_OVERRIDE) {
                continue;
            }
            let (owner, mode) = (stat.st_uid, stat.st_mode & 0o7777);
            let remedy = match who {
                Who::User { uid, .. } => format!("`chown {uid}` it, or change its mode"),
                _ => "change its mode".to_owned(),
            };
            notes.push(format!(
                "[file.{}] layer {} can't {} {} (owner {owner}, mode {mode:04o}), whatever its \
                 policy says: {remedy}",
                file.name,
                layer.name,
                verbs.join(" and "),
                file.path
            ));
        }
    }
    notes
}

/// Groups by number that are those of layers.
fn groups_of_layers(plan: &Plan) -> impl Iterator<Item = (&Name, u32)> {
    let groups = plan.layers.iter().filter_map(|layer| Some((&layer.name, layer.group?)));
    groups.filter(|(_, group)| is_layers(*group))
}

/// Where a policy lies: in its file, or in this program.
fn home_of(policy: &str) -> String {
    let file = std::fs::canonicalize(policy).ok().filter(|path| path.is_file());
    let home = file.or_else(|| std::env::current_exe().ok()).unwrap_or_default();
    home.display().to_string()
}

/// Has the daemon be found. One that can't be runs all the same.
fn enter(
    plan: &Plan,
    policy: &str,
    supervisor: u32,
    log: Option<&LogDirectory>,
    notes: &mut Vec<String>,
) -> Option<Entered> {
    let log = log.map(LogDirectory::path);
    match Registry::of_user()?.enter(&plan.name, supervisor, Path::new(policy), log) {
        Ok(entered) => Some(entered),
        Err(error) => {
            notes.push(format!(
                "`cofferdam status` and `top` won't find this daemon by its name: {error}"
            ));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Inputs, check_with};
    use crate::users::FIRST;

    #[test]
    fn an_answer_for_another_plan_is_refused() {
        let text = "cofferdam = 1\nname = \"x\"\n\
                    [layer.a]\nrun = \"a\"\nsyscalls = [\"@core\"]\ninstances = 2\n\
                    listen = { door = \"tcp:127.0.0.1:0\" }\n\
                    [layer.b]\nrun = \"b\"\nsyscalls = [\"@core\"]\nuid = 7\n";
        let inputs = Inputs { load: None, vars: &[], ceiling: None };
        let checked = check_with("test.toml", text.as_bytes(), &inputs);
        let complaint = checked.render(false);
        let plan = checked.plan.unwrap_or_else(|| panic!("{complaint}"));
        let a = |copy| (Name::new("a").unwrap(), copy);
        let answer = |listeners, numbers: &[(u16, u32)]| Answer {
            users: numbers.iter().map(|&(copy, uid)| (a(copy), uid)).collect(),
            key: None,
            notes: Vec::new(),
            listeners,
            entered: None,
            objects: Vec::new(),
        };
        let both = [(0, FIRST), (1, FIRST + 1)];
        assert!(answer(1, &both).is_of(&plan, true));
        assert!(answer(1, &[]).is_of(&plan, false));
        for (listeners, numbers) in
            [(0, &both[..]), (2, &both), (1, &both[..1]), (1, &[(0, FIRST), (1, 0)])]
        {
            assert!(!answer(listeners, numbers).is_of(&plan, true), "{listeners} {numbers:?}");
        }
    }
}
