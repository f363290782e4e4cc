//! The child that works out how every layer is started.
//!
//! Which of the framework's own layers a plan needs, what their policies grant them, and for every
//! layer its filter, its part of the plan and the way to each of its files: all of it follows from
//! the plan, and is the same in every life. It is compiled here, by a process that looks at the
//! plan's paths and opens nothing.

use std::os::fd::OwnedFd;
use std::path::Path;

use caps::Capability;

use super::assembly::{Assembly, Lasting};
use super::change;
use super::child::{self, Kind, PrepareError};
use super::image::Derivation;
use super::own::Own;
use super::relations::Relations;
use crate::confine::filter::supervisor_filter;
use crate::ident::{Name, PolicyId};
use crate::layer::auditor::orders::Orders;
use crate::layer::logger::orders::Marks;
use crate::layer::slice::ReportsSlice;
use crate::policy::plan::{Audit, LayerPlan, Plan, Workers};
use crate::seal::{Chance, OsChance};

/// It has handles on files, at most with root's eyes. None of them reads or writes.
pub(super) const KIND: Kind = Kind {
    does: "assembles the layers",
    without: "the layers can't be assembled",
    capabilities: &[Capability::CAP_DAC_READ_SEARCH],
    calls: &[
        // Handles on what the plan names. None of them reads or writes.
        "openat(_, _, & O_PATH == O_PATH)",
        "fstat",
        "lstat",
        "newfstatat",
        "readlink",
        "close",
        "fcntl(_, F_GETFD)",
        // The answer.
        "memfd_create(_, subset of MFD_CLOEXEC|MFD_ALLOW_SEALING|MFD_NOEXEC_SEAL)",
        "write",
        "fcntl(_, F_ADD_SEALS)",
        "sendmsg",
        "ftruncate",
        // Whatever a process does.
        "getrandom",
        "geteuid",
        "mmap(_, _, & PROT_EXEC == 0)",
        "mprotect(_, _, & PROT_EXEC == 0)",
        "munmap",
        "mremap",
        "brk",
        "madvise(_, _, in {MADV_DONTNEED, MADV_FREE})",
        "futex",
        "clock_gettime",
        "rt_sigaction",
        "rt_sigprocmask",
        "rt_sigreturn",
        "sigaltstack",
        "getpid",
        "gettid",
        "tgkill(_, _, SIGABRT)",
        "restart_syscall",
        "exit",
        "exit_group",
    ],
};

/// Descriptors of the supervisor itself: policy, log, rings, listeners, objects, and what was printed
/// and isn't written yet.
const OWN_DESCRIPTORS: u64 = 768;

/// Descriptors that the supervisor holds for each running instance: its process, its sockets and
/// pipes, its groups, its ring.
const EACH: u64 = 16;

/// The least bytes of a ring that payloads go through: a record of the largest size, sealed, and
/// what is said of it.
const LEAST_FOR_PAYLOADS: u32 = 256 << 10;

/// What layers are made from.
pub(crate) struct Request<'a> {
    /// The plan as the policy states it.
    pub plan: &'a Plan,
    /// The plan's digest.
    pub policy: PolicyId,
    /// The audit log's directory, if there is one: its path without symbolic links, its device and
    /// inode.
    pub log: Option<(&'a Path, (u64, u64))>,
    /// How many descriptors may wait with what an instance has still to be told.
    pub waiting: u64,
    /// Whether paths that aren't granted are told of.
    pub tells_paths: bool,
    /// What the daemon's program wants every layer to know.
    pub settings: &'a [u8],
    /// What it takes the place of while the daemon runs.
    pub before: Option<&'a Assembly>,
    /// Whether the program is another, so that no life of before stays.
    pub program: bool,
}

/// Assembles all layers of a plan in a child. The answer comes in the sealed memory too in which it
/// was given.
///
/// # Errors
/// [`PrepareError::Garbled`] for an answer that is none, or isn't of this plan.
pub(crate) fn assemble(request: &Request<'_>) -> Result<(Assembly, OwnedFd), PrepareError> {
    let (assembly, memory, _) = child::run_and_keep(&KIND, 0, |_| work(request))?;
    let assembly: Assembly = assembly;
    if !assembly.is_of(&assembly.plan, request.log.is_some()) || assembly.stated != *request.plan {
        let error = std::io::Error::other("it speaks of another plan");
        return Err(PrepareError::Garbled(KIND.does, error));
    }
    Ok((assembly, memory))
}

