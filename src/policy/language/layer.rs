//! `[layer.NAME]` and the tables in it.

use std::time::Duration;

use super::connect::Targets;
use super::directory::Directory;
use super::kinds::{
    Any, Boolean, Call, Capability, Command, DAY, HOUR, Inside, Integer, Mode, Name, Nested, Pairs,
    Path, Pipe, Protection, Rate, Reason, Size, Text, Time, Word, address,
};
use super::view::Seen;
use super::{At, BECAUSE, Kind, Section, Takes, string, table, unwritten};
use crate::policy::code::Code;
use crate::policy::diagnostic::{Diagnostics, Span};
use crate::policy::language::kinds;
use crate::policy::plan::{
    Elastic, GiveUp, LayerPlan, Limits, ListenAddress, LogLevel, OnReload, Pass, PassWord, Per,
    Ready, Restart, RestartOn, Runtime, StopSignal,
};
use crate::policy::tree::{Node, Value};
use crate::policy::value;

table! { named LAYER, LayerText: "layer", "[layer.NAME]", "a layer";
    "One confined process, or several copies of it.";

    run: Name, or "one of `run` and `exec`";
        "The function that the daemon's program registered under this name.";
        "The daemon's own program, executed again with execveat(2) from a pinned descriptor.";
    exec: Command, or "one of `run` and `exec`";
        "Another program by its absolute path, and its arguments. No search path is used.";
        "Pid 2 of a pid namespace of its own, confined before execveat(2).";
    instances: Instances = Copies::fixed(1);
        "How many copies run at once; of a `run` layer also from how many to how many, by what there \
         is to do, as in `{ min = 2, max = 64, idle = \"30s\" }`.";
        "Each copy has its own process, user, keys and limits.";
    hosts: Any<Name>, or "where its channels say";
        "The hosts on which it runs, as in `[\"left\", \"right\"]`: on each of them `instances` copies, and \
         as many where all layers run on one machine.";
        "";
    per: Word<Per>, or "none: its lives have no end of their own";
        "What each life of a `run` layer is for: one `connection` of its listening socket, which the \
         function gets by `layer.connection()`. `instances` is how many there are at most, those that \
         wait among them; beyond that connections wait in the kernel's queue.";
        "The process accepts, and lets go of the listening socket before it reads a byte. The \
         supervisor starts another one at once.";
    warm: Integer<u16, 1, { LayerPlan::MAX_INSTANCES as u64 }>, or "1, with `per`";
        "How many wait for a connection, confined and started.";
        "";
    // A week is as good as for ever.
    lifetime: Time<100, { 7 * DAY }>, or "no bound";
        "How long a process that is there for one connection may serve it. Then it is asked to finish, \
         and has its `grace`.";
        "The supervisor counts from when the process says that it has the connection.";
    // Longer than anybody waits for a page.
    wait: Time<100, HOUR>, or "as long as the client does";
        "How long a connection waits for a process of a layer with `per` while all serve others. Then \
         it is closed.";
        "The supervisor accepts and keeps it, unread, until a process is there; 64 at a time, and more \
         wait in the kernel's queue.";
    syscalls: Any<Call>, or "none";
        "The system calls that it may make: groups (`@core`), names (`openat2`) and calls with \
         conditions (`ioctl(_, FIONREAD)`). `exec` layers get what the program loader needs \
         besides.";
        "seccomp(2) filter. Everything else ends the layer with SIGSYS.";
    refuse: Pairs<kinds::Errno>, or "none";
        "Calls that fail with an errno instead of ending the layer, as in \
         `{ openat = \"ENOENT\" }`.";
        "SECCOMP_RET_ERRNO.";
    listen: Sockets, or "none";
        "Sockets to accept connections on, by name.";
        "Bound by the supervisor and passed as descriptors; they survive restarts.";
    connect: Targets, or "none";
        "Addresses to connect to, by name. An `exec` layer may have all hosts beneath a domain \
         (`\"tcp:*.example.org:443\"`), by a proxy that its environment names.";
        "A helper connects and passes the descriptor; the layer has no network of its own.";
    stdin: Pipe, or "/dev/null";
        "The raw pipe that an `exec` layer reads as its standard input, as in `\"pipe.in\"`, or \
         `\"inherit\"`: what the daemon was started with as its own.";
        "Descriptor 0.";
    stdout: Pipe, or "the log";
        "The raw pipe that an `exec` layer writes as its standard output, as in `\"pipe.out\"`, or \
         `\"inherit\"`.";
        "Descriptor 1.";
    stderr: Pipe, or "the log";
        "The raw pipe that an `exec` layer writes as its standard error, another than that of \
         `stdout`, or `\"inherit\"`.";
        "Descriptor 2.";
    limits: Inside<LimitsText>, or "see there"; "Resource limits of each instance."; "";
    restart: Inside<RestartText>, or "see there"; "What happens when it ends."; "";
    after: Any<Name>, or "none";
        "Layers that must be ready before it starts. When the daemon stops it ends before them.";
        "The supervisor starts it once each copy of them has been ready. One of them that is down \
         for good, and never was ready, keeps it down too.";
    ready: Word<Ready> = Ready::Confined;
        "From when on it is ready: as soon as it is `confined`; once its function has `told` so, by \
         `layer.ready()`; or, for a layer that prepares something for others, once it has \
         `finished` in order.";
        "Told to those that start after it, and to the service manager (sd_notify(3)) once all \
         layers are.";
    reload: Word<OnReload> = OnReload::Restart;
        "What a `run` layer does when a reload finds that the program's settings are others: it begins \
         anew (`restart`), or is `told`, and takes them by `layer.reloaded()` within its `grace`. One \
         that doesn't begins anew too.";
        "";
    health: Nested<HealthText>, or "it isn't asked";
        "Has a `run` layer asked whether it is well, as in `{ every = \"5s\", within = \"1s\" }`: one \
         that doesn't answer in time hangs, or is stopped, and is killed. That is a failure, and \
         `restart` says what follows.";
        "The supervisor asks over the control socket, and the library answers.";
    optional: Any<Protection>, or "none";
        "Protections without which it may run where the kernel can't give them. A family's name \
         (`cgroup`) stands for all of it. Nothing else is ever left out.";
        "The receipt says what is missing; `cofferdam doctor` says so before.";
    view: Seen, or "`\"empty\"` for `run`, `\"system\"` for `exec`";
        "What it sees of the file system besides its grants: nothing, or parts, as in \
         `[\"system\", \"tls\", \"tmp=16MiB\"]`. What is of the machine is read-only. `system` is \
         programs, libraries, harmless devices, and for an `exec` layer an `/etc/passwd` with its \
         own user and an `/etc/hosts`; `tls` certificates of authorities; `zone` time zones; \
         `resolve` names of services; `locale` languages; `proc` a `/proc` of its own processes; \
         `tmp` and `shm` a `/tmp` and a `/dev/shm` of its own, in memory that counts as the \
         layer's.";
        "Mount namespace with a root of its own, pivot_root(2), and Landlock. Own file systems are \
         tmpfs(5) and proc(5), without devices, set-user-id bits and programs.";
    state: Directory, or "none";
        "A directory that belongs to it, as in `\"/var/lib/name\"`: made if it isn't there, owned \
         by the layer's user in this life and the next ones, private to it, and kept. There the \
         layer may do all that an owner may, but run programs.";
        "Made, and given to the layer's user, before the first layer starts; mounted without \
         devices, set-user-id bits and programs; Landlock.";
    cache: Directory, or "none";
        "The same for what it can make again, as in `\"/var/cache/name\"`. Whoever looks after the \
         machine may clear it away while the daemon is down.";
        "As `state`.";
    logs: Directory, or "none";
        "The same for what people are to read, as in `\"/var/log/name\"`."; "As `state`.";
    runtime_directory: Directory, or "none";
        "A directory in memory for what is of one life, as in `\"/run/name\"`. Nobody else sees it, \
         and it ends with the layer. Its bytes count in `limits.memory`.";
        "tmpfs(5) in the layer's root.";
    cwd: Path, or "`\"/\"`"; "Its working directory when it starts, as it sees it."; "chdir(2).";
    umask: Mode, or "`\"0077\"`";
        "Permissions that files which it makes don't get, in octal. Others read none of them \
         otherwise.";
        "umask(2).";
    env: Pairs<Text>, or "empty";
        "Its environment; nothing is inherited. Of a `run` layer only names that no loader, \
         allocator or C library obeys: `RUST_LOG`, `RUST_BACKTRACE`, `RUST_LIB_BACKTRACE`, \
         `NO_COLOR`, and the program's own, `APP_...`.";
        "execveat(2).";
    runtime: Word<Runtime> = Runtime::SingleThread;
        "What runs the tasks of a `run` layer: its first thread alone, or `threads` more. The \
         function itself runs in the first one either way.";
        "tokio; more threads bring `@thread` along.";
    threads: Integer<u16, 1, { LayerPlan::MAX_THREADS as u64 }>, or "2, with `runtime = \"multi-thread\"`";
        "Worker threads. With the first one, and those of `spawn_blocking`, they count in \
         `limits.tasks`.";
        "clone(2).";
    vars: Any<Name>, or "none";
        "Variables of `[vars]` that a `run` layer's code may read, by `layer.var(\"NAME\")`.";
        "They are in the layer's part of the plan.";
    // Shorter is no time at all, longer is a daemon that never stops.
    grace: Time<100, HOUR> = LayerPlan::DEFAULT_GRACE;
        "How long it may take to finish once it was asked to, when the daemon stops.";
        "After that SIGKILL, by its pidfd.";
    log: Inside<LogText>, or "see there"; "What of its lines the log on standard error shows."; "";
    stop_signal: Word<StopSignal> = StopSignal::Term;
        "What asks the program of an `exec` layer to finish, without `SIG`: many have a signal of \
         their own for an end that is orderly and soon. The program gets it in place of each \
         SIGTERM.";
        "The layer's init.";
    capabilities: Any<Capability>, or "none";
        "Capabilities left to it. Each needs a `because`.";
        "All five capability sets, and locked securebits (capabilities(7)).";
    execmem: Boolean = false;
        "Whether memory that was written may be made executable, as just-in-time compilers \
         do. Brings `@execmem` along. Needs a `because`.";
        "Turns off PR_SET_MDWE; mmap(2) and mprotect(2) with PROT_EXEC.";
    // The largest number means "unchanged" to setresuid(2).
    uid: Integer<u32, 0, 4_294_967_294>, or "one of its own for each instance";
        "Its user and group, by number; not from 1879048192 to 2147352574, which are those of \
         layers without one. 0 needs a `because`: it is root's number without root's \
         capabilities, and takes a cgroup, or `optional = [\"cgroup.tasks\"]`, for the \
         kernel holds root to no other limit on tasks.";
        "setresuid(2); an ordinary user's daemon has the number within a user namespace.";
    group: Integer<u32, 0, 4_294_967_294>, or "of the number of its user";
        "Its group by number, which files that it makes belong to; not from 1879048192 to \
         2147352574. 0 needs a `because`.";
        "setresgid(2); an ordinary user's daemon has the number within a user namespace.";
    + because: Reason = BECAUSE;
}

