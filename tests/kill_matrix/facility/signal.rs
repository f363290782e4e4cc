//! Signals: three layers that send each other some, by name of the life that is meant. What is sent
//! is received once, by that life and no other; of the dead is told that they are.
//!
//! The first life of `c` ends by itself. Lines carry the time by the clock of the machine, since
//! the log doesn't keep the order of what several layers say.

// What the daemon runs owns its layer, and errors are mapped.
#![allow(clippy::needless_pass_by_value)]

use std::collections::BTreeMap;
use std::time::Duration;

use cofferdam::Layer;
use cofferdam::ident::Instance;
use cofferdam::ipc::signal::{RecvError, SendError, Signal, Signals};
use rustix::time::{ClockId, clock_gettime};

use super::lives;
use super::{Facility, Outcome, Runs};
use crate::case::Story;
use crate::parties::say;

pub(crate) const FACILITY: Facility = Facility {
    name: "signal",
    policy: r#"
[signal.ab]
from = "a"
to = "b"
send = ["HUP", "USR1"]
[signal.ac]
from = "a"
to = "c"
send = ["USR2"]
[signal.ba]
from = "b"
to = "a"
send = ["USR1"]
[signal.cb]
from = "c"
to = "b"
send = ["HUP"]
[signal.few]
from = "c"
to = "a"
send = ["HUP"]
rate = "3/1h"
"#,
    layers: &[
        ("a", Runs::Async(|layer| Box::pin(a(layer)))),
        ("b", Runs::Async(|layer| Box::pin(b(layer)))),
        ("c", Runs::Blocking(c)),
    ],
    marks: &[
        ("supervisor", "signal.open.made", 1),
        ("supervisor", "signal.open.made", 2),
        ("supervisor", "signal.open.made", 4),
        ("supervisor", "supervisor.admit.confined", 2),
        ("supervisor", "supervisor.hand-over.object", 3),
        ("supervisor", "supervisor.hand-over.done", 3),
        ("supervisor", "supervisor.reap.reaped", 1),
        ("supervisor", "supervisor.reap.announced", 1),
        ("supervisor", "signal.close.before", 1),
        ("supervisor", "signal.send.heard", 1),
        ("supervisor", "signal.send.heard", 40),
        ("supervisor", "signal.send.allowed", 1),
        ("supervisor", "signal.send.allowed", 20),
        ("supervisor", "signal.send.counted", 1),
        ("supervisor", "signal.send.counted", 7),
        ("supervisor", "signal.send.counted", 24),
        ("supervisor", "signal.send.sent", 1),
        ("supervisor", "signal.send.sent", 8),
        ("supervisor", "signal.send.sent", 25),
        ("supervisor", "supervisor.answer.before", 6),
        ("supervisor", "supervisor.answer.sent", 30),
        ("a", "signal.receive.open", 1),
        ("a", "signal.send.before", 1),
        ("a", "signal.send.before", 14),
        ("a", "broker.ask.sent", 3),
        ("a", "broker.ask.sent", 17),
        ("a", "broker.answer.come", 9),
        ("a", "signal.send.answered", 2),
        ("a", "signal.send.answered", 21),
        ("a", "signal.receive.rung", 1),
        ("a", "signal.receive.handed", 1),
        ("b", "signal.receive.open", 1),
        ("b", "signal.receive.before", 1),
        ("b", "signal.receive.before", 5),
        ("b", "signal.receive.rung", 1),
        ("b", "signal.receive.rung", 4),
        ("b", "signal.receive.counted", 1),
        ("b", "signal.receive.counted", 3),
        ("b", "signal.receive.handed", 1),
        ("b", "signal.receive.handed", 4),
        ("c", "signal.send.before", 2),
        ("c", "broker.ask.sent", 4),
        ("c", "signal.send.answered", 5),
        ("c", "signal.receive.rung", 1),
        ("c", "signal.receive.counted", 2),
        ("c", "signal.receive.handed", 1),
    ],
    check,
};

/// Lives that a layer may come to in a case.
const LIVES: u64 = 3;

/// How often `[signal.few]` may be used.
const FEW: usize = 3;

/// How many signals the first life of `c` receives.
const FIRST_LIFE: u32 = 4;

/// How long to wait for a signal.
const PAUSE: Duration = Duration::from_millis(1);

/// Sends to each life of both others, and several before they can look.
async fn a(layer: Layer) -> Outcome {
    let (ab, ac) = (layer.signal("ab").map_err(text)?, layer.signal("ac").map_err(text)?);
    let mut signals = layer.signals().map_err(text)?;
    let mut on = 0;
    while !layer.is_stopping() {
        for life in 1..=LIVES {
            for signal in ["HUP", "USR1", "HUP"] {
                tries("ab", life, signal);
                became("ab", life, signal, ab.send_to(&instance("b", life)?, signal).await)?;
            }
            tries("ac", life, "USR2");
            became("ac", life, "USR2", ac.send_to(&instance("c", life)?, "USR2").await)?;
        }
        receive(&mut signals).await?;
        on += 1;
        say(format!("on {on}"));
        lives::tell_descriptors();
    }
    Ok(())
}

