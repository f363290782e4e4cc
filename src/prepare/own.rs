//! The framework's own layers, as data: what each is called, what it may do, which plans need it,
//! and what the supervisor does differently for it. The supervisor learns of the last alone
//! ([`OwnImage`]), and knows none of their names.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::confine::cgroup::Counter;
use crate::confine::filter::Action;
use crate::confine::paths::Grant;
use crate::ident::Name;
use crate::layer::auditor::{self, orders::Orders};
use crate::layer::logger::orders::{Marks, Settings};
use crate::layer::{
    connector, control, files, hosts, ledger, link, logger, metrics, proxy, witness,
};
use crate::policy::plan::{FilePlan, LayerPlan, OnFull, Plan, Program, Protection};
use crate::policy::{self, Inputs};
use crate::wire::control::{Service, host_part};
use crate::wire::limits::RECORD;

/// A layer of the framework's own.
#[expect(clippy::struct_excessive_bools, reason = "each says one thing that is special about it")]
pub(super) struct Own {
    /// What it does.
    role: Role,
    /// What it is called, as a layer and as a function. No policy may use the name.
    name: &'static str,
    /// Its least policy: the name of the file, and its text.
    policy: (&'static str, &'static str),
    /// Whether a plan needs it; the second is whether there is a log.
    needed: fn(&Plan, bool) -> bool,
    /// Makes its limits fit the plan.
    fit: fn(&mut LayerPlan, &Plan),
    /// Whether it does something for a layer, which then holds a socket to it.
    serves: fn(&Plan, &LayerPlan) -> bool,
    /// What it must know: its settings, from the plan.
    settings: fn(&Plan) -> Result<Vec<u8>, postcard::Error>,
    /// Bytes of memory that outlives it, for what its next life must know.
    state: fn(&Plan) -> usize,
    /// Files of the plan's that it reads for others.
    files: fn(&Plan) -> Vec<FilePlan>,
    /// Directories of the host that it sees for others.
    pub view: fn(&Plan) -> Vec<Grant>,
    /// Ports that it may connect to.
    ports: fn(&Plan) -> Vec<u16>,
    /// Whether it is in the host's network namespace.
    networked: bool,
    /// Whether it may connect to Unix sockets of the host.
    sockets: bool,
    /// A directory of the host on which it gets a handle: the part that it is told, and the path.
    host: Option<(u32, &'static str)>,
    /// What becomes of a call that its policy doesn't have.
    pub unlisted: Action,
    /// It ends once all those with a lower number have. The policy's layers have 0.
    last: u8,
    /// It outlives the supervisor for a moment, to write down what the others did.
    lingers: bool,
    /// Whether it reports to the auditor.
    pub reports: bool,
}

/// What one of the framework's own layers does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Role {
    /// Writes the audit log. Nobody else begins before it has the log open.
    Auditor,
    /// Relays channels whose ends might both lie.
    Witness,
    /// Answers people who ask after the daemon; there only while somebody does.
    Control,
    /// Serves the daemon's numbers.
    Metrics,
    /// Carries what is said to other hosts.
    Link,
    /// Writes the log on standard error. Nobody else begins before it does.
    Log,
    /// Does something for other layers that ask it.
    Service(Service),
}

/// What the supervisor knows of one of them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct OwnImage {
    /// What it does.
    pub role: Role,
    /// What it must know: its settings.
    pub settings: Vec<u8>,
    /// Bytes of memory that outlives it, for what its next life must know.
    pub state: u64,
    /// Ports that it may connect to.
    pub ports: Vec<u16>,
    /// Whether it is in the host's network namespace.
    pub networked: bool,
    /// Whether it may connect to Unix sockets of the host.
    pub sockets: bool,
    /// A directory of the host on which it gets a handle: the part that it is told, and the path.
    pub host: Option<(u32, String)>,
    /// It ends once all those with a lower number have. The policy's layers have 0.
    pub last: u8,
    /// It outlives the supervisor for a moment, to write down what the others did.
    pub lingers: bool,
}