table! { INSTANCES, InstancesText: "instances", "instances = { ... }", "`instances`";
    "How many copies a `run` layer has, by what there is to do: what a copy has in its hands are \
     connections of its acceptors, calls that it hasn't answered, and the message that it took last \
     from a queue.";

    min: Integer<u16, 1, { LayerPlan::MAX_INSTANCES as u64 }> = 1;
        "How many there are at least.";
        "";
    max: Integer<u16, 1, { LayerPlan::MAX_INSTANCES as u64 }> => "`max = 8`";
        "How many there are at most.";
        "One more begins once all are busy.";
    // A day is for ever.
    idle: Time<1000, DAY> = Elastic::DEFAULT_IDLE;
        "How long one of more than `min` copies has had nothing in its hands when one is asked to \
         finish, the last one that has nothing. None is while all others are busy.";
        "";
    busy: Integer<u32, 1, { 1 << 16 }> = 1;
        "So much in its hands makes a copy busy: 1 fits one that does one thing after the other, more \
         one that serves many connections at a time.";
        "The library counts, and tells the supervisor when that changes.";
}

table! { named LISTEN, ListenText: "listen", "listen = { NAME = { ... } }", "a listening socket";
    "A listening socket with limits, or passed in another way than the usual one. Without these the \
     address alone will do.";

    address: Address => "`address = \"tcp:127.0.0.1:80\"`";
        "`tcp:127.0.0.1:8443`, `udp:[::1]:53` or `unix:/run/a.sock`. Names are not looked up.";
        "bind(2) and listen(2) by the supervisor.";
    pass: Word<PassWord>, or "`\"bind\"` for `exec`; a `run` layer asks by name";
        "How the program of an `exec` layer comes by it: it binds a socket of its own to this \
         address (`bind`), or finds the socket from descriptor 3 on, in the order of names \
         (`listen-fds`: `LISTEN_FDS`, sd_listen_fds(3)), or is started for each connection, which \
         is its standard input and output (`inetd`).";
        "`bind`: the program's bind(2) is answered by its init, which puts the socket in place of \
         the program's (seccomp_unotify(2)).";
    fd: Integer<u8, { Pass::FIRST_FD as u64 }, { Pass::LAST_FD as u64 }>, or "none";
        "The descriptor at which the program of an `exec` layer finds it, in place of `pass`.";
        "dup3(2) before the exec.";
    rate: Rate, or "no limit";
        "Connections accepted in a while; more wait.";
        "The layer, by the library: it guards the layer from outside.";
    per_source: Integer<u32, 1, { 1 << 20 }>, or "no limit";
        "Connections that one source has open at once in a copy of the layer, or with `per` in all \
         of them together; more are closed. A source is an IPv4 address, an IPv6 network of 64 bits, \
         or a user of this machine.";
        "The layer, by the library: it guards the layer from outside. With `per` the supervisor \
         counts, by what each process says before it reads a byte.";
    max: Integer<u32, 1, { 1 << 16 }>, or "8 with `inetd`";
        "Connections that are served at once with `pass = \"inetd\"`, each by a process of its own, \
         which count in `limits.tasks`; more wait.";
        "The layer's init, which accepts no more meanwhile.";
}