/// Receives of two, and sends to whoever lives.
async fn b(layer: Layer) -> Outcome {
    let ba = layer.signal("ba").map_err(text)?;
    let mut signals = layer.signals().map_err(text)?;
    let mut on = 0;
    while !layer.is_stopping() {
        tries("ba", 0, "USR1");
        became("ba", 0, "USR1", ba.send("USR1").await)?;
        receive(&mut signals).await?;
        on += 1;
        say(format!("on {on}"));
        lives::tell_descriptors();
    }
    Ok(())
}

/// Takes all that has come.
async fn receive(signals: &mut Signals) -> Outcome {
    loop {
        let now = now();
        let Ok(signal) = tokio::time::timeout(PAUSE, signals.recv()).await else {
            say(format!("empty {now}"));
            return Ok(());
        };
        got(&signal.map_err(wrong)?);
    }
}

/// Waits by blocking.
fn c(layer: Layer) -> Outcome {
    let get = |name| Ok::<_, String>(layer.signal(name).map_err(text)?.blocking());
    let (cb, few) = (get("cb")?, get("few")?);
    let mut signals = layer.signals().map_err(text)?;
    let (mut on, mut heard) = (0, 0);
    loop {
        for life in 1..=LIVES {
            tries("cb", life, "HUP");
            became("cb", life, "HUP", cb.send_to(&instance("b", life)?, "HUP"))?;
        }
        tries("few", 0, "HUP");
        became("few", 0, "HUP", few.send("HUP"))?;
        let end = loop {
            let now = now();
            match signals.blocking().recv(Some(PAUSE)) {
                Ok(signal) => {
                    got(&signal);
                    heard += 1;
                }
                Err(RecvError::System(error)) => return Err(wrong(error)),
                Err(nothing) => {
                    say(format!("empty {now}"));
                    break nothing;
                }
            }
        };
        on += 1;
        say(format!("on {on}"));
        lives::tell_descriptors();
        let is_over = layer.instance().generation == 1 && heard >= FIRST_LIFE;
        if is_over || matches!(end, RecvError::Stopping) {
            return Ok(());
        }
    }
}

fn instance(layer: &str, generation: u64) -> Result<Instance, String> {
    Ok(Instance { layer: layer.parse().map_err(text)?, index: 0, generation })
}

/// Said before a signal is sent; life 0 are all.
fn tries(grant: &str, life: u64, signal: &str) {
    say(format!("tries {grant} {life} {signal}"));
}

/// Said when it is known what became of it.
fn became(grant: &str, life: u64, signal: &str, sent: Result<(), SendError>) -> Outcome {
    let word = match sent {
        Ok(()) => "sent",
        Err(SendError::PeerDead { .. }) => "dead",
        Err(SendError::Rate { .. }) => "over",
        Err(error) => return Err(wrong(error)),
    };
    say(format!("{word} {grant} {life} {signal} {}", now()));
    Ok(())
}

fn got(Signal { name, from, grant, count, .. }: &Signal) {
    say(format!("got {grant} {name} {count}"));
    if !grant.as_str().starts_with(from.as_str()) && (grant.as_str(), from.as_str()) != ("few", "c")
    {
        say(format!("wrong {grant} from {from}"));
    }
}

/// Nanoseconds of the clock that all processes share.
fn now() -> u128 {
    Duration::try_from(clock_gettime(ClockId::Monotonic)).unwrap_or_default().as_nanos()
}

fn text(error: impl ToString) -> String {
    error.to_string()
}

fn wrong(error: impl ToString) -> String {
    let error = text(error);
    say(format!("wrong {error}"));
    error
}

/// Who sends by which grant to whom.
const GRANTS: [(&str, &str, &str); 5] =
    [("a", "ab", "b"), ("a", "ac", "c"), ("b", "ba", "a"), ("c", "cb", "b"), ("c", "few", "a")];

fn check(story: &Story) -> Result<(), String> {
    lives::check_descriptors(story, &["a", "b", "c"])?;
    // A supervisor that is killed can't answer.
    let is_wrong = |line: &&String| line.contains(": wrong ") || line.contains("exit code 1");
    if let Some(line) = story.lines.iter().find(is_wrong)
        && story.victim != "supervisor"
    {
        return Err(line.clone());
    }
    check_strangers(story)?;
    for (sender, grant, receiver) in GRANTS {
        let sending = Sending { sender: lives::of(story, sender), grant };
        let lives = lives::of(story, receiver);
        for signal in ["HUP", "USR1", "USR2"] {
            let of = |why| format!("{grant} {signal}: {why}");
            sending.check_count(signal, &lives, story.victim != "supervisor").map_err(of)?;
        }
        sending.check_deaths().map_err(|why| format!("{grant}: {why}"))?;
    }
    let few: usize = story.of("c").filter(|line| line.starts_with("sent few")).count();
    if few > FEW {
        return Err(format!("few: {few} were sent, its rate lets {FEW} through"));
    }
    Ok(())
}

