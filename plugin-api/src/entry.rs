//! The functions of a module's table: from the ABI to the author's type and back. No panic leaves them.

use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::abi::{
    DR_ABI_MAJOR, DR_ABI_MINOR, DR_ACCEPT, DR_DEFER, DR_DESCRIBE_DEFAULTS, DR_DESCRIBE_SCHEMA, DR_DESIRED_WHOLE,
    DR_FAILED, DR_FAULT, DR_INVALID, DR_MAGIC, DR_OK, DR_PANIC, DR_PANICKED, DR_PARK, DR_REFUSED, DR_RETRY,
    DR_UNSUPPORTED, DrCreate, DrDesired, DrMessage, DrMethodCall, DrModule, DrSink, DrStatus, DrText, DrVerdict,
    DrVerdictKind,
};
use crate::client::Client;
use crate::delivery::{Delivery, retry_ms};
use crate::desired;
use crate::device::{DeviceDesired, Handler};
use crate::error::{Error, Fault};
use crate::host::{Host, lent, read_sized};
use crate::logs::{self, Voice};
use crate::message::Message;
use crate::module::{MethodCall, Module, Timer};

/// The table of `M`.
#[doc(hidden)]
pub const fn table<M: Module>(descriptor: &'static [u8]) -> DrModule {
    DrModule {
        magic: DR_MAGIC,
        abi_major: DR_ABI_MAJOR,
        abi_minor: DR_ABI_MINOR,
        size: size_of::<DrModule>() as u32,
        flags: 0,
        descriptor: DrText { ptr: descriptor.as_ptr(), len: descriptor.len() },
        create: create::<M>,
        destroy: destroy::<M>,
        start: Some(start::<M>),
        on_message: Some(on_message::<M>),
        on_desired: Some(on_desired::<M>),
        on_method: Some(on_method::<M>),
        on_timer: Some(on_timer::<M>),
        on_event: Some(on_event::<M>),
        stop: Some(stop::<M>),
        describe: Some(describe::<M>),
        extension: Some(extension::<M>),
    }
}

/// On cache lines of its own: what one module counts is not to slow down what its neighbour in memory does.
#[repr(align(128))]
struct Instance<M> {
    module: M,
    client: Client,
    /// A handler panicked: only `stop` and `destroy` still reach the author's code.
    is_broken: bool,
}

/// Text of a panic that was caught.
struct Panicked(String);

fn catch<R>(work: impl FnOnce() -> R) -> Result<R, Panicked> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|payload| Panicked(logs::panic_text(payload)))
}

/// Runs a handler of an instance.
///
/// # Safety
/// `instance` came from `create::<M>`, is not destroyed yet, and no other call of it is under way.
#[inline]
unsafe fn call<M: Module, R>(instance: *mut c_void, work: impl FnOnce(&mut Instance<M>) -> R) -> Result<R, Panicked> {
    // SAFETY: the caller's promise.
    let instance = unsafe { &mut *instance.cast::<Instance<M>>() };
    if instance.is_broken {
        return Err(Panicked("panicked before; the instance is to be restarted".into()));
    }
    let _speaks = logs::enter(instance.client.voice());
    let result = catch(|| work(instance));
    instance.is_broken = result.is_err();
    result
}

/// Writes into the runtime's sink.
///
/// # Safety
/// `sink` is null or valid for the call.
unsafe fn say(sink: *const DrSink, text: &str) {
    // SAFETY: the caller's promise.
    if let Some(sink) = unsafe { sink.as_ref() } {
        // SAFETY: a valid sink takes text during the call.
        unsafe { (sink.write)(sink.ctx, DrText::new(text)) }
    }
}

/// Turns a handler's result into a status, and says why.
///
/// # Safety
/// As [`say`].
unsafe fn answer(result: Result<Result<(), Error>, Panicked>, sink: *const DrSink) -> DrStatus {
    let (status, text) = match result {
        Ok(Ok(())) => return DR_OK,
        Ok(Err(error)) => (error.status(), error.to_string()),
        Err(Panicked(text)) => (DR_PANICKED, text),
    };
    // SAFETY: the caller's promise.
    unsafe { say(sink, &text) };
    status
}

