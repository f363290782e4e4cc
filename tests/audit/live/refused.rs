//! What the library refuses within a layer, before anybody else is asked, is in the log too.

use cofferdam::Layer;
use cofferdam::audit::entry::{Facility, Kind, Side, Verdict};
use cofferdam::ipc::message::Message;

use super::layers::{policy, say, stay};
use super::log::{alarms, assert_sound, records};
use super::{Outcome, Test};
use crate::harness::Daemon;

pub(crate) const TESTS: &[Test] =
    &[("refused::what_the_library_refuses_within_a_layer_is_in_the_log", asked)];

/// Asks for what the policy doesn't grant.
pub(crate) fn asker(layer: Layer) -> Outcome {
    let channel = layer.channel("c").map_err(|e| e.to_string())?.blocking();
    assert!(layer.channel("nowhere").is_err() && layer.signal("missing").is_err());
    assert!(channel.call("shout").send(Message::from(b"x".to_vec())).is_err());
    assert!(channel.call("").send(Message::from(vec![0; 70_000])).is_err());
    let signal = layer.signal("s").map_err(|e| e.to_string())?.blocking();
    assert!(signal.send("KILL").is_err());
    // What is granted leaves no refusal.
    channel.call("").send(Message::from(b"last".to_vec())).map_err(|e| e.to_string())?;
    say("all asked");
    stay(&layer)
}

fn asked() {
    let signal = "[signal.s]\nfrom = \"a\"\nto = \"b\"\nsend = [\"HUP\"]";
    let policy = format!("{}{signal}\n", policy("asker", "listener", "", ""));
    let mut daemon = Daemon::start("-", &policy);
    daemon.line("all asked");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    let log = daemon.directory().join("log");
    assert_sound(&log);
    let all = records(&log);
    assert_eq!(alarms(&all), [""; 0]);
    let refused: Vec<_> =
        all.iter().map(|it| &it.entry).filter(|it| it.verdict == Verdict::Refused).collect();
    let said: Vec<_> = refused.iter().map(|it| String::from_utf8_lossy(&it.detail)).collect();
    let words = ["channel 'nowhere'", "signal 'missing'", "`shout`", "70000", "`KILL`"];
    assert_eq!(said.len(), words.len(), "{said:?}");
    for (said, word) in said.iter().zip(words) {
        assert!(said.contains(word), "{said} says nothing of {word}");
    }
    assert!(refused.iter().all(|it| (it.kind, it.side, it.value) == (Kind::Use, Side::None, 1)));
    assert_eq!((refused[4].facility, refused[4].edge, refused[4].method), (Facility::Signal, 0, 9));
    let told = std::process::Command::new(env!("CARGO_BIN_EXE_cofferdam"))
        .args(["audit", "query", log.to_str().unwrap(), "--verdict", "refused"])
        .output()
        .unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    assert_eq!(told.matches("a/0.g1").count(), 5, "{told}");
    assert_eq!(told.matches("(not-granted)").count(), 5, "{told}");
}
