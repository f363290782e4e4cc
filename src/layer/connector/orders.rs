//! What the connecting helpers learn of the plan.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::confine::paths::Grant;
use crate::ident::Name;
use crate::policy::plan::{ConnectAddress, ConnectPlan, FileRight, LayerPlan, Plan};
use crate::wire::broker::Ask;

/// DNS, also over TCP, for answers that don't fit a datagram (RFC 7766).
const DNS: u16 = 53;

/// Their settings: the addresses of each layer, in its plan's order.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Orders {
    /// By layer; none in place of what the proxy connects to.
    pub targets: BTreeMap<Name, Vec<Option<ConnectAddress>>>,
}

impl Orders {
    /// Those of the plan.
    pub fn of(plan: &Plan) -> Self {
        let targets = plan.layers.iter().filter(|layer| !layer.connect.is_empty()).map(|layer| {
            let direct = |it: &ConnectPlan| (!it.is_proxied()).then(|| it.address.clone());
            let addresses = layer.connect.iter().map(direct);
            (layer.name.clone(), addresses.collect())
        });
        Self { targets: targets.collect() }
    }

    /// What the log says of a request: the address, as the policy writes it.
    pub(super) fn address(&self, layer: &Name, ask: &Ask) -> Option<Vec<u8>> {
        let Ask::Connect { address } = ask else { return None };
        let address = self.targets.get(layer)?.get(usize::from(*address))?.as_ref()?;
        Some(address.to_string().into_bytes())
    }

    /// As they are handed over.
    pub fn encode(&self) -> Result<Vec<u8>, postcard::Error> {
        postcard::to_stdvec(self)
    }

    pub(super) fn decode(bytes: &[u8]) -> io::Result<Self> {
        postcard::from_bytes(bytes).map_err(io::Error::other)
    }
}

/// Whether a layer is connected to an address of the network.
pub(crate) fn serves_network(_: &Plan, layer: &LayerPlan) -> bool {
    asks(layer, |address| !matches!(address, ConnectAddress::Unix(_)))
}

/// Whether a layer is connected to a Unix path.
pub(crate) fn serves_paths(_: &Plan, layer: &LayerPlan) -> bool {
    asks(layer, |address| matches!(address, ConnectAddress::Unix(_)))
}

/// The addresses that a layer doesn't reach by the proxy.
fn direct(layer: &LayerPlan) -> impl Iterator<Item = &ConnectAddress> {
    layer.connect.iter().filter(|it| !it.is_proxied()).map(|it| &it.address)
}

fn asks(layer: &LayerPlan, is_it: impl FnMut(&ConnectAddress) -> bool) -> bool {
    direct(layer).any(is_it)
}

/// The names that have to be looked up, each once.
pub(crate) fn names(plan: &Plan) -> Vec<String> {
    let addresses = plan.layers.iter().flat_map(direct);
    let mut names: Vec<_> = addresses.filter_map(name).map(str::to_owned).collect();
    names.sort();
    names.dedup();
    names
}

/// The name in an address, if it isn't a number.
pub(super) fn name(address: &ConnectAddress) -> Option<&str> {
    match address {
        ConnectAddress::Tcp { host, .. } | ConnectAddress::Udp { host, .. } => {
            host.parse::<IpAddr>().is_err().then_some(host)
        }
        ConnectAddress::Unix(_) | ConnectAddress::Wild { .. } => None,
    }
}

/// The ports that the helper for the network reaches.
pub(crate) fn ports(plan: &Plan) -> Vec<u16> {
    let addresses = plan.layers.iter().flat_map(direct);
    let port = |address: &ConnectAddress| match address {
        ConnectAddress::Tcp { port, .. } | ConnectAddress::Udp { port, .. } => Some(*port),
        ConnectAddress::Unix(_) | ConnectAddress::Wild { .. } => None,
    };
    let dns = (!names(plan).is_empty()).then_some(DNS);
    let mut ports: Vec<_> = addresses.filter_map(port).chain(dns).collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// What the C library reads to look up a name: its settings, and where a link among them leads.
pub(crate) fn view(plan: &Plan) -> Vec<Grant> {
    if names(plan).is_empty() { Vec::new() } else { resolver_view() }
}

/// The same for whoever looks up names.
pub(crate) fn resolver_view() -> Vec<Grant> {
    let settings = std::fs::canonicalize("/etc/resolv.conf").ok();
    let elsewhere = settings.as_deref().and_then(Path::parent).and_then(Path::to_str);
    let elsewhere = elsewhere.filter(|path| !Path::new(path).starts_with("/etc") && *path != "/");
    let rights = [FileRight::Read, FileRight::List];
    let grant = |path: &str| Grant { served: true, ..Grant::new(path, &rights) };
    ["/etc"].into_iter().chain(elsewhere).map(grant).collect()
}
