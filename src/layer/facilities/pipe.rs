//! `layer.pipe_reader("pictures")?`, `layer.pipe_writer("pictures")?`

use crate::channel::Side;
use crate::ident::Name;
use crate::ipc::pipe::{Pipe, PipeReader, PipeWriter};
use crate::layer::{Layer, LayerError};

impl Layer {
    /// The reading end of the pipe `name`.
    pub fn pipe_reader(&self, name: &str) -> Result<PipeReader, LayerError> {
        self.pipe(name, Side::To, "to").map(Pipe::reader)
    }

    /// The writing end of the pipe `name`.
    pub fn pipe_writer(&self, name: &str) -> Result<PipeWriter, LayerError> {
        self.pipe(name, Side::From, "from").map(Pipe::writer)
    }

    fn pipe(&self, name: &str, side: Side, key: &str) -> Result<&Pipe, LayerError> {
        let line = |layer: &Name| format!("[pipe.{name}] {key} = \"{layer}\"");
        let share = &self.0.share;
        let found = self.granted("pipe", &share.pipes, |plan| &plan.name, name, line)?;
        let pipe = self.0.pipes.get(&found.number).filter(|pipe| pipe.side() == side);
        pipe.ok_or_else(|| self.not_granted("pipe", name, line(&self.0.instance.layer)))
    }
}
