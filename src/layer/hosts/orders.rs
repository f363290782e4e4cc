//! What the helpers for other hosts learn of the plan.

use std::io;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::{KEY, LINK, NAME};
use crate::ident::{Instance, Name};
use crate::policy::plan::{Audit, FilePlan, FileRight, LayerPlan, Plan};

/// Their settings.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Orders {
    /// The daemon's name.
    pub daemon: Name,
    /// This host, by its number.
    pub here: u16,
    /// All hosts, in the plan's order.
    pub hosts: Vec<Host>,
    /// Where layers run that such a channel ends at.
    pub layers: Vec<Placed>,
    /// The channels that lead to other hosts.
    pub channels: Vec<Edge>,
}

/// A host.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Host {
    /// Its name.
    pub name: Name,
    /// Its public keys.
    pub keys: Vec<[u8; 32]>,
    /// Where it is reached.
    pub address: Option<SocketAddr>,
    /// Whether a channel leads there from here.
    pub is_met: bool,
}

/// Where the copies of a layer are.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Placed {
    /// The layer.
    pub layer: Name,
    /// Its hosts, by number.
    pub hosts: Vec<u16>,
    /// How many copies each of them has.
    pub copies: u16,
}

/// A channel.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Edge {
    /// Its number in this host's plan.
    pub number: u16,
    /// Its name.
    pub name: Name,
    /// Its ends.
    pub ends: [Name; 2],
}

impl Orders {
    /// Those of the plan.
    pub fn of(plan: &Plan) -> Self {
        let Some(here) = &plan.here else {
            let none = Vec::new();
            let (hosts, layers, channels) = (none, Vec::new(), Vec::new());
            return Self { daemon: plan.name.clone(), here: 0, hosts, layers, channels };
        };
        let number = |name: &Name| {
            let place = plan.hosts.iter().position(|host| host.name == *name);
            place.and_then(|place| u16::try_from(place).ok()).unwrap_or(u16::MAX)
        };
        let edge = |(number, channel): (u16, &crate::policy::plan::ChannelPlan)| Edge {
            number,
            name: channel.name.clone(),
            ends: [channel.from.clone(), channel.to.clone()],
        };
        let channels: Vec<_> = plan.channels_across().map(edge).collect();
        let ends: Vec<_> = channels.iter().flat_map(|it| &it.ends).collect();
        let layers = here.whole.layers.iter().filter(|layer| ends.contains(&&layer.name));
        let layers: Vec<_> = layers
            .map(|layer| Placed {
                layer: layer.name.clone(),
                hosts: layer.hosts.iter().map(number).collect(),
                copies: layer.instances,
            })
            .collect();
        let own = number(&here.host);
        let is_met = |host| layers.iter().any(|it| host != own && it.hosts.contains(&host));
        let hosts = plan.hosts.iter().map(|host| Host {
            name: host.name.clone(),
            keys: host.keys.clone(),
            address: host.address,
            is_met: is_met(number(&host.name)),
        });
        let hosts = hosts.collect();
        Self { daemon: plan.name.clone(), here: own, hosts, layers, channels }
    }

    /// As they are handed over.
    pub fn encode(&self) -> Result<Vec<u8>, postcard::Error> {
        postcard::to_stdvec(self)
    }

    pub fn decode(bytes: &[u8]) -> io::Result<Self> {
        postcard::from_bytes(bytes).map_err(io::Error::other)
    }

    /// This host.
    pub fn own(&self) -> Option<&Host> {
        self.hosts.get(usize::from(self.here))
    }

    /// The name of the host of that number.
    pub fn name(&self, host: u16) -> &str {
        self.hosts.get(usize::from(host)).map_or("", |it| it.name.as_str())
    }

    /// The host of that number, if a channel leads there.
    pub fn met(&self, host: u16) -> Option<&Host> {
        self.hosts.get(usize::from(host)).filter(|it| it.is_met && host != self.here)
    }

    /// On which host a copy of a layer is, if the plan has it.
    pub fn host_of(&self, layer: &Name, copy: u16) -> Option<u16> {
        let placed = self.layers.iter().find(|it| it.layer == *layer)?;
        placed.hosts.get(usize::from(copy.checked_div(placed.copies)?)).copied()
    }

    /// The channels at which a layer ends, each with the layer at the other end.
    pub fn channels_of(&self, layer: &Name) -> impl Iterator<Item = (&Edge, &Name)> {
        let other =
            move |edge: &'_ Edge| edge.ends.iter().position(|it| it == layer).map(|it| 1 - it);
        self.channels.iter().filter_map(move |edge| Some((edge, &edge.ends[other(edge)?])))
    }

    /// Whether some copy of a layer is on that host.
    pub fn is_on(&self, layer: &Name, host: u16) -> bool {
        self.layers.iter().any(|it| it.layer == *layer && it.hosts.contains(&host))
    }

    /// Whether an instance of another host may be what it is said to be.
    pub fn may_be(&self, instance: &Instance, host: u16) -> bool {
        self.host_of(&instance.layer, instance.index) == Some(host) && instance.generation > 0
    }
}

/// Whether a layer is a client: it has a channel to another host, or carries what goes there.
pub(crate) fn serves(plan: &Plan, layer: &LayerPlan) -> bool {
    let mut across = plan.channels_across().map(|(_, channel)| [&channel.from, &channel.to]);
    let is_end = |ends: [&Name; 2]| ends.contains(&&layer.name) && layer.instances > 0;
    if layer.name == *LINK { across.next().is_some() } else { across.any(is_end) }
}

/// The private key of the host.
pub(crate) fn files(plan: &Plan) -> Vec<FilePlan> {
    let (Ok(own), Ok(name)) = (Name::new(NAME), Name::new(KEY)) else { return Vec::new() };
    let file = |path: &String| FilePlan {
        name,
        path: path.clone(),
        at: None,
        grant: [(own, vec![FileRight::Read])].into(),
        deny: Vec::new(),
        max_open: None,
        optional: false,
        follow: false,
        audit: Audit::Digest,
    };
    plan.here.as_ref().map(|here| &here.key).map(file).into_iter().collect()
}
