//! Links to instances on other hosts. Who they are and which keys they have, the helper says that
//! speaks with the other hosts; what they say, another helper carries, which has no keys.

use super::Supervisor;
use crate::channel::socketpair;
use crate::ident::Instance;
use crate::prepare::own::Role;
use crate::wire::control::ToLayer;
use crate::wire::hosts::Meeting;

impl Supervisor<'_> {
    /// Makes a link between an instance of this host and one of another, if the plan lets them meet.
    /// It ends like one that a witness relays: once everything has come that the other said.
    pub(super) fn meet(&mut self, meeting: &Meeting) -> std::io::Result<()> {
        let &Meeting { channel, link, key, .. } = meeting;
        let Some((place, near, far)) = self.pair(meeting) else { return Ok(()) };
        // Without one, the helper says it anew once there is another.
        let carrier = self.place_of(Role::Link).filter(|&it| self.person(it).is_some());
        let Some(carrier) = carrier else { return Ok(()) };
        let (outer, inner) = socketpair(&self.plan.channels[usize::from(channel)])?;
        let told = ToLayer::Relay { channel, near, far: far.clone(), fds: 0, link };
        self.tell(carrier, &told, Some(&inner));
        let told = ToLayer::Introduce { channel, peer: far, key, witness: link };
        self.tell(place, &told, Some(&outer));
        Ok(())
    }

    /// The place of the one of this host, and both. A life that has ended meanwhile meets nobody.
    fn pair(&self, meeting: &Meeting) -> Option<(usize, Instance, Instance)> {
        let place = usize::try_from(meeting.seat).ok().filter(|&it| it < self.places.len())?;
        let (near, _) = self.person(place).filter(|(it, _)| it.generation == meeting.life)?;
        let plan = self.plan.channels.get(usize::from(meeting.channel)).filter(|it| it.across)?;
        let far = match &near.layer {
            layer if *layer == plan.from => &plan.to,
            layer if *layer == plan.to => &plan.from,
            _ => return None,
        };
        let &Meeting { copy: index, generation, .. } = meeting;
        let far = Instance { layer: far.clone(), index, generation };
        self.plan.is_elsewhere(&far.layer).then_some((place, near, far))
    }
}
