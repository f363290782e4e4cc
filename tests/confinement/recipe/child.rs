//! What runs in the children.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use cofferdam::confine::init::Launch;
use cofferdam::confine::{Got, Order, Receipt, confine, prepare};
use cofferdam::policy::plan::{Program, StopSignal};
use cofferdam::sys::inherit::inherited;
use cofferdam::sys::process;
use rustix::fs::Mode;
use rustix::process::Resource;

/// The scenario's code. Its output is lines of `name value`.
pub(crate) fn main(scenario: &str) {
    if let Some(kind) = scenario.strip_prefix("outer-") {
        return super::promises::outer(kind);
    }
    let mut order = Vec::new();
    let slice = inherited(3).expect("the slice");
    File::open("/proc/self/fd/3").and_then(|mut file| file.read_to_end(&mut order)).expect("slice");
    drop(slice);
    let order: Order = postcard::from_bytes(&order).expect("an order");
    let control = inherited(4).expect("the control socket");

    if let Program::Exec(argv) = &order.layer.program {
        return init(&order, argv, control.as_fd());
    }
    match confine(&order, control.as_fd(), Got::Enforced, load_filter) {
        Err(error) => return say("refused", error),
        Ok((_confined, receipt)) => report(&order, &receipt),
    }
    match scenario {
        "facts" => facts(),
        "files" => files(&order),
        "tasks" => tasks(),
        "last" => descriptors(),
        _ => {}
    }
    say("ready", "");
    wait_for_the_end(control);
}

/// An `exec` layer's process 1. The program writes to the same standard output.
fn init(order: &Order, argv: &[String], control: BorrowedFd<'_>) {
    let program = inherited(5).expect("the program");
    let strings = |texts: Vec<String>| -> Vec<CString> {
        texts.into_iter().map(|text| CString::new(text).expect("no NUL")).collect()
    };
    let argv = strings(argv.to_vec());
    let env = order.layer.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    let launched = prepare(order, control).and_then(|bare| {
        let launch = Launch {
            program: program.as_fd(),
            argv: &argv,
            envp: &strings(env),
            fds: &[stdin.as_fd(), stdout.as_fd(), stderr.as_fd()],
            others: &[],
            filter: &super::faults::refusing(libc::SYS_swapon, &[]),
            is_observed: false,
            unobserved: None,
            signals: &[],
            stop: StopSignal::default(),
        };
        bare.into_init()?.launch(&launch, load_filter)
    });
    match launched {
        Err(error) => say("refused", error),
        Ok(init) => {
            let ended = init.run().expect("the program's end");
            say("ended", ended);
            say("ready", "");
        }
    }
}

/// A filter that refuses one call; what filters refuse is tested elsewhere.
fn load_filter() -> io::Result<()> {
    let program = super::faults::refusing(libc::SYS_swapon, &[]);
    let program: Vec<seccompiler::sock_filter> = program
        .iter()
        .map(|line| seccompiler::sock_filter {
            code: line.code,
            jt: line.jt,
            jf: line.jf,
            k: line.k,
        })
        .collect();
    seccompiler::apply_filter(&program).map_err(io::Error::other)
}

fn say(name: &str, value: impl std::fmt::Display) {
    let mut out = io::stdout().lock();
    writeln!(out, "{name} {value}").and_then(|()| out.flush()).expect("the report is written");
}

fn wait_for_the_end(control: OwnedFd) {
    let mut byte = [0];
    let _ = File::from(control).read(&mut byte);
}

fn report(order: &Order, receipt: &Receipt) {
    let bytes = receipt.to_bytes();
    say("receipt-survives", Receipt::from_bytes(&bytes).as_ref() == Some(receipt));
    say("missing", receipt.missing_against(&order.layer).len());
    say("landlock-abi", receipt.landlock_abi());
    for protection in cofferdam::policy::plan::Protection::ALL {
        say(&format!("got-{}", protection.name()), receipt.got(protection));
    }
}

