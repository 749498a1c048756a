//! Sending and receiving a small message allocates nothing, and large bodies are shared instead of copied.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ffi::c_void;
use std::sync::atomic::AtomicU32;

use dinrail_plugin::abi::{
    DR_ABI_MAJOR, DR_ABI_MINOR, DR_ACCEPT, DR_MAGIC, DR_NO_INDEX, DR_OK, DR_UNSUPPORTED, DrBuffer, DrCompletion,
    DrCreate, DrHost, DrLevel, DrMessage, DrModule, DrOutgoing, DrProperty, DrStatus, DrText, DrTwin, DrVerdict,
};
use dinrail_plugin::prelude::*;

struct Counting;
thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    /// The shared body that was sent last.
    static SHARED: Cell<*const u8> = const { Cell::new(std::ptr::null()) };
}

// SAFETY: the system's allocator, with a counter.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(ptr, layout) }
    }
}
#[global_allocator]
static COUNTING: Counting = Counting;

static LEVEL: AtomicU32 = AtomicU32::new(0);

unsafe extern "C" fn log(_: u64, _: DrLevel, _: DrText, _: DrText, _: DrText, _: u32) {}
unsafe extern "C" fn output(_: u64, _: DrText, id: *mut u32) -> DrStatus {
    // SAFETY: the caller's.
    unsafe { *id = 1 };
    DR_OK
}
unsafe extern "C" fn send(_: u64, _: u64, _: u32, message: *const DrOutgoing, _: *const DrCompletion) -> DrStatus {
    // SAFETY: lent for the call.
    let message = unsafe { &*message };
    // SAFETY: null or a buffer.
    let shared = unsafe { message.buffer.as_ref() }.map_or(std::ptr::null(), |buffer| buffer.ptr);
    SHARED.set(shared);
    DR_OK
}
unsafe extern "C" fn patch_reported(_: u64, _: u64, _: DrText, _: *const DrCompletion) -> DrStatus {
    DR_UNSUPPORTED
}
unsafe extern "C" fn get_twin(_: u64, _: *mut DrTwin) -> DrStatus {
    DR_UNSUPPORTED
}
unsafe extern "C" fn set_health(_: u64, _: DrLevel, _: DrText) -> DrStatus {
    DR_OK
}
unsafe extern "C" fn timer_start(_: u64, _: u64, _: u64, _: *mut u64) -> DrStatus {
    DR_UNSUPPORTED
}
unsafe extern "C" fn number(_: u64, _: u64) -> DrStatus {
    DR_UNSUPPORTED
}
unsafe extern "C" fn message_keep(_: u64, _: u64, _: *mut *const DrMessage) -> DrStatus {
    DR_UNSUPPORTED
}
unsafe extern "C" fn message_release(_: *const DrMessage) {}
unsafe extern "C" fn complete(_: u64, _: u64, _: DrVerdict, _: DrText) -> DrStatus {
    DR_UNSUPPORTED
}
unsafe extern "C" fn invoke_method(
    _: u64,
    _: DrText,
    _: DrText,
    _: DrText,
    _: u64,
    _: *const DrCompletion,
) -> DrStatus {
    DR_UNSUPPORTED
}
unsafe extern "C" fn fail(_: u64, _: DrText) -> DrStatus {
    DR_OK
}
unsafe extern "C" fn extension(_: DrText) -> *const c_void {
    std::ptr::null()
}

static HOST: DrHost = DrHost {
    magic: DR_MAGIC,
    abi_major: DR_ABI_MAJOR,
    abi_minor: DR_ABI_MINOR,
    size: size_of::<DrHost>() as u32,
    flags: 0,
    max_level: (&raw const LEVEL).cast(),
    log,
    output,
    send,
    patch_reported,
    get_twin,
    set_health,
    timer_start,
    timer_stop: number,
    post: number,
    message_keep,
    message_release,
    complete,
    invoke_method,
    fail,
    extension,
};

struct Forwards {
    client: Client,
    out: Output,
}

