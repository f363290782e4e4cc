//! The attacks: one table, one file a section of threats.
//!
//! An attack is code that a layer runs once somebody else has taken it over. It uses the kernel's
//! own calls, without a library in between that might fall back to something tamer. Its row says
//! what stops it, twice: by the filter, and, in a layer that is granted every call, by all else.

mod calls;
mod descriptors;
mod files;
mod identity;
mod memory;
mod network;
mod processes;
mod resources;
mod start_state;

use std::collections::BTreeMap;
use std::sync::OnceLock;

use nix::errno::Errno;

/// What an attack comes to: what it achieved, or what the kernel said.
pub(crate) type Outcome = Result<String, Errno>;

/// The code of an attack.
pub(crate) type Run = fn(&Facts) -> Outcome;

/// What the driver of the test knows and an attacker might have learned: process numbers, paths,
/// ports.
pub(crate) type Facts = BTreeMap<String, String>;

/// One attack.
pub(crate) struct Attack {
    /// Its name on the command line.
    pub(crate) name: &'static str,
    /// Does it.
    pub(crate) run: Run,
    /// How to see that it works where nobody stops it.
    pub(crate) control: Control,
    /// The call that the filter stops, where the layer isn't granted it.
    pub(crate) filter: Filter,
    /// What stops it where every call is granted.
    pub(crate) bulkhead: Bulkhead,
}

/// In which surroundings an attack works.
pub(crate) enum Control {
    /// As any user.
    Anybody,
    /// As root in namespaces of its own.
    Ruler,
    /// As root of the host, since it changes nothing but its own process.
    Root,
    /// It can't be shown here, for this reason.
    Without(&'static str),
}

/// What the filter does.
pub(crate) enum Filter {
    /// Kills at this call.
    Kills(&'static str),
    /// Kills, whatever name the number has.
    KillsUnnamed,
    /// Answers with the errno that the bulkhead gives too.
    Answers,
    /// Lets it pass: the call is harmless or granted to every layer.
    Passes,
}

/// What stops an attack without the filter's help.
pub(crate) enum Bulkhead {
    /// One of these errnos.
    Says(&'static [Errno]),
    /// The filter even so: no policy can grant it.
    Filter,
    /// Nothing, for this reason: who grants the call grants this.
    None(&'static str),
}

/// A row: by default anybody can do it, and no policy can grant it.
const fn row(name: &'static str, run: Run) -> Attack {
    let (control, filter, bulkhead) = (Control::Anybody, Filter::Passes, Bulkhead::Filter);
    Attack { name, run, control, filter, bulkhead }
}

impl Attack {
    const fn ruler(self) -> Self {
        Self { control: Control::Ruler, ..self }
    }

    const fn root(self) -> Self {
        Self { control: Control::Root, ..self }
    }

    const fn without(self, why: &'static str) -> Self {
        Self { control: Control::Without(why), ..self }
    }

    const fn killed(self) -> Self {
        Self { filter: Filter::KillsUnnamed, ..self }
    }

    const fn killed_at(self, call: &'static str) -> Self {
        Self { filter: Filter::Kills(call), ..self }
    }

    const fn answered(self) -> Self {
        Self { filter: Filter::Answers, ..self }
    }

    const fn says(self, errnos: &'static [Errno]) -> Self {
        Self { bulkhead: Bulkhead::Says(errnos), ..self }
    }

    const fn harmless(self, why: &'static str) -> Self {
        Self { bulkhead: Bulkhead::None(why), ..self }
    }
}

/// Every attack whose row says all; others have a test of their own.
fn rows() -> impl Iterator<Item = &'static Attack> {
    [
        calls::ROWS,
        processes::ROWS,
        descriptors::ROWS,
        files::ROWS,
        network::ROWS,
        identity::ROWS,
        memory::ROWS,
        resources::ROWS,
    ]
    .into_iter()
    .flatten()
}

/// Attacks that succeed, or report something, and are judged by a test of their own.
pub(crate) const OTHERS: &[(&str, Run)] = &[
    ("nothing", |_| Ok("done".to_owned())),
    ("read-clock", calls::read_clock),
    ("fork-bomb", resources::fork_bomb),
    ("memory-hog", resources::memory_hog),
    ("spin", resources::spin),
    ("grandchild", processes::grandchild),
    ("immortal", processes::immortal),
    ("init-ptrace", processes::init_ptrace),
    ("init-memory", processes::init_memory),
    ("init-descriptor", processes::init_descriptor),
    ("init-kill", processes::init_kill),
    ("stop-itself", processes::stop_itself),
    ("exit", processes::exit),
    ("flood", resources::flood),
    ("forge-log", resources::forge_log),
    ("control-garbage", descriptors::control_garbage),
    ("control-oversize", descriptors::control_oversize),
    ("control-flood", descriptors::control_flood),
    ("control-descriptors", descriptors::control_descriptors),
    ("control-close", descriptors::control_close),
    ("control-shutdown", descriptors::control_shutdown),
    ("control-empty", descriptors::control_empty),
    ("control-ready-again", descriptors::control_ready_again),
    ("control-deaf", descriptors::control_deaf),
    ("list-descriptors", descriptors::list),
    ("start-state", start_state::start_state),
    ("small-state", start_state::small_state),
    ("thread-call", calls::thread_call),
    ("abort", memory::abort),
];

/// Finds an attack by its name.
pub(crate) fn find(name: &str) -> Option<Run> {
    let row = rows().find(|attack| attack.name == name).map(|attack| attack.run);
    row.or_else(|| OTHERS.iter().find(|(other, _)| *other == name).map(|(_, run)| *run))
}

/// The control of an attack in the table.
pub(crate) fn control(name: &str) -> Option<&'static Control> {
    rows().find(|attack| attack.name == name).map(|attack| &attack.control)
}

/// One line an attack, for the driver: name, control, filter, bulkhead, parted by tabs.
pub(crate) fn list() -> String {
    let line = |attack: &Attack| {
        let control = match &attack.control {
            Control::Anybody => "anybody".to_owned(),
            Control::Ruler => "ruler".to_owned(),
            Control::Root => "root".to_owned(),
            Control::Without(why) => format!("without {why}"),
        };
        let filter = match attack.filter {
            Filter::Kills(call) => format!("kills {call}"),
            Filter::KillsUnnamed => "kills".to_owned(),
            Filter::Answers => "answers".to_owned(),
            Filter::Passes => "passes".to_owned(),
        };
        let bulkhead = match attack.bulkhead {
            Bulkhead::Says(errnos) => {
                let names: Vec<_> = errnos.iter().map(|errno| format!("{errno:?}")).collect();
                format!("says {}", names.join(","))
            }
            Bulkhead::Filter => "filter".to_owned(),
            Bulkhead::None(why) => format!("none {why}"),
        };
        format!("{}\t{control}\t{filter}\t{bulkhead}\n", attack.name)
    };
    rows().map(line).collect()
}

/// What `--victim` and the supervisor's number are for: the processes to attack.
///
/// In a layer these are all numbers that there can be, but its own and that of the init of its
/// pid namespace: whoever is found is somebody else's.
pub(crate) fn targets(facts: &Facts) -> Vec<i32> {
    let number = |name: &str| facts.get(name).and_then(|text| text.parse::<i32>().ok());
    if let Some(victim) = number("victim") {
        return vec![victim];
    }
    let own = raw(libc::SYS_getpid, [0; 6]).ok().and_then(|pid| i32::try_from(pid).ok());
    let highest = number("pid-max").unwrap_or(32768).min(1 << 16);
    let last = number("supervisor");
    (2..=highest).filter(|pid| Some(*pid) != own).chain(last).collect()
}

/// Tries `act` on every target: the first that is reached ends it, else the last errno.
pub(crate) fn on_any(facts: &Facts, act: impl Fn(i32) -> Result<i64, Errno>) -> Outcome {
    let mut last = Errno::ESRCH;
    for pid in targets(facts) {
        match act(pid) {
            Ok(_) => return Ok(format!("reached process {pid}")),
            Err(errno) => last = errno,
        }
    }
    Err(last)
}

/// A fact, or `EINVAL` if the driver forgot it.
pub(crate) fn fact<'a>(facts: &'a Facts, name: &str) -> Result<&'a str, Errno> {
    facts.get(name).map(String::as_str).ok_or(Errno::EINVAL)
}

