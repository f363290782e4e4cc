//! `layer.mapped_file("state")`.

use std::io;
use std::sync::PoisonError;

use crate::ipc::mapped_file::{MappedFile, MappedFileError, MappedFileSpec};
use crate::layer::{Layer, LayerError};
use crate::policy::plan::MapRight;
use crate::report::Facility;
use crate::wire::control::{Object, mapped_file_part};

impl Layer {
    /// The mapped file `name`, with the granted right. Handles share one mapping.
    pub fn mapped_file(&self, name: &str) -> Result<MappedFile, LayerError> {
        let shared = &*self.0;
        let all = &shared.share.mapped_files;
        let found = self.granted(
            "mapped file",
            all,
            |it| &it.name,
            name,
            |layer| format!("[mapped-file.{name}] grant = {{ {layer} = \"r\" }}"),
        )?;
        let mut maps = shared.maps.mapped_files.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = maps.get(&found.number) {
            return Ok(file.clone());
        }
        let system = |error| LayerError::System { what: format!("[mapped-file.{name}]"), error };
        let refused = |error| match error {
            MappedFileError::System(error) => system(error),
            other => system(io::Error::other(other)),
        };
        let spec = MappedFileSpec {
            file: found.plan.name.clone(),
            layer: shared.instance.layer.clone(),
            index: shared.instance.index,
            size: found.plan.size,
            writable: found.plan.grant.get(&shared.instance.layer) == Some(&MapRight::ReadWrite),
            durable: found.plan.durable,
        };
        let tap = shared.desk.tap(Facility::MappedFile, found.number, found.plan.audit);
        let part = |part| shared.objects.get(Object::MappedFile, found.number, part);
        let file = match (part(mapped_file_part::LIVE), part(mapped_file_part::COPY)) {
            (Some(fd), _) => MappedFile::map(spec, fd, tap).map_err(refused)?,
            (None, Some(fd)) => MappedFile::map_copy(spec, &*fd, tap).map_err(refused)?,
            (None, None) => return Err(system(io::ErrorKind::NotFound.into())),
        };
        maps.insert(found.number, file.clone());
        Ok(file)
    }
}
