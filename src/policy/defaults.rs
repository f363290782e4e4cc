//! What a key that is not written means, in one place.

/// The default of one key: its path in the language, what it is when left out, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Default {
    /// The key, as in `layer.limits.memory`.
    pub key: &'static str,
    /// Its value, as a policy would write it; empty where the default is that there is none.
    pub value: &'static str,
    /// What that means.
    pub meaning: &'static str,
}

/// What `audit = "digest"` means. Written, it demands a log besides.
const RECORDED: &str = "what was done, and hashes, where the daemon keeps a log";

/// Every default of the language. Keys that are not here must be written, or grant nothing.
pub const DEFAULTS: &[Default] = &[
    of("layer.instances", "1", "one copy"),
    of("layer.limits.memory", "\"256MiB\"", "memory of one instance"),
    of("layer.limits.files", "256", "descriptors of one instance"),
    of("layer.limits.tasks", "16", "processes and threads of one instance"),
    of("layer.limits.cpu", "", "no limit on processor time"),
    of("layer.limits.file-size", "\"1GiB\"", "the largest file that it may write"),
    of("layer.restart.on", "\"failure\"", "restarted after a failure, not after an orderly end"),
    of("layer.restart.max", "5", "so many restarts are tolerated"),
    of("layer.restart.within", "\"10s\"", "in this time"),
    of("layer.restart.then", "\"stop-daemon\"", "one more ends the daemon"),
    of("layer.view", "\"empty\"", "an empty root; `\"system\"` for `exec` layers"),
    of("layer.execmem", "false", "written memory never becomes executable"),
    of("layer.uid", "", "every instance gets a user of its own"),
    of("layer.listen.rate", "", "no limit on connections in a while"),
    of("layer.listen.per-source", "", "no limit on connections of one source"),
    of("channel.max", "\"64KiB\"", "the largest message"),
    of("channel.methods", "", "one method without a name, in both directions"),
    of("channel.methods.max", "", "that of the channel"),
    of("channel.methods.direction", "\"forth\"", "`from` calls, `to` answers"),
    of("channel.methods.rate", "", "no limit"),
    of("channel.methods.once", "false", "as often as the rate allows"),
    of("channel.methods.after", "", "at any time"),
    of("channel.methods.stream", "false", "one answer to a call"),
    of("channel.fds.max", "0", "no descriptors"),
    of("channel.audit", "\"digest\"", RECORDED),
    of("channel.witness", "false", "the two ends talk directly"),
    of("channel.transport", "\"socket\"", "records on a socketpair"),
    of("file.deny", "[]", "nothing beneath is left out"),
    of("file.max-open", "", "no limit besides the layer's `files`"),
    of("file.audit", "\"digest\"", RECORDED),
    of("signal.rate", "", "no limit"),
    of("signal.audit", "\"digest\"", RECORDED),
    of("queue.depth", "10", "messages that it holds"),
    of("queue.max", "\"4KiB\"", "the largest message"),
    of("queue.priorities", "1", "all messages are alike"),
    of("queue.on-full", "\"block\"", "the sender waits"),
    of("queue.wait", "\"1s\"", "so long"),
    of("queue.audit", "\"digest\"", RECORDED),
    of("pipe.raw", "false", "sealed frames"),
    of("pipe.capacity", "\"64KiB\"", "bytes that it holds"),
    of("pipe.rate", "", "no limit"),
    of("pipe.audit", "\"digest\"", RECORDED),
    of("fifo.owner", "", "the supervisor's user"),
    of("fifo.mode", "\"0600\"", "only its owner writes"),
    of("fifo.max", "\"4KiB\"", "the longest line"),
    of("fifo.rate", "", "no limit"),
    of("fifo.audit", "\"digest\"", RECORDED),
    of("semaphore.lease", "", "held until it is given back or its holder ends"),
    of("semaphore.order", "", "never taken while another one is held"),
    of("semaphore.audit", "\"digest\"", RECORDED),
    of("region.audit", "\"digest\"", RECORDED),
    of("mapped-file.durable", "false", "what is committed survives a crash, not a power cut"),
    of("mapped-file.audit", "\"digest\"", RECORDED),
    of("audit.directory", "", "where `--audit` says"),
    of("audit.on-full", "\"block\"", "whoever reports waits"),
    of("audit.payload-key", "", "no payload is kept"),
    of("audit.segment", "\"64MiB\"", "a segment is ended at this size"),
    of("audit.segment-age", "\"1d\"", "or at this age"),
    of("audit.keep", "", "everything is kept"),
    of("audit.keep-age", "", "everything is kept"),
    of("audit.ring", "\"1MiB\"", "memory for the reports of each instance"),
    of("never.through-except", "[]", "no way at all"),
];

const fn of(key: &'static str, value: &'static str, meaning: &'static str) -> Default {
    Default { key, value, meaning }
}

#[cfg(test)]
mod tests {
    use super::DEFAULTS;
    use crate::policy::check;

    /// Writing a default changes nothing.
    #[test]
    fn what_is_written_here_is_what_the_checker_fills_in() {
        let tables = [
            ("layer", "[layer.x]\nrun = \"x\"\n"),
            ("channel", "[channel.x]\nfrom = \"a\"\nto = \"b\"\nmethods = { m = { } }\n"),
            ("file", "[file.x]\npath = \"/srv\"\ngrant = { a = [\"read\"] }\n"),
            ("queue", "[queue.x]\nsend = [\"a\"]\nreceive = [\"b\"]\n"),
            ("pipe", "[pipe.x]\nfrom = \"a\"\nto = \"b\"\n"),
            ("fifo", "[fifo.x]\npath = \"/srv/x\"\nto = \"a\"\n"),
            ("mapped-file", "[mapped-file.x]\npath=\"/x\"\nsize=\"4KiB\"\ngrant={a=\"rw\"}\n"),
            ("signal", "[signal.x]\nfrom = \"a\"\nto = \"b\"\nsend = [\"HUP\"]\n"),
            ("semaphore", "[semaphore.x]\npermits = 1\nholders = [\"a\"]\n"),
            ("region", "[region.x]\nsize = \"4KiB\"\ngrant = { a = \"rw\", b = \"r\" }\n"),
            ("audit", "[audit]\n"),
            ("never", "[[never]]\nlayer = \"a\"\nreach = \"syscall.reboot\"\nwhy = \"x\"\n"),
        ];
        let head = "cofferdam = 1\nname = \"d\"\n[layer.a]\nrun = \"a\"\n[layer.b]\nrun = \"b\"\n";
        let id = |text: &str| {
            let checked = check("a", text.as_bytes());
            let plan = checked.plan.as_ref();
            plan.unwrap_or_else(|| panic!("{text}\n{}", checked.render(false))).id().unwrap()
        };
        for default in DEFAULTS.iter().filter(|default| !default.value.is_empty()) {
            let (kind, key) = default.key.split_once('.').unwrap();
            let (_, table) = tables.iter().find(|(name, _)| *name == kind).unwrap();
            // What is written of a facility demands a log: so there is one already.
            let demand = if key == "audit" { "[audit]\n" } else { "" };
            let plain = format!("{head}{demand}{table}");
            let written = match key.strip_prefix("methods.") {
                Some(key) => plain.replace("{ }", &format!("{{ {key} = {} }}", default.value)),
                None => format!("{plain}{key} = {}\n", default.value),
            };
            assert_ne!(plain, written, "{}", default.key);
            assert_eq!(id(&plain), id(&written), "{}", default.key);
        }
    }
}
