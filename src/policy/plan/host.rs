//! The machines on which a daemon's layers run, and one machine's part of a plan.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::{ChannelPlan, LayerPlan, Plan, Program, View};
use crate::ident::Name;

/// A machine on which layers run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HostPlan {
    /// Its name.
    pub name: Name,
    /// Its public keys (X25519): none where all layers run on one machine, two while it changes its
    /// key.
    pub keys: Vec<[u8; 32]>,
    /// Where the other hosts reach it; `None`: it only calls others.
    pub address: Option<SocketAddr>,
}

/// Whose part of a plan it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Here {
    /// The host.
    pub host: Name,
    /// Where its private key is.
    pub key: String,
    /// The plan of all hosts.
    pub whole: Box<Plan>,
}

impl Plan {
    /// The most hosts of one plan.
    pub const MAX_HOSTS: usize = 64;

    /// Whether its layers are to run on several machines.
    pub fn is_shared(&self) -> bool {
        self.hosts.iter().any(|host| !host.keys.is_empty())
    }

    /// The host of that name.
    pub fn host(&self, name: &str) -> Option<&HostPlan> {
        self.hosts.iter().find(|host| host.name == name)
    }

    /// The plan of a machine on which all layers run: as many copies of each as on one of its hosts.
    #[must_use]
    pub fn on_one_machine(mut self) -> Self {
        self.hosts = Vec::new();
        for layer in &mut self.layers {
            layer.hosts = Vec::new();
        }
        for channel in &mut self.channels {
            channel.across = false;
        }
        self
    }

    /// A host's part of this plan: what other hosts run has no copies and no rights in it, and is only
    /// there to be named. `key` is where the host's private key is.
    #[must_use]
    pub fn on(self, host: &Name, key: &str) -> Self {
        let mut plan = self.clone();
        plan.here = Some(Here { host: host.clone(), key: key.to_owned(), whole: Box::new(self) });
        for layer in &mut plan.layers {
            match layer.hosts.iter().position(|it| it == host) {
                Some(place) => {
                    let before = u16::try_from(place).unwrap_or(u16::MAX);
                    layer.first = layer.instances.saturating_mul(before);
                }
                None => layer.runs_elsewhere(),
            }
        }
        let gone: Vec<_> = plan.layers.iter().filter(|layer| layer.instances == 0).collect();
        let gone: Vec<_> = gone.into_iter().map(|layer| layer.name.clone()).collect();
        let is_here = |layer: &Name| !gone.contains(layer);
        for file in &mut plan.files {
            file.grant.retain(|layer, _| is_here(layer));
        }
        plan.files.retain(|file| !file.grant.is_empty());
        // Whoever shares one of these is on the same hosts.
        let all = &mut plan.facilities;
        all.signals.retain(|it| is_here(&it.from));
        all.queues.retain(|it| it.send.iter().chain(&it.receive).any(is_here));
        all.pipes.retain(|it| is_here(&it.from));
        all.fifos.retain(|it| is_here(&it.to));
        all.semaphores.retain(|it| it.holders.iter().any(is_here));
        all.regions.retain(|it| it.grant.keys().any(is_here));
        all.mapped_files.retain(|it| it.grant.keys().any(is_here));
        plan
    }

    /// Whether a layer runs on another host than the one whose part this is.
    pub fn is_elsewhere(&self, layer: &Name) -> bool {
        let here = self.here.as_ref().map(|here| &here.host);
        let found = self.layers.iter().find(|it| it.name == *layer);
        // The framework's own layers are on every host.
        here.zip(found)
            .is_some_and(|(here, layer)| !layer.hosts.is_empty() && !layer.hosts.contains(here))
    }

    /// The channels that lead from this host to another one, with their numbers.
    pub fn channels_across(&self) -> impl Iterator<Item = (u16, &ChannelPlan)> {
        let leads = |channel: &ChannelPlan| {
            channel.across && self.is_elsewhere(&channel.from) != self.is_elsewhere(&channel.to)
        };
        (0..).zip(&self.channels).filter(move |(_, channel)| leads(channel))
    }

    /// How many links of a channel lead to other hosts, between copies of this one and of those.
    pub fn links_across(&self, channel: &ChannelPlan) -> u64 {
        let whole = self.here.as_ref().map_or(self, |here| &here.whole);
        let copies = |layer: &Name| {
            let found = whole.layers.iter().find(|it| it.name == *layer);
            let copies = found.map_or(0, |it| usize::from(it.instances) * it.hosts.len());
            u64::try_from(copies).unwrap_or(u64::MAX)
        };
        copies(&channel.from).saturating_mul(copies(&channel.to))
    }

    /// The host of a copy of a layer, by its number among those of all hosts.
    pub fn host_of(&self, layer: &Name, copy: u16) -> Option<&Name> {
        let whole = self.here.as_ref().map_or(self, |here| &here.whole);
        let layer = whole.layers.iter().find(|it| it.name == *layer)?;
        layer.hosts.get(usize::from(copy.checked_div(layer.instances)?))
    }
}

impl LayerPlan {
    /// Leaves nothing of it but its name.
    fn runs_elsewhere(&mut self) {
        self.instances = 0;
        self.elastic = None;
        self.workers = None;
        self.program = Program::Run(self.name.clone());
        self.syscalls = Vec::new();
        self.listen = Vec::new();
        self.connect = Vec::new();
        (self.stdin, self.stdout, self.stderr) = (None, None, None);
        self.after = Vec::new();
        self.health = None;
        self.directories = Vec::new();
        self.view = View::default();
        "/".clone_into(&mut self.cwd);
        self.env = BTreeMap::new();
        self.vars = BTreeMap::new();
        self.capabilities = Vec::new();
        (self.uid, self.group) = (None, None);
    }
}
