//! Checking `[host.NAME]`, where layers run, and what can't be between two hosts.

use std::collections::BTreeMap;

use super::{audit, name, nearest};
use crate::ident::Name;
use crate::policy::code::Code;
use crate::policy::diagnostic::{Diagnostics, Span};
use crate::policy::document::{At, ChannelText, Document, HostText};
use crate::policy::plan::{HostPlan, LayerPlan, ListenAddress, Plan, Transport};

/// The hosts, each by itself and beside the others.
pub(super) fn all(document: &Document, out: &mut Diagnostics) -> Vec<HostPlan> {
    let hosts = &document.hosts;
    if let (true, Some(last)) = (hosts.len() > Plan::MAX_HOSTS, hosts.last()) {
        let message = format!("{} hosts", hosts.len());
        out.error(Code::OutOfRange, &last.name.span, message)
            .label(format!("a policy has at most {}", Plan::MAX_HOSTS));
    }
    let keyed = hosts.iter().find(|host| key_of(host).is_some());
    if let Some(keyed) = keyed {
        for host in hosts.iter().filter(|host| key_of(host).is_none()) {
            let message = format!("host `{}` has no key", host.name.value.escape_debug());
            out.error(Code::NoHost, &host.name.span, message)
                .label("the others could not know it")
                .also(&keyed.name.span, "this one has a key, so layers run on several machines")
                .help("write `key = \"...\"`, as `cofferdam host key` prints it there")
                .help("or take the others out: without any key all layers run on one machine");
        }
    }
    one_key_each(hosts, out);
    let mut plans: Vec<_> = hosts.iter().filter_map(|host| one(host, out)).collect();
    plans.sort_by(|a, b| a.name.cmp(&b.name));
    plans
}

/// A host's key. One of no letters is none, so that a variable can stand for it.
fn key_of(host: &HostText) -> Option<&At<String>> {
    host.key.as_ref().filter(|key| !key.value.is_empty())
}

fn next_key_of(host: &HostText) -> Option<&At<String>> {
    host.next_key.as_ref().filter(|key| !key.value.is_empty())
}

fn one(host: &HostText, out: &mut Diagnostics) -> Option<HostPlan> {
    let own_name = name(&host.name, "a host", out);
    if let (None, Some(next)) = (key_of(host), next_key_of(host)) {
        out.error(Code::Contradiction, &next.span, "`next-key` without `key`")
            .label("nothing is changed to it")
            .help("write it as `key`");
    }
    let keys = [key_of(host), next_key_of(host)].into_iter().flatten();
    let keys = keys.filter_map(|key| audit::host_key(key, out)).collect();
    let address = host.address.as_ref().and_then(|address| match address.value {
        ListenAddress::Tcp(tcp) if tcp.port() != 0 => Some(tcp),
        _ => {
            out.error(Code::Contradiction, &address.span, "hosts reach each other by TCP")
                .label("this is no address of that kind")
                .help("write `address = \"tcp:10.0.0.2:7700\"`");
            None
        }
    });
    Some(HostPlan { name: own_name?, keys, address })
}

/// Two hosts with one key are one host.
fn one_key_each(hosts: &[HostText], out: &mut Diagnostics) {
    let mut taken: Vec<&At<String>> = Vec::new();
    for key in hosts.iter().flat_map(|host| [key_of(host), next_key_of(host)]).flatten() {
        match taken.iter().find(|other| other.value.eq_ignore_ascii_case(&key.value)) {
            Some(other) => {
                out.error(Code::Contradiction, &key.span, "one key for two")
                    .label("whoever has it would be both")
                    .also(&other.span, "the same key")
                    .help("make a key on each host: `cofferdam host key`");
            }
            None => taken.push(key),
        }
    }
}

/// Says of each layer where it runs, and of each channel whether it leads from one host to another;
/// and tells what can't be.
pub(super) fn place(document: &Document, plan: &mut Plan, out: &mut Diagnostics) {
    let mut placed = placements(document, out);
    at_home(document, plan, &mut placed, out);
    for layer in &mut plan.layers {
        let hosts = placed.get(layer.name.as_str()).into_iter().flatten();
        layer.hosts = hosts.filter_map(|host| Name::new(host).ok()).collect();
        layer.hosts.sort();
        copies(document, layer, out);
    }
    for channel in &mut plan.channels {
        let Some(text) = document.channels.iter().find(|it| channel.name == *it.name.value) else {
            continue;
        };
        channel.across = across(text, &placed, out);
    }
    for layer in &document.layers {
        for first in &layer.after {
            let both = [&layer.name.value, &first.value].map(|it| placed.get(it.as_str()));
            if both[0] != both[1] {
                out.error(Code::Across, &first.span, "a layer of another host is waited for")
                    .label("each host starts its own layers")
                    .help("take it out: a call to a layer that isn't there yet waits");
            }
        }
    }
    together(document, &placed, out);
    reached(document, plan, out);
}