/// The child's work. An error is for a person.
fn work(request: &Request<'_>) -> Result<Assembly, String> {
    let &Request { plan: stated, policy, log, waiting, tells_paths, settings, before, .. } =
        request;
    let arranged = match before {
        Some(before) => change::arranged(before, stated)?,
        None => stated.clone(),
    };
    let mut plan = arranged.clone();
    Own::add(&mut plan, log.map(|(path, _)| path)).map_err(|error| error.to_string())?;
    let lasting = match before {
        Some(before) => change::within(&plan, &before.lasting)?.clone(),
        None => lasting(&plan, log, waiting)?,
    };
    let auditor = log.map(|log| Orders {
        directory: log.0.display().to_string(),
        identity: log.1,
        run: lasting.run,
        policy,
        plan: arranged.clone(),
        text: crate::policy::print(stated),
        layers: plan.layers.iter().map(|layer| layer.name.clone()).collect(),
    });
    let (auditor, marks) = (auditor.as_ref(), &lasting.marks);
    let derivation =
        Derivation { stated: &arranged, plan: &plan, policy, auditor, marks, tells_paths };
    let image = |(number, layer): (usize, &LayerPlan)| match before {
        // Nobody is started from it any more, but somebody may still be there.
        Some(before) if layer.instances == 0 => Ok(before.images[number].vacant(layer)),
        _ => derivation.image(layer),
    };
    let images = plan.layers.iter().enumerate().map(image).collect::<Result<Vec<_>, _>>()?;
    let filter = supervisor_filter(&change::calls(&plan))
        .map_err(|error| format!("the supervisor can't confine itself: {error}"))?;
    let relations = Relations::of(&plan, &images);
    let mut assembly = Assembly {
        stated: stated.clone(),
        plan: arranged,
        policy,
        images,
        relations,
        settings: settings.to_vec(),
        reports: log.map(|_| reports(&plan)),
        filter,
        descriptors: descriptors(&plan, EACH + waiting),
        change: None,
        lasting,
    };
    if change::overlaps(&assembly) {
        assembly.descriptors = descriptors(&plan, 2 * (EACH + waiting));
    }
    assembly.change = before.map(|before| change::between(before, &assembly, request.program));
    Ok(assembly)
}

fn lasting(plan: &Plan, log: Option<(&Path, (u64, u64))>, waiting: u64) -> Result<Lasting, String> {
    let mut run = [0; 8];
    OsChance.fill(&mut run).map_err(|error| error.to_string())?;
    Ok(Lasting {
        run: u64::from_le_bytes(run),
        marks: Marks::new(&mut OsChance).map_err(|error| error.to_string())?,
        log: log.map(|(path, identity)| (path.to_owned(), identity)),
        waiting,
        calls: change::calls(plan),
        capabilities: change::capabilities(plan),
    })
}

/// How layers report: the log's numbers are those of the whole plan.
fn reports(plan: &Plan) -> ReportsSlice {
    let captures = plan.channels.iter().any(|it| it.audit == Audit::Payload);
    let least = if captures { LEAST_FOR_PAYLOADS } else { 0 };
    ReportsSlice {
        bytes: plan.audit.ring_bytes.max(least),
        on_full: plan.audit.on_full,
        layers: plan.layers.iter().map(|layer| layer.name.clone()).collect(),
        payload_key: plan.audit.payload_key,
    }
}

