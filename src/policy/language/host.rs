//! `[host.NAME]`, and an end of a channel that says on which host it is.

use super::kinds::{PublicKey, Takes};
use super::{At, Kind, Section, layer, table};
use crate::policy::diagnostic::Diagnostics;

table! { named HOST, HostText: "host", "[host.NAME]", "a host";
    "A machine on which some of the layers run. Each machine is given the same policy, and runs those \
     of its layers that are its own. Channels between layers of different hosts are sealed from end to \
     end; what carries them reads nothing. While no host has a `key`, all layers run on one machine.";

    key: PublicKey, or "none: all layers run on one machine";
        "The host's public key, as `cofferdam host key` prints it. By it the other hosts know this one, \
         and this one knows which it is.";
        "Noise KK between `cofferdam-hosts` of either side, which then say of each instance which key \
         it has.";
    next_key: PublicKey, or "none";
        "A key that is as good, while the host changes its key.";
        "";
    address: layer::Address, or "none: this host only calls others";
        "Where it is reached by the others, as in `\"tcp:10.0.0.2:7700\"`. Of any two hosts that a \
         channel joins one has an address.";
        "A helper layer of the framework's own, `cofferdam-link`, listens there. It has no key, and \
         sees sealed records.";
}

/// A layer at an end of a channel, perhaps with the host on which it runs: `signer@vault`.
pub(crate) struct End;

impl Takes for End {
    type Text = Option<At<String>>;
    const KIND: Kind = Kind::End;

    fn read(section: &Section<'_>, key: &'static str, out: &mut Diagnostics) -> Self::Text {
        section.string(key, out)
    }
}
