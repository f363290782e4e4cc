//! `layer.region("scratch")`.

use std::io;
use std::sync::{Arc, PoisonError, Weak};

use crate::ipc::message::Companion;
use crate::ipc::region::{Region, RegionError, RegionSpec};
use crate::layer::{Layer, LayerError, Shared};
use crate::policy::plan::MapRight;
use crate::report::Facility;
use crate::wire::control::Object;

impl Layer {
    /// The region `name`, mapped with the granted right. Handles share one mapping.
    pub fn region(&self, name: &str) -> Result<Region, LayerError> {
        let shared = &*self.0;
        let found = self.granted(
            "region",
            &shared.share.regions,
            |it| &it.name,
            name,
            |layer| format!("[region.{name}] grant = {{ {layer} = \"r\" }}"),
        )?;
        let mut maps = shared.maps.regions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(region) = maps.get(&found.number) {
            return Ok(region.clone());
        }
        let system = |error| LayerError::System { what: format!("[region.{name}]"), error };
        let fd = shared.objects.get(Object::Region, found.number, 0);
        let fd = fd.ok_or_else(|| system(io::ErrorKind::NotFound.into()))?;
        let spec = RegionSpec {
            region: found.plan.name.clone(),
            layer: shared.instance.layer.clone(),
            index: shared.instance.index,
            size: found.plan.size,
            writable: found.plan.grant.get(&shared.instance.layer) == Some(&MapRight::ReadWrite),
        };
        let companion: Weak<Shared> = Arc::downgrade(&self.0);
        let companion: Weak<dyn Companion> = companion;
        let tap = shared.desk.tap(Facility::Region, found.number, found.plan.audit);
        let region =
            Region::map(spec, &*fd, Some(companion), tap).map_err(|error| match error {
                RegionError::System(error) => system(error),
                other => system(io::Error::other(other)),
            })?;
        maps.insert(found.number, region.clone());
        Ok(region)
    }
}
