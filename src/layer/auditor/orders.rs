//! What the supervisor tells the auditor: in its slice of the plan, as every layer's settings.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::audit::Options;
use crate::audit::rules::Rules;
use crate::audit::tables::Tables;
use crate::ident::{Name, PolicyId};
use crate::policy::plan::{AuditPlan, LayerPlan, Plan};

/// All that the auditor must know.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Orders {
    /// The log's directory, as an absolute path.
    pub directory: String,
    /// What the supervisor looked at under that path: device and inode.
    pub identity: (u64, u64),
    /// A number that this run of the daemon has and no other.
    pub run: u64,
    /// The policy's id.
    pub policy: PolicyId,
    /// The whole plan, without the framework's own layers, in the order of its numbers.
    pub plan: Plan,
    /// The policy's canonical text.
    pub text: String,
    /// All layers in the order of their numbers, the framework's own among them.
    pub layers: Vec<Name>,
}

impl Orders {
    /// As a layer's settings.
    pub(crate) fn encode(&self) -> Result<Vec<u8>, postcard::Error> {
        postcard::to_stdvec(self)
    }

    /// Back from settings.
    pub(super) fn decode(settings: &[u8]) -> Result<Self, postcard::Error> {
        postcard::from_bytes(settings)
    }

    /// Bounds and rhythms of the log.
    pub(super) fn options(&self) -> Options {
        let AuditPlan { sign_every, segment_bytes, segment_age, keep_bytes, keep_age, .. } =
            self.plan.audit;
        let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        Options {
            checkpoint_age: nanoseconds(sign_every),
            segment_bytes,
            segment_age: nanoseconds(segment_age),
            keep_bytes: keep_bytes.unwrap_or(u64::MAX),
            keep_age: keep_age.map_or(u64::MAX, nanoseconds),
            ..Options::default()
        }
    }

    /// What the numbers in records mean.
    pub(super) fn tables(&self, rules: &Rules) -> Tables {
        let text = self.text.clone();
        let tables = Tables::of(&self.plan, self.policy, text, rules.names().to_vec());
        Tables { layers: self.layers.iter().map(ToString::to_string).collect(), ..tables }
    }

    /// The number of the witness's layer, if there is one.
    pub(super) fn witness(&self) -> Option<u16> {
        self.layer(crate::layer::witness::NAME)
    }

    /// Whether that is a helper's layer: one of our own that isn't the witness. The auditor itself
    /// reports nothing.
    pub(super) fn is_helper(&self, layer: u16) -> bool {
        !self.is_of_plan(layer) && Some(layer) != self.witness() && layer < u16::MAX - 2
    }

    /// The number of the layer that tells what the kernel denied others, if there is one.
    pub(super) fn logger(&self) -> Option<u16> {
        self.layer(crate::layer::logger::NAME)
    }

    /// Whether that is a layer, of the policy or our own.
    pub(super) fn is_layer(&self, layer: u16) -> bool {
        usize::from(layer) < self.layers.len()
    }

    /// Whether that is one of the policy's layers.
    pub(super) fn is_of_plan(&self, layer: u16) -> bool {
        let name = self.layers.get(usize::from(layer));
        name.is_some_and(|name| !name.as_str().starts_with(LayerPlan::RESERVED))
    }

    /// Whether a witness relays a channel.
    pub(super) fn is_witnessed(&self, channel: u16) -> bool {
        self.plan.channels.get(usize::from(channel)).is_some_and(|channel| channel.witness)
    }

    /// The number of the layer of that name.
    pub(super) fn layer(&self, name: &str) -> Option<u16> {
        self.layers.iter().position(|it| *it == *name)?.try_into().ok()
    }
}
