//! dinrail: native shared libraries as supervised modules.

pub mod clock;
pub mod handle;
pub mod image;
pub mod message;
pub mod name;
pub mod view;