/// All there are. The auditor is the first, for its number in the log.
static OWN: [Own; 12] = [
    Own {
        role: Role::Auditor,
        name: auditor::NAME,
        policy: ("auditor.toml", include_str!("own/auditor.toml")),
        needed: |_, logged| logged,
        fit: |layer, plan| {
            layer.limits.file_size = plan.audit.segment_bytes.saturating_mul(4).max(1 << 30);
        },
        last: 2,
        lingers: true,
        reports: false,
        ..Own::PLAIN
    },
    Own {
        role: Role::Log,
        name: logger::NAME,
        policy: ("log.toml", include_str!("own/log.toml")),
        needed: |_, _| true,
        fit: fit_log,
        last: 3,
        lingers: true,
        ..Own::PLAIN
    },
    Own {
        role: Role::Control,
        name: control::NAME,
        policy: ("control.toml", include_str!("own/control.toml")),
        needed: |_, _| true,
        ..Own::PLAIN
    },
    Own {
        role: Role::Metrics,
        name: metrics::NAME,
        policy: ("metrics.toml", include_str!("own/metrics.toml")),
        needed: |plan, _| plan.metrics.is_some(),
        fit: fit_metrics,
        ..Own::PLAIN
    },
    Own {
        role: Role::Witness,
        name: witness::NAME,
        policy: ("witness.toml", include_str!("own/witness.toml")),
        needed: |plan, logged| logged && plan.channels.iter().any(|channel| channel.witness),
        fit: fit_witness,
        ..Own::PLAIN
    },
    Own {
        role: Role::Service(Service::Hosts),
        name: hosts::NAME,
        policy: ("hosts.toml", include_str!("own/hosts.toml")),
        needed: |plan, _| plan.channels_across().next().is_some(),
        fit: fit_hosts,
        serves: hosts::serves,
        settings: |plan| hosts::Orders::of(plan).encode(),
        state: |_| hosts::STATE,
        files: hosts::files,
        ..Own::PLAIN
    },
    Own {
        role: Role::Link,
        name: link::NAME,
        policy: ("link.toml", include_str!("own/link.toml")),
        needed: |plan, _| plan.channels_across().next().is_some(),
        fit: fit_link,
        settings: |plan| hosts::Orders::of(plan).encode(),
        ports: link::ports,
        networked: true,
        ..Own::PLAIN
    },
    Own {
        role: Role::Service(Service::Ledger),
        name: ledger::NAME,
        policy: ("ledger.toml", include_str!("own/ledger.toml")),
        needed: |plan, _| plan.layers.iter().any(|layer| asks_ledger(plan, layer)),
        fit: fit_ledger,
        serves: asks_ledger,
        settings: |plan| ledger::Orders::of(plan).encode(),
        state: |plan| ledger::state_bytes(&plan.facilities.semaphores),
        ..Own::PLAIN
    },
    Own {
        role: Role::Service(Service::Files),
        name: files::NAME,
        policy: ("files.toml", include_str!("own/files.toml")),
        needed: |plan, _| plan.layers.iter().any(|layer| files::serves(plan, layer)),
        fit: fit_files,
        serves: files::serves,
        settings: |plan| files::Orders::of(plan).encode(),
        view: files::view,
        host: Some((host_part::PROC, "/proc")),
        ..Own::PLAIN
    },
    Own {
        role: Role::Service(Service::Network),
        name: connector::NETWORK,
        policy: ("connector.toml", include_str!("own/connector.toml")),
        needed: |plan, _| plan.layers.iter().any(|it| connector::serves_network(plan, it)),
        fit: fit_connector,
        serves: connector::serves_network,
        settings: |plan| connector::Orders::of(plan).encode(),
        view: connector::view,
        ports: connector::ports,
        networked: true,
        // Where name services listen.
        sockets: true,
        // The C library goes on without what it is refused.
        unlisted: Action::Errno(EPERM),
        ..Own::PLAIN
    },
    Own {
        role: Role::Service(Service::Paths),
        name: connector::PATHS,
        policy: ("paths.toml", include_str!("own/paths.toml")),
        needed: |plan, _| plan.layers.iter().any(|it| connector::serves_paths(plan, it)),
        fit: fit_paths,
        serves: connector::serves_paths,
        settings: |plan| connector::Orders::of(plan).encode(),
        host: Some((host_part::ROOT, "/")),
        sockets: true,
        ..Own::PLAIN
    },
    Own {
        role: Role::Service(Service::Proxy),
        name: proxy::NAME,
        policy: ("proxy.toml", include_str!("own/proxy.toml")),
        needed: |plan, _| plan.layers.iter().any(|it| proxy::serves(plan, it)),
        fit: fit_proxy,
        serves: proxy::serves,
        settings: |plan| proxy::Orders::of(plan).encode(),
        files: proxy::files,
        view: proxy::view,
        ports: proxy::ports,
        networked: true,
        // Where name services listen.
        sockets: true,
        // The C library goes on without what it is refused.
        unlisted: Action::Errno(EPERM),
        ..Own::PLAIN
    },
];