/// How many descriptors the supervisor may need at a time, with so many for `each` instance. It is
/// also the limit of what a user may have in flight in sockets (unix(7)), where no layer should come
/// first: so it is above theirs.
fn descriptors(plan: &Plan, each: u64) -> u64 {
    let copies = |name: &Name| {
        let found = plan.layers.iter().find(|layer| layer.name == *name);
        found.map_or(0, |layer| u64::from(layer.instances))
    };
    let instances: u64 = plan.layers.iter().map(|layer| u64::from(layer.instances)).sum();
    let links = plan.channels.iter().map(|it| copies(&it.from) * copies(&it.to)).sum::<u64>();
    let largest = plan.layers.iter().map(|layer| layer.limits.files).max().unwrap_or(0);
    // A message carries 253 descriptors (SCM_MAX_FD), and what is one of them too many is counted
    // only once it is in flight.
    let directories = plan.layers.iter().map(|layer| layer.directories.len() as u64).sum::<u64>();
    let waits = |layer: &&LayerPlan| layer.workers.as_ref().is_some_and(|it| it.wait.is_some());
    let held = plan.layers.iter().filter(waits).count() as u64 * Workers::MOST_HELD as u64;
    OWN_DESCRIPTORS + held + instances * each + 2 * links + directories + largest + 253
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::process::Command;

    use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
    use rustix::net::{AddressFamily, SocketType};

    use super::*;
    use crate::confine::filter::{Arch, Verdict};
    use crate::policy::syscall::by_name;
    use crate::policy::{Inputs, check_with};
    use crate::prepare::image::LayerImage;
    use crate::sys::pin::pin;

    fn plan() -> Plan {
        let text = "cofferdam = 1\nname = \"x\"\n\
                    [layer.a]\nrun = \"a\"\nsyscalls = [\"@core\"]\n\
                    [layer.b]\nexec = [\"/b\"]\nsyscalls = [\"@core\", \"ptrace\"]\n\
                    because = \"tests\"\ninstances = 3\n\
                    [channel.c]\nfrom = \"a\"\nto = \"a2\"\n\
                    [layer.a2]\nrun = \"a\"\nsyscalls = [\"@core\"]\n";
        let inputs = Inputs { load: None, vars: &[], ceiling: None };
        let checked = check_with("test.toml", text.as_bytes(), &inputs);
        let complaint = checked.render(false);
        checked.plan.unwrap_or_else(|| panic!("{complaint}"))
    }

    fn assembled(plan: &Plan, is_logged: bool) -> Assembly {
        let log = is_logged.then_some((Path::new("/var/log"), (1, 2)));
        let policy = plan.id().unwrap();
        let more = (10, false, &[][..]);
        let (waiting, tells_paths, settings) = more;
        let (before, program) = (None, false);
        work(&Request { plan, policy, log, waiting, tells_paths, settings, before, program })
            .unwrap()
    }

    #[test]
    fn an_answer_for_another_plan_is_refused() {
        let plan = plan();
        assert!(assembled(&plan, true).is_of(&plan, true));
        assert!(assembled(&plan, false).is_of(&plan, false));
        assert!(!assembled(&plan, false).is_of(&plan, true));
        let garbled: [fn(&mut Vec<LayerImage>); 7] = [
            |images| images.truncate(2),
            |images| images.clear(),
            |images| images.swap(0, 1),
            |images| images[0].plan.instances = 9,
            |images| images[0].own = images[3].own.take(),
            |images| images[3].own = None,
            |images| images[3].plan.name = Name::new("b").unwrap(),
        ];
        for (number, garble) in garbled.into_iter().enumerate() {
            let mut assembly = assembled(&plan, true);
            garble(&mut assembly.images);
            assert!(!assembly.is_of(&plan, true), "{number}");
        }
    }

    #[test]
    fn what_a_layer_is_started_from_follows_from_the_plan() {
        let plan = plan();
        let assembly = assembled(&plan, true);
        let [a, _, b, auditor, writer, _] = &assembly.images[..] else { panic!("{assembly:?}") };
        assert!(a.reports && !b.reports && !auditor.reports && writer.reports);
        // Its init is a task too.
        assert_eq!(b.plan.limits.tasks, plan.layers[2].limits.tasks + 1);
        assert_eq!(a.plan.limits, plan.layers[0].limits);
        let own = auditor.own.as_ref().unwrap();
        assert!(own.lingers && own.last > 1 && !own.settings.is_empty());
        let names: Vec<_> = assembly.reports.iter().flat_map(|it| &it.layers).collect();
        assert_eq!(names, assembly.images.iter().map(|it| &it.plan.name).collect::<Vec<_>>());
        // What any layer is granted, the supervisor's filter lets through.
        let verdict =
            |call| assembly.filter.evaluate(Arch::NATIVE.audit(), by_name(call).unwrap(), [0; 6]);
        assert_eq!(verdict("ptrace"), Verdict::Allow);
        assert_eq!(verdict("bpf"), Verdict::Trace);
        // Of each of the seven instances, those of our own among them.
        let policy = plan.id().unwrap();
        let more = work(&Request {
            plan: &plan,
            policy,
            log: None,
            waiting: 11,
            tells_paths: false,
            settings: &[],
            before: None,
            program: false,
        })
        .unwrap();
        assert_eq!(more.descriptors, assembled(&plan, false).descriptors + 7);
    }

    /// Where the process that attacks finds a directory of its own.
    const ATTACKER: &str = "COFFERDAM_TEST_ASSEMBLER";

    type Attack = (&'static str, fn(&Path) -> io::Result<()>);

    /// What the child doesn't need. Each succeeds for a process that isn't confined.
    const ATTACKS: [Attack; 13] = [
        ("write", |dir| open(dir, OFlags::WRONLY)),
        ("read", |dir| open(dir, OFlags::RDONLY)),
        ("append", |dir| open(dir, OFlags::WRONLY | OFlags::APPEND)),
        ("openat2", |dir| {
            let resolve = ResolveFlags::NO_SYMLINKS;
            let opened = rustix::fs::openat2(CWD, dir, OFlags::RDONLY, Mode::empty(), resolve);
            Ok(opened.map(drop)?)
        }),
        ("create", |dir| std::fs::write(dir.join("new"), "")),
        ("remove", |dir| std::fs::remove_file(dir.join("old"))),
        ("rename", |dir| std::fs::rename(dir.join("file"), dir.join("old"))),
        ("mkdir", |dir| std::fs::create_dir(dir.join("deep"))),
        ("chmod", |dir| Ok(rustix::fs::chmod(dir, Mode::RWXU)?)),
        ("socket", |_| {
            Ok(rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None).map(drop)?)
        }),
        ("pipe", |_| Ok(rustix::pipe::pipe().map(drop)?)),
        ("fork", |_| Command::new("/bin/true").status().map(drop)),
        ("kill", |_| Ok(rustix::process::test_kill_process(rustix::process::getpid())?)),
    ];

    fn open(dir: &Path, flags: OFlags) -> io::Result<()> {
        Ok(rustix::fs::open(dir.join("file"), flags, Mode::empty()).map(drop)?)
    }

    /// The directory as every attack finds it.
    fn furnish(dir: &Path) {
        let _ = std::fs::remove_dir(dir.join("deep"));
        std::fs::write(dir.join("file"), "").unwrap();
        std::fs::write(dir.join("old"), "").unwrap();
    }

    /// It confines itself for good, so it does that in a process of its own.
    /// With this code ends the attacker that came to nothing.
    const ALL_REFUSED: i32 = 42;

    #[test]
    fn the_child_can_do_nothing_but_look_and_answer() {
        let Some(dir) = std::env::var_os(ATTACKER) else {
            let dir = tempfile::tempdir().unwrap();
            let name = "the_child_can_do_nothing_but_look_and_answer";
            let attacker = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", &format!("prepare::assembler::tests::{name}"), "--nocapture"])
                .env(ATTACKER, dir.path())
                .output();
            let output = attacker.unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(ALL_REFUSED), "{said}");
            return;
        };
        let dir = Path::new(&dir);
        for (name, attack) in ATTACKS {
            furnish(dir);
            attack(dir).unwrap_or_else(|error| panic!("{name} works for nobody: {error}"));
        }
        furnish(dir);
        KIND.confine().unwrap();
        for (name, attack) in ATTACKS {
            let got = attack(dir).map_err(|error| error.raw_os_error());
            assert_eq!(got, Err(Some(libc::EPERM)), "{name}");
        }
        pin(dir.join("file").to_str().unwrap()).unwrap();
        assembled(&plan(), true);
        // A panic ends the test with 101, and a name that is no test's with 0.
        std::process::exit(ALL_REFUSED);
    }
}
