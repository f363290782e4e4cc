//! The examination: a child goes through the recipe and sends its receipt.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;

use rustix::fs::{MemfdFlags, Mode, OFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::{PipeFlags, pipe_with};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

use crate::confine::cgroup::{Group, Hierarchies};
use crate::confine::paths::Contents;
use crate::confine::spaces::{self, Possible};
use crate::confine::{Got, Identity, Order, Receipt, confine};
use crate::ident::{Instance, Name};
use crate::policy::plan::{
    LayerPlan, Limits, LogPlan, OnReload, Program, Protection, Ready, Restart, StopSignal, View,
    ViewPart,
};
use crate::sys::inherit::inherited;
use crate::sys::spawn::{self, Namespaces, Spawn, SpawnError};
use crate::sys::{pidfd, probe};

/// What was found.
pub(super) struct Findings {
    pub(super) rootless: bool,
    pub(super) receipt: Receipt,
    pub(super) spaces: Possible,
    pub(super) groups: Hierarchies,
    /// Whether a layer can have a `/proc` of its own; what it says if not.
    pub(super) own_proc: Result<(), String>,
}

/// Why nothing could be found.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProbeError {
    #[error("{0}")]
    System(#[from] io::Error),
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    #[error("the examined child {ended} before it could tell anything{}", behind(said))]
    Silent { ended: pidfd::Ended, said: String },
}

/// What it said, if anything.
fn behind(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!(": {said}") }
}

/// The user that the child becomes as root: nobody's, and not one that a daemon's layers get.
const UID: u32 = crate::users::END;
const SLICE_FD: i32 = 3;
const CONTROL_FD: i32 = 4;

/// Starts the child, and reads its receipt; then another, which asks for a `/proc` too.
pub(super) fn examine() -> Result<Findings, ProbeError> {
    let rootless = !rustix::process::geteuid().is_root();
    let spaces = spaces::possible(rootless);
    let groups = Hierarchies::find("doctor");
    let examined = try_one(rootless, &spaces, &groups, View::default())?;
    let Examined { receipt, ended, said } = examined;
    let receipt = receipt.ok_or(ProbeError::Silent { ended, said })?;
    // Without a root or a pid namespace of its own there is no place for it.
    let parts = [Protection::Root, Protection::NamespacePid];
    let own_proc = if parts.iter().all(|it| receipt.got(*it) == Got::Enforced) {
        let again = try_one(rootless, &spaces, &groups, View::of([ViewPart::Proc]))?;
        again.receipt.map(drop).ok_or(again.said)
    } else {
        Ok(())
    };
    Ok(Findings { rootless, receipt, spaces, groups, own_proc })
}

/// What came of a child.
struct Examined {
    receipt: Option<Receipt>,
    ended: pidfd::Ended,
    /// The last line of what it said.
    said: String,
}

fn try_one(
    rootless: bool,
    spaces: &Possible,
    groups: &Hierarchies,
    view: View,
) -> Result<Examined, ProbeError> {
    let layer = layer(view)?;
    let mut group = groups.make("probe", &layer.limits).ok().flatten();
    let order = Order {
        instance: Instance { layer: layer.name.clone(), index: 0, generation: 1 },
        layer,
        identity: if rootless {
            let (uid, gid) = spaces::own_numbers();
            Identity::Mapped { uid, gid }
        } else {
            Identity::Own { uid: UID, gid: UID }
        },
        namespaces: spaces.namespaces,
        contents: Contents::default(),
        ports: Vec::new(),
        sockets: false,
        keep: vec![0, 1, 2],
        grouped: group.as_ref().map_or_else(|| groups.without_group(), Group::grouped),
        lingers: false,
    };

    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
    let null = null.map_err(io::Error::from)?;
    let (answer, theirs) = pipe_with(PipeFlags::CLOEXEC).map_err(io::Error::from)?;
    let (words, their_words) = pipe_with(PipeFlags::CLOEXEC).map_err(io::Error::from)?;
    let (control, far_control) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .map_err(io::Error::from)?;
    let slice = slice(&order)?;
    let program = spawn::pin_own_program()?;
    let argv = [c"cofferdam", c"doctor", c"--probe"].map(CString::from);
    let mapped = spaces.namespaces.contains(Namespaces::USER);
    let ids = mapped.then(spaces::own_ids);
    let joins = group.as_ref().map(|group| group.joins());
    let fds = [&null, &theirs, &their_words, &slice, &far_control].map(AsFd::as_fd);
    let child = spawn::spawn(&Spawn {
        fds: &fds,
        namespaces: spaces.namespaces,
        ids: ids.as_ref(),
        cgroup: joins.as_ref().and_then(|joins| joins.unified),
        tasks: joins.as_ref().map_or(&[], |joins| &joins.tasks),
        ..Spawn::new(program.as_fd(), &argv)
    })?;
    drop((theirs, their_words));

    let mut bytes = [0; Receipt::SIZE];
    let read = File::from(answer).read_exact(&mut bytes);
    let mut said = String::new();
    // What isn't text says nothing.
    let _ = File::from(words).read_to_string(&mut said);
    let said = said.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
    let ended = pidfd::wait(&child.pidfd)?;
    drop(control);
    drop(joins);
    if let Some(group) = &mut group {
        // Its only process has been reaped; a moment later the kernel agrees.
        (0..100).any(|_| group.remove() || pause());
    }
    let receipt = read.ok().and_then(|()| Receipt::from_bytes(&bytes));
    Ok(Examined { receipt, ended, said })
}

