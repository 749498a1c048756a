//! What users are promised, through the real binary: one promise a file.
#![cfg(unix)]
#![allow(missing_docs, dead_code, unused_imports, clippy::unwrap_used, clippy::print_stdout)]

mod bad_images;
mod drop_folder;
mod harness;
mod image_store;
mod misbehaving;
mod module_threads;
mod no_runtime;
mod upgrade;
