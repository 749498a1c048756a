//! dinrail: native shared libraries as supervised modules.

pub mod clock;
pub mod handle;
pub mod message;
pub mod name;
pub mod queue;
pub mod view;
