//! A log as a daemon writes it: lives, calls, a batch, a queue, the broker's acts, denials, and
//! text that means harm.

use std::path::Path;
use std::process::{Command, Output};

use cofferdam::audit::entry::{Entry, Facility, Form, Kind, Side, Verdict, Who};
use cofferdam::audit::runs::{self, Run};
use cofferdam::audit::tables::{Edge, Edges, Tables};
use cofferdam::audit::{Log, Options};

use super::{at, open, small, who};

/// What must reach neither a terminal nor another program as it is.
pub const HOSTILE: &str =
    "\x1b]0;owned\x07\x1b[31m\u{202e}\u{200b}<script>alert(1)</script>\r\n\0\u{9b}31m";

/// Pieces of that, no one of which may be in any output.
pub const HARMFUL: [&str; 7] = ["\x1b", "\x07", "\u{202e}", "\u{200b}", "\r", "\0", "\u{9b}"];

pub fn daemon_tables() -> Tables {
    let edge = |name: &str, from: &str, to: &str, methods: &[&str]| Edge {
        name: name.into(),
        from: vec![from.into()],
        to: vec![to.into()],
        methods: methods.iter().map(|method| (*method).into()).collect(),
        ..Edge::default()
    };
    let edges = [
        (
            "channel",
            vec![
                edge("sign", "listener", "keeper", &["sign", "list"]),
                edge("note", "listener", "keeper", &["put", "list"]),
                edge(&format!("odd{HOSTILE}"), "listener", "keeper", &[HOSTILE]),
            ],
        ),
        (
            "queue",
            vec![Edge { depth: 8, ordered: true, ..edge("jobs", "listener", "keeper", &[]) }],
        ),
        ("file", vec![edge("site", "keeper", "", &[])]),
        ("signal", vec![edge("reload", "listener", "keeper", &[])]),
    ];
    let layers = ["listener", "keeper", HOSTILE, "cofferdam-auditor"];
    Tables {
        daemon: format!("signer{HOSTILE}"),
        layers: layers.map(Into::into).into(),
        edges: edges
            .into_iter()
            .map(|(facility, edges)| Edges { facility: facility.into(), edges })
            .collect(),
        rules: vec!["channel.sign.methods.sign".into(), HOSTILE.into()],
        ..super::tables()
    }
}

/// Writes records, each a millisecond after the one before.
pub struct Daemon {
    pub log: Log,
    pub now: u64,
}

impl Daemon {
    pub fn new(dir: &Path, options: Options) -> Self {
        let mut log = open(dir, options, 0);
        log.policy(&daemon_tables(), at(0)).unwrap();
        Self { log, now: 0 }
    }

    pub fn push(&mut self, entry: Entry) -> u64 {
        self.with(entry, &[])
    }

    pub fn with(&mut self, entry: Entry, payload: &[u8]) -> u64 {
        self.now += 1;
        let entry = Entry { reported: at(self.now).monotonic, ..entry };
        let index = self.log.append(&entry, payload, at(self.now)).unwrap();
        if self.now.is_multiple_of(7) {
            self.log.commit(at(self.now)).unwrap();
        }
        index
    }

    /// Both ends report a message: `from` layer 0 to 1 if `there`, otherwise back.
    pub fn message(&mut self, there: bool, n: u64, form: Form, of: &Entry) {
        let (from, to) = if there { (who(0, 1), who(1, 1)) } else { (who(1, 1), who(0, 1)) };
        for (side, reporter, peer) in [(Side::Sender, from, to), (Side::Receiver, to, from)] {
            let mut hash = [u8::from(there); 32];
            hash[..8].copy_from_slice(&n.to_le_bytes());
            let (verdict, sequence) = (Verdict::Allowed, n);
            self.push(Entry { side, reporter, peer, form, hash, verdict, sequence, ..of.clone() });
        }
    }
}

/// An act of the supervisor about an instance.
fn act(kind: Kind, peer: Who) -> Entry {
    Entry { side: Side::Supervisor, reporter: Who::SUPERVISOR, peer, ..Entry::new(kind) }
}

