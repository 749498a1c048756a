//! Loads a library of the store into this process, for good: the only place that does.
//!
//! Guarantees: the bytes were hashed just before; every symbol is bound at load (a missing one is an error here, not the end
//! of the process at the first call); one loaded library per digest, shared by its instances; none is ever unloaded, since its
//! threads, thread-locals and function pointers may outlive any instance.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::mem::{MaybeUninit, offset_of, size_of};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use dinrail_plugin::abi::{self, DrModule, DrSink, DrText};

use super::inspect::{MIN_TABLE_BYTES, check_head};
use super::{AbiVersion, Digest, ImageStore, Refusal, StoreError};

/// Longest schema or defaults that a module may write, in bytes.
const MAX_DESCRIPTION_BYTES: usize = 1024 * 1024;

/// A loaded library. `[any thread]`
#[derive(Debug)]
pub struct Library {
    digest: Digest,
    folder: PathBuf,
    table: &'static Table,
    memory: Option<Counters>,
}

/// The counters of a library that counts what it allocates.
#[derive(Debug, Clone, Copy)]
struct Counters {
    first: *const i64,
    count: usize,
    /// In counters.
    stride: usize,
}

// SAFETY: the counters are atomic and live as long as the process, by the contract of `DrMemory`.
unsafe impl Send for Counters {}
// SAFETY: as above.
unsafe impl Sync for Counters {}

/// The module's table, as long as this runtime knows it; what an older module does not have is `None`.
struct Table(DrModule);

/// Where a library is, once it is loaded.
type Place = Arc<Mutex<Option<Arc<Library>>>>;

/// Why a library is not loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The store does not have these bytes.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The system's loader refused it.
    #[error("cannot be loaded: {cause}; {hint}")]
    Loader {
        /// What the loader said, without the path.
        cause: String,
        /// What to do.
        hint: String,
    },
    /// Its table is not what a module's table has to be.
    #[error("{}", .0.line())]
    Table(Refusal),
    /// It leaves out what it must have.
    #[error("its table has no function '{0}', which every module must have; fill it in and rebuild")]
    NoFunction(&'static str),
    /// It was built with types that are laid out otherwise.
    #[error("built with other types than this runtime's, although of the same ABI version ({0}); rebuild it")]
    Layout(String),
}

/// Why a module does not describe its desired properties.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DescribeError {
    /// It answered with an error.
    #[error("the module's describe failed with status {0}; see its author's notes")]
    Status(u32),
    /// It wrote what is not text, or too much.
    #[error("the module's describe wrote {0}; correct it and rebuild")]
    Text(&'static str),
}

