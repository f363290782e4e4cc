//! A plan as the text of a policy: canonical, and read again it is the same plan.
//!
//! What a plan doesn't hold (comments, variables, reasons) is lost; where the language demands a
//! reason, [`REASON`] stands for it.

mod facility;
mod layer;
mod syscalls;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use super::plan::{
    Audit, AuditPlan, ChannelPlan, DescriptorPlan, Direction, FilePlan, HostPlan, ListenAddress,
    Plan, Rate, ReloadPlan, Transport,
};
use super::value::show_size;
use crate::ident::hex;

/// What stands for the reasons, which a plan doesn't hold.
pub const REASON: &str = "printed from a plan, which holds no reasons";

/// The text of a plan.
///
/// [`check`](super::check()) makes the same plan of it, with the same
/// [`PolicyId`](crate::ident::PolicyId); sizes that the kernel gives only to some are warned of
/// again.
pub fn print(plan: &Plan) -> String {
    if let Some(here) = &plan.here {
        return print(&here.whole);
    }
    let mut out = Text::default();
    out.line("cofferdam", 1);
    out.line("name", quote(plan.name.as_str()));
    // One name has one value, for they come of one table.
    let vars: BTreeMap<_, _> = plan.layers.iter().flat_map(|layer| &layer.vars).collect();
    if !vars.is_empty() {
        out.head("vars");
        for (name, value) in vars {
            // In this table a `${` is what it is.
            out.line(name, toml::Value::from(value.as_str()));
        }
    }
    for host in &plan.hosts {
        self::host(host, &mut out);
    }
    for layer in &plan.layers {
        layer::print(layer, &mut out);
    }
    for channel in &plan.channels {
        self::channel(channel, &mut out);
    }
    for file in &plan.files {
        self::file(file, &mut out);
    }
    facility::print(plan, &mut out);
    log(&plan.audit, &mut out);
    if plan.reload != ReloadPlan::default() {
        out.head("reload");
        out.line("gain", plan.reload.gain);
    }
    if let Some(address) = plan.metrics {
        out.head("metrics");
        out.line("listen", quote(&ListenAddress::Tcp(address).to_string()));
    }
    facility::never(plan, &mut out);
    out.0
}

fn host(host: &HostPlan, out: &mut Text) {
    out.table("host", host.name.as_str());
    for (name, key) in ["key", "next-key"].into_iter().zip(&host.keys) {
        out.line(name, quote(&hex(key)));
    }
    if let Some(address) = host.address {
        out.line("address", quote(&ListenAddress::Tcp(address).to_string()));
    }
}

fn channel(channel: &ChannelPlan, out: &mut Text) {
    out.table("channel", channel.name.as_str());
    out.line("from", quote(channel.from.as_str()));
    out.line("to", quote(channel.to.as_str()));
    out.line("max", size(channel.max));
    if !channel.methods.is_empty() {
        out.line("methods", methods(channel));
    }
    if channel.fds.max > 0 {
        out.line("fds", descriptors(&channel.fds));
    }
    audit(channel.audit, out);
    if channel.witness {
        out.line("witness", true);
    }
    if channel.transport == Transport::Ring {
        out.line("transport", quote("ring"));
    }
}

/// A channel's methods, as the value of that key.
pub(crate) fn methods(channel: &ChannelPlan) -> String {
    inline(channel.methods.iter().map(|method| {
        let mut keys = vec![("max", size(method.max))];
        if method.direction == Direction::Back {
            keys.push(("direction", quote("back")));
        }
        keys.extend(method.rate.map(|rate| ("rate", self::rate(rate))));
        keys.extend(method.once.then(|| ("once", "true".to_owned())));
        let after = method.after.and_then(|place| channel.methods.get(usize::from(place)));
        keys.extend(after.map(|first| ("after", quote(first.name.as_str()))));
        keys.extend(method.stream.then(|| ("stream", "true".to_owned())));
        keys.extend(method.fds.as_ref().map(|fds| ("fds", descriptors(fds))));
        (method.name.as_str(), inline(keys))
    }))
}