impl ListenText {
    /// Whether a program is started for each of its connections.
    pub(crate) fn is_inetd(&self) -> bool {
        self.pass.as_ref().is_some_and(|pass| pass.value == PassWord::Inetd)
    }

    /// Whether the program of an `exec` layer binds its own.
    pub(crate) fn is_bound(&self) -> bool {
        self.fd.is_none() && self.pass.as_ref().is_none_or(|pass| pass.value == PassWord::Bind)
    }
}

table! { LIMITS, LimitsText: "limits", "limits = { ... }", "`limits`";
    "Resource limits, each for one instance.";

    // A layer below this can't even start; one above it is a slip of the unit.
    memory: Size<u64, { 1 << 20 }, { 1 << 40 }> = 256 << 20;
        "Memory in bytes.";
        "cgroup memory.max; without cgroups RLIMIT_DATA.";
    // Standard streams, the plan's slice, the control socket, and a few channels.
    files: Integer<u64, 8, { 1 << 20 }> = 256; "Open descriptors."; "RLIMIT_NOFILE.";
    tasks: Integer<u64, 1, { 1 << 16 }> = 16;
        "Processes and threads.";
        "cgroup pids.max; without cgroups RLIMIT_NPROC.";
    // Up to 1024 processors.
    cpu: Integer<u32, 1, 102_400>, or "no limit";
        "Processor time, in percent of one processor: 200 is two.";
        "cgroup cpu.max. There is nothing else to fall back on: without cgroups the layer \
         doesn't start, unless `cgroup.cpu` is `optional`.";
    // 0 is a layer that can't make a file larger at all.
    file_size: Size<u64, 0, { 1 << 50 }> = 1 << 30;
        "The largest file that it may write, in bytes.";
        "RLIMIT_FSIZE.";
}

