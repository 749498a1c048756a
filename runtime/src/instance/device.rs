//! The device's own twin, for instances that the deployment permits it: what modules find as `dinrail.device/1`.

use std::sync::Arc;

use dinrail_plugin::abi::*;

use super::given::Whose;
use super::host;
use super::link::Link;
use super::spec::DeviceTwin;
use crate::name::Identity;
use crate::twin::TwinSnapshot;

/// The table.
pub static TABLE: DrDevice = DrDevice { size: size_of::<DrDevice>() as u32, flags: 0, open, get_twin, patch_reported };

impl Link {
    /// The device that the instance is on.
    pub fn device(&self) -> Option<Identity> {
        Identity::device(self.identity.device_id()).ok()
    }

    /// The device's twin, where the deployment permits it.
    pub fn device_snapshot(&self) -> Option<Arc<TwinSnapshot>> {
        (self.device_twin != DeviceTwin::None).then(|| self.services.twins.get(&self.device()?)).flatten()
    }
}

unsafe extern "C" fn open(ticket: u64, rights: *mut u32) -> DrStatus {
    host::with_link(ticket, |link| {
        let granted = match link.device_twin {
            DeviceTwin::None => return DR_DENIED,
            DeviceTwin::Read => DR_DEVICE_READ,
            DeviceTwin::Report => DR_DEVICE_READ | DR_DEVICE_REPORT,
        };
        if rights.is_null() {
            return DR_INVALID;
        }
        // SAFETY: not null, and the module's to write by contract.
        unsafe { rights.write(granted) };
        DR_OK
    })
}

unsafe extern "C" fn get_twin(ticket: u64, twin: *mut DrTwin) -> DrStatus {
    host::with_link(ticket, |link| {
        if link.device_twin == DeviceTwin::None {
            return DR_DENIED;
        }
        // SAFETY: what the module passed.
        unsafe { host::give_twin(link, link.device_snapshot(), Whose::Device, twin) }
    })
}

unsafe extern "C" fn patch_reported(
    ticket: u64,
    delivery: u64,
    patch: DrText,
    completion: *const DrCompletion,
) -> DrStatus {
    host::with_link(ticket, |link| {
        let (DeviceTwin::Report, Some(device)) = (link.device_twin, link.device()) else { return DR_DENIED };
        // SAFETY: what the module passed.
        unsafe { host::report(link, &device, delivery, patch, completion) }
    })
}
