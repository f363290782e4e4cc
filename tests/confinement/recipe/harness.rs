//! Starts confined children and looks at them.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};

use cofferdam::confine::cgroup::{Group, Grouped};
use cofferdam::confine::paths::{Contents, Grant};
use cofferdam::confine::{Identity, Order, spaces};
use cofferdam::ident::{Instance, Name};
use cofferdam::policy::plan::{FileRight, LayerPlan, Program, View};
use cofferdam::sys::pidfd::{self, Ended};
use cofferdam::sys::spawn::{Child, FilterLine, Spawn, pin_own_program, spawn};
use rustix::fs::{MemfdFlags, OFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::pipe::PipeFlags;

/// `argv[0]` of a child.
pub(crate) const CHILD: &str = "confine-child";

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A `run` layer that demands everything, with nothing granted.
pub(crate) fn layer() -> LayerPlan {
    // A plan is only made by the checker; its serialised form is what a child gets as well.
    let text = r#"{
        "name": "worker", "program": {"Run": "worker"}, "instances": 1, "first": 0, "hosts": [], "syscalls": [],
        "listen": [], "connect": [], "stdin": null, "stdout": null, "stderr": null,
        "limits": {"memory": 268435456, "files": 64, "tasks": 16, "cpu": null, "file_size": 65536}, "restart": {"on": "Never", "max": 0,
        "within": {"secs": 1, "nanos": 0}, "then": "StopDaemon",
        "backoff": {"secs": 5, "nanos": 0}}, "optional": [],
        "view": {"parts": []}, "directories": [], "cwd": "/", "umask": 63, "group": null, "env": {}, "threads": null, "vars": {},
        "grace": {"secs": 10, "nanos": 0}, "stop_signal": "Term", "after": [], "ready": "Confined", "reload": "Restart", "health": null, "workers": null, "elastic": null,
        "log": {"level": "Info", "rate": {"count": 1000, "per": {"secs": 1, "nanos": 0}}}, "capabilities": [], "execmem": false, "uid": null
    }"#;
    serde_json::from_str(text).expect("a plan's layer")
}

pub(crate) fn order() -> Order {
    // A user for each, as the supervisor would: limits on tasks count by user.
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    let own = 1_073_741_824 + (std::process::id() << 8) + next;
    let identity = if is_root() {
        Identity::Own { uid: own, gid: own }
    } else {
        let (uid, gid) = spaces::own_numbers();
        Identity::Mapped { uid, gid }
    };
    Order {
        instance: Instance { layer: Name::new("worker").expect("a name"), index: 0, generation: 1 },
        layer: layer(),
        identity,
        namespaces: spaces::wanted(!is_root()),
        contents: Contents::default(),
        ports: vec![],
        sockets: false,
        keep: vec![0, 1, 2],
        grouped: Grouped::none(13),
        lingers: false,
    }
}

pub(crate) fn grant(path: &std::path::Path, rights: &[FileRight]) -> Grant {
    Grant::new(path.to_str().expect("a path in UTF-8"), rights)
}

/// A child that went, or failed to go, through the recipe.
pub(crate) struct Running {
    pub(crate) child: Child,
    output: BufReader<File>,
    control: Option<File>,
}

/// Starts the child `scenario` with `order`. Its standard output is a list of `name value` lines;
/// after "ready" it waits until its control socket is closed.
pub(crate) fn start(scenario: &str, order: &Order, filter: Option<&[FilterLine]>) -> Running {
    start_in(scenario, order, filter, None)
}