fn facts() {
    use rustix::process as own;
    say("umask", format_args!("{:o}", own::umask(Mode::from_raw_mode(0o077)).as_raw_mode()));
    say("cwd", std::env::current_dir().map_or_else(|e| e.to_string(), |p| p.display().to_string()));
    say("environment", std::env::vars_os().count());
    say("nice", own::getpriority_process(None).expect("getpriority"));
    say("pid", own::getpid().as_raw_nonzero());
    let users = [own::getuid(), own::geteuid()].map(rustix::process::Uid::as_raw);
    let groups = [own::getgid(), own::getegid()].map(rustix::process::Gid::as_raw);
    say("user", format_args!("{} {} {} {}", users[0], users[1], groups[0], groups[1]));
    say("leads-session", own::getsid(None) == Ok(own::getpid()));
    say("host", rustix::system::uname().nodename().to_string_lossy());
    say("dumpable", format_args!("{:?}", own::dumpable_behavior().expect("dumpable")));
    say("death-signal", format_args!("{:?}", own::parent_process_death_signal().expect("signal")));
    say("mdwe", process::denies_write_execute());
    say("securebits", rustix::thread::capabilities_secure_bits().expect("securebits").bits());
    say("files-limit", own::getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX));
    say("tasks-limit", own::getrlimit(Resource::Nproc).maximum.unwrap_or(u64::MAX));
    let up = own::Rlimit { current: Some(1000), maximum: Some(1000) };
    say("limit-raised", own::setrlimit(Resource::Nofile, up).is_ok());
    let root = rustix::process::Uid::from_raw(u32::from(own::getuid().is_root()));
    say("uid-changed", rustix::thread::set_thread_res_uid(root, root, root).is_ok());
    say("user-namespace", nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUSER).is_ok());
}

/// How many threads can be had besides the first, of forty.
fn tasks() {
    let (end, waits) = std::sync::mpsc::channel::<()>();
    let waits = std::sync::Arc::new(std::sync::Mutex::new(waits));
    let wait = || {
        let waits = std::sync::Arc::clone(&waits);
        move || waits.lock().expect("the end").recv().unwrap_or(())
    };
    let threads = (0..40).map(|_| std::thread::Builder::new().spawn(wait()));
    let threads: Vec<_> = threads.filter_map(Result::ok).collect();
    say("tasks", threads.len());
    drop(end);
    for thread in threads {
        thread.join().expect("a thread");
    }
}

fn files(order: &Order) {
    let base = order.contents.grants.first().and_then(|grant| Path::new(&grant.path).parent());
    let base = base.expect("a grant").display();
    let try_it = |name: &str, result: io::Result<()>| {
        say(name, result.map_or_else(|error| error.kind().to_string(), |()| "ok".into()));
    };
    for (name, path) in [("read-granted", "read"), ("read-written", "write")] {
        try_it(name, fs::read(format!("{base}/{path}/file")).map(drop));
    }
    let write = |path: &str| OpenOptions::new().write(true).open(format!("{base}/{path}"));
    try_it("write-granted", write("write/file").map(drop));
    try_it("write-read-only", write("read/file").map(drop));
    let create = |path: &str| {
        OpenOptions::new().write(true).create_new(true).open(format!("{base}/{path}")).map(drop)
    };
    try_it("create-granted", create("write/new"));
    try_it("create-read-only", create("read/new"));
    try_it("read-neighbour", fs::read(format!("{base}/other/file")).map(drop));
    try_it("read-passwd", fs::read("/etc/passwd").map(drop));
    try_it("create-in-root", File::create_new("/new").map(drop));
    try_it("list-root", fs::read_dir("/").map(drop));
    try_it("proc", fs::metadata("/proc/self").map(drop));
    try_it("dot-dot", fs::read(format!("{base}/read/../other/file")).map(drop));
}

/// Which descriptors are open: found by closing them, since there is no /proc to list them.
fn descriptors() {
    let open: Vec<String> = (3..256)
        .filter(|fd| *fd != 4 && nix::unistd::close(*fd).is_ok())
        .map(|fd| fd.to_string())
        .collect();
    say("open-besides-declared", open.len());
}
