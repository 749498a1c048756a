//! The runtime's table behind safe calls. A field that an older runtime does not have answers [`DR_UNSUPPORTED`].

use std::ffi::c_void;
use std::mem::{offset_of, size_of};
use std::sync::atomic::AtomicU32;

use crate::abi::{
    DR_ABI_MAJOR, DR_EXTENSION_IDENTITY, DR_EXTENSION_SENDS, DR_EXTENSION_THREADS, DR_MAGIC, DR_UNSUPPORTED,
    DrCompletion, DrHost, DrIdentity, DrLevel, DrMessage, DrOutgoing, DrSends, DrSink, DrStatus, DrText, DrThreads,
    DrTwin, DrVerdict,
};

/// Borrowed table of the runtime; lives as long as the process.
#[derive(Clone, Copy)]
pub(crate) struct Host {
    table: *const DrHost,
    size: usize,
}

// SAFETY: the table is constant and its functions may be called on any thread (contract of `DrHost`).
unsafe impl Send for Host {}
// SAFETY: as above.
unsafe impl Sync for Host {}

/// The function `$field`, if the runtime's table is long enough to have it.
macro_rules! function {
    ($host:expr, $field:ident) => {
        if $host.size >= offset_of!(DrHost, $field) + size_of::<*const c_void>() {
            // SAFETY: `from_raw` checked the table's head, and its size covers this field.
            Some(unsafe { (*$host.table).$field })
        } else {
            None
        }
    };
}

macro_rules! calls {
    ($($(#[$doc:meta])* fn $name:ident($($arg:ident: $type:ty),*);)*) => {
        $($(#[$doc])*
        #[inline]
        pub fn $name(self, $($arg: $type),*) -> DrStatus {
            match function!(self, $name) {
                // SAFETY: any thread may call; the arguments are borrowed for the call, pointers come from references.
                Some(function) => unsafe { function($($arg),*) },
                None => DR_UNSUPPORTED,
            }
        })*
    };
}

impl Host {
    /// Takes the runtime's table, or says why this module cannot work with it.
    ///
    /// # Safety
    /// `table` is null or points to a `DrHost` of its own `size` that lives as long as the process.
    pub unsafe fn from_raw(table: *const DrHost) -> Result<Host, String> {
        if table.is_null() {
            return Err("the runtime passed no table".into());
        }
        // SAFETY: the four head fields are in every version of the table.
        let (magic, major, size) = unsafe { ((*table).magic, (*table).abi_major, (*table).size as usize) };
        if magic != DR_MAGIC || major != DR_ABI_MAJOR || size < offset_of!(DrHost, log) {
            return Err(format!("the runtime speaks ABI {major}, this module {DR_ABI_MAJOR}; rebuild the module"));
        }
        Ok(Host { table, size })
    }

    /// The most verbose level that anybody listens to.
    pub fn max_level(self) -> *const AtomicU32 {
        // SAFETY: in every version of the table (checked in `from_raw`); the runtime writes it atomically.
        unsafe { (*self.table).max_level.cast() }
    }

    pub fn log(self, ticket: u64, level: DrLevel, target: &str, text: &str, file: Option<&str>, line: u32) {
        let file = file.map_or(DrText::ABSENT, DrText::new);
        if let Some(log) = function!(self, log) {
            // SAFETY: any thread may call; all text is borrowed for the call.
            unsafe { log(ticket, level, DrText::new(target), DrText::new(text), file, line) }
        }
    }

    pub fn message_release(self, message: *const DrMessage) {
        if let Some(release) = function!(self, message_release) {
            // SAFETY: the caller got `message` from `message_keep` and gives it up here.
            unsafe { release(message) }
        }
    }

    pub fn extension(self, name: &str) -> *const c_void {
        match function!(self, extension) {
            // SAFETY: any thread may call; the name is borrowed for the call.
            Some(extension) => unsafe { extension(DrText::new(name)) },
            None => std::ptr::null(),
        }
    }

    /// What the runtime knows of threads; `None` from an older one.
    pub fn threads(self) -> Option<&'static DrThreads> {
        let threads = self.extension(DR_EXTENSION_THREADS).cast::<DrThreads>();
        // SAFETY: null or, by the contract of that name, a table that lives as long as the process; its size comes first.
        unsafe { threads.as_ref() }.filter(|threads| threads.size as usize >= size_of::<DrThreads>())
    }

    /// How the runtime waits for sends; `None` from an older one.
    pub fn sends(self) -> Option<&'static DrSends> {
        let sends = self.extension(DR_EXTENSION_SENDS).cast::<DrSends>();
        // SAFETY: null or, by the contract of that name, a table that lives as long as the process; its size comes first.
        unsafe { sends.as_ref() }.filter(|sends| sends.size as usize >= size_of::<DrSends>())
    }

    /// How the runtime signs; `None` from an older one.
    fn identity(self) -> Option<&'static DrIdentity> {
        let identity = self.extension(DR_EXTENSION_IDENTITY).cast::<DrIdentity>();
        // SAFETY: null or, by the contract of that name, a table that lives as long as the process; its size comes first.
        unsafe { identity.as_ref() }.filter(|identity| identity.size as usize >= size_of::<DrIdentity>())
    }

    pub fn sign(self, ticket: u64, bytes: &[u8], signature: &mut [u8; 32]) -> DrStatus {
        match self.identity() {
            // SAFETY: any thread may call; what is signed is borrowed for the call, and 32 bytes are there for the signature.
            Some(identity) => unsafe { (identity.sign)(ticket, bytes.as_ptr(), bytes.len(), signature.as_mut_ptr()) },
            None => DR_UNSUPPORTED,
        }
    }

    pub fn token(self, ticket: u64, host: DrText, ttl_secs: u64, token: &mut String) -> DrStatus {
        match self.identity() {
            // SAFETY: any thread may call; the text and the sink are borrowed for the call.
            Some(identity) => unsafe { (identity.token)(ticket, host, ttl_secs, &sink_into(token)) },
            None => DR_UNSUPPORTED,
        }
    }

    /// Sends, and waits for the disk where it has to.
    #[inline]
    pub fn send_and_wait(
        self,
        sends: &DrSends,
        ticket: u64,
        output: u32,
        message: &DrOutgoing,
        reason: &mut String,
    ) -> DrStatus {
        // SAFETY: any thread may call; the message and the sink are borrowed for the call.
        unsafe { (sends.send_and_wait)(ticket, output, message, &sink_into(reason)) }
    }

    calls! {
        fn output(ticket: u64, name: DrText, id: &mut u32);
        fn send(ticket: u64, delivery: u64, output: u32, message: &DrOutgoing, completion: *const DrCompletion);
        fn patch_reported(ticket: u64, delivery: u64, patch: DrText, completion: *const DrCompletion);
        fn get_twin(ticket: u64, twin: &mut DrTwin);
        fn set_health(ticket: u64, level: DrLevel, sentence: DrText);
        fn timer_start(ticket: u64, first_ms: u64, period_ms: u64, timer: &mut u64);
        fn timer_stop(ticket: u64, timer: u64);
        fn post(ticket: u64, value: u64);
        fn message_keep(ticket: u64, delivery: u64, message: &mut *const DrMessage);
        fn complete(ticket: u64, delivery: u64, verdict: DrVerdict, reason: DrText);
        fn invoke_method(
            ticket: u64,
            target: DrText,
            name: DrText,
            payload: DrText,
            timeout_ms: u64,
            completion: *const DrCompletion
        );
        fn fail(ticket: u64, reason: DrText);
    }
}

