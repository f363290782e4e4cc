//! Explanations of mistakes about the audit log.

use super::Explanation;
use crate::policy::code::Code;

pub(super) const ALL: &[(Code, Explanation)] = &[
    (
        Code::NoKey,
        Explanation {
            why: "A channel's messages are kept, and the policy names no key to seal them to. \
                Whoever reads the log, or steals the disk, would read what the layers say.",
            way_out: "Name the public key of whoever may read them, or keep their hashes only.",
            example: "[audit]\n\
                      payload-key = \
                      \"e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c\"",
        },
    ),
    (
        Code::BadKey,
        Explanation {
            why: "Nothing can be sealed to this: it is no X25519 public key, or one of the few of \
                which everybody knows the secret.",
            way_out: "Write the public key of whoever may read the payloads, in hex digits.",
            example: "[audit]\n\
                      payload-key = \
                      \"e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c\"",
        },
    ),
    (
        Code::SealsNothing,
        Explanation {
            why: "There is a key for payloads, and no channel keeps any. A reader would believe \
                that messages are kept.",
            way_out: "Take the key out, or keep the payloads of a channel.",
            example: "[channel.order]\n\
                      from = \"desk\"\n\
                      to = \"books\"\n\
                      audit = \"payload\"",
        },
    ),
    (
        Code::LogInReach,
        Explanation {
            why: "The log is evidence against layers. A grant in its directory, at it or around \
                it would let a layer read it, fill its disk, or put something in its place.",
            way_out: "Give the log a directory of its own.",
            example: "[audit]\n\
                      directory = \"/var/log/signer\"",
        },
    ),
];