impl From<&LimitsText> for Limits {
    fn from(text: &LimitsText) -> Self {
        Self {
            memory: text.memory(),
            files: text.files(),
            tasks: text.tasks(),
            cpu: text.cpu.as_ref().map(|percent| percent.value),
            file_size: text.file_size(),
        }
    }
}

impl Default for Limits {
    /// What holds where a policy says nothing.
    fn default() -> Self {
        (&unwritten::<LimitsText>()).into()
    }
}

impl LimitsText {
    /// Where each limit is written, in the order of [`Limits::each`].
    pub(crate) fn written(&self) -> [Option<&Span>; Limits::COUNT] {
        let Self { memory, files, tasks, cpu, file_size } = self;
        [
            at(memory.as_ref()),
            at(files.as_ref()),
            at(tasks.as_ref()),
            at(cpu.as_ref()),
            at(file_size.as_ref()),
        ]
    }
}

table! { RESTART, RestartText: "restart", "restart = { ... }", "`restart`";
    "What happens when an instance ends.";

    on: Word<RestartOn> = RestartOn::Failure;
        "Which endings are followed by a new start. A failure is a nonzero exit code or a death \
         by a signal.";
        "The supervisor polls the instance's pidfd.";
    max: Restarts = 5;
        "How many restarts after failures within `within` are tolerated.";
        "";
    // A window this short never sees two ends, one this long never forgets.
    within: Time<100, { 24 * HOUR }> = Duration::from_secs(10); "The window of `max`."; "";
    then: Word<GiveUp> = GiveUp::StopDaemon;
        "What one restart too many means: the whole daemon stops with exit code 1, or only this \
         layer stays down.";
        "";
    backoff: Time<10, HOUR> = Duration::from_secs(5);
        "The longest wait before a restart. The first failure after ten seconds of life has \
         none, the second 10 ms, and each one that follows twice the wait before. After an end in \
         order the next life begins at once, 10 ms after the one before did at the earliest.";
        "";
}