/// A sink that appends to `text`, for the length of one call.
pub(crate) fn sink_into(text: &mut String) -> DrSink {
    unsafe extern "C" fn write(ctx: *mut c_void, text: DrText) {
        // SAFETY: `ctx` is the string below, alive for the call; the text is lent for it.
        unsafe { (*ctx.cast::<String>()).push_str(lent(text)) }
    }
    DrSink { ctx: (&raw mut *text).cast(), write }
}

/// Reads a struct that begins with its size as its maker knows it: fields beyond that are zero.
///
/// # Safety
/// `ptr` points to at least the number of bytes that its first `u32` says, and all zero bytes are a valid `T`.
pub(crate) unsafe fn read_sized<T: Copy>(ptr: *const T) -> T {
    // SAFETY: the caller's promise: the first field is the size.
    let size = unsafe { ptr.cast::<u32>().read_unaligned() } as usize;
    let mut value = std::mem::MaybeUninit::<T>::zeroed();
    // SAFETY: both sides have that many bytes; all zero is valid for the rest.
    unsafe {
        std::ptr::copy_nonoverlapping(ptr.cast::<u8>(), value.as_mut_ptr().cast::<u8>(), size.min(size_of::<T>()));
        value.assume_init()
    }
}

/// Text that the runtime lent; empty where it is absent or, against the contract, not UTF-8.
///
/// # Safety
/// As [`DrText::bytes`].
#[inline]
pub(crate) unsafe fn lent<'a>(text: DrText) -> &'a str {
    // SAFETY: the caller's promise.
    unsafe { text.text() }.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::{DR_GONE, DrCreate};

    #[test]
    fn a_field_that_an_older_runtime_lacks_is_unsupported() {
        let older = DrHost { size: offset_of!(DrHost, invoke_method) as u32, ..crate::testing::HOST };
        // SAFETY: a whole table that says it is shorter.
        let host = unsafe { Host::from_raw(&older) }.unwrap();
        assert_eq!(host.fail(u64::MAX, DrText::new("x")), DR_UNSUPPORTED);
        assert!(host.extension("x").is_null());
        assert_eq!(host.post(u64::MAX, 1), DR_GONE, "what it has still works");
    }

    #[test]
    fn another_major_is_refused_in_words() {
        let newer = DrHost { abi_major: 2, ..crate::testing::HOST };
        // SAFETY: a whole table.
        let refused = unsafe { Host::from_raw(&newer) }.err().unwrap();
        assert_eq!(refused, "the runtime speaks ABI 2, this module 1; rebuild the module");
    }

    #[test]
    fn what_a_shorter_struct_lacks_is_zero() {
        let mut bytes = [0xAA_u8; size_of::<DrCreate>()];
        let until = offset_of!(DrCreate, desired_version);
        bytes[..4].copy_from_slice(&(until as u32).to_ne_bytes());
        // SAFETY: that many bytes are there.
        let read: DrCreate = unsafe { read_sized(bytes.as_ptr().cast()) };
        assert_eq!((read.size as usize, read.flags, read.desired_version), (until, 0xAAAA_AAAA, 0));
    }
}
