//! Two ends of a channel in one process, for the tests of channels.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use cofferdam::channel::datagram::Buffer;
use cofferdam::channel::endpoint::{Incoming, OutboundMessage};
use cofferdam::channel::introduce::Step;
use cofferdam::channel::{Endpoint, Introducing, Rules, Side, socketpair};
use cofferdam::confine::Confined;
use cofferdam::ident::{EdgeId, Instance, Name};
use cofferdam::ipc::message::{Channel, ChannelSpec};
use cofferdam::policy::plan::ChannelPlan;
use cofferdam::seal::handshake::Introduction;
use cofferdam::seal::{Identity, OsChance, PublicKey};
use cofferdam::wire::record::Kind;
use serde_json::json;

/// No test waits longer than this for anything: only a hang does.
pub const LONG: Duration = Duration::from_mins(5);

/// A channel of methods `echo` and `note`, up to 16 MiB.
pub fn calls() -> ChannelPlan {
    let method = |name| json!({ "name": name, "max": 16 << 20 });
    plan(&json!([method("echo"), method("note")]), 0, &[])
}

/// A channel without methods.
pub fn plain() -> ChannelPlan {
    plan(&json!([]), 0, &[])
}

/// A channel without methods that carries descriptors.
pub fn carrying(kinds: &[&str]) -> ChannelPlan {
    plan(&json!([]), 4, kinds)
}

pub fn plan(methods: &serde_json::Value, fds: u8, kinds: &[&str]) -> ChannelPlan {
    let mut methods = methods.clone();
    for method in methods.as_array_mut().unwrap() {
        let mut whole = json!({ "direction": "Forth", "rate": null, "once": false, "after": null, "stream": false, "fds": null });
        whole.as_object_mut().unwrap().append(method.as_object_mut().unwrap());
        *method = whole;
    }
    serde_json::from_value(json!({
        "name": "test", "from": "caller", "to": "keeper", "max": 16 << 20,
        "methods": methods, "fds": { "max": fds, "kinds": kinds },
        "audit": "None", "witness": false, "transport": "Socket", "across": false,
    }))
    .unwrap()
}

pub fn instance(layer: &str, index: u16, generation: u64) -> Instance {
    Instance { layer: Name::new(layer).unwrap(), index, generation }
}

/// One end, and the key by which the other knows it.
pub struct End {
    pub channel: Channel,
    pub own: Instance,
    pub key: PublicKey,
}

impl End {
    pub fn new(plan: &ChannelPlan, side: Side, index: u16, generation: u64) -> Self {
        Self::with_edge(plan, side, index, generation, EdgeId([7; 32]))
    }

    pub fn with_edge(
        plan: &ChannelPlan,
        side: Side,
        index: u16,
        generation: u64,
        edge: EdgeId,
    ) -> Self {
        let layer = if side == Side::From { "caller" } else { "keeper" };
        let own = instance(layer, index, generation);
        let identity = Arc::new(Identity::generate(&mut OsChance).unwrap());
        let key = identity.public();
        let spec = ChannelSpec { number: 3, plan: plan.clone(), edge, own: own.clone(), side };
        Self {
            channel: Channel::new(
                spec,
                identity,
                &cofferdam::report::Desk::default(),
                &Confined::pretend(),
            ),
            own,
            key,
        }
    }

    /// Introduces two ends over a socketpair.
    pub fn join(&self, other: &Self, plan: &ChannelPlan) {
        let (one, two) = socketpair(plan).unwrap();
        self.join_over(other, one, two);
    }

    pub fn join_over(&self, other: &Self, ours: OwnedFd, theirs: OwnedFd) {
        self.channel.introduce(other.own.clone(), other.key, ours).unwrap();
        other.channel.introduce(self.own.clone(), self.key, theirs).unwrap();
    }
}

/// Two ends that are introduced.
pub fn pair(plan: &ChannelPlan) -> (End, End) {
    let (from, to) = (End::new(plan, Side::From, 0, 1), End::new(plan, Side::To, 0, 1));
    from.join(&to, plan);
    (from, to)
}

