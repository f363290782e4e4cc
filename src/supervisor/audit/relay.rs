//! The witness's part of the plan, and the two ends that it gets of every link.

use std::io;

use super::begin::{BeginError, own_plan};
use crate::channel::socketpair;
use crate::ident::{Instance, Name};
use crate::layer::witness::NAME;
use crate::mark;
use crate::policy::Inputs;
use crate::policy::plan::{ChannelPlan, LayerPlan, Plan, Program};
use crate::supervisor::{Life, Outcome, Supervisor};
use crate::wire::control::ToLayer;
use crate::wire::limits::RECORD;
use crate::wire::report::MAX_WITNESS;

/// What the witness may do, as a policy of its own.
const POLICY: &str = include_str!("witness.toml");

/// The witness as a layer of `plan`; `None` if no channel has one.
pub fn layer(plan: &Plan) -> Result<Option<LayerPlan>, BeginError> {
    let witnessed: Vec<&ChannelPlan> = plan.channels.iter().filter(|it| it.witness).collect();
    if witnessed.is_empty() {
        return Ok(None);
    }
    let links = |channel: &ChannelPlan| copies(plan, &channel.from) * copies(plan, &channel.to);
    let all: u64 = witnessed.iter().map(|channel| links(channel)).sum();
    let name = Name::new(NAME).map_err(|error| BeginError::Own(error.to_string()))?;
    let own = own_plan("witness.toml", POLICY, &Inputs { load: None, vars: &[], ceiling: None })?;
    let missing = || BeginError::Own("it has no layer".to_owned());
    let mut layer = own.layers.into_iter().next().ok_or_else(missing)?;
    layer.program = Program::Run(name.clone());
    layer.name = name;
    // Each link has two sockets, and a datagram in either direction with its descriptors.
    let held = |channel: &ChannelPlan| links(channel) * 2 * (1 + u64::from(channel.fds.max));
    layer.limits.files += witnessed.iter().map(|channel| held(channel)).sum::<u64>();
    layer.limits.memory += all * 2 * RECORD as u64;
    Ok(Some(layer))
}

fn copies(plan: &Plan, layer: &Name) -> u64 {
    let found = plan.layers.iter().find(|it| it.name == *layer);
    found.map_or(0, |layer| layer.instances.into())
}

impl Supervisor<'_> {
    /// The place and the generation of the witness, if it is confined and runs.
    pub(in crate::supervisor) fn witness(&self) -> Option<(usize, u64)> {
        let place = self.audit.as_ref()?.witness?;
        let (instance, _) = self.person(place)?;
        Some((place, instance.generation))
    }

    /// Whether a place is the witness's.
    pub(in crate::supervisor) fn is_witness(&self, place: usize) -> bool {
        self.audit.as_ref().is_some_and(|audit| audit.witness == Some(place))
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
        let fds = plan.fds.max;
        let (near_end, near_inner) = socketpair(plan)?;
        let (far_end, far_inner) = socketpair(plan)?;
        for (near, far, inner) in [(near, far, near_inner), (far, near, far_inner)] {
            let (near, far) = (near.clone(), far.clone());
            self.tell(place, &ToLayer::Relay { channel, near, far, fds }, Some(&inner));
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
            self.stop(Outcome::GaveUp);
        }
        spent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A plan of two layers, and of channels between them that say `more`.
    fn plan(instances: u16, more: &str) -> Plan {
        let text = format!(
            "cofferdam = 1\nname = \"x\"\n\
             [layer.a]\nrun = \"a\"\nsyscalls = [\"@core\"]\ninstances = {instances}\n\
             [layer.b]\nrun = \"b\"\nsyscalls = [\"@core\"]\ninstances = 8\n\
             [channel.c]\nfrom = \"a\"\nto = \"b\"\n{more}"
        );
        let inputs = Inputs { load: None, vars: &[], ceiling: None };
        own_plan("test.toml", &text, &inputs).unwrap_or_else(|e| panic!("{e}"))
    }

    #[test]
    fn the_witness_has_room_for_its_links() {
        assert!(layer(&plan(1, "")).unwrap().is_none());
        let few = layer(&plan(1, "witness = true\n")).unwrap().unwrap();
        let many = layer(&plan(8, "witness = true\n")).unwrap().unwrap();
        assert_eq!(many.limits.files - few.limits.files, 2 * (64 - 8));
        assert!(many.limits.memory > few.limits.memory);
        let fds = "witness = true\nfds = { max = 2, kinds = [\"stream\"] }\n";
        let carrying = layer(&plan(1, fds)).unwrap().unwrap();
        assert_eq!(carrying.limits.files - few.limits.files, 2 * 2 * 8);
    }
}
