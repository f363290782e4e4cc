//! `layer.fifo("commands")?`

use std::io;
use std::sync::{Arc, Weak};

use crate::ident::Name;
use crate::ipc::fifo::{FifoReader, Handed};
use crate::ipc::message::Companion;
use crate::layer::{Layer, LayerError, system};
use crate::report::Facility;
use crate::wire::control::Object;

impl Layer {
    /// The named pipe `name`, whose lines this layer reads. One reader at a time: while there is
    /// one, another is an error.
    pub fn fifo(&self, name: &str) -> Result<FifoReader, LayerError> {
        let line = |layer: &Name| format!("[fifo.{name}] to = \"{layer}\"");
        let share = &self.0.share;
        let found = self.granted("fifo", &share.fifos, |plan| &plan.name, name, line)?;
        let part = |part| {
            let missing = || io::Error::from(io::ErrorKind::NotFound);
            let fd = self.0.objects.get(Object::Fifo, found.number, part).ok_or_else(missing)?;
            // The table's and ours.
            if Arc::strong_count(&fd) > 2 {
                let what = "this layer reads it already";
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, what));
            }
            Ok(fd)
        };
        let handed = || Ok(Handed { reader: part(0)?, look: part(1)?, copy: part(2)? });
        let handed = handed().map_err(|error| system("fifo", name, error))?;
        let shared: Arc<dyn Companion> = self.0.clone();
        let companion: Weak<dyn Companion> = Arc::downgrade(&shared);
        let tap = self.0.desk.tap(Facility::Fifo, found.number, found.plan.audit);
        Ok(FifoReader::new(&found.plan, handed, Some(companion), tap))
    }
}