/// What stands between a module and its callers: makes the table that is used from the module's own.
pub type Lens = fn(&'static DrModule) -> DrModule;

static LENS: OnceLock<Lens> = OnceLock::new();

/// Has every module that this process loads from now on be used through `lens`; for a process that tries one.
pub fn observe(lens: Lens) {
    // The first one stays: tables are made once.
    let _ = LENS.set(lens);
}

/// The libraries of this process, by digest. Global, as loading itself is: the system's loader knows each path once.
/// Each has a lock of its own, so that a slow one holds up only itself.
static LOADED: Mutex<BTreeMap<Digest, Place>> = Mutex::new(BTreeMap::new());

impl Library {
    /// Loads an image of the store, or returns it where it is loaded. Runs the library's constructors. `[blocks]`
    ///
    /// Errors are not remembered: the next call tries again.
    pub fn load(store: &ImageStore, digest: &Digest) -> Result<Arc<Library>, LoadError> {
        let place = LOADED.lock().unwrap_or_else(PoisonError::into_inner).entry(*digest).or_default().clone();
        let mut place = place.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(library) = &*place {
            return Ok(library.clone());
        }
        let path = store.verify(digest)?;
        let own: &'static Table = Box::leak(Box::new(load_table(&path)?));
        let table = LENS.get().map_or(own, |lens| Box::leak(Box::new(Table(lens(&own.0)))));
        let memory = memory_counters(&own.0);
        let library = Arc::new(Library { digest: *digest, folder: store.folder(digest), table, memory });
        *place = Some(library.clone());
        Ok(library)
    }

    /// A library whose functions are part of the test.
    #[cfg(test)]
    pub(crate) fn of_table(table: DrModule) -> Arc<Library> {
        let table = Box::leak(Box::new(Table(table)));
        Arc::new(Library { digest: Digest::of(b""), folder: PathBuf::new(), table, memory: None })
    }

    /// Bytes that an image's library has allocated and not freed, over all its instances; `None` where it is not loaded, or does
    /// not count. Runs none of its code. `[never blocks]`
    pub fn memory_in_use(digest: &Digest) -> Option<u64> {
        let place = LOADED.try_lock().ok()?.get(digest)?.clone();
        // Held while it is being loaded, which nobody waits for here.
        let library = place.try_lock().ok()?.clone()?;
        let counters = library.memory?;
        let sum = (0..counters.count).fold(0_i64, |sum, at| {
            // SAFETY: within the counters, which were checked at load and are only ever written atomically.
            let counter = unsafe { AtomicI64::from_ptr(counters.first.add(at * counters.stride).cast_mut()) };
            sum.wrapping_add(counter.load(Ordering::Relaxed))
        });
        u64::try_from(sum).ok()
    }

    /// Which image it is.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Folder of the image's own files.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The module's functions; only the instance host calls them.
    pub fn table(&self) -> &'static DrModule {
        &self.table.0
    }

    /// ABI that it was built for.
    pub fn abi(&self) -> AbiVersion {
        AbiVersion { major: self.table.0.abi_major, minor: self.table.0.abi_minor }
    }

    /// Asks the module for the JSON Schema of its desired properties; `None` where it has none.
    pub fn schema(&self) -> Result<Option<String>, DescribeError> {
        self.describe(abi::DR_DESCRIBE_SCHEMA)
    }

    /// Asks the module for the defaults of its desired properties, a JSON object; `None` where it has none.
    pub fn defaults(&self) -> Result<Option<String>, DescribeError> {
        self.describe(abi::DR_DESCRIBE_DEFAULTS)
    }

    fn describe(&self, what: u32) -> Result<Option<String>, DescribeError> {
        let Some(describe) = self.table.0.describe else { return Ok(None) };
        let mut text = Vec::new();
        let sink = DrSink { ctx: (&raw mut text).cast(), write: append };
        // SAFETY: the module's table promises a function of this type that may be called on any thread; `sink` and the vector
        // behind it live for the call and nobody else uses them meanwhile.
        let status = unsafe { describe(what, &raw const sink) };
        match status {
            abi::DR_OK if text.is_empty() => Ok(None),
            abi::DR_OK if text.len() > MAX_DESCRIPTION_BYTES => Err(DescribeError::Text("more than 1 MiB")),
            abi::DR_OK => String::from_utf8(text).map(Some).map_err(|_| DescribeError::Text("what is not UTF-8")),
            abi::DR_UNSUPPORTED | abi::DR_NOT_FOUND => Ok(None),
            status => Err(DescribeError::Status(status)),
        }
    }
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Table(ABI {}.{}, {} bytes)", self.0.abi_major, self.0.abi_minor, self.0.size)
    }
}

/// A [`DrSink`]'s `write` into a vector; what is over the limit is left out, but its first byte tells that it was.
unsafe extern "C" fn append(ctx: *mut c_void, text: DrText) {
    // SAFETY: `ctx` is the vector of `describe`, which waits for the call and does not touch it meanwhile.
    let all = unsafe { &mut *ctx.cast::<Vec<u8>>() };
    // SAFETY: the ABI has the module pass readable text for the time of this call.
    let bytes = unsafe { text.bytes() };
    let room = (MAX_DESCRIPTION_BYTES + 1).saturating_sub(all.len());
    all.extend_from_slice(&bytes[..bytes.len().min(room)]);
}

fn load_table(path: &Path) -> Result<Table, LoadError> {
    let entry = open(path)?;
    // SAFETY: the inspection of these very bytes found that the symbol is data and at least as large as it says; the library
    // is never unloaded.
    let table = unsafe { read_table(entry) }?;
    if table.0.abi_minor == abi::DR_ABI_MINOR && table.0.extension.is_some() {
        layout_proof(&table.0).map_err(LoadError::Layout)?;
    }
    Ok(table)
}

/// Proves for a Rust module of the same ABI minor that it has the same types.
fn layout_proof(table: &DrModule) -> Result<(), String> {
    let Some(extension) = table.extension else { return Ok(()) };
    // SAFETY: the table promises a function of this type that may be called on any thread; what it gives for this name is a
    // proof that lives as long as the library, which is never unloaded.
    let proof = unsafe { extension(DrText::new(abi::DR_EXTENSION_LAYOUT)).cast::<abi::DrLayoutProof>().as_ref() };
    // SAFETY: as above: the proof's pointers are those that its contract says.
    proof.map_or(Ok(()), |proof| unsafe { dinrail_plugin::proof::check_layout(proof) })
}

/// Where a library counts its memory, if it does in a way that can be read.
fn memory_counters(table: &DrModule) -> Option<Counters> {
    const MAX_COUNTERS: u32 = 1 << 16;
    let extension = table.extension?;
    // SAFETY: the table promises a function of this type that may be called on any thread; what it gives for this name lives as
    // long as the library, which is never unloaded.
    let memory = unsafe { extension(DrText::new(abi::DR_EXTENSION_MEMORY)).cast::<abi::DrMemory>().as_ref() }?;
    let word = size_of::<i64>();
    let is_sound = memory.size as usize >= size_of::<abi::DrMemory>()
        && (1..=MAX_COUNTERS).contains(&memory.counters)
        && memory.stride > 0
        && (memory.stride as usize).is_multiple_of(word)
        && !memory.first.is_null()
        && memory.first.is_aligned();
    is_sound.then(|| Counters {
        first: memory.first,
        count: memory.counters as usize,
        stride: memory.stride as usize / word,
    })
}

