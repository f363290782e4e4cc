//! What a supervisor knows of its layers and is written down as it is: data without descriptors.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::moment;
use crate::ident::Instance;
use crate::policy::plan::Restart;
use crate::wire::broker::SOURCE;
use crate::wire::control::FromLayer;
use crate::wire::life::Load;

/// One copy of a layer, across its lives.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Seat {
    /// Place of the layer in the plan.
    pub layer: usize,
    /// The present or the last life. Generation 0: never started.
    pub instance: Instance,
    /// Whether a life of it was ever confined: then what keeps another from beginning is no fault of
    /// the policy's.
    pub has_run: bool,
    /// Whether a life of it was ever ready for those that start after it.
    pub was_ready: bool,
    /// What follows an ending.
    pub restart: Restart,
    /// When the present life began.
    #[serde(with = "moment")]
    pub started: Option<Instant>,
    /// How many lives have failed, one after the other.
    pub failures_in_a_row: u32,
    /// When it was restarted, as far back as the policy looks.
    #[serde(with = "moment")]
    pub recent_restarts: VecDeque<Instant>,
}

/// What has happened to a running instance.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is one thing that has happened to it")]
pub struct Facts {
    /// How far it has come.
    pub stage: Stage,
    /// When it is killed unless it has ended.
    #[serde(with = "moment")]
    pub deadline: Option<Instant>,
    /// What it said last of its own end.
    #[serde(with = "words")]
    pub last_words: Option<FromLayer>,
    /// It has closed its end of the control socket, or sent a message of no bytes, which looks the
    /// same: nothing is heard from it any more.
    pub mute: bool,
    /// The other side of a pipe at its standard input or output has ended.
    pub severed: bool,
    /// What the kernel enforces on it: its receipt in the fixed form, empty before there is one.
    pub receipt: Vec<u8>,
    /// It is ready for others.
    pub ready: bool,
    /// When it is asked next whether it is well, or has to have answered.
    pub health: Pulse,
    /// How much it has in its hands.
    pub load: Load,
    /// Since when.
    #[serde(with = "moment")]
    pub loaded: Instant,
    /// It was asked to end because there is nothing for it to do.
    pub spared: bool,
    /// When it must have taken settings that it was told of.
    #[serde(with = "moment")]
    pub owes: Option<Instant>,
    /// It was asked to end so that the next life begins.
    pub renewed: bool,
    /// The connection that it is there for, once it has it.
    pub serves: Option<Serves>,
    /// What it holds is another by now: it ends, and what comes after it begins once all of these
    /// have ended.
    pub stale: bool,
    /// It runs a former program.
    pub outdated: bool,
    /// It broke the rules and is killed: what it has said since counts for nothing.
    pub breached: bool,
}

impl Facts {
    /// Of one that begins; `severed`: the other side of a pipe of its has ended before.
    pub fn new(severed: bool) -> Self {
        Self {
            stage: Stage::Confining,
            deadline: None,
            last_words: None,
            mute: false,
            severed,
            receipt: Vec::new(),
            ready: false,
            health: Pulse::default(),
            load: Load::Idle,
            loaded: Instant::now(),
            spared: false,
            owes: None,
            renewed: false,
            serves: None,
            stale: false,
            outdated: false,
            breached: false,
        }
    }
}

/// How far an instance has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// It confines itself.
    Confining,
    /// It is confined and runs; this is its public key.
    Serving([u8; 32]),
}

/// A worker's connection.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Serves {
    /// Whose it is, as far as limits tell sources apart.
    pub source: [u8; SOURCE],
    /// When the worker is asked to finish.
    #[serde(with = "moment")]
    pub until: Option<Instant>,
}

/// What is known of an instance's health.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Pulse {
    /// Nobody asks.
    #[default]
    Unwatched,
    /// It is asked at this time.
    AskAt(#[serde(with = "moment")] Instant),
    /// It was asked, and has to answer by this time.
    AnswerBy(#[serde(with = "moment")] Instant),
    /// It didn't answer in this time, and is killed.
    Lost(Duration),
}

/// Who asked for a reload or an upgrade.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Asker {
    /// Their number at the door; `None`: a signal.
    pub caller: Option<u32>,
    /// In words.
    pub who: String,
    /// Whether authority may be gained.
    pub gain: bool,
    /// Whether another program is to take over.
    pub program: bool,
}

/// What a layer said, as it said it.
mod words {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

    use crate::wire::control::FromLayer;

    #[expect(clippy::ref_option, reason = "what serde calls")]
    pub fn serialize<S: Serializer>(words: &Option<FromLayer>, to: S) -> Result<S::Ok, S::Error> {
        words.as_ref().map(FromLayer::encode).serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<FromLayer>, D::Error> {
        let bytes = Option::<Vec<u8>>::deserialize(from)?;
        let words = bytes.map(|bytes| FromLayer::decode(&bytes).ok_or("no message"));
        words.transpose().map_err(de::Error::custom)
    }
}
