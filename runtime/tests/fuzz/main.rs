//! Fuzzing of what comes from outside: twin patches, bodies of requests, SAS tokens, queries, routes.
//!
//! Each target has a folder below `corpus/`: seeds, and every input that ever was a finding. They all run first, then new
//! ones are made of them until the time is up: by generators that know the format, and by bytes that change. An input
//! whose outcome was never seen before joins those that new ones are made of. A finding is cut down, kept in the corpus,
//! and fails the test. `DINRAIL_FUZZ_SECONDS` is the time of each target (2 unless set); `.ci/long` gives minutes.
#![cfg(unix)]
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout)]

mod bodies;
mod documents;
mod engine;
mod languages;
mod queries;
mod routes;
mod stage;
mod tokens;
mod twins;
