//! The two ends that the witness gets of every link.

use std::io;

use crate::channel::socketpair;
use crate::ident::Instance;
use crate::mark;
use crate::prepare::own::Role;
use crate::supervisor::{Life, Outcome, Supervisor};
use crate::wire::control::ToLayer;
use crate::wire::life::Ending;
use crate::wire::report::MAX_WITNESS;

impl Supervisor<'_> {
    /// The place and the generation of the witness, if it is confined and runs.
    pub(in crate::supervisor) fn witness(&self) -> Option<(usize, u64)> {
        let place = self.place_of(Role::Witness)?;
        let (instance, _) = self.person(place)?;
        Some((place, instance.generation))
    }

    /// Whether a place is the witness's.
    pub(in crate::supervisor) fn is_witness(&self, place: usize) -> bool {
        self.role(place) == Some(Role::Witness)
    }

    /// Makes a link that goes through the witness at `place`, and gives the outer end of `near` and
    /// that of `far`.
    pub(in crate::supervisor) fn relay(
        &mut self,
        place: usize,
        channel: u16,
        near: &Instance,
        far: &Instance,
    ) -> io::Result<[std::os::fd::OwnedFd; 2]> {
        let plan = &self.plan.channels[usize::from(channel)];
        let fds = plan.most_fds();
        let (near_end, near_inner) = socketpair(plan)?;
        let (far_end, far_inner) = socketpair(plan)?;
        for (near, far, inner) in [(near, far, near_inner), (far, near, far_inner)] {
            let (near, far) = (near.clone(), far.clone());
            self.tell(place, &ToLayer::Relay { channel, near, far, fds, link: 0 }, Some(&inner));
            mark::reached("supervisor.relay.told");
        }
        Ok([near_end, far_end])
    }

    /// Stops the daemon where another life of the witness couldn't be told from the former ones.
    /// True: it does.
    pub(in crate::supervisor) fn witness_is_spent(&mut self, place: usize) -> bool {
        let spent = self.is_witness(place)
            && self.places[place].seat.instance.generation >= MAX_WITNESS
            && matches!(self.places[place].life, Life::Waiting(_));
        if spent {
            self.log
                .say("the witness has ended as often as can be told in the log: the daemon stops");
            self.stop(Outcome::GaveUp(Ending::UNBEGUN));
        }
        spent
    }
}