impl Own {
    /// One that nothing is special about.
    const PLAIN: Self = Self {
        role: Role::Auditor,
        name: "",
        policy: ("", ""),
        needed: |_, _| false,
        fit: |_, _| {},
        serves: |_, _| false,
        settings: |_| Ok(Vec::new()),
        state: |_| 0,
        files: |_| Vec::new(),
        view: |_| Vec::new(),
        ports: |_| Vec::new(),
        networked: false,
        sockets: false,
        host: None,
        unlisted: Action::Kill,
        last: 1,
        lingers: false,
        reports: true,
    };

    /// The one of that name.
    pub(super) fn find(name: &Name) -> Option<&'static Self> {
        OWN.iter().find(|own| *name == own.name)
    }

    /// The helpers that do something for a layer.
    pub(super) fn services(plan: &Plan, layer: &LayerPlan) -> Vec<Service> {
        let service = |own: &Self| match own.role {
            Role::Service(service) if (own.serves)(plan, layer) => Some(service),
            _ => None,
        };
        OWN.iter().filter_map(service).collect()
    }

    /// Adds to `plan` all that it needs, behind its own layers. `log` is
    /// where the audit log is, if there is one.
    /// A plan that was there before has places for them.
    pub(super) fn add(plan: &mut Plan, log: Option<&Path>) -> Result<(), OwnError> {
        let needed = OWN.iter().filter(|own| (own.needed)(plan, log.is_some())).collect::<Vec<_>>();
        let layers = needed.iter().map(|own| own.plan(plan, log)).collect::<Result<Vec<_>, _>>()?;
        for own in layers {
            for layer in own.layers {
                match plan.layers.iter_mut().find(|it| it.name == layer.name) {
                    Some(place) => *place = layer,
                    None => plan.layers.push(layer),
                }
            }
            plan.files.extend(own.files);
        }
        Ok(())
    }

    /// What the supervisor must know of it. `auditor` is what the auditor must know, if there is a
    /// log, `marks` what the events of layers begin with.
    pub(super) fn image(
        &self,
        plan: &Plan,
        auditor: Option<&Orders>,
        marks: &Marks,
    ) -> Result<OwnImage, postcard::Error> {
        let Self { role, networked, sockets, last, lingers, .. } = *self;
        Ok(OwnImage {
            role,
            settings: match (role, auditor) {
                (Role::Auditor, Some(orders)) => orders.encode(),
                (Role::Log, _) => Settings::of(plan, marks).encode(),
                _ => (self.settings)(plan),
            }?,
            state: (self.state)(plan) as u64,
            ports: (self.ports)(plan),
            networked,
            sockets,
            host: self.host.map(|(part, path)| (part, path.to_owned())),
            last,
            lingers,
        })
    }

    /// Its part of the plan: its policy as a plan, under its real name.
    fn plan(&self, plan: &Plan, log: Option<&Path>) -> Result<Plan, OwnError> {
        let (file, text) = self.policy;
        let directory = log.filter(|_| self.role == Role::Auditor);
        let vars = directory.map(|path| ("directory".to_owned(), path.display().to_string()));
        let inputs = Inputs { load: None, vars: vars.as_slice(), ceiling: None };
        let mut own = checked(file, text, &inputs)?;
        let name = Name::new(self.name).map_err(|error| OwnError(error.to_string()))?;
        for layer in &mut own.layers {
            layer.name = name.clone();
            layer.program = Program::Run(name.clone());
            (self.fit)(layer, plan);
        }
        for file in &mut own.files {
            file.name = name.clone();
            let rights = std::mem::take(&mut file.grant);
            file.grant = rights.into_values().map(|rights| (name.clone(), rights)).collect();
        }
        own.files.extend((self.files)(plan));
        Ok(own)
    }
}

