//! dinrail: native shared libraries as supervised modules, each with an identity and a twin.
//!
//! This page is the codemap: a sentence for each folder. One can be understood with the others closed.
//!
//! | folder or file | holds |
//! |---|---|
//! | [`image`] | module images: looked at without running code, kept by hash, found by reference, loaded and never unloaded |
//! | [`instance`] | instances: a worker thread each, the calls into module code, the table that modules call back |
//! | [`identity`] | who acts: the registry of identities and the device's own id |
//! | [`twin`] | twins: desired, reported and tags, merged, limited, versioned, committed |
//! | [`secret`] | what modules need and nobody else is to see: sealed, resolved for whoever is allowed it, masked |
//! | [`method`] | direct methods: calls under way, deadlines and bounds, and what `$edgeAgent` answers itself |
//! | [`routing`] | the route language and the compiled table |
//! | [`query`] | the query language over twins |
//! | [`queue`] | messages that wait: lanes in memory, rows on disk, the one way in |
//! | [`document`] | JSON and YAML that people write, with the place of each part |
//! | [`deployment`] | manifests and the plan that a manifest means |
//! | [`project`] | module projects: what `dinrail new` makes, and what the binary carries for them |
//! | [`control`] | the loop: the one thread that decides, and the only code that knows every concept |
//! | [`runtime`], [`state_folder`] | start and end of the whole; the directory that is one runtime's |
//! | [`log`](mod@log) | what modules say, what is said about them, and the runtime's own words: bounded, counted, kept in files |
//! | [`database`] | the writer thread with group commit, migrations, recovery, tables |
//! | [`admin`] | the management API and its client |
//! | [`cli`] | the verbs of the command line, a file each |
//! | [`check`] | the device and the runtime looked at, thing by thing, with what to do |
//! | [`support`] | the support bundle, and what is kept out of it |
//! | [`bench`](mod@bench) | what this device can do, against the raw limit measured in the same run |
//! | [`tryout`] | one module in a child process, every call of it noted: the unit test of its author |
//! | [`tls`] | the device's own certification authority, the certificate of the server, and whom a client trusts |
//! | [`handle`], [`view`], [`refusal`] | how the outside talks to the running runtime, and what it is shown |
//! | [`metrics`] | the table of what `/metrics` tells, and what was measured at one moment |
//! | [`message`], [`name`], [`clock`], [`config`], [`spelling`], [`written`], [`memory`] | words that everything shares |
//!
//! Imports run one way: cli → admin client, runtime; runtime → admin, control; admin → handle; handle → control; control →
//! concepts; concepts → database (their store files),
//! message, name, clock, config. Nothing imports upwards.

pub mod admin;
pub mod bench;
pub mod check;
pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
pub mod database;
pub mod deployment;
pub mod document;
pub mod handle;
pub mod identity;
pub mod image;
pub mod instance;
pub mod log;
pub mod memory;
pub mod message;
pub mod method;
pub mod metrics;
pub mod name;
pub mod project;
pub mod query;
pub mod queue;
pub mod refusal;
pub mod routing;
pub mod runtime;
pub mod secret;
pub mod spelling;
pub mod state_folder;
pub mod support;
pub mod tls;
pub mod tryout;
pub mod twin;
pub mod view;
pub mod written;
