//! `layer.signal("reload")` to send, `layer.signals()` to receive.

use std::io;
use std::sync::{Arc, PoisonError, Weak};

use crate::ipc::signal::{Inflow, Sender, Signals};
use crate::layer::{Layer, LayerError, Shared, system};
use crate::policy::plan::{Audit, SignalPlan};
use crate::report::Facility;
use crate::wire::control::Object;

impl Layer {
    /// What the grant `name` lets this layer send.
    pub fn signal(&self, name: &str) -> Result<Sender, LayerError> {
        let (all, own) = (&self.0.share.signals, &self.0.instance.layer);
        let granted = self.granted(
            "signal",
            all,
            |plan| &plan.name,
            name,
            |layer| format!("[signal.{name}] from = \"{layer}\""),
        )?;
        if granted.plan.from != *own {
            let line = format!("[signal.{name}] from = \"{own}\"");
            return Err(self.not_granted("signal to send", name, line));
        }
        let tap = self.0.desk.tap(Facility::Signal, granted.number, Audit::Digest);
        Ok(Sender::new(Arc::clone(&self.0.broker), granted.number, granted.plan.clone(), tap))
    }

    /// The signals that others send to this layer. Every handle receives from the same stream.
    pub fn signals(&self) -> Result<Signals, LayerError> {
        let own = &self.0.instance.layer;
        let mut inflow = self.0.inflow.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = if let Some(shared) = &*inflow {
            Arc::clone(shared)
        } else {
            let Some(counts) = self.0.objects.get(Object::SignalCounts, 0, 0) else {
                let line = format!("[signal.NAME] to = \"{own}\"");
                return Err(self.not_granted("signal to receive", "NAME", line));
            };
            let signals = self.0.share.signals.iter();
            let signals = signals.map(|one| -> (u16, &SignalPlan) { (one.number, &one.plan) });
            let new = Inflow::new(signals, own, &counts, &self.0.desk);
            let shared = Arc::new(new.map_err(|error| system("signals of", own.as_str(), error))?);
            inflow.insert(shared).clone()
        };
        let companion: Weak<Shared> = Arc::downgrade(&self.0);
        let refused = |error: io::Error| system("signals of", own.as_str(), error);
        Signals::new(shared, companion).map_err(refused)
    }
}
