//! Explanations of mistakes in facilities, and in the policy as a whole.

use super::Explanation;
use crate::policy::code::Code;

pub(super) const ALL: &[(Code, Explanation)] = &[
    (
        Code::UnknownLayer,
        Explanation {
            why: "A grant names a layer that the policy does not define. It would be a grant to \
                nobody, and the layer that was meant would lack it.",
            way_out: "Correct the name, or define the layer.",
            example: "[layer.keeper]\n\
                      run = \"keeper\"",
        },
    ),
    (
        Code::ToItself,
        Explanation {
            why: "Something leads from a layer to itself. Instances of one layer have no channels \
                with each other.",
            way_out: "Name two layers.",
            example: "from = \"listener\"\n\
                      to = \"keeper\"",
        },
    ),
    (
        Code::DescriptorKinds,
        Explanation {
            why: "`fds` says how many descriptors a message carries and of which kinds; one \
                without the other grants nothing.",
            way_out: "Write both, or neither.",
            example: "fds = { max = 1, kinds = [\"file-read\"] }",
        },
    ),
    (
        Code::MethodTooLarge,
        Explanation {
            why: "A method's `max` is above that of its channel, which would cut it.",
            way_out: "Raise the channel's, or lower the method's.",
            example: "max = \"64KiB\"\n\
                      methods = { sign = { max = \"4KiB\" } }",
        },
    ),
    (
        Code::UnknownMethod,
        Explanation {
            why: "A method waits for one that is never called at this end, so it could never be \
                called itself.",
            way_out: "Name a method of the same channel and direction.",
            example: "methods = { hello = { once = true }, sign = { after = \"hello\" } }",
        },
    ),
    (
        Code::MethodCycle,
        Explanation {
            why: "Methods wait for each other in a circle, so none of them could ever be called.",
            way_out: "One must come first: take out its `after`.",
            example: "methods = { hello = {}, sign = { after = \"hello\" } }",
        },
    ),
    (
        Code::CallCycle,
        Explanation {
            why: "Layers call each other in a circle. If each waits for the next one's answer, \
                all of them stop.",
            way_out: "Let one of them answer later with a one-way method.",
            example: "methods = { done = { direction = \"back\" } }",
        },
    ),
    (
        Code::ForeignEnd,
        Explanation {
            why: "A program that does not use this library knows neither sealed messages nor the \
                broker.",
            way_out: "Give it a raw pipe as its standard input or output, or files.",
            example: "[pipe.in]\n\
                      from = \"front\"\n\
                      to = \"filter\"\n\
                      raw = true",
        },
    ),
    (
        Code::NobodyOpens,
        Explanation {
            why: "A foreign program has its standard streams only, and none of them is this pipe.",
            way_out: "Name the pipe as `stdin`, `stdout` or `stderr` of the layer.",
            example: "stdin = \"pipe.in\"",
        },
    ),
    (
        Code::BadPath,
        Explanation {
            why: "A path is absolute and has no `.`, `..`, doubled slash or control character, so \
                that there is one way to write it.",
            way_out: "Write where it really leads.",
            example: "path = \"/var/lib/signer\"",
        },
    ),
    (
        Code::PathTwice,
        Explanation {
            why: "Two tables grant one path. Whoever reads one of them believes to know who may \
                do what with it.",
            way_out: "Put both into one table.",
            example: "grant = { keeper = [\"read\"], writer = [\"write\"] }",
        },
    ),
    (
        Code::UnsafeFile,
        Explanation {
            why: "Somebody else can change the policy file or rename something on the way to it. \
                Who writes the policy decides what the daemon may do.",
            way_out: "Make it and its directories writable to root or yourself only.",
            example: "chmod go-w /etc/signer/signer.toml",
        },
    ),
    (
        Code::NotHere,
        Explanation {
            why: "A policy names what is on the machine where it runs. Here it isn't there, is \
                something that can't be granted, or belongs to somebody who lets the layer's user \
                not near it. `cofferdam run` refuses to start, or the layer is refused it.",
            way_out: "Nothing, if the policy is for another machine; otherwise make it as the \
                policy says, or write what is there.",
            example: "install -d -m 0755 /srv/site",
        },
    ),
    (
        Code::Overlap,
        Explanation {
            why: "One path lies within another one, and a layer has more rights on the outer one. \
                The kernel adds rights up, so the inner grant takes nothing away.",
            way_out: "Grant the parts one by one.",
            example: "[file.pages]\n\
                      path = \"/srv/site/pages\"\n\
                      grant = { opener = [\"read\"] }",
        },
    ),
    (
        Code::KeptFile,
        Explanation {
            why: "A single file is shown to a foreign program as the file that is there when its \
                layer starts. Programs that renew certificates and secrets write another file and \
                rename it: the layer goes on with the old one until it starts again.",
            way_out: "Nothing, if it is written in place or not at all. Otherwise grant the \
                directory that it lies in. A `run` layer has `follow = true`.",
            example: "[file.tls]\n\
                      path = \"/etc/server/tls\"\n\
                      grant = { server = [\"read\"] }",
        },
    ),
    (
        Code::LedAstray,
        Explanation {
            why: "The supervisor binds the socket, and follows what its path says. A layer that may \
                make links above it could have it bound in another directory.",
            way_out: "Put the socket where no layer makes links or moves directories, or right into \
                the granted directory, where a link in its place is refused.",
            example: "listen = { door = \"unix:/run/front/door\" }",
        },
    ),
    (
        Code::UnusableFile,
        Explanation {
            why: "The layer has a right on the file and no system call to use it with.",
            way_out: "Grant the call, or take the right out.",
            example: "syscalls = [\"@core\", \"openat2\"]",
        },
    ),
    (
        Code::HostProc,
        Explanation {
            why: "A grant shows what is at the path on the host. Of `/proc` that is every process \
                  of the machine with its arguments, and none of it by the numbers that the layer \
                  knows.",
            way_out: "Have the layer see its own processes, and of the machine what programs \
                commonly read.",
            example: "view = [\"system\", \"proc\"]",
        },
    ),
    (
        Code::UnusableCalls,
        Explanation {
            why: "The layer may open paths and has none: its root is empty.",
            way_out: "Grant a file, or take the call out. A library that tries to open something \
                anyway is content with an errno.",
            example: "refuse = { openat = \"ENOENT\" }",
        },
    ),
    (
        Code::UnknownSignal,
        Explanation {
            why: "Signals are written as in signal(7), without `SIG`. Those by which the kernel \
                  tells a process of its own faults and children are not sent by others.",
            way_out: "Correct the name, or take `USR1` or `USR2`.",
            example: "send = [\"HUP\"]",
        },
    ),
    (
        Code::GrantTwice,
        Explanation {
            why: "Two tables grant the same thing, and their limits may differ.",
            way_out: "Put both into one.",
            example: "send = [\"HUP\", \"USR1\"]\n\
                      rate = \"10/s\"",
        },
    ),
    (
        Code::KernelSetting,
        Explanation {
            why: "By default the kernel gives ordinary users queues of 10 messages of 8 KiB \
                (mq_overview(7)). This one is larger, so the daemon does not start everywhere.",
            way_out: "Make it smaller, run as root, or raise the settings in /proc/sys/fs/mqueue.",
            example: "depth = 10\n\
                      max = \"4KiB\"",
        },
    ),
    (
        Code::KernelRefuses,
        Explanation {
            why: "The kernel makes pipes of a power of two of bytes and shares memory in whole \
                pages.",
            way_out: "Write such a size.",
            example: "capacity = \"64KiB\"",
        },
    ),
    (
        Code::LockOrder,
        Explanation {
            why: "A layer that may hold two semaphores takes them in the order of their numbers. \
                With the same number two layers could each hold one and wait for the other for \
                ever.",
            way_out: "Give each its own number.",
            example: "order = 2",
        },
    ),
    (
        Code::OneSided,
        Explanation {
            why: "Memory that one layer has alone is not shared, and memory that nobody writes \
                holds zeros.",
            way_out: "Name who writes and who reads.",
            example: "grant = { keeper = \"rw\", listener = \"r\" }",
        },
    ),
    (
        Code::UnknownPipe,
        Explanation {
            why: "`stdin`, `stdout` and `stderr` name a pipe of the policy, or say `inherit`.",
            way_out: "Define the pipe, or correct the name.",
            example: "stdin = \"pipe.in\"",
        },
    ),
    (
        Code::BadMode,
        Explanation {
            why: "Of a fifo's mode only the bits of who may write count: who could read it would \
                take lines away from the layer. A `umask` is of permissions for owner, group and \
                others.",
            way_out: "Write 0600, 0620 or 0622; as `umask` 0077, 0027 or 0022.",
            example: "mode = \"0622\"",
        },
    ),
    (
        Code::PermitAndCall,
        Explanation {
            why: "A layer that holds a permit may call another one and wait for its answer, while \
                that one, to answer, waits for the same permit. Neither ever goes on. Only the \
                code says whether a layer calls while it holds a permit, so this is a warning.",
            way_out: "Give the permit back before the call, let the other layer answer later with \
                a one-way method, or add a `lease`, with which the wait has an end.",
            example: "[semaphore.table]\n\
                      permits = 1\n\
                      holders = [\"front\", \"back\"]\n\
                      lease = \"5s\"",
        },
    ),
    (
        Code::Idle,
        Explanation {
            why: "A layer has no channel, file, socket or other facility, so nothing that it does \
                matters to anybody.",
            way_out: "Grant it something, or take it out.",
            example: "[channel.work]\n\
                      from = \"front\"\n\
                      to = \"worker\"",
        },
    ),
    (
        Code::UnknownObject,
        Explanation {
            why: "`reach` names something that the policy does not have, so the rule would hold \
                whatever the policy grants.",
            way_out: "Write the kind and the name.",
            example: "reach = \"file.key\"",
        },
    ),
    (
        Code::NeverBroken,
        Explanation {
            why: "A `[[never]]` says what must not be possible in any number of steps, each layer \
                taken as compromised. There is a way, and the message tells it step by step.",
            way_out: "Take one of the steps out, or name a layer that is trusted to stand between.",
            example: "[[never]]\n\
                      layer = \"parser\"\n\
                      reach = \"file.key\"\n\
                      through-except = [\"keeper\"]\n\
                      why = \"who parses the network never touches the key\"",
        },
    ),
];
