//! `layer.semaphore("licence")`.

use std::sync::Arc;

use crate::ipc::semaphore::Semaphore;
use crate::layer::{Layer, LayerError};

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
        Ok(Semaphore::new(Arc::clone(&self.0.broker), granted.number, granted.plan.clone()))
    }
}