/// The fact as text with a zero at its end, kept for ever.
pub(crate) fn path(facts: &Facts, name: &str) -> Result<*const libc::c_char, Errno> {
    static KEPT: OnceLock<std::ffi::CString> = OnceLock::new();
    let text = fact(facts, name)?;
    let kept = KEPT.get_or_init(|| std::ffi::CString::new(text).unwrap_or_default());
    if kept.as_bytes() == text.as_bytes() { Ok(kept.as_ptr()) } else { Err(Errno::EINVAL) }
}

/// A system call as the kernel has it.
pub(crate) fn raw(number: i64, arguments: [i64; 6]) -> Result<i64, Errno> {
    // SAFETY: an attacker's call may do anything to this process, that is what it is for. The
    // callers pass pointers to memory that lives during the call, and none asks the kernel to
    // unmap or overwrite memory of this program.
    let answer = unsafe {
        libc::syscall(
            number,
            arguments[0],
            arguments[1],
            arguments[2],
            arguments[3],
            arguments[4],
            arguments[5],
        )
    };
    if answer == -1 { Err(Errno::last()) } else { Ok(answer) }
}

/// The address of something, as an argument of a call.
pub(crate) fn at<T: ?Sized>(thing: &T) -> i64 {
    std::ptr::from_ref(thing).cast::<u8>() as i64
}

/// The same of something that the kernel writes to.
pub(crate) fn into<T: ?Sized>(thing: &mut T) -> i64 {
    std::ptr::from_mut(thing).cast::<u8>() as i64
}
