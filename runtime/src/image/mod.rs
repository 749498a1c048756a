//! Images: shared libraries that modules are made from, kept by the hash of their bytes.
//!
//! A file in a watched folder is looked at without running its code, copied under its hash and never touched again; what runs
//! is always that private copy. A reference (`filter`, `filter:1.2`) follows versions and rebuilds; a digest does not move.
//!
//! Guarantees: nothing runs from a watched folder; no byte runs that was not hashed just before; a file that is not taken in
//! or not used says why in one line; a loaded library is never unloaded.
//!
//! ```text
//! file ──watcher──► complete? ──store──► copy ──inspect──► images/sha256/<hex>/   ──library──► loaded, for good
//!                       │                           │                │
//!                 still growing                 Refusal          catalog: which image does a reference mean
//! ```

mod catalog;
mod descriptor;
mod digest;
mod elf;
mod inspect;
mod library;
mod names;
mod needs;
mod pe;
mod reference;
mod refusal;
mod scan;
mod search;
mod store;
mod symbols;
#[cfg(test)]
mod testing;
mod watcher;

pub use catalog::{Arrival, Catalog, ImageRecord, RefusedFile, Resolution, Verdict};
pub use descriptor::{AbiVersion, Descriptor};
pub use digest::{Digest, DigestError};
pub use inspect::{Format, Inspection, MAX_LIBRARY_BYTES, Platform, inspect, inspect_file, inspect_for};
pub use library::{DescribeError, Lens, Library, LoadError, observe};
pub use needs::{NeededLibrary, Needs};
pub use reference::{ImageNameError, Reference, ReferenceError, Wanted, check_image_name};
pub use refusal::{Defect, Refusal};
pub use store::{ImageStore, StoreError, TakenIn, find_stored};
pub use watcher::{FileEvent, WatchedFolder, Watcher};