/// A mistake of ours.
#[derive(Debug, thiserror::Error)]
#[error("the framework's own policy is wrong: {0}")]
pub(super) struct OwnError(String);

fn checked(name: &str, text: &str, inputs: &Inputs<'_>) -> Result<Plan, OwnError> {
    let checked = policy::check_with(name, text.as_bytes(), inputs);
    let complaint = checked.render(false);
    checked.plan.ok_or(OwnError(complaint))
}

fn copies(plan: &Plan, layer: &Name) -> u64 {
    plan.layer(layer.as_str()).map_or(0, |layer| layer.instances.into())
}

/// Each link has two sockets, and a datagram in either direction with its descriptors.
fn fit_witness(layer: &mut LayerPlan, plan: &Plan) {
    for channel in plan.channels.iter().filter(|channel| channel.witness) {
        let links = copies(plan, &channel.from) * copies(plan, &channel.to);
        layer.limits.files += links * 2 * (1 + u64::from(channel.most_fds()));
        layer.limits.memory += links * 2 * RECORD as u64;
    }
}

/// A socket for each client.
fn fit_hosts(layer: &mut LayerPlan, plan: &Plan) {
    let clients = plan.layers.iter().filter(|it| hosts::serves(plan, it));
    layer.limits.files += clients.map(|it| u64::from(it.instances)).sum::<u64>();
}

/// Each link has a socket, and what is on its way in either direction; and where it listens.
fn fit_link(layer: &mut LayerPlan, plan: &Plan) {
    let links: u64 = plan.channels_across().map(|(_, it)| plan.links_across(it)).sum();
    layer.limits.files += links;
    layer.limits.memory += links * 2 * link::WINDOW;
    layer.listen = link::listen(plan).into_iter().collect();
}

/// Whether a layer may ask for permits, or for room in a queue.
fn asks_ledger(plan: &Plan, layer: &LayerPlan) -> bool {
    let all = &plan.facilities;
    matches!(layer.program, Program::Run(_))
        && (all.semaphores.iter().any(|semaphore| semaphore.holders.contains(&layer.name))
            || all.queues.iter().any(|queue| {
                queue.on_full == OnFull::DropOldest && queue.send.contains(&layer.name)
            }))
}

/// A socket for each client, a queue's ends, and what is known of permits and of those who wait.
fn fit_ledger(layer: &mut LayerPlan, plan: &Plan) {
    let clients = plan.layers.iter().filter(|layer| asks_ledger(plan, layer));
    let clients: u64 = clients.map(|layer| u64::from(layer.instances)).sum();
    let queues = plan.facilities.queues.iter().filter(|it| it.on_full == OnFull::DropOldest);
    let permits = plan.facilities.semaphores.iter().map(|it| u64::from(it.permits)).sum::<u64>();
    layer.limits.files += clients + queues.clone().map(|it| u64::from(it.lanes())).sum::<u64>();
    layer.limits.memory += clients * ledger::CLIENT + permits * ledger::PERMIT;
    layer.limits.memory += queues.map(|it| u64::from(it.max)).sum::<u64>();
}

/// A socket and a thread for each client, another while a file is opened that can't be truncated,
/// and what it works on. As root it opens files of any owner, and gives what it makes to root.
fn fit_files(layer: &mut LayerPlan, plan: &Plan) {
    let clients = fit_clients(layer, plan, files::serves);
    layer.limits.files += clients * 16 + plan.files.len() as u64;
    layer.limits.tasks += clients * 2;
    layer.limits.memory += clients * files::CLIENT;
    if rustix::process::geteuid().is_root() {
        layer.capabilities = vec![CAP_CHOWN, CAP_DAC_OVERRIDE];
    }
}

/// A socket for each client and its connections under way, and a thread for each name.
fn fit_connector(layer: &mut LayerPlan, plan: &Plan) {
    let clients = fit_clients(layer, plan, connector::serves_network);
    let names = connector::names(plan).len() as u64;
    layer.limits.files += clients * (1 + connector::MAX_UNDER_WAY as u64) + names * 8;
    layer.limits.tasks += names;
    layer.limits.memory += names * connector::NAME_BYTES;
}