/// Loads the file and finds the entry symbol.
fn open(path: &Path) -> Result<*const u8, LoadError> {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    // SAFETY: the constructors of the library run here. That they are sound is the trust that is put into a module by giving
    // it to this runtime; that these are its bytes was just verified.
    #[cfg(unix)]
    let library = unsafe {
        use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
        Library::open(Some(path.as_os_str()), RTLD_NOW | RTLD_LOCAL)
    };
    // SAFETY: as above.
    #[cfg(not(unix))]
    let library = unsafe { libloading::Library::new(path.as_os_str()) };
    let library = library.map_err(|error| explain(&path, &error))?;
    // SAFETY: the type is only that of an address; it is read as a table after its head was checked.
    let found = unsafe { library.get::<*const u8>(abi::DR_ENTRY_SYMBOL) }.map(|symbol| *symbol);
    // Never unloaded, also when it is of no use: its constructors have run.
    std::mem::forget(library);
    match found {
        Ok(entry) if !entry.is_null() => Ok(entry),
        _ => Err(LoadError::Table(super::inspect::foreign())),
    }
}

/// Copies the table at `entry`, as much of it as both sides know.
///
/// # Safety
/// `entry` points to data of the library that begins with a table's head and, if magic and version are right, has as many
/// bytes as the head says.
unsafe fn read_table(entry: *const u8) -> Result<Table, LoadError> {
    // SAFETY: the caller's promise covers the head; unaligned, since nothing is known of a foreign symbol yet.
    let number = |at: usize| unsafe { entry.add(at).cast::<u32>().read_unaligned() };
    // SAFETY: as above.
    let magic = unsafe { entry.cast::<u64>().read_unaligned() };
    let version =
        AbiVersion { major: number(offset_of!(DrModule, abi_major)), minor: number(offset_of!(DrModule, abi_minor)) };
    let size = number(offset_of!(DrModule, size));
    check_head(magic, version, size).map_err(LoadError::Table)?;
    // Whole words only: all fields behind the head are of that size, and half a pointer is none.
    let word = size_of::<usize>();
    let known = (size as usize).min(size_of::<DrModule>()) / word * word;
    debug_assert!(known >= MIN_TABLE_BYTES);
    let mut table = MaybeUninit::<DrModule>::zeroed();
    // SAFETY: `known` is at most the size of either side.
    unsafe { std::ptr::copy_nonoverlapping(entry, table.as_mut_ptr().cast::<u8>(), known) };
    for (at, name) in [(offset_of!(DrModule, create), "create"), (offset_of!(DrModule, destroy), "destroy")] {
        // SAFETY: the offset is that of a pointer within the table, all of whose bytes are set.
        if unsafe { table.as_ptr().byte_add(at).cast::<usize>().read() } == 0 {
            return Err(LoadError::NoFunction(name));
        }
    }
    // SAFETY: zero is valid for every field except `create` and `destroy`, which are not zero; the others were copied from a
    // table, and what is not null there is a function of its type, as its maker promises by magic and version.
    Ok(Table(unsafe { table.assume_init() }))
}

/// Turns the loader's error into its cause and what to do about it.
fn explain(path: &Path, error: &libloading::Error) -> LoadError {
    let said = std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
    let (cause, hint) = cause_and_hint(&said, &path.to_string_lossy());
    LoadError::Loader { cause, hint }
}

fn cause_and_hint(said: &str, path: &str) -> (String, String) {
    let said = said.strip_prefix(path).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(said);
    let cause = said.replace(&format!(" (required by {path})"), "");
    let after = |text: &str| cause.split_once(text).map(|(_, rest)| rest);
    let hint = if let Some(symbol) = after("undefined symbol: ") {
        super::symbols::advice(symbol.split([',', ' ']).next().unwrap_or(symbol))
    } else if cause.contains("not found") && cause.contains("version `") {
        "build it on a system that is not newer than this device".to_owned()
    } else if let Some((library, _)) = cause.split_once(": cannot open shared object file") {
        format!("install {library} on this device, or link it statically")
    } else if cause.contains("failed to map segment") || cause.contains("Operation not permitted") {
        "is the state directory mounted noexec? Put it where code may run (--state)".to_owned()
    } else if cause.contains("static TLS") {
        "build it with -fPIC and without -ftls-model=initial-exec".to_owned()
    } else if cause.contains("executable stack") {
        "link it with -z noexecstack".to_owned()
    } else {
        "rebuild it for this device".to_owned()
    };
    (cause, hint)
}

#[cfg(test)]
#[path = "library_tests.rs"]
mod tests;
