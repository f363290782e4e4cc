//! `layer.semaphore("licence")`.

use crate::ipc::semaphore::Semaphore;
use crate::layer::{Layer, LayerError};
use crate::wire::control::Service;

impl Layer {
    /// The semaphore `name`, of which this layer may hold permits.
    pub fn semaphore(&self, name: &str) -> Result<Semaphore, LayerError> {
        let all = &self.0.share.semaphores;
        let granted = self.granted(
            "semaphore",
            all,
            |plan| &plan.name,
            name,
            |layer| format!("[semaphore.{name}] holders = [\"{layer}\"]"),
        )?;
        let broker = self.0.service(Service::Ledger)?;
        Ok(Semaphore::new(broker, granted.number, granted.plan.clone()))
    }
}