/// For each client a socket and both ends of its connections, and on the way a third.
fn fit_proxy(layer: &mut LayerPlan, plan: &Plan) {
    let clients = fit_clients(layer, plan, proxy::serves);
    let connections = clients * proxy::MOST as u64;
    layer.limits.files += clients + connections * 3 + proxy::LOOKING_UP as u64 * 8;
    layer.limits.tasks += proxy::LOOKING_UP as u64;
    layer.limits.memory += connections * proxy::CONNECTION;
    layer.listen = proxy::listen();
    // A name that isn't there is none: no domain of the host's is tried behind it (resolv.conf(5)).
    layer.env.insert("LOCALDOMAIN".to_owned(), ".".to_owned());
}

/// A socket and a thread for each client. As root it reaches sockets of any owner.
fn fit_paths(layer: &mut LayerPlan, plan: &Plan) {
    let clients = fit_clients(layer, plan, connector::serves_paths);
    layer.limits.files += clients * (1 + connector::MAX_UNDER_WAY as u64);
    layer.limits.tasks += clients;
    layer.limits.memory += clients << 20;
    if rustix::process::geteuid().is_root() {
        layer.capabilities = vec![CAP_DAC_OVERRIDE];
    }
}

/// Three pipes for each instance, as long as a former life of it isn't cleared away too, and some for
/// our own. Standard error may be a file of any size.
fn fit_log(layer: &mut LayerPlan, plan: &Plan) {
    layer.limits.files += fit_clients(layer, plan, |_, _| true) * 6;
    layer.limits.file_size = u64::MAX;
}

/// What the kernel counts of each instance, and where it listens.
fn fit_metrics(layer: &mut LayerPlan, plan: &Plan) {
    let instances: u64 = plan.layers.iter().map(|layer| u64::from(layer.instances)).sum();
    layer.limits.files += (instances + OWN.len() as u64) * Counter::ALL.len() as u64;
    layer.listen = plan.metrics.and_then(metrics::listen).into_iter().collect();
}

/// What a helper owes to its clients: it may lack a protection that all of them may lack, and uses
/// no more of the processors than they could themselves. Gives how many there are.
fn fit_clients(layer: &mut LayerPlan, plan: &Plan, serves: fn(&Plan, &LayerPlan) -> bool) -> u64 {
    let serves = |it: &&LayerPlan| it.instances > 0 && serves(plan, it);
    let clients: Vec<_> = plan.layers.iter().filter(serves).collect();
    let all = |it: &Protection| clients.iter().all(|client| client.optional.contains(it));
    let optional = clients.first().map_or(&[][..], |client| &client.optional);
    layer.optional.extend(optional.iter().copied().filter(all));
    layer.optional.sort_unstable();
    layer.optional.dedup();
    let cpu = |it: &&LayerPlan| Some(it.limits.cpu?.saturating_mul(it.instances.into()));
    layer.limits.cpu = clients.iter().map(cpu).sum();
    clients.iter().map(|client| u64::from(client.instances)).sum()
}

/// linux/capability.h.
const CAP_CHOWN: u8 = 0;
const CAP_DAC_OVERRIDE: u8 = 1;