/// Runs the test `name` again in a process of its own, unless this is that process: for tests that
/// count what the process holds, of which other tests' threads would have some too, or change it.
/// `module` is `module_path!()`.
pub fn alone(module: &str, name: &str) -> bool {
    const MARK: &str = "COFFERDAM_TEST_ALONE";
    // The test's name as the harness has it is without the program's.
    let (_, module) = module.split_once("::").unwrap();
    let name = &format!("{module}::{name}");
    if std::env::var(MARK).is_ok_and(|marked| marked == *name) {
        return false;
    }
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    let status = command.args(["--exact", name, "--nocapture"]).env(MARK, name).status().unwrap();
    assert!(status.success(), "{name} failed in a process of its own");
    true
}

/// How many descriptors this process holds.
pub fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// A channel whose method `tail` is answered by a stream of messages of at most `max` bytes;
/// `echo` is not.
pub fn streaming(max: u32) -> ChannelPlan {
    let method = |name, stream| json!({ "name": name, "max": max, "stream": stream });
    plan(&json!([method("echo", false), method("tail", true)]), 0, &[])
}

/// The end of a peer that says what it likes: sealed records, but none of our own rules.
pub struct Raw {
    pub endpoint: Endpoint,
    buffer: Buffer,
}

/// One message that a [`Raw`] end received.
#[derive(Debug, PartialEq, Eq)]
pub struct Heard {
    pub kind: Kind,
    pub method: u16,
    pub call: u32,
    pub body: Vec<u8>,
}

impl Raw {
    /// Joins a raw end on `side` to an honest one that goes by `plan`, and completes the
    /// handshake. Its own endpoint goes by `own`, which may let it receive what it should not.
    pub fn join(honest: &End, side: Side, plan: &ChannelPlan, own: &ChannelPlan) -> Self {
        let layer = if side == Side::From { "caller" } else { "keeper" };
        let (peer, identity) =
            (instance(layer, 0, 1), Arc::new(Identity::generate(&mut OsChance).unwrap()));
        let (from, to) = match side {
            Side::From => (peer.clone(), honest.own.clone()),
            Side::To => (honest.own.clone(), peer.clone()),
        };
        let introduction =
            Introduction { edge: EdgeId([7; 32]), number: 3, channel: "test".into(), from, to };
        let (one, two) = socketpair(plan).unwrap();
        honest.channel.introduce(peer, identity.public(), one).unwrap();
        let chance = Box::new(OsChance);
        let socket = Arc::new(two);
        let mut meeting =
            Introducing::new(socket, side, identity, &honest.key, &introduction, chance).unwrap();
        let mut buffer = Buffer::default();
        let session = loop {
            honest.channel.try_recv();
            match meeting.step(&mut buffer).unwrap() {
                Step::Done(session) => break session,
                Step::Blocked => {}
            }
        };
        let rules = Arc::new(Rules { plan: own.clone(), side });
        let endpoint = Endpoint::new(Arc::clone(meeting.socket()), *session, rules);
        Self { endpoint, buffer }
    }

    /// Sends one message, whatever it is. False: the socket is full, or closed.
    pub fn say(&mut self, kind: Kind, method: u16, call: u32, body: &[u8]) -> bool {
        self.put(kind, method, call, body, 0)
    }

    /// Makes a call without bytes, and with a deadline in so many milliseconds.
    pub fn ask(&mut self, method: u16, call: u32, within: u32) -> bool {
        self.put(Kind::Request, method, call, b"", within)
    }

    fn put(&mut self, kind: Kind, method: u16, call: u32, body: &[u8], within: u32) -> bool {
        let (mut body, mut fds) = (body.to_vec(), Vec::new());
        let (body, fds) = (&mut body, &mut fds);
        let mut out = OutboundMessage {
            kind,
            method,
            call,
            within,
            trace: None,
            body,
            fds,
            descriptions: &[],
        };
        self.endpoint.try_send(&mut out, false).unwrap_or(false)
    }

    /// Everything that has come; an error ends it.
    pub fn heard(&mut self) -> Vec<Heard> {
        let mut heard = Vec::new();
        let mut sink = |incoming: Incoming<'_>| {
            let Incoming { kind, method, call, body, .. } = incoming;
            heard.push(Heard { kind, method, call, body: body.into_vec() });
            Ok(())
        };
        while self.endpoint.try_recv(&mut self.buffer, &mut sink).unwrap_or(false) {}
        heard
    }
}