/// The same in a cgroup.
pub(crate) fn start_in(
    scenario: &str,
    order: &Order,
    filter: Option<&[FilterLine]>,
    group: Option<&Group>,
) -> Running {
    let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).expect("a pipe");
    let (ours, theirs) = rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .expect("a socket pair");
    // The scenario of a supervisor that has died already.
    let ours = (scenario != "orphan").then_some(ours);
    let slice = slice(order);
    let null =
        rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, 0.into()).expect("/dev/null");
    let program = pin_own_program().expect("own program");
    let argv = [CHILD, scenario].map(|text| CString::new(text).expect("no NUL"));
    let ids = match order.identity {
        Identity::Own { .. } => None,
        Identity::Mapped { uid, gid } => Some(spaces::ids(uid, gid)),
    };
    let stderr = std::io::stderr();
    let mut fds: Vec<BorrowedFd<'_>> =
        vec![null.as_fd(), write.as_fd(), stderr.as_fd(), slice.as_fd(), theirs.as_fd()];
    // What an exec layer runs comes open.
    let foreign = match &order.layer.program {
        Program::Exec(argv) => Some(open_program(&argv[0])),
        Program::Run(_) => None,
    };
    fds.extend(foreign.as_ref().map(AsFd::as_fd));
    let joins = group.map(Group::joins);
    let child = spawn(&Spawn {
        fds: &fds,
        namespaces: order.namespaces,
        ids: ids.as_ref(),
        filter,
        cgroup: joins.as_ref().and_then(|joins| joins.unified),
        tasks: joins.as_ref().map_or(&[], |joins| &joins.tasks),
        ..Spawn::new(program.as_fd(), &argv)
    })
    .expect("spawn");
    Running { child, output: BufReader::new(read.into()), control: ours.map(File::from) }
}

fn open_program(path: &str) -> OwnedFd {
    rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, 0.into()).expect("the program")
}

/// An `exec` layer that runs `script` by the shell, in its view of the system.
pub(crate) fn exec_order(script: &str) -> Order {
    let mut order = order();
    let argv = ["/bin/sh", "-c", script].map(str::to_owned);
    order.layer.program = Program::Exec(argv.to_vec());
    order.layer.view = View::system();
    order.layer.env = BTreeMap::from([("GREETING".to_owned(), "hello".to_owned())]);
    order.layer.limits.files = 128;
    order.keep = vec![0, 1, 2, 5];
    order
}

fn slice(order: &Order) -> OwnedFd {
    let memfd = rustix::fs::memfd_create("order", MemfdFlags::CLOEXEC).expect("a memfd");
    let mut file = File::from(memfd);
    let bytes = postcard::to_stdvec(order).expect("an order in bytes");
    file.write_all(&bytes).expect("the order written");
    file.into()
}

impl Running {
    /// What the child says, up to "ready" or its end.
    pub(crate) fn facts(&mut self) -> Facts {
        let mut facts = BTreeMap::new();
        let mut line = String::new();
        while self.output.read_line(&mut line).expect("the child's output") > 0 {
            let (name, value) = line.trim_end().split_once(' ').unwrap_or((line.trim_end(), ""));
            if name == "ready" {
                break;
            }
            facts.insert(name.to_owned(), value.to_owned());
            line.clear();
        }
        Facts(facts)
    }

    /// A file about the child in the test's own /proc.
    pub(crate) fn proc(&self, name: &str) -> String {
        let path = format!("/proc/{}/{name}", self.child.pid.as_raw_nonzero());
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// The value of a line of `status`, its blanks made single.
    pub(crate) fn status(&self, field: &str) -> String {
        let status = self.proc("status");
        let line = status.lines().find_map(|line| line.strip_prefix(&format!("{field}:")));
        let line = line.unwrap_or_else(|| panic!("no {field} in {status}"));
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// Lets the child go on to its end.
    pub(crate) fn end(mut self) -> Ended {
        drop(self.control.take());
        pidfd::wait(&self.child.pidfd).expect("the child's end")
    }
}

/// What a child said.
#[derive(Debug)]
pub(crate) struct Facts(pub(crate) BTreeMap<String, String>);

impl Facts {
    pub(crate) fn get(&self, name: &str) -> &str {
        self.0.get(name).unwrap_or_else(|| panic!("the child didn't say {name}: {self:?}"))
    }
}
