//! What the proxy learns of the plan, and what it needs of the machine.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use super::NAME;
use super::address::DNS;
use super::credential::Stated;
use super::rules::{Rule, Rules};
use crate::confine::paths::Grant;
use crate::ident::Name;
use crate::layer::connector;
use crate::policy::plan::{
    Audit, ConnectAddress, ConnectPlan, FilePlan, FileRight, LayerPlan, ListenAddress, ListenPlan,
    Pass, Plan,
};

/// The name of the socket at which the proxy meets itself.
pub(super) const DOOR: &str = "door";

/// Its settings.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Orders {
    /// What each layer may reach.
    pub(super) rules: BTreeMap<Name, Rules>,
    /// Credentials, by their number.
    pub(super) credentials: Vec<Stated>,
}

impl Orders {
    /// Those of the plan.
    pub fn of(plan: &Plan) -> Self {
        let mut orders = Self { rules: BTreeMap::new(), credentials: Vec::new() };
        let files = Files::of(plan);
        for layer in plan.layers.iter().filter(|layer| serves(plan, layer)) {
            let mut rules = Vec::new();
            for target in &layer.connect {
                let credential = target.inject.as_ref().and_then(|inject| {
                    let authorities = inject.authorities.as_ref();
                    orders.credentials.push(Stated {
                        header: inject.header.clone(),
                        prefix: inject.prefix.clone(),
                        secret: files.name(&inject.file)?,
                        authorities: authorities.and_then(|path| files.name(path)),
                    });
                    Some(orders.credentials.len() - 1)
                });
                rules.push(Rule { address: target.address.clone(), credential });
            }
            orders.rules.insert(layer.name.clone(), Rules(rules));
        }
        orders
    }

    /// As they are handed over.
    pub fn encode(&self) -> Result<Vec<u8>, postcard::Error> {
        postcard::to_stdvec(self)
    }

    pub(super) fn decode(bytes: &[u8]) -> io::Result<Self> {
        postcard::from_bytes(bytes).map_err(io::Error::other)
    }
}

/// The files that only the proxy reads, by path.
struct Files<'a>(Vec<&'a str>);

impl<'a> Files<'a> {
    fn of(plan: &'a Plan) -> Self {
        let targets = plan.layers.iter().flat_map(|layer| &layer.connect);
        let injected = targets.filter_map(|target| target.inject.as_ref());
        let paths = injected.flat_map(|it| [Some(&it.file), it.authorities.as_ref()]);
        let mut paths: Vec<&str> = paths.flatten().map(String::as_str).collect();
        paths.sort_unstable();
        paths.dedup();
        Self(paths)
    }

    fn name(&self, path: &str) -> Option<Name> {
        let number = self.0.iter().position(|own| *own == path)?;
        Name::new(&format!("{NAME}-{number}")).ok()
    }
}

/// Grants to the proxy: the files of credentials.
pub(crate) fn files(plan: &Plan) -> Vec<FilePlan> {
    let files = Files::of(plan);
    let Ok(own) = Name::new(NAME) else { return Vec::new() };
    let grant = |path: &&str| {
        Some(FilePlan {
            name: files.name(path)?,
            path: (*path).to_owned(),
            at: None,
            grant: [(own.clone(), vec![FileRight::Read])].into(),
            deny: Vec::new(),
            max_open: None,
            optional: false,
            follow: false,
            audit: Audit::Digest,
        })
    };
    files.0.iter().filter_map(grant).collect()
}

/// Whether a layer reaches some of its addresses by the proxy.
pub(crate) fn serves(_: &Plan, layer: &LayerPlan) -> bool {
    layer.connect.iter().any(ConnectPlan::is_proxied)
}

/// The ports that the proxy reaches: those of its layers, and what it takes to look up names and to
/// meet itself.
pub(crate) fn ports(plan: &Plan) -> Vec<u16> {
    let layers = plan.layers.iter().filter(|layer| serves(plan, layer));
    let port = |address: &ConnectAddress| match address {
        ConnectAddress::Tcp { port, .. } | ConnectAddress::Wild { port, .. } => Some(*port),
        ConnectAddress::Udp { .. } | ConnectAddress::Unix(_) => None,
    };
    let targets = layers.flat_map(|layer| &layer.connect);
    let ports = targets.filter_map(|target| port(&target.address));
    let mut ports: Vec<_> = ports.chain([DNS, door().port()]).collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// What the C library reads to look up a name.
pub(crate) fn view(_: &Plan) -> Vec<Grant> {
    connector::resolver_view()
}

/// The socket at which the proxy meets itself.
pub(crate) fn listen() -> Vec<ListenPlan> {
    let name = Name::new(DOOR).into_iter();
    let address = ListenAddress::Tcp(door());
    let plan = |name| ListenPlan {
        name,
        address: address.clone(),
        pass: Pass::Name,
        rate: None,
        per_source: None,
        max: None,
    };
    name.map(plan).collect()
}

/// Its address: of this machine alone, another one for each daemon, and of a port below those that
/// the kernel gives to who connects.
fn door() -> SocketAddr {
    static CHOSEN: OnceLock<SocketAddr> = OnceLock::new();
    *CHOSEN.get_or_init(|| {
        let mut chance = [0; 5];
        // Without chance two daemons may meet; the second is told that the address is taken.
        let _ = getrandom::fill(&mut chance);
        let [a, b, c, high, low] = chance;
        let port = 20_000 + u16::from_be_bytes([high, low]) % 10_000;
        SocketAddr::from((Ipv4Addr::new(127, a | 1, b, c.clamp(1, 254)), port))
    })
}
