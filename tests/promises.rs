//! What users are promised, through the real binary: one promise a file.
#![cfg(unix)]
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout)]

mod added;
mod bad_images;
mod bad_input;
mod c_module;
mod check;
mod completions;
mod deployments;
mod desired;
mod documents;
mod drop_folder;
mod full_queue;
mod harness;
mod image_store;
mod insight;
mod kill_9;
mod logs;
mod manifests;
mod messages;
mod methods;
mod misbehaving;
mod module_threads;
mod night_shift;
mod no_runtime;
mod openapi;
mod projects;
mod real_input;
mod recorder;
mod redeployments;
mod restarts;
mod rollbacks;
mod rollouts;
mod routes;
mod service;
mod state_directory;
mod stops;
mod structure;
mod support_bundle;
mod tour;
mod tryout;
mod two_names;
mod unhealthy;
mod upgrade;
mod upstream;
mod usage;