impl Module for Forwards {
    type Desired = Value;
    fn create(client: Client, _: Value) -> Result<Forwards, Error> {
        Ok(Forwards { out: client.output("out")?, client })
    }
    fn on_message(&mut self, message: &Message<'_>, delivery: &Delivery<'_>) -> Result<(), Fault> {
        match message.property("how") {
            Some("copy") => self.client.send_message_to_output(self.out, message.body())?,
            _ => delivery.send(self.out, message)?,
        }
        tracing::debug!(sender = message.sender(), "forwarded");
        Ok(())
    }
}
export_module!(Forwards, allocator: none);

unsafe extern "C" {
    static DINRAIL_MODULE_V1: DrModule;
}

/// Delivers one message `times` and gives the allocations and nanoseconds of each.
fn deliver(body: &[u8], properties: &[DrProperty], buffer: Option<&DrBuffer>, times: u32) -> (u64, f64) {
    // SAFETY: exported above.
    let table = unsafe { &DINRAIL_MODULE_V1 };
    let none = DrText::ABSENT;
    let create = DrCreate {
        size: size_of::<DrCreate>() as u32,
        flags: 0,
        ticket: 1,
        host: &raw const HOST,
        identity: DrText::new("/devices/d/modules/m"),
        device: DrText::new("d"),
        module: DrText::new("m"),
        generation_id: none,
        data_folder: none,
        image_folder: none,
        env: none,
        desired: none,
        desired_version: 1,
        desired_revision: 1,
    };
    let mut instance = std::ptr::null_mut();
    // SAFETY: complete and alive for the call.
    assert_eq!(unsafe { (table.create)(&create, &mut instance, std::ptr::null()) }, DR_OK);
    let message = DrMessage {
        size: size_of::<DrMessage>() as u32,
        attempt: 1,
        input: DrText::new("in"),
        input_index: DR_NO_INDEX,
        property_count: properties.len() as u32,
        properties: properties.as_ptr(),
        body: body.as_ptr(),
        body_len: body.len(),
        buffer: buffer.map_or(std::ptr::null(), |buffer| &raw const *buffer),
        sender: DrText::new("/devices/d/modules/s"),
        output: none,
        epoch: 1,
        sequence: 1,
        created_us: 0,
        message_id: none,
        correlation_id: none,
        content_type: none,
        content_encoding: none,
    };
    let on_message = table.on_message.unwrap();
    let (before, begun) = (ALLOCATIONS.get(), std::time::Instant::now());
    for delivery in 1..=times {
        // SAFETY: complete and alive for the call.
        let verdict = unsafe { on_message(instance, delivery.into(), &message, std::ptr::null()) };
        assert_eq!(verdict.kind, DR_ACCEPT);
    }
    let each = begun.elapsed().as_nanos() as f64 / f64::from(times);
    let allocations = ALLOCATIONS.get() - before;
    // SAFETY: the last call.
    unsafe { (table.destroy)(instance) };
    (allocations, each)
}

#[test]
fn a_small_message_passes_through_without_an_allocation() {
    let property = |key, value| DrProperty { key: DrText::new(key), value: DrText::new(value) };
    let times = if cfg!(debug_assertions) { 1_000 } else { 5_000_000 };
    for (case, properties) in [
        ("forwarded", &[][..]),
        ("forwarded with properties", &[property("a", "1"), property("b", "2")][..]),
        ("body sent anew", &[property("how", "copy")][..]),
    ] {
        let (allocations, each) = deliver(&[7; 256], properties, None, times);
        println!("{case}: {each:.1} ns for receive and send together");
        assert_eq!(allocations, 0, "{case}");
    }
}

#[test]
fn a_large_body_is_passed_on_without_a_copy() {
    unsafe extern "C" fn count(_: *mut c_void) {}
    let body = vec![7_u8; 4096];
    let buffer =
        DrBuffer { ptr: body.as_ptr(), len: body.len(), owner: std::ptr::null_mut(), retain: count, release: count };
    let (allocations, _) = deliver(&body, &[], Some(&buffer), 1);
    assert_eq!((allocations, SHARED.get()), (0, body.as_ptr()));
}