impl From<&RestartText> for Restart {
    fn from(text: &RestartText) -> Self {
        Self {
            on: text.on(),
            max: text.max(),
            within: text.within(),
            then: text.then(),
            backoff: text.backoff(),
        }
    }
}

impl Default for Restart {
    /// What holds where a policy says nothing.
    fn default() -> Self {
        (&unwritten::<RestartText>()).into()
    }
}

table! { HEALTH, HealthText: "health", "health = { ... }", "`health`";
    "How a `run` layer is asked whether it is well, from when on it is ready (`ready`) until it is \
     asked to finish. What answers is its event loop: an async function's runtime, of which with \
     `runtime = \"multi-thread\"` any thread will do; a blocking function while it waits in a verb \
     of the library, or asks whether it is to stop.";

    // Shorter keeps processors awake for nothing, longer is never.
    every: Time<100, HOUR> = Duration::from_secs(5);
        "How long after an answer it is asked again.";
        "";
    within: Time<10, HOUR> = Duration::from_secs(1);
        "How long it may take to answer.";
        "After that SIGKILL, by its pidfd.";
}

table! { LOG, LogText: "log", "log = { ... }", "`log`";
    "What of a layer's lines the log on standard error shows.";

    level: Word<LogLevel> = LogLevel::Info;
        "The events of a `run` layer (`cofferdam::log::layer`) that are shown: those of this level \
         and of those before it. What it prints has no level, and is shown.";
        "The layer itself, and the framework's own writer of the log.";
    rate: Rate, or "1000/s";
        "How many lines all instances of the layer may have shown in a while; a line counts once \
         for each 256 bytes begun. As many as come in ten seconds at that rate may come at once. \
         More are dropped, counted, and told of; the last ones before an end are kept.";
        "The framework's own writer of the log, which holds nobody up for long.";
}

/// How many copies: `4`, or `{ max = 8 }`.
pub(crate) struct Instances;

type Fixed = Integer<u16, 1, { LayerPlan::MAX_INSTANCES as u64 }>;

/// How many copies there are, and whether that changes with what there is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Copies {
    /// How many at most.
    pub(crate) most: u16,
    /// `None`: always as many.
    pub(crate) elastic: Option<Elastic>,
}

