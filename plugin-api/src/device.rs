//! The device's own twin: the same calls as for the instance's own, on another identity, where the deployment permits it.

use std::ffi::c_void;
use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::abi::{
    DR_DENIED, DR_DEVICE_REPORT, DR_EXTENSION_DEVICE, DR_NO_DELIVERY, DR_OK, DR_PENDING, DR_UNSUPPORTED, DrCompletion,
    DrDevice, DrDeviceHandler, DrStatus, DrText, DrTwin,
};
use crate::client::{Client, patch_text, read_twin};
use crate::completion::{begin_with, wait_for};
use crate::delivery::Delivery;
use crate::error::{Context, Error, ErrorKind};
use crate::module::Module;
use crate::twin::{LastRead, Twin};
use crate::work::lock;

impl Client {
    /// A client on the device's own identity.
    ///
    /// # Errors
    /// [`ErrorKind::Denied`] where the deployment does not permit it: `"deviceTwin": "read"` or `"report"` in
    /// `settings.createOptions` of this module. [`ErrorKind::Unsupported`] from a runtime that is too old.
    pub fn device_client(&self) -> Result<DeviceClient, Error> {
        let voice = self.voice();
        let table = self.extension(DR_EXTENSION_DEVICE).map(|table| table.cast::<DrDevice>().as_ptr().cast_const());
        // SAFETY: by the contract of that name, a table that lives as long as the process; its size comes first.
        let table = table
            .and_then(|table| unsafe { table.as_ref() })
            .filter(|table| table.size as usize >= size_of::<DrDevice>())
            .ok_or_else(|| Error::from_status(DR_UNSUPPORTED, "device_client", ""))?;
        let mut rights = 0;
        // SAFETY: a function of the runtime that any thread may call; `rights` is ours.
        match unsafe { (table.open)(voice.ticket, &raw mut rights) } {
            DR_OK => {}
            status => return Err(refused(status, "device_client", "", self.module(), "read")),
        }
        let identity = format!("/devices/{}", self.device());
        let may_report = rights & DR_DEVICE_REPORT != 0;
        Ok(DeviceClient { client: self.clone(), table, identity, may_report, last: Arc::default() })
    }
}

/// A client on the device's own identity, from [`Client::device_client`]. As [`Client`], it is cheap to clone, may be used on any
/// thread, and answers [`ErrorKind::Gone`] once its instance has stopped.
///
/// Changes of the device's desired properties come to [`Module::on_device_desired`]. Several modules may have such a client: each
/// sees what the others reported.
#[derive(Clone)]
pub struct DeviceClient {
    client: Client,
    table: &'static DrDevice,
    identity: String,
    may_report: bool,
    last: Arc<Mutex<LastRead>>,
}

impl DeviceClient {
    /// `/devices/{device}`.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// Whether the deployment permits reports, and not reading alone.
    pub fn may_report(&self) -> bool {
        self.may_report
    }

    /// The device's twin as committed: shared as long as it stays the same. `[any thread]` `[never blocks]`
    pub fn get_twin(&self) -> Result<Arc<Twin>, Error> {
        // SAFETY: a function of the runtime that any thread may call; the twin is ours, with its size set.
        let fill = |twin: &mut DrTwin| match unsafe { (self.table.get_twin)(self.ticket(), twin) } {
            DR_OK => Ok(()),
            status => Err(refused(status, "get_twin of the device", "", self.client.module(), "read")),
        };
        read_twin(fill, |json, desired, reported| lock(&self.last).read(json, desired, reported))?
    }

    /// Merges a patch (a JSON object; null removes) into the device's reported properties, and waits until it is committed.
    ///
    /// # Errors
    /// [`ErrorKind::Denied`]: the deployment permits reading alone. Others as for [`Client::patch_reported`].
    pub fn patch_reported(&self, patch: impl Serialize) -> Result<(), Error> {
        let patch = patch_text(patch)?;
        let (status, detail) = wait_for(|completion| self.begin(DR_NO_DELIVERY, &patch, completion));
        self.ended(status, &detail)
    }

