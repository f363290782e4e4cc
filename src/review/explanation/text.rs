//! Explanations of mistakes in the text: its encoding, syntax, keys, values and files.

use super::Explanation;
use crate::policy::code::Code;

pub(super) const ALL: &[(Code, Explanation)] = &[
    (
        Code::NotUtf8,
        Explanation {
            why: "A policy is UTF-8 text. In another encoding, or in a file that is no text at \
                all, what a person sees and what the program reads could differ.",
            way_out: "Save the file as UTF-8.",
            example: "name = \"signer\"",
        },
    ),
    (
        Code::ByteOrderMark,
        Explanation {
            why: "Some editors begin a file with three invisible bytes. TOML allows none, and a \
                reader would not see them.",
            way_out: "Save the file as UTF-8 without a byte order mark.",
            example: "cofferdam = 1",
        },
    ),
    (
        Code::TooLarge,
        Explanation {
            why: "With all that it includes, a policy has at most 1 MiB. A larger one is nothing \
                that anybody reviewed, and most likely another file.",
            way_out: "Check the path, or split the daemon.",
            example: "cofferdam check policies/signer.toml",
        },
    ),
    (
        Code::Syntax,
        Explanation {
            why: "The file does not follow the grammar of TOML, so it is not certain what it says.",
            way_out: "Mend the line that is shown; see https://toml.io.",
            example: "methods = [\"sign\"]",
        },
    ),
    (
        Code::Duplicate,
        Explanation {
            why: "A table or a key is there twice, in one file or in two. One of them would \
                silently win, and a reader who saw the other would be wrong.",
            way_out: "Write it once.",
            example: "[layer.keeper]\n\
                      run = \"keeper\"",
        },
    ),
    (
        Code::Version,
        Explanation {
            why: "Each file says in which version of the language it is written, so that a later \
                version can't give it another meaning.",
            way_out: "Begin the file with the version.",
            example: "cofferdam = 1",
        },
    ),
    (
        Code::UnknownKey,
        Explanation {
            why: "A key that is not understood would be a grant or a limit that nothing enforces. \
                So it is never skipped.",
            way_out: "Correct the key, or move it to the table where it belongs.",
            example: "[layer.keeper]\n\
                      syscalls = [\"@core\"]",
        },
    ),
    (
        Code::NotBuiltYet,
        Explanation {
            why: "The language has this, and this version of the program has nothing behind it in \
                any form.",
            way_out: "Take it out for now.",
            example: "[layer.keeper]\n\
                      run = \"keeper\"",
        },
    ),
    (
        Code::WrongType,
        Explanation {
            why: "The value is of another type than the key takes. Nothing is converted silently.",
            way_out: "Write the type that the message names.",
            example: "instances = 2",
        },
    ),
    (
        Code::Missing,
        Explanation {
            why: "A table lacks a key without which it means nothing, and no default would be \
                safe.",
            way_out: "Add the key.",
            example: "[channel.sign]\n\
                      from = \"listener\"\n\
                      to = \"keeper\"",
        },
    ),
    (
        Code::BadName,
        Explanation {
            why: "Names stand in paths, logs and process titles: 1 to 48 of a-z, 0-9, - and _, \
                beginning with a letter. So no two names look alike.",
            way_out: "Choose a name of these letters.",
            example: "[layer.key-holder]",
        },
    ),
    (
        Code::UnknownWord,
        Explanation {
            why: "The key takes one of a few words, and this is none of them.",
            way_out: "Choose one of those that the message lists.",
            example: "restart = { on = \"failure\" }",
        },
    ),
    (
        Code::BadSize,
        Explanation {
            why: "A size is a whole number and a unit, or a number of bytes. `64M` is refused, \
                for some read it as 64 million and some as 64 MiB.",
            way_out: "Write KiB, MiB, GiB, TiB, or KB, MB, GB, TB.",
            example: "limits = { memory = \"64MiB\" }",
        },
    ),
    (
        Code::BadDuration,
        Explanation {
            why: "A duration is a whole number and a unit.",
            way_out: "Write ms, s, m, h or d.",
            example: "restart = { within = \"5s\" }",
        },
    ),
    (
        Code::BadAddress,
        Explanation {
            why: "An address says its kind. Listening sockets take numbers, not names: a name \
                could be another address tomorrow.",
            way_out: "Write tcp:, udp: or unix:, and what belongs behind it.",
            example: "listen = { https = \"tcp:127.0.0.1:8443\" }",
        },
    ),
    (
        Code::OutOfRange,
        Explanation {
            why: "The number is one that the kernel refuses, or with which the daemon could not \
                work.",
            way_out: "Write one within the range that the message names.",
            example: "limits = { files = 256 }",
        },
    ),
    (
        Code::Empty,
        Explanation {
            why: "Something is granted to nobody, or nothing is granted. It reads like a grant \
                and is none.",
            way_out: "Name what is granted and to whom, or take the table out.",
            example: "grant = { keeper = [\"read\"] }",
        },
    ),
    (
        Code::Repeated,
        Explanation {
            why: "The same item is twice in a list. It has no effect, and suggests that another \
                one was meant.",
            way_out: "Take one out.",
            example: "syscalls = [\"@core\", \"openat2\"]",
        },
    ),
    (
        Code::EmptyBecause,
        Explanation {
            why: "A reason without words tells a reviewer nothing.",
            way_out: "Say who needs it and what for.",
            example: "because = \"raw sockets for ping\"",
        },
    ),
    (
        Code::Include,
        Explanation {
            why: "A file that is included must be there, be readable, and be as safe as the \
                policy itself. A policy that is part of a program has no files beside it.",
            way_out: "Correct the path: it is relative to the file that includes.",
            example: "include = [\"base.toml\"]",
        },
    ),
    (
        Code::IncludeCycle,
        Explanation {
            why: "A file that is included twice would define everything in it twice.",
            way_out: "Include each file once, and never in a circle.",
            example: "include = [\"base.toml\", \"site.toml\"]",
        },
    ),
    (
        Code::UndefinedVariable,
        Explanation {
            why: "A string has ${name}, and [vars] has no such name; or a value was given for a \
                variable that the policy does not declare.",
            way_out: "Declare it in [vars]. A ${ that is no variable is written $${.",
            example: "[vars]\n\
                      root = \"/srv\"\n\
                      \n\
                      [file.site]\n\
                      path = \"${root}/site\"\n\
                      grant = { opener = [\"read\"] }",
        },
    ),
    (
        Code::UnusedVariable,
        Explanation {
            why: "Nothing uses this variable. Who sets it believes to change something.",
            way_out: "Use it in a string, or take it out.",
            example: "[file.site]\n\
                      path = \"${root}/site\"",
        },
    ),
    (
        Code::AboveCeiling,
        Explanation {
            why: "The site's ceiling (`--ceiling`) says what any layer may have at most, and this \
                is more. A kind of grant that a ceiling does not name is granted to nobody.",
            way_out: "Grant less, or ask whoever keeps the ceiling.",
            example: "[ceiling]\n\
                      syscalls = [\"@core\"]\n\
                      paths = [\"/srv/*\"]",
        },
    ),
    (
        Code::BadRate,
        Explanation {
            why: "A rate is a number, a slash and a time. Those of pipes may count bytes.",
            way_out: "Write it in that form.",
            example: "rate = \"500/s\"",
        },
    ),
    (
        Code::RateNonsense,
        Explanation {
            why: "A rate of nothing forbids what another line grants; one of more than a million \
                in a second limits nothing.",
            way_out: "Take out what is not to happen, or the rate.",
            example: "rate = \"3/10s\"",
        },
    ),
    (
        Code::Contradiction,
        Explanation {
            why: "Two settings can't both have effect. One of them is not what was meant.",
            way_out: "Keep the one that is.",
            example: "on-full = \"block\"\n\
                      wait = \"1s\"",
        },
    ),
];
