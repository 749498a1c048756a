//! The device's own twin on the bench.

use serde_json::Value;

use super::{Bench, told};
use crate::abi::{DR_EXTENSION_DEVICE_HANDLER, DrDesired, DrDeviceHandler, DrText};
use crate::error::Error;

impl Bench {
    /// Merges a patch into the device's own desired properties and delivers the change, see [`BenchBuilder::device_twin`](super::BenchBuilder::device_twin).
    ///
    /// # Errors
    /// What the module said; or that it is not permitted the device's twin.
    pub fn device_desired(&mut self, patch: Value) -> Result<(), Error> {
        let permitted = self.bed.patch_device_desired(&patch);
        let (whole, version) = permitted.ok_or_else(|| Error::new("make it with BenchBuilder::device_twin"))?;
        self.deliver_device(&patch, &whole, version, 0)
    }

    /// Reported properties of the device.
    pub fn device_reported(&self) -> Value {
        self.bed.device_reported()
    }

    pub(super) fn deliver_device(
        &mut self,
        patch: &Value,
        whole: &Value,
        version: u64,
        flags: u32,
    ) -> Result<(), Error> {
        let Some(extension) = self.module.extension else { return Ok(()) };
        // SAFETY: any thread may call; the name lives for the call.
        let handler = unsafe { extension(DrText::new(DR_EXTENSION_DEVICE_HANDLER)) }.cast::<DrDeviceHandler>();
        // SAFETY: null or, by the contract of that name, a table that lives as long as the library.
        let Some(handler) = (unsafe { handler.as_ref() }) else { return Ok(()) };
        let (patch, whole) = (patch.to_string(), whole.to_string());
        let change = DrDesired {
            size: size_of::<DrDesired>() as u32,
            flags,
            patch: DrText::new(&patch),
            whole: DrText::new(&whole),
            version,
            revision: version,
        };
        // SAFETY: as in `start`; the change is borrowed for the call.
        told("device_desired", |sink| unsafe { (handler.on_desired)(self.instance, &raw const change, sink) })
    }
}
