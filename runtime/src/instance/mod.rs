//! Instances: what is wanted of each, and the states that it goes through.

pub mod spec;
pub mod state;
