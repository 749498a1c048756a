//! dinrail: native shared libraries as supervised modules.

pub mod clock;
pub mod database;
pub mod handle;
pub mod identity;
pub mod message;
pub mod name;
pub mod twin;
pub mod view;
