//! The registry of identities: IoT Hub's `/devices…` and `/statistics…`, and what is ours about identities and policies.
//!
//! | file | routes |
//! |---|---|
//! | `registry` | `/devices/{device}[/modules/{module}]` and the lists of them |
//! | `bulk` | `POST /devices` |
//! | `statistics` | `/statistics/devices`, `/statistics/service` |
//! | `configuration` | `POST /devices/{device}/applyConfigurationContent` |
//! | `credentials` | `/identities…/token`, `/rotate`, `/connection-string`, and those of `/policies/{name}` |
//! | `list` | `GET /identities` |

mod body;
pub(super) mod bulk;
pub(super) mod configuration;
pub(super) mod credentials;
mod document;
pub(super) mod list;
pub(super) mod registry;
pub(super) mod statistics;
