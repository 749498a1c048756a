//! Instances: what is wanted of each, and the states that it goes through.

mod pacing;
pub mod spec;
pub mod state;
mod transition;
