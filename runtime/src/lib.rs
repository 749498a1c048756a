//! dinrail: native shared libraries as supervised modules.

pub mod admin;
pub mod cli;
pub mod clock;
pub mod config;
pub mod deployment;
pub mod handle;
pub mod instance;
pub mod message;
pub mod name;
pub mod queue;
pub mod routing;
pub mod spelling;
pub mod database;
pub mod handle;
pub mod identity;
pub mod message;
pub mod name;
pub mod twin;
pub mod view;
