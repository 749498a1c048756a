//! dinrail: native shared libraries as supervised modules.

pub mod admin;
pub mod cli;
pub mod clock;
pub mod handle;
pub mod message;
pub mod name;
pub mod view;
