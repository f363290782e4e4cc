//! Explanations of mistakes in layers: what runs, its calls, its dangerous grants.

use super::Explanation;
use crate::policy::code::Code;

pub(super) const ALL: &[(Code, Explanation)] = &[
    (
        Code::NoProgram,
        Explanation {
            why: "A layer is a function of the daemon's own program, or another program.",
            way_out: "Add `run` or `exec`.",
            example: "run = \"keeper\"",
        },
    ),
    (
        Code::TwoPrograms,
        Explanation {
            why: "A layer runs one program.",
            way_out: "Keep one of `run` and `exec`; make two layers of two programs.",
            example: "exec = [\"/usr/bin/jq\", \".\"]",
        },
    ),
    (
        Code::BadExec,
        Explanation {
            why: "A program is named by its whole path. No search path is used, for whoever \
                writes into one of its directories would choose the program.",
            way_out: "Write the absolute path, then the arguments.",
            example: "exec = [\"/usr/bin/jq\", \".\"]",
        },
    ),
    (
        Code::AddressTaken,
        Explanation {
            why: "The kernel gives an address to one socket; the second bind fails.",
            way_out: "Give each its own port or path. All instances of a layer share its sockets.",
            example: "listen = { http = \"tcp:127.0.0.1:8080\" }",
        },
    ),
    (
        Code::RestartNonsense,
        Explanation {
            why: "These restart settings exclude each other, so one of them has no effect.",
            way_out: "Take out the one that has none.",
            example: "restart = { on = \"never\" }",
        },
    ),
    (
        Code::UnknownProtection,
        Explanation {
            why: "`optional` names protections that may be missing. A name that is none would not \
                be a protection less, but a policy misread.",
            way_out: "Correct the name; `cofferdam doctor` lists them all.",
            example: "optional = [\"cgroup.cpu\"]",
        },
    ),
    (
        Code::BadEnvironment,
        Explanation {
            why: "This can't be in a process's environment, or not in that of a `run` layer: a `run` layer \
                is a function of the daemon's own program.",
            way_out: "Correct it, or take `env` out.",
            example: "env = { LANG = \"C.UTF-8\" }",
        },
    ),
    (
        Code::UnknownCapability,
        Explanation {
            why: "Capabilities are written as in capabilities(7).",
            way_out: "Correct the name.",
            example: "capabilities = [\"CAP_NET_RAW\"]",
        },
    ),
    (
        Code::SharedUid,
        Explanation {
            why: "Two layers of one user could send signals to each other and trace each other.",
            way_out: "Give each its own, or leave `uid` out: then the supervisor does.",
            example: "uid = 990",
        },
    ),
    (
        Code::NoLayer,
        Explanation {
            why: "A daemon without layers does nothing.",
            way_out: "Add a layer.",
            example: "[layer.worker]\n\
                      run = \"worker\"",
        },
    ),
    (
        Code::UnknownCall,
        Explanation {
            why: "The name is no system call of this machine, no group, or its condition can't be \
                read.",
            way_out: "Correct it; policies/groups/syscalls.toml lists the groups.",
            example: "syscalls = [\"@core\", \"ioctl(_, FIONREAD)\"]",
        },
    ),
    (
        Code::RefusedAndGranted,
        Explanation {
            why: "A call that is granted without condition never comes to its refusal.",
            way_out: "Keep one of the two lines.",
            example: "refuse = { openat = \"ENOENT\" }",
        },
    ),
    (
        Code::UnknownErrno,
        Explanation {
            why: "The name is no error number of this machine.",
            way_out: "Correct it; see errno(3).",
            example: "refuse = { openat = \"ENOENT\" }",
        },
    ),
    (
        Code::FixedAnswer,
        Explanation {
            why: "The answer to this call is the same in every layer. `clone3` keeps its flags \
                where no filter can look, so it is always ENOSYS.",
            way_out: "Take the line out; C libraries use `clone` then.",
            example: "syscalls = [\"@core\", \"@thread\"]",
        },
    ),
    (
        Code::FilterTooLong,
        Explanation {
            why: "The kernel takes filters of 4096 instructions. Each value of `in { ... }` is a \
                rule of its own, and several `in` of one call multiply.",
            way_out: "Write a range or a mask instead of many values.",
            example: "syscalls = [\"@core\", \"dup(<= 9)\"]",
        },
    ),
    (
        Code::NeedsBecause,
        Explanation {
            why: "This grant is worth most to an attacker. A reviewer must find a reason beside \
                it.",
            way_out: "Grant less, or give the reason.",
            example: "because = \"sends ICMP echo requests\"\n\
                      capabilities = [\"CAP_NET_RAW\"]",
        },
    ),
    (
        Code::StartCycle,
        Explanation {
            why: "A layer starts once those in its `after` have been ready. In a circle each waits \
                for another, and none ever starts.",
            way_out: "Take one name out of the circle: whoever can do without the others comes \
                first.",
            example: "after = [\"keeper\"]",
        },
    ),
    (
        Code::UnknownHost,
        Explanation {
            why: "What comes behind the `@` of a channel's end, and what a layer's `hosts` names, is a \
                machine that the policy defines.",
            way_out: "Write the name as `[host.NAME]` has it, or define the host.",
            example: "[host.vault]",
        },
    ),
    (
        Code::NoHost,
        Explanation {
            why: "Once hosts have keys, each machine starts the layers that are its own. A layer of no \
                host would start nowhere, and a host without a key could be anybody.",
            way_out: "Say of the layer where it runs, and give each host the key that `cofferdam host \
                key` prints on it. Where one host is named by no layer, those that say nothing are on it.",
            example: "hosts = [\"vault\"]",
        },
    ),
    (
        Code::Across,
        Explanation {
            why: "Memory, signals, pipes, queues, permits and descriptors belong to one kernel. Only \
                sealed messages go from one machine to another.",
            way_out: "Join the layers by a channel, or let them run on the same hosts.",
            example: "to = \"signer@vault\"",
        },
    ),
    (
        Code::NoWay,
        Explanation {
            why: "Of two hosts that a channel joins one calls the other, so one must have an address.",
            way_out: "Write `address` for the host that the other one can reach.",
            example: "address = \"tcp:10.0.0.2:7700\"",
        },
    ),
];