    /// As [`DeviceClient::patch_reported`], without waiting: `then` is told the end, on any thread, and must not block.
    pub fn begin_patch_reported(
        &self,
        patch: impl Serialize,
        then: impl FnOnce(Result<(), Error>) + Send + 'static,
    ) -> Result<(), Error> {
        let patch = patch_text(patch)?;
        let of = self.clone();
        begin_with(
            |completion| self.begin(DR_NO_DELIVERY, &patch, completion),
            move |(status, detail)| then(of.ended(status, &detail)),
        )
        .map_err(|status| self.refused(status, ""))
    }

    /// Merges a patch into the device's reported properties, staged: it is committed when the handler accepts.
    pub fn patch_reported_under(&self, delivery: &Delivery<'_>, patch: impl Serialize) -> Result<(), Error> {
        let patch = patch_text(patch)?;
        self.ended(self.begin(delivery.id(), &patch, std::ptr::null()), "")
    }

    fn ticket(&self) -> u64 {
        self.client.voice().ticket
    }

    fn begin(&self, delivery: u64, patch: &str, completion: *const DrCompletion) -> DrStatus {
        // SAFETY: a function of the runtime that any thread may call; the patch is borrowed for the call, the completion is null or
        // lives until it is called.
        unsafe { (self.table.patch_reported)(self.ticket(), delivery, DrText::new(patch), completion) }
    }

    fn ended(&self, status: DrStatus, detail: &str) -> Result<(), Error> {
        match status {
            DR_OK | DR_PENDING => Ok(()),
            status => Err(self.refused(status, detail)),
        }
    }

    fn refused(&self, status: DrStatus, detail: &str) -> Error {
        refused(status, "patch_reported of the device", detail, self.client.module(), "report")
    }
}

impl fmt::Debug for DeviceClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DeviceClient").field(&self.identity).finish()
    }
}

/// Says what the deployment would have to say.
fn refused(status: DrStatus, what: &str, detail: &str, module: &str, right: &str) -> Error {
    if status != DR_DENIED {
        return Error::from_status(status, what, detail);
    }
    let text = format!(
        "the deployment does not permit it: write \"deviceTwin\": \"{right}\" into settings.createOptions of {module}"
    );
    Error::with_kind(ErrorKind::Denied, text).context(what)
}

/// A change of the device's desired properties, as [`Module::on_device_desired`] is told.
#[derive(Debug, Clone, Copy)]
pub struct DeviceDesired<'a> {
    pub(crate) patch: &'a str,
    pub(crate) whole: &'a str,
    pub(crate) version: u64,
    pub(crate) revision: u64,
    pub(crate) is_whole: bool,
}

impl DeviceDesired<'_> {
    /// The whole section after the change, as a type: its defaults, overlaid with the twin.
    pub fn desired_as<T: Serialize + DeserializeOwned + Default>(&self) -> Result<T, Error> {
        crate::desired::typed_from_text(self.whole)
    }

    /// The whole section after the change: a JSON object.
    pub fn desired(&self) -> Result<Value, Error> {
        serde_json::from_str(self.whole).context("reading the device's desired properties")
    }

    /// The change: a JSON merge patch, null removes. The whole section where [`DeviceDesired::is_whole`].
    pub fn patch(&self) -> Result<Value, Error> {
        serde_json::from_str(self.patch).context("reading the change of the device's desired properties")
    }

    /// True for the first one after the start, and where changes were left out.
    pub fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// `$version` after the change.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Revision after the change: local, and one more than that before unless [`DeviceDesired::is_whole`].
    pub fn revision(&self) -> u64 {
        self.revision
    }
}

/// The table of `M` for changes of the device's twin.
pub(crate) struct Handler<M>(PhantomData<M>);

impl<M: Module> Handler<M> {
    const TABLE: DrDeviceHandler = DrDeviceHandler {
        size: size_of::<DrDeviceHandler>() as u32,
        flags: 0,
        on_desired: crate::entry::on_device_desired::<M>,
    };

    /// What the runtime finds as `dinrail.device-handler/1`.
    pub(crate) fn table() -> *const c_void {
        let table: &'static DrDeviceHandler = const { &Handler::<M>::TABLE };
        std::ptr::from_ref(table).cast()
    }
}
