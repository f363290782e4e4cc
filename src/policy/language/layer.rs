//! `[layer.NAME]` and the tables in it.

use super::{BECAUSE, Kind, Table, required, said, value};

const TEXT: Kind = Kind::Text;

pub(super) const LAYER: Table = Table {
    name: "layer",
    header: "[layer.NAME]",
    meaning: "One confined process, or several copies of it.",
    keys: &[
        said(
            "run",
            Kind::Name,
            "one of `run` and `exec`",
            "The function that the daemon's program registered under this name.",
            "The daemon's own program, executed again with execveat(2) from a pinned descriptor.",
        ),
        said(
            "exec",
            Kind::List(&TEXT, true),
            "one of `run` and `exec`",
            "Another program by its absolute path, and its arguments. No search path is used.",
            "Pid 2 of a pid namespace of its own, confined before execveat(2).",
        ),
        value(
            "instances",
            Kind::Integer(1, 64),
            "1",
            "How many copies run at once.",
            "Each copy has its own process, user, keys and limits.",
        ),
        said(
            "syscalls",
            Kind::List(&Kind::Call, false),
            "none",
            "The system calls that it may make: groups (`@core`), names (`openat2`) and calls with \
             conditions (`ioctl(_, FIONREAD)`). `exec` layers get what the program loader needs \
             besides.",
            "seccomp(2) filter. Everything else ends the layer with SIGSYS.",
        ),
        said(
            "refuse",
            Kind::Texts(&Kind::Errno),
            "none",
            "Calls that fail with an errno instead of ending the layer, as in \
             `{ openat = \"ENOENT\" }`.",
            "SECCOMP_RET_ERRNO.",
        ),
        said(
            "listen",
            Kind::Names(&Kind::Either(&Kind::Address, &Kind::Table(&LISTEN))),
            "none",
            "Sockets to accept connections on, by name.",
            "Bound by the supervisor and passed as descriptors; they survive restarts.",
        ),
        said(
            "connect",
            Kind::Names(&Kind::Target),
            "none",
            "Addresses to connect to, by name.",
            "The supervisor connects and passes the descriptor; the layer has no network of its \
             own.",
        ),
        said(
            "stdin",
            Kind::Pipe,
            "/dev/null",
            "The raw pipe that an `exec` layer reads as its standard input, as in `\"pipe.in\"`.",
            "Descriptor 0.",
        ),
        said(
            "stdout",
            Kind::Pipe,
            "the log",
            "The raw pipe that an `exec` layer writes as its standard output, as in \
             `\"pipe.out\"`.",
            "Descriptor 1.",
        ),
        said("limits", Kind::Table(&LIMITS), "see there", "Resource limits of each instance.", ""),
        said("restart", Kind::Table(&RESTART), "see there", "What happens when it ends.", ""),
        said(
            "optional",
            Kind::List(&Kind::Protection, false),
            "none",
            "Protections without which it may run where the kernel can't give them. A family's name \
             (`cgroup`) stands for all of it. Nothing else is ever left out.",
            "The receipt says what is missing; `cofferdam doctor` says so before.",
        ),
        said(
            "view",
            Kind::Word(&["empty", "system"]),
            "`\"empty\"` for `run`, `\"system\"` for `exec`",
            "What it sees of the file system besides its grants: nothing, or the system's programs \
             and libraries, read-only.",
            "Mount namespace with a root of its own, pivot_root(2), and Landlock.",
        ),
        said(
            "env",
            Kind::Texts(&TEXT),
            "empty",
            "The environment of an `exec` layer; nothing is inherited.",
            "execveat(2).",
        ),
        said(
            "capabilities",
            Kind::List(&Kind::Capability, false),
            "none",
            "Capabilities left to it. Each needs a `because`.",
            "All five capability sets, and locked securebits (capabilities(7)).",
        ),
        value(
            "execmem",
            Kind::Boolean,
            "false",
            "Whether memory that was written may be made executable, as just-in-time compilers \
             do. Needs a `because`.",
            "Turns off PR_SET_MDWE.",
        ),
        said(
            "uid",
            Kind::Integer(0, 4_294_967_294),
            "one of its own for each instance",
            "Its user and group, by number; not from 1879048192 to 2147352574, which are those of \
             layers without one. 0 needs a `because`: it is root's number without root's \
             capabilities, and takes a cgroup, or `optional = [\"cgroup.tasks\"]`, for the \
             kernel holds root to no other limit on tasks.",
            "setresuid(2); an ordinary user's daemon has the number within a user namespace.",
        ),
        BECAUSE,
    ],
};

pub(super) const LISTEN: Table = Table {
    name: "listen",
    header: "listen = { NAME = { ... } }",
    meaning: "A listening socket with limits. Without limits the address alone will do.",
    keys: &[
        required(
            "address",
            Kind::Address,
            "`tcp:127.0.0.1:8443`, `udp:[::1]:53` or `unix:/run/a.sock`. Names are not looked up.",
            "bind(2) and listen(2) by the supervisor.",
        ),
        said(
            "rate",
            Kind::Rate,
            "no limit",
            "Connections accepted in a while; more wait.",
            "The layer, by the library: it guards the layer from outside.",
        ),
        said(
            "per-source",
            Kind::Integer(1, 1 << 20),
            "no limit",
            "Connections that one source has open at once in a copy of the layer; more are closed. \
             A source is an IPv4 address, an IPv6 network of 64 bits, or a user of this machine.",
            "The layer, by the library: it guards the layer from outside.",
        ),
    ],
};

pub(super) const LIMITS: Table = Table {
    name: "limits",
    header: "limits = { ... }",
    meaning: "Resource limits, each for one instance.",
    keys: &[
        value(
            "memory",
            Kind::Size(1 << 20, 1 << 40),
            "\"256MiB\"",
            "Memory in bytes.",
            "cgroup memory.max; without cgroups RLIMIT_DATA.",
        ),
        value("files", Kind::Integer(8, 1 << 20), "256", "Open descriptors.", "RLIMIT_NOFILE."),
        value(
            "tasks",
            Kind::Integer(1, 1 << 16),
            "16",
            "Processes and threads.",
            "cgroup pids.max; without cgroups RLIMIT_NPROC.",
        ),
        said(
            "cpu",
            Kind::Integer(1, 102_400),
            "no limit",
            "Processor time, in percent of one processor: 200 is two.",
            "cgroup cpu.max. There is nothing else to fall back on: without cgroups the layer \
             doesn't start, unless `cgroup.cpu` is `optional`.",
        ),
        value(
            "file-size",
            Kind::Size(0, 1 << 50),
            "\"1GiB\"",
            "The largest file that it may write, in bytes.",
            "RLIMIT_FSIZE.",
        ),
    ],
};

pub(super) const RESTART: Table = Table {
    name: "restart",
    header: "restart = { ... }",
    meaning: "What happens when an instance ends.",
    keys: &[
        value(
            "on",
            Kind::Word(&["never", "failure", "always"]),
            "\"failure\"",
            "Which endings are followed by a new start. A failure is a nonzero exit code or a death \
             by a signal.",
            "The supervisor polls the instance's pidfd.",
        ),
        value(
            "max",
            Kind::Integer(1, 1000),
            "5",
            "How many restarts within `within` are tolerated.",
            "",
        ),
        value("within", Kind::Duration("100ms to 24h"), "\"10s\"", "The window of `max`.", ""),
        value(
            "then",
            Kind::Word(&["stop-daemon", "leave-down"]),
            "\"stop-daemon\"",
            "What one restart too many means: the whole daemon stops with exit code 1, or only this \
             layer stays down.",
            "",
        ),
    ],
};