/// The value of `fds`.
pub(crate) fn descriptors(fds: &DescriptorPlan) -> String {
    let max = ("max", fds.max.to_string());
    if fds.max == 0 {
        return inline([max]);
    }
    inline([max, ("kinds", list(fds.kinds.iter().map(|kind| kind.name())))])
}

fn file(file: &FilePlan, out: &mut Text) {
    out.table("file", file.name.as_str());
    out.line("path", quote(&file.path));
    if let Some(at) = &file.at {
        out.line("at", quote(at));
    }
    let grant = file.grant.iter().map(|(layer, rights)| {
        let rights = rights.iter().map(|right| right.name().to_owned());
        (layer.as_str(), list(rights))
    });
    out.line("grant", inline(grant));
    if !file.deny.is_empty() {
        out.line("deny", list(&file.deny));
    }
    if let Some(max) = file.max_open {
        out.line("max-open", max);
    }
    for (key, yes) in [("optional", file.optional), ("follow", file.follow)] {
        if yes {
            out.line(key, yes);
        }
    }
    audit(file.audit, out);
    out.line("because", quote(REASON));
}

/// What is recorded, where that is not the default: written, that would demand a log.
fn audit(level: Audit, out: &mut Text) {
    if level != Audit::default() {
        out.line("audit", quote(level.name()));
    }
}

/// `[audit]`, where a log is demanded: that is what the table means.
fn log(audit: &AuditPlan, out: &mut Text) {
    if !audit.demanded {
        return;
    }
    out.head("audit");
    if let Some(directory) = &audit.directory {
        out.line("directory", quote(directory));
    }
    out.line("on-full", quote(audit.on_full.name()));
    if let Some(key) = &audit.payload_key {
        out.line("payload-key", quote(&hex(key)));
    }
    out.line("sign-every", duration(audit.sign_every));
    out.line("segment", size(audit.segment_bytes));
    out.line("segment-age", duration(audit.segment_age));
    if let Some(most) = audit.keep_bytes {
        out.line("keep", size(most));
    }
    if let Some(most) = audit.keep_age {
        out.line("keep-age", duration(most));
    }
    out.line("ring", size(audit.ring_bytes));
}

/// The text so far.
#[derive(Default)]
struct Text(String);

impl Text {
    fn table(&mut self, kind: &str, name: &str) {
        // Writing to a string can't fail.
        let _ = write!(self.0, "\n[{kind}.{name}]\n");
    }

    fn head(&mut self, kind: &str) {
        let _ = write!(self.0, "\n[{kind}]\n");
    }

    fn list_item(&mut self, kind: &str) {
        let _ = write!(self.0, "\n[[{kind}]]\n");
    }

    fn line(&mut self, key: &str, value: impl std::fmt::Display) {
        let _ = writeln!(self.0, "{key} = {value}");
    }
}

/// A basic string of TOML (toml.io, "String"), whose `${` is no variable.
fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.replace("${", "$${").chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

fn list<S: AsRef<str>>(items: impl IntoIterator<Item = S>) -> String {
    let items: Vec<_> = items.into_iter().map(|item| quote(item.as_ref())).collect();
    format!("[{}]", items.join(", "))
}

fn inline<'k>(entries: impl IntoIterator<Item = (&'k str, String)>) -> String {
    let bare = |key: &str| {
        !key.is_empty() && key.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'_')
    };
    // A key is never looked at for variables, so nothing in it is doubled.
    let key = |key: &str| if bare(key) { key.to_owned() } else { quote(key).replace("$${", "${") };
    let entries: Vec<_> =
        entries.into_iter().map(|(name, value)| format!("{} = {value}", key(name))).collect();
    if entries.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", entries.join(", ")) }
}

fn size(bytes: impl Into<u64>) -> String {
    quote(&show_size(bytes.into()))
}

fn duration(time: Duration) -> String {
    quote(&format!("{}ms", time.as_millis()))
}

fn rate(rate: Rate) -> String {
    let per = rate.per.as_millis();
    quote(&if per == 1000 {
        format!("{}/s", rate.count)
    } else {
        format!("{}/{per}ms", rate.count)
    })
}