/// `calls` calls and the rest; each call takes two milliseconds as its caller sees it.
pub fn write_daemon(dir: &Path, calls: u64) {
    let mut daemon = Daemon::new(dir, small());
    for layer in [0, 1] {
        daemon.push(act(Kind::Spawn, who(layer, 1)));
        let receipt = act(Kind::Receipt, who(layer, 1));
        daemon.push(Entry { detail: b"seccomp, landlock".into(), ..receipt });
    }
    let channel = Entry { facility: Facility::Channel, ..Entry::new(Kind::Use) };
    for n in 0..calls {
        let call = u32::try_from(n + 1).unwrap();
        let of = Entry { value: call, length: 100, rule: 0, ..channel.clone() };
        daemon.message(true, n, Form::Request, &of);
        let form = if n % 10 == 9 { Form::Refusal } else { Form::Reply };
        daemon.message(false, n, form, &Entry { length: 40, ..of });
    }
    let mut detail = Vec::new();
    for run in [
        Run { form: Form::Message, method: 0, call: 0, messages: 3, trace: None },
        Run { form: Form::Message, method: 1, call: 0, messages: 2, trace: None },
    ] {
        runs::encode(&run, &mut detail);
    }
    let batch = Entry { edge: 1, value: 5, length: 500, detail, ..channel.clone() };
    daemon.message(true, 0, Form::Batch, &batch);
    let job = Entry { facility: Facility::Queue, length: 9, ..Entry::new(Kind::Use) };
    let sent = Entry { side: Side::Sender, reporter: who(0, 1), ..job.clone() };
    let got = Entry { side: Side::Receiver, reporter: who(1, 1), peer: who(0, 1), ..job };
    let allowed = Verdict::Allowed;
    daemon.push(Entry { verdict: allowed, ..sent });
    daemon.push(Entry { verdict: allowed, ..got });
    let odd = Entry { edge: 2, rule: 1, detail: HOSTILE.into(), verdict: allowed, ..channel };
    daemon.message(true, 0, Form::Message, &odd);
    let payload = Entry { side: Side::Sender, sequence: 1, verdict: Verdict::Refused, ..odd };
    daemon.with(Entry { reporter: who(0, 1), peer: who(1, 1), ..payload }, b"sealed");
    let file = Entry { facility: Facility::File, method: 3, ..Entry::new(Kind::Broker) };
    daemon.push(Entry {
        verdict: Verdict::Refused,
        value: 6,
        reporter: who(2, 1),
        detail: [HOSTILE.as_bytes(), b"\xff\xfe"].concat(),
        ..file
    });
    let signal = Entry { facility: Facility::Signal, method: 15, ..Entry::new(Kind::Broker) };
    daemon.push(Entry { verdict: allowed, reporter: who(0, 1), ..signal });
    let denial = Entry { facility: Facility::Syscall, method: 59, ..act(Kind::Denial, who(1, 1)) };
    daemon.push(Entry { verdict: Verdict::Killed, ..denial });
    daemon.push(Entry { reporter: who(0, 1), length: 4, ..Entry::new(Kind::Loss) });
    daemon.push(Entry { detail: HOSTILE.into(), ..Entry::new(Kind::Alarm) });
    daemon.push(Entry { value: 31, ..act(Kind::Exit, who(1, 1)) });
    let end = at(daemon.now + 1);
    daemon.log.close(end).unwrap();
}

/// Runs `cofferdam audit` with these arguments.
pub fn audit(arguments: &[&str]) -> Output {
    let binary = env!("CARGO_BIN_EXE_cofferdam");
    Command::new(binary).arg("audit").args(arguments).output().unwrap()
}

/// What it writes; it must end with that code.
pub fn says(code: i32, arguments: &[&str]) -> String {
    let out = audit(arguments);
    let error = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(code), "{arguments:?}: {error}");
    String::from_utf8(out.stdout).unwrap()
}

/// What it complains of; it must end with that code.
pub fn complains(code: i32, arguments: &[&str]) -> String {
    let out = audit(arguments);
    let error = String::from_utf8(out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(code), "{arguments:?}: {error}");
    error
}

/// The records that it lists.
pub fn lists(arguments: &[&str]) -> Vec<serde_json::Value> {
    let text = says(0, &[arguments, &["--format", "json"]].concat());
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