/// Where each layer runs, by name.
type Placed<'d> = BTreeMap<&'d str, Vec<&'d str>>;

/// What layers and ends of channels say of it.
fn placements<'d>(document: &'d Document, out: &mut Diagnostics) -> Placed<'d> {
    let mut placed = Placed::new();
    let hosts: Vec<_> = document.hosts.iter().map(|host| host.name.value.as_str()).collect();
    let known = |host: &At<String>, out: &mut Diagnostics| {
        let is_known = hosts.contains(&host.value.as_str());
        if !is_known {
            let message = format!("there is no host `{}`", host.value.escape_debug());
            let mistake = out.error(Code::UnknownHost, &host.span, message);
            match nearest(&host.value, hosts.iter().copied()) {
                Some(near) => mistake.did_you_mean(Some(near)),
                None => mistake.help("define it with `[host.NAME]`"),
            };
        }
        is_known
    };
    for layer in &document.layers {
        let list: Vec<_> = layer.hosts.iter().filter(|host| known(host, out)).collect();
        if !list.is_empty() {
            placed.insert(&layer.name.value, list.iter().map(|it| it.value.as_str()).collect());
        }
    }
    for (layer, host) in &document.placed {
        if !known(host, out) {
            continue;
        }
        let text = document.layers.iter().find(|it| it.name.value == layer.value);
        let said = text.map(|it| &it.hosts).filter(|it| !it.is_empty());
        match (said, placed.get(layer.value.as_str())) {
            (_, Some(hosts)) if hosts.contains(&host.value.as_str()) => {}
            // Its own list was told to be wrong.
            (Some(_), None) => {}
            (None, None) => {
                placed.insert(&layer.value, vec![&host.value]);
            }
            (said, _) => {
                let message = format!("layer `{}` runs elsewhere", layer.value.escape_debug());
                let mistake = out.error(Code::Contradiction, &host.span, message);
                let other = said.and_then(|said| said.first());
                let other = other.or_else(|| {
                    let same = |(it, _): &&(At<String>, At<String>)| it.value == layer.value;
                    document.placed.iter().find(same).map(|(_, host)| host)
                });
                if let Some(other) = other {
                    mistake.also(&other.span, "it runs here");
                }
                mistake.help(format!(
                    "one that runs on several hosts says so itself: `hosts = [...]` in [layer.{}]",
                    layer.value.escape_debug()
                ));
            }
        }
    }
    for hosts in placed.values_mut() {
        hosts.sort_unstable();
        hosts.dedup();
    }
    placed
}

/// Where those layers run that say nothing of it: on the one host that no layer names.
fn at_home<'d>(
    document: &'d Document,
    plan: &Plan,
    placed: &mut Placed<'d>,
    out: &mut Diagnostics,
) {
    let named = |host: &&HostText| placed.values().flatten().any(|it| *it == host.name.value);
    let mut free = document.hosts.iter().filter(|host| !named(host));
    let home = free.next().filter(|_| free.next().is_none()).map(|host| host.name.value.as_str());
    let homeless = document.layers.iter().filter(|it| !placed.contains_key(it.name.value.as_str()));
    for layer in homeless.collect::<Vec<_>>() {
        if let Some(home) = home {
            placed.insert(&layer.name.value, vec![home]);
        } else if plan.is_shared() {
            let message = format!("layer `{}` runs on no host", layer.name.value.escape_debug());
            let hosts: Vec<_> = plan.hosts.iter().map(|host| host.name.as_str()).collect();
            out.error(Code::NoHost, &layer.name.span, message)
                .label("no host would start it")
                .help(format!("say where: `hosts = [\"...\"]`, of {}", hosts.join(", ")))
                .help("or define the host that it is on with `[host.NAME]`, and its key");
        }
    }
}

/// Copies are numbered over all hosts.
fn copies(document: &Document, layer: &LayerPlan, out: &mut Diagnostics) {
    let text = document.layers.iter().find(|it| layer.name == *it.name.value);
    let all = usize::from(layer.instances) * layer.hosts.len();
    if let (true, Some(text)) = (all > usize::from(LayerPlan::MAX_INSTANCES), text) {
        let span = text.instances.as_ref().map_or(&text.name.span, |it| &it.span);
        let message = format!("{all} copies of layer `{}` on all hosts", layer.name);
        out.error(Code::OutOfRange, span, message)
            .label(format!("there are at most {}", LayerPlan::MAX_INSTANCES));
    }
}