/// Nobody got what isn't for it, and nobody died of a signal but who was killed.
fn check_strangers(story: &Story) -> Outcome {
    for layer in ["a", "b", "c"] {
        for line in story.of(layer) {
            let grant = line.strip_prefix("got ").and_then(|rest| rest.split(' ').next());
            let is_its = |grant| GRANTS.iter().any(|(_, of, to)| *of == grant && *to == layer);
            if grant.is_some_and(|grant| !is_its(grant)) {
                return Err(format!("{layer} {line}"));
            }
        }
    }
    let killed: Vec<_> = story.lines.iter().filter(|line| line.contains("was killed by")).collect();
    let victim = format!("cofferdam: {}/0.g", story.victim);
    match killed[..] {
        [] => Ok(()),
        [line] if line.starts_with(&victim) && line.ends_with("SIGKILL") => Ok(()),
        _ => Err(format!("{killed:?}")),
    }
}

/// What is told of a grant by all lives of its sender.
struct Sending<'a> {
    sender: BTreeMap<u64, Vec<&'a str>>,
    grant: &'a str,
}

impl Sending<'_> {
    /// The times at which signals of this kind were sent to that life, and in how many cases it
    /// isn't known whether they were.
    fn sent(&self, life: u64, signal: &str) -> (Vec<u128>, u64) {
        let (mut sent, mut open) = (Vec::new(), 0);
        let what = format!(" {} {life} {signal}", self.grant);
        for lines in self.sender.values() {
            let mut under_way = false;
            for line in lines {
                let rest = |word| line.strip_prefix(word)?.strip_prefix(what.as_str());
                if rest("tries").is_some() {
                    under_way = true;
                } else if let Some(time) = rest("sent") {
                    under_way = false;
                    sent.extend(time.trim().parse::<u128>());
                } else if rest("dead").is_some() || rest("over").is_some() {
                    under_way = false;
                }
            }
            // Who was killed before it asked has sent nothing.
            let asked = lines.last() != Some(&"mark signal.send.before");
            open += u64::from(under_way && asked);
        }
        (sent, open)
    }

    /// Every life has received what it was sent: no more, and when it found nothing left, no less.
    fn check_count(
        &self,
        signal: &str,
        lives: &BTreeMap<u64, Vec<&str>>,
        tells_all: bool,
    ) -> Outcome {
        let what = format!("got {} {signal}", self.grant);
        let got = |lines: &[&str]| lives::numbers(lines, &what).iter().sum::<u64>();
        let (to_all, doubt) = self.sent(0, signal);
        let all = lives.values().map(|lines| got(lines)).sum::<u64>();
        let mut most = to_all.len() as u64 + doubt;
        for (life, lines) in lives {
            let (sent, doubt) = self.sent(*life, signal);
            if tells_all && to_all.is_empty() && got(lines) > sent.len() as u64 + doubt {
                return Err(format!("life {life} got {}, {} were sent", got(lines), sent.len()));
            }
            most += sent.len() as u64 + doubt;
            let Some(place) = lines.iter().rposition(|line| line.starts_with("empty ")) else {
                continue;
            };
            let looked = lines[place].strip_prefix("empty ").and_then(|time| time.parse().ok());
            let before = sent.iter().filter(|sent| looked.is_some_and(|at| **sent < at)).count();
            let had = got(&lines[..place]);
            if had < before as u64 {
                return Err(format!("life {life} found nothing left after {had} of {before}"));
            }
        }
        if tells_all && all > most {
            return Err(format!("all got {all}, {most} were sent"));
        }
        Ok(())
    }

    /// A life that a sender has seen succeeded is dead for it, and stays so.
    fn check_deaths(&self) -> Outcome {
        for lines in self.sender.values() {
            let mut newest = 0;
            let mut died = Vec::new();
            for line in lines {
                let mut words = line.split(' ');
                let (word, grant) = (words.next().unwrap_or(""), words.next());
                if grant != Some(self.grant) {
                    continue;
                }
                let life = words.next().and_then(|life| life.parse::<u64>().ok()).unwrap_or(0);
                if life == 0 {
                    continue;
                }
                if word == "sent" && (life < newest || died.contains(&life)) {
                    return Err(format!("{line}, and life {newest} was there, dead were {died:?}"));
                }
                if word == "sent" {
                    newest = life;
                } else if word == "dead" && life <= newest {
                    died.push(life);
                }
            }
        }
        Ok(())
    }
}