unsafe extern "C" fn create<M: Module>(
    args: *const DrCreate,
    instance: *mut *mut c_void,
    error: *const DrSink,
) -> DrStatus {
    if args.is_null() || instance.is_null() {
        return DR_INVALID;
    }
    // SAFETY: not null; begins with its size, and zero is valid for each of its fields.
    let args: DrCreate = unsafe { read_sized(args) };
    // SAFETY: the contract of `create`.
    let host = match unsafe { Host::from_raw(args.host) } {
        Ok(host) => host,
        Err(reason) => {
            // SAFETY: the contract of `create`.
            unsafe { say(error, &reason) };
            return DR_UNSUPPORTED;
        }
    };
    let voice = Voice { host, ticket: args.ticket };
    logs::install(voice);
    let _speaks = logs::enter(voice);
    let made = catch(|| {
        // SAFETY: `args` is what the contract of `create` says.
        let (client, section) = unsafe { (Client::from_raw::<M>(&args, host)?, lent(args.desired)) };
        let module = M::create(client.clone(), desired::typed_from_text(section)?)?;
        Ok(Box::new(Instance { module, client, is_broken: false }))
    });
    match made {
        Ok(Ok(made)) => {
            // SAFETY: not null, and ours to write by the contract of `create`.
            unsafe { *instance = Box::into_raw(made).cast() };
            DR_OK
        }
        // SAFETY: the contract of `create`.
        Ok(Err(failed)) => unsafe { answer(Ok(Err(failed)), error) },
        // SAFETY: the contract of `create`.
        Err(panicked) => unsafe { answer(Err(panicked), error) },
    }
}

unsafe extern "C" fn destroy<M: Module>(instance: *mut c_void) {
    // SAFETY: the last call for an instance of `create::<M>`.
    let instance = unsafe { Box::from_raw(instance.cast::<Instance<M>>()) };
    let client = instance.client.clone();
    let _speaks = logs::enter(client.voice());
    client.work().tell_threads();
    client.work().join_threads();
    // The hook has logged a panic; the runtime cannot do more about it.
    let _ = catch(|| client.work().close_posts());
    let _ = catch(|| drop(instance));
}

unsafe extern "C" fn start<M: Module>(instance: *mut c_void, error: *const DrSink) -> DrStatus {
    // SAFETY: the contract of the table.
    unsafe { answer(call(instance, |instance: &mut Instance<M>| instance.module.start()), error) }
}

unsafe extern "C" fn stop<M: Module>(instance: *mut c_void, error: *const DrSink) -> DrStatus {
    // SAFETY: the contract of the table. Unlike other calls it also reaches a broken instance: what it holds must be closed.
    let instance = unsafe { &mut *instance.cast::<Instance<M>>() };
    let _speaks = logs::enter(instance.client.voice());
    instance.client.work().tell_threads();
    let stopped = catch(|| instance.module.stop());
    instance.client.work().join_threads();
    let _ = catch(|| instance.client.work().close_posts());
    // SAFETY: the contract of the table.
    unsafe { answer(stopped, error) }
}

unsafe extern "C" fn on_message<M: Module>(
    instance: *mut c_void,
    delivery: u64,
    message: *const DrMessage,
    reason: *const DrSink,
) -> DrVerdict {
    let complete;
    // SAFETY: the contract of the table: a message begins with its size; a shorter one is completed with zeros, which are valid.
    let message = unsafe {
        if (*message).size as usize >= size_of::<DrMessage>() {
            Message::from_raw(&*message)
        } else {
            complete = read_sized(message);
            Message::from_raw(&complete)
        }
    };
    let handle = |instance: &mut Instance<M>| {
        let delivery = Delivery::new(&instance.client, delivery);
        instance.module.on_message(&message, &delivery).map(|()| delivery.is_deferred())
    };
    // SAFETY: the contract of the table.
    let (kind, after, text) = match unsafe { call(instance, handle) } {
        Ok(Ok(false)) => return verdict(DR_ACCEPT, 0),
        Ok(Ok(true)) => return verdict(DR_DEFER, 0),
        Ok(Err(Fault::Retry { after, reason })) => (DR_RETRY, retry_ms(after), reason),
        Ok(Err(Fault::Park { reason })) => (DR_PARK, 0, reason),
        Ok(Err(Fault::Failed(error))) => (DR_FAULT, 0, error.to_string()),
        Err(Panicked(text)) => (DR_PANIC, 0, text),
    };
    // SAFETY: the contract of the table.
    unsafe { say(reason, &text) };
    verdict(kind, after)
}

fn verdict(kind: DrVerdictKind, retry_after_ms: u64) -> DrVerdict {
    DrVerdict { kind, reserved: 0, retry_after_ms }
}