const EPERM: u16 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    /// A plan of two layers, and what `more` says of them.
    fn plan(instances: u16, more: &str) -> Plan {
        let text = format!(
            "cofferdam = 1\nname = \"x\"\n\
             [layer.a]\nrun = \"a\"\nsyscalls = [\"@core\"]\ninstances = {instances}\n\
             [layer.b]\nrun = \"b\"\nsyscalls = [\"@core\"]\ninstances = 8\n\
             [channel.c]\nfrom = \"a\"\nto = \"b\"\n{more}"
        );
        let inputs = Inputs { load: None, vars: &[], ceiling: None };
        checked("test.toml", &text, &inputs).unwrap_or_else(|e| panic!("{e}"))
    }

    /// What `own` is in a plan, if that needs it.
    fn part(role: Role, plan: &Plan) -> Option<Plan> {
        let own = OWN.iter().find(|own| own.role == role && (own.needed)(plan, true))?;
        Some(own.plan(plan, Some(Path::new("/var/log/x"))).unwrap_or_else(|e| panic!("{e}")))
    }

    #[test]
    fn every_policy_of_our_own_is_sound() {
        for own in &OWN {
            let plan = own.plan(&plan(1, ""), Some(Path::new("/var/log/x")));
            let plan = plan.unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(plan.layers.len(), 1);
            assert_eq!(plan.layers[0].name, own.name);
            assert!(own.name.starts_with(LayerPlan::RESERVED));
            assert_eq!(plan.files.len(), usize::from(own.role == Role::Auditor));
        }
        let auditor = part(Role::Auditor, &plan(1, "")).unwrap();
        assert_eq!(auditor.files[0].path, "/var/log/x");
    }

    #[test]
    fn the_witness_has_room_for_its_links() {
        let limits = |instances, more| {
            part(Role::Witness, &plan(instances, more)).map(|it| it.layers[0].limits.clone())
        };
        assert!(limits(1, "").is_none());
        let few = limits(1, "witness = true\n").unwrap();
        let many = limits(8, "witness = true\n").unwrap();
        assert_eq!(many.files - few.files, 2 * (64 - 8));
        assert!(many.memory > few.memory);
        let fds = "witness = true\nfds = { max = 2, kinds = [\"stream\"] }\n";
        assert_eq!(limits(1, fds).unwrap().files - few.files, 2 * 2 * 8);
    }

    #[test]
    fn the_ledger_is_there_for_those_who_may_ask() {
        let ledger = Role::Service(Service::Ledger);
        assert!(part(ledger, &plan(1, "")).is_none());
        let one = "[semaphore.s]\npermits = 1\nholders = [\"b\"]\n";
        let few = part(ledger, &plan(1, one)).unwrap();
        let both = "[semaphore.s]\npermits = 1\nholders = [\"a\", \"b\"]\n";
        let many = part(ledger, &plan(8, both)).unwrap();
        assert_eq!(many.layers[0].limits.files - few.layers[0].limits.files, 8);
    }
    #[test]
    fn helpers_serve_those_alone_who_may_ask_for_something() {
        let facilities = "[semaphore.s]\npermits = 1\nholders = [\"b\"]\n\
             [file.f]\npath = \"/usr/share\"\ngrant = { b = [\"read\"] }\nmax-open = 1\n";
        let mut plan = plan(1, facilities);
        Own::add(&mut plan, Some(Path::new("/var/log"))).unwrap();
        for layer in &plan.layers {
            let both = vec![Service::Ledger, Service::Files];
            let expected = if layer.name == "b" { both } else { Vec::new() };
            assert_eq!(Own::services(&plan, layer), expected, "{}", layer.name);
        }
        // The log is the auditor's alone.
        let seen: Vec<_> = files::view(&plan).into_iter().map(|grant| grant.path).collect();
        assert_eq!(seen, ["/usr/share"]);
    }

    #[test]
    fn a_helper_lacks_only_what_all_of_its_clients_may_lack() {
        let addresses = "connect = { n = \"tcp:127.0.0.1:1\", p = \"unix:/run/door\" }";
        let plan = |a: &str, b: &str| {
            let layer = |name: &str, optional: &str| {
                format!(
                    "[layer.{name}]\nrun = \"{name}\"\nsyscalls = [\"@core\"]\n{addresses}\n\
                     optional = [{optional}]\n"
                )
            };
            let text = format!(
                "cofferdam = 1\nname = \"x\"\n{}{}[layer.c]\nrun = \"c\"\nsyscalls = [\"@core\"]\n\
                 [file.f]\npath = \"/usr/share\"\nmax-open = 1\n\
                 grant = {{ a = [\"read\"], b = [\"read\"] }}\n",
                layer("a", a),
                layer("b", b)
            );
            let inputs = Inputs { load: None, vars: &[], ceiling: None };
            checked("test.toml", &text, &inputs).unwrap_or_else(|e| panic!("{e}"))
        };
        for service in [Service::Files, Service::Network, Service::Paths] {
            let lacks = |a, b| {
                let helper = part(Role::Service(service), &plan(a, b)).unwrap();
                helper.layers[0].optional.contains(&Protection::LandlockFile)
            };
            let landlock = "\"landlock.file\"";
            assert!(lacks(landlock, landlock), "{service:?}");
            assert!(!lacks(landlock, ""), "{service:?}");
            assert!(!lacks("", landlock), "{service:?}");
            assert!(!lacks("", ""), "{service:?}");
        }
    }
}