/// One millisecond; false.
fn pause() -> bool {
    std::thread::sleep(std::time::Duration::from_millis(1));
    false
}

/// A layer that asks for everything and insists on nothing.
fn layer(view: View) -> io::Result<LayerPlan> {
    let name = Name::new("probe").map_err(io::Error::other)?;
    Ok(LayerPlan {
        first: 0,
        hosts: Vec::new(),
        connect: Vec::new(),
        stdin: None,
        stdout: None,
        stderr: None,
        program: Program::Run(name.clone()),
        name,
        instances: 1,
        workers: None,
        elastic: None,
        syscalls: Vec::new(),
        listen: Vec::new(),
        limits: Limits { cpu: Some(100), ..Limits::default() },
        restart: Restart::default(),
        after: Vec::new(),
        ready: Ready::default(),
        reload: OnReload::default(),
        health: None,
        optional: Protection::ALL.to_vec(),
        view,
        directories: Vec::new(),
        cwd: "/".to_owned(),
        umask: LayerPlan::DEFAULT_UMASK,
        env: BTreeMap::new(),
        threads: None,
        vars: BTreeMap::new(),
        grace: LayerPlan::DEFAULT_GRACE,
        log: LogPlan::default(),
        stop_signal: StopSignal::default(),
        capabilities: Vec::new(),
        execmem: false,
        uid: None,
        group: None,
    })
}

fn slice(order: &Order) -> io::Result<OwnedFd> {
    let bytes = postcard::to_stdvec(order).map_err(io::Error::other)?;
    let mut file = File::from(rustix::fs::memfd_create("cofferdam-probe", MemfdFlags::CLOEXEC)?);
    file.write_all(&bytes)?;
    Ok(file.into())
}

/// The child: goes through the recipe and writes its receipt to standard output.
pub(super) fn child() -> ExitCode {
    match answer() {
        Ok(receipt) => {
            let written = io::stdout().write_all(&receipt.to_bytes());
            let flushed = written.and_then(|()| io::stdout().flush());
            ExitCode::from(u8::from(flushed.is_err()))
        }
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {error}");
            ExitCode::from(3)
        }
    }
}

fn answer() -> Result<Receipt, Box<dyn std::error::Error>> {
    use std::os::unix::fs::FileExt;
    let slice = File::from(inherited(SLICE_FD)?);
    let mut bytes = vec![0; usize::try_from(slice.metadata()?.len())?];
    slice.read_exact_at(&mut bytes, 0)?;
    drop(slice);
    let control = inherited(CONTROL_FD)?;
    let order: Order = postcard::from_bytes(&bytes)?;
    // The fallback is locked memory, which every kernel has.
    let secret = probe::secret_memory().map_or(Got::Fallback, |()| Got::Enforced);
    let (_, receipt) = confine(&order, control.as_fd(), secret, load_filter)?;
    Ok(receipt)
}

/// A filter that allows everything: it is the loading that is tried.
fn load_filter() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let arch = std::env::consts::ARCH.try_into()?;
    let refuse = SeccompAction::KillProcess;
    let filter = SeccompFilter::new(BTreeMap::new(), SeccompAction::Allow, refuse, arch)?;
    Ok(seccompiler::apply_filter(&BpfProgram::try_from(filter)?)?)
}
