//! What is told of connections: each one in the audit log, with its host and what became of it, and in
//! the daemon's log, once, what the policy doesn't let.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::host::Host;
use super::reach::Failure;
use super::rules::{Denied, Target};
use crate::ident::Instance;
use crate::layer::run::say;
use crate::layer::service::Act;
use crate::policy::plan::Audit;
use crate::report::{Desk, Facility, Who, room};
use crate::wire::broker::Answer;

/// Lines that are said of one daemon's layers; more are not said.
const MOST_LINES: usize = 64;

/// The number of no rule.
const NO_RULE: u32 = 0xff_ffff;

/// Where it is told.
pub(super) struct Notes {
    pub desk: Desk,
    said: RefCell<BTreeSet<String>>,
}

/// Who asks.
#[derive(Clone, Debug)]
pub(super) struct Asker {
    pub instance: Instance,
    pub who: Who,
}

impl Notes {
    pub fn new(desk: Desk) -> Self {
        Self { desk, said: RefCell::default() }
    }

    /// A connection has been made.
    pub async fn reached(&self, asker: &Asker, target: &Target, at: SocketAddr) {
        let Target { host, port, .. } = target;
        let detail = match host {
            Host::Name(_) => format!("tcp:{host}:{port} at {}", at.ip()),
            Host::Address(_) => format!("tcp:{host}:{port}"),
        };
        self.record(asker, Some(target.rule), detail, Answer::Done).await;
    }

    /// None has.
    pub async fn failed(
        &self,
        asker: &Asker,
        rule: Option<u16>,
        wanted: Option<(&Host, u16)>,
        why: &Failure,
    ) {
        let named = wanted.map(|(host, port)| format!("tcp:{host}:{port}"));
        if let (Failure::Denied(denied), Some(named)) = (why, &named) {
            self.tell(asker, named, *denied);
        }
        let detail = named.unwrap_or_else(|| "what can't be read".to_owned());
        self.record(asker, rule, detail, Answer::Refused(why.refusal())).await;
    }

    /// Says in the daemon's log what the policy doesn't let, and which line would.
    fn tell(&self, asker: &Asker, named: &str, why: Denied) {
        let Asker { instance, .. } = asker;
        let layer = &instance.layer;
        let why = match why {
            Denied::Unlisted => format!(
                "is refused: [layer.{layer}] would allow it by `connect = {{ NAME = \"{named}\" }}`"
            ),
            other => format!("is refused: {}", Failure::Denied(other)),
        };
        let line = format!("{instance} asks for {named}, which {why}");
        let mut said = self.said.borrow_mut();
        if said.len() < MOST_LINES && !said.contains(&line) {
            say(&line);
            said.insert(line);
        }
    }

    async fn record(&self, asker: &Asker, rule: Option<u16>, detail: String, answer: Answer) {
        let act = Act::connected(rule.map_or(NO_RULE, u32::from), detail.into_bytes(), &answer);
        room(self.desk.tap(Facility::Connect, 0, Audit::Digest).as_ref()).await;
        act.report(&self.desk, asker.who, &[]);
    }
}
