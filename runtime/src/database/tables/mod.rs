//! The tables that belong to no other store file: one file per table, each with its row type and typed functions.
//!
//! Reading functions take any connection; writing ones are called inside a [`Job`](super::Job) with its transaction.

pub mod barred;
pub mod clock;
pub mod dead_letter;
pub mod deployment;
pub mod ids;
pub mod image;
pub mod instance;
pub mod keeping;
pub mod loss;
pub mod queue;
pub mod reason;
pub mod removed;
pub mod route;
pub mod sequence;
pub mod setting;

#[cfg(test)]
mod tests;