unsafe extern "C" fn on_desired<M: Module>(
    instance: *mut c_void,
    change: *const DrDesired,
    error: *const DrSink,
) -> DrStatus {
    // SAFETY: the contract of the table: a change begins with its size, and zero is valid for each of its fields.
    let whole = unsafe { lent(read_sized(change).whole) };
    let handle = |instance: &mut Instance<M>| {
        desired::typed_from_text(whole).and_then(|desired| instance.module.on_desired(desired))
    };
    // SAFETY: the contract of the table.
    let result = unsafe { call(instance, handle) };
    // SAFETY: the contract of the table.
    match unsafe { answer(result, error) } {
        DR_OK => DR_OK,
        DR_PANICKED => DR_PANICKED,
        _ => DR_REFUSED,
    }
}

unsafe extern "C" fn on_method<M: Module>(
    instance: *mut c_void,
    call_: *const DrMethodCall,
    status: *mut i32,
    payload: *const DrSink,
) -> DrStatus {
    // SAFETY: the contract of the table: a call begins with its size, and zero is valid for each of its fields.
    let method = unsafe {
        let raw = read_sized(call_);
        let timeout = Duration::from_millis(raw.timeout_ms);
        MethodCall { name: lent(raw.name), payload: lent(raw.payload), caller: lent(raw.caller), timeout }
    };
    // SAFETY: the contract of the table.
    let result = unsafe { call(instance, |instance: &mut Instance<M>| instance.module.on_method(&method)) };
    let result = result.map(|answered| {
        answered.map(|response| {
            // SAFETY: the contract of the table.
            unsafe {
                *status = response.status;
                say(payload, &response.payload.to_string());
            }
        })
    });
    // SAFETY: the contract of the table.
    match unsafe { answer(result, payload) } {
        DR_REFUSED => DR_FAILED,
        status => status,
    }
}

unsafe extern "C" fn on_timer<M: Module>(
    instance: *mut c_void,
    timer: u64,
    missed: u64,
    error: *const DrSink,
) -> DrStatus {
    // SAFETY: the contract of the table.
    unsafe {
        answer(call(instance, |instance: &mut Instance<M>| instance.module.on_timer(Timer(timer), missed)), error)
    }
}

unsafe extern "C" fn on_event<M: Module>(instance: *mut c_void, value: u64, error: *const DrSink) -> DrStatus {
    let handle = |instance: &mut Instance<M>| match instance.client.work().take_posted(value) {
        Some(posted) => posted(&mut instance.module),
        None => Ok(()),
    };
    // SAFETY: the contract of the table.
    unsafe { answer(call(instance, handle), error) }
}

unsafe extern "C" fn describe<M: Module>(what: u32, out: *const DrSink) -> DrStatus {
    let written = catch(|| match what {
        DR_DESCRIBE_SCHEMA => Ok(Some(desired::schema::<M::Desired>())),
        DR_DESCRIBE_DEFAULTS => desired::defaults::<M::Desired>().map(Some),
        _ => Ok(None),
    });
    let (status, text) = match written {
        Ok(Ok(Some(text))) => (DR_OK, text),
        Ok(Ok(None)) => return DR_UNSUPPORTED,
        Ok(Err(error)) => (DR_FAILED, error.to_string()),
        Err(Panicked(text)) => (DR_PANICKED, text),
    };
    // SAFETY: the contract of the table.
    unsafe { say(out, &text) };
    status
}

pub(crate) unsafe extern "C" fn on_device_desired<M: Module>(
    instance: *mut c_void,
    change: *const DrDesired,
    error: *const DrSink,
) -> DrStatus {
    // SAFETY: the contract of the table: a change begins with its size, and zero is valid for each of its fields.
    let change = unsafe {
        let raw = read_sized(change);
        let is_whole = raw.flags & DR_DESIRED_WHOLE != 0;
        DeviceDesired {
            patch: lent(raw.patch),
            whole: lent(raw.whole),
            version: raw.version,
            revision: raw.revision,
            is_whole,
        }
    };
    // SAFETY: the contract of the table.
    unsafe { answer(call(instance, |instance: &mut Instance<M>| instance.module.on_device_desired(&change)), error) }
}

unsafe extern "C" fn extension<M: Module>(name: DrText) -> *const c_void {
    // SAFETY: the contract of the table.
    match unsafe { lent(name) } {
        #[cfg(feature = "abi-proof")]
        crate::abi::DR_EXTENSION_LAYOUT => crate::proof::of_this_library(),
        crate::abi::DR_EXTENSION_MEMORY => crate::memory::of_this_library(),
        crate::abi::DR_EXTENSION_DEVICE_HANDLER => Handler::<M>::table(),
        _ => std::ptr::null(),
    }
}