/// Whether a channel leads to another host; and what it can't do then.
fn across(channel: &ChannelText, placed: &Placed<'_>, out: &mut Diagnostics) -> bool {
    let (Some(from), Some(to)) = (&channel.from, &channel.to) else { return false };
    let none = Vec::new();
    let [one, two] = [from, to].map(|end| placed.get(end.value.as_str()).unwrap_or(&none));
    if one == two {
        return false;
    }
    if let Some(both) = one.iter().find(|host| two.contains(host)) {
        let message = format!("some of it is within a host, and some between hosts: `{both}`");
        out.error(Code::Across, &to.span, message)
            .label(format!("on {}", two.join(", ")))
            .also(&from.span, format!("on {}", one.join(", ")))
            .help("let both layers be on the same hosts, or none of them on one of the other's");
    }
    let mut refuse = |span: &Span, what: &str, why: &str, help: &str| {
        let message = format!("channel `{}` {what}", channel.name.value.escape_debug());
        out.error(Code::Across, span, message)
            .label(why)
            .also(&to.span, "its ends are on different hosts")
            .help(help);
    };
    let methods = channel.methods.iter().flat_map(|methods| &methods.value);
    let fds = methods.filter_map(|method| method.fds.as_ref()).chain([&channel.fds]);
    for max in fds.filter_map(|fds| fds.max.as_ref()).filter(|max| max.value > 0) {
        let why = "a descriptor means something on its own machine only";
        refuse(&max.span, "passes descriptors", why, "send what is in the file instead");
    }
    if let Some(witness) = channel.witness.as_ref().filter(|it| it.value) {
        let why = "the log of either host holds what its end says";
        let help = "take it out, and compare the logs: `cofferdam audit reconcile DIR DIR`";
        refuse(&witness.span, "has a witness", why, help);
    }
    if let Some(ring) = channel.transport.as_ref().filter(|it| it.value == Transport::Ring) {
        let why = "two machines share no memory";
        refuse(&ring.span, "is a ring", why, "take it out: it goes through `cofferdam-link`");
    }
    true
}

/// The way out where something else can't be.
const CHANNEL: &str = "let a channel join the layers: it may lead from host to host";

/// What is on one machine: whoever shares it is on the same hosts.
fn together(document: &Document, placed: &Placed<'_>, out: &mut Diagnostics) {
    let mut same = |what: &str, why: &str, help: &str, layers: &[&At<String>]| {
        let Some((first, rest)) = layers.split_first() else { return };
        let hosts = placed.get(first.value.as_str());
        let other = rest.iter().find(|it| placed.get(it.value.as_str()) != hosts);
        if let Some(other) = other {
            out.error(Code::Across, &other.span, format!("{what} between two hosts"))
                .label(why)
                .also(&first.span, "this layer is on another host")
                .help(help);
        }
    };
    let memory = "two machines share no memory";
    for it in &document.regions {
        let layers: Vec<_> = it.grant.iter().flat_map(|it| &it.value).map(|(it, _)| it).collect();
        same("a region", memory, CHANNEL, &layers);
    }
    for it in &document.mapped_files {
        let layers: Vec<_> = it.grant.iter().flat_map(|it| &it.value).map(|(it, _)| it).collect();
        same("a mapped file", memory, CHANNEL, &layers);
    }
    for it in &document.signals {
        let layers: Vec<_> = it.from.iter().chain(&it.to).collect();
        same("a signal", "a process of another machine has no signals", CHANNEL, &layers);
    }
    for it in &document.pipes {
        let layers: Vec<_> = it.from.iter().chain(&it.to).collect();
        same("a pipe", "it is in one kernel", CHANNEL, &layers);
    }
    for it in &document.queues {
        let lists = it.send.iter().chain(&it.receive);
        same(
            "a queue",
            "it is in one kernel",
            CHANNEL,
            &lists.flat_map(|it| &it.value).collect::<Vec<_>>(),
        );
    }
    for it in &document.semaphores {
        let layers: Vec<_> = it.holders.iter().flat_map(|it| &it.value).collect();
        same("a semaphore", "its permits are leased by one host's ledger", CHANNEL, &layers);
    }
}

/// Of two hosts that a channel joins, one must be able to call the other.
fn reached(document: &Document, plan: &Plan, out: &mut Diagnostics) {
    if !plan.is_shared() {
        return;
    }
    let address = |host: &Name| plan.host(host.as_str()).is_some_and(|it| it.address.is_some());
    for channel in plan.channels.iter().filter(|channel| channel.across) {
        let (Some(from), Some(to)) =
            (plan.layer(channel.from.as_str()), plan.layer(channel.to.as_str()))
        else {
            continue;
        };
        let pairs = from.hosts.iter().flat_map(|one| to.hosts.iter().map(move |two| [one, two]));
        let Some([one, two]) = pairs.into_iter().find(|pair| !pair.iter().any(|it| address(it)))
        else {
            continue;
        };
        let text = document.channels.iter().find(|it| channel.name == *it.name.value);
        if let Some(text) = text {
            let message = format!("channel `{}` joins hosts without an address", channel.name);
            out.error(Code::NoWay, &text.name.span, message)
                .label(format!("neither `{one}` nor `{two}` can call the other"))
                .help(format!("write `address = \"tcp:IP:PORT\"` in [host.{two}]"));
        }
    }
}