impl Copies {
    /// Always as many.
    pub(crate) const fn fixed(most: u16) -> Self {
        Self { most, elastic: None }
    }
}

impl Takes for Instances {
    type Text = Option<At<Copies>>;
    const KIND: Kind = Kind::Either(&Fixed::KIND, &Kind::Table(&INSTANCES));

    fn read(layer: &Section<'_>, key: &'static str, out: &mut Diagnostics) -> Self::Text {
        let node = layer.get(key)?;
        if !matches!(node.value, Value::Table(_)) {
            let At { value, span } = Fixed::read(layer, key, out)?;
            return Some(At { value: Copies::fixed(value), span });
        }
        let text: InstancesText = Section::open(node, &INSTANCES, out)?.read(out);
        let elastic = Elastic { min: text.min(), idle: text.idle(), busy: text.busy() };
        let most = text.max.map_or(elastic.min, |max| max.value);
        let value = Copies { most, elastic: Some(elastic) };
        Some(At { value, span: node.span.clone() })
    }
}

impl kinds::Plain for Instances {
    type Value = Copies;

    fn show(value: Copies) -> String {
        value.most.to_string()
    }
}

/// Listening sockets: `"tcp:127.0.0.1:80"`, or `{ address = "tcp:127.0.0.1:80", rate = "100/s" }`.
pub(crate) struct Sockets;

impl Takes for Sockets {
    type Text = Vec<ListenText>;
    const KIND: Kind = Kind::Names(&Kind::Either(&Kind::Address, &Kind::Table(&LISTEN)));

    fn read(layer: &Section<'_>, key: &'static str, out: &mut Diagnostics) -> Self::Text {
        let mut sockets = Vec::new();
        for (name, node) in layer.entries(key, out) {
            let socket: ListenText = if let Value::Table(_) = node.value {
                let Some(section) = Section::open(node, &LISTEN, out) else { continue };
                section.called(name).read(out)
            } else {
                let text = string(node, &name.value, out);
                let address = text.and_then(|text| address(&text, value::address, out));
                ListenText {
                    name,
                    address,
                    pass: None,
                    fd: None,
                    rate: None,
                    per_source: None,
                    max: None,
                }
            };
            sockets.extend(socket.address.is_some().then_some(socket));
        }
        sockets
    }
}

/// Where a socket listens.
pub(crate) struct Address;

impl Takes for Address {
    type Text = Option<At<ListenAddress>>;
    const KIND: Kind = Kind::Address;

    fn read(section: &Section<'_>, key: &'static str, out: &mut Diagnostics) -> Self::Text {
        address(&section.string(key, out)?, value::address, out)
    }
}

/// How many restarts. 0 is out of the range, and the checker says what was meant by it.
pub(crate) struct Restarts;

type Tolerated = Integer<u32, 1, 1000>;

impl Takes for Restarts {
    type Text = Option<At<u32>>;
    const KIND: Kind = Tolerated::KIND;

    fn read(section: &Section<'_>, key: &'static str, out: &mut Diagnostics) -> Self::Text {
        match section.get(key)? {
            Node { value: Value::Integer(Some(0)), span } => {
                Some(At { value: 0, span: span.clone() })
            }
            _ => Tolerated::read(section, key, out),
        }
    }
}

impl kinds::Plain for Restarts {
    type Value = u32;

    fn show(value: u32) -> String {
        value.to_string()
    }
}

/// What runs must be said, in one of two ways.
pub(crate) fn read(layer: &Section<'_>, out: &mut Diagnostics) -> LayerText {
    if !layer.has("run") && !layer.has("exec") {
        let message = format!("layer `{}` has nothing to run", layer.name().value.escape_debug());
        out.error(Code::NoProgram, layer.span(), message)
            .help("add `run = \"NAME\"`, a function that the program registers")
            .help("or `exec = [\"/usr/bin/PROGRAM\", \"ARGUMENT\"]`");
    }
    layer.read(out)
}

fn at<T>(text: Option<&At<T>>) -> Option<&Span> {
    text.map(|it| &it.span)
}
