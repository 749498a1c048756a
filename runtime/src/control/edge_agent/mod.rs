//! The runtime's own identities, `$edgeAgent` and `$edgeHub`: their methods, and their twins.

mod methods;
mod shape;
mod twins;

pub use methods::Agent;
pub(super) use twins::Upkeep;

use crate::identity::{Identities, IdentityError};
use crate::name::{EDGE_AGENT, EDGE_HUB};

/// Makes the runtime's own identities where they are not there yet.
pub(super) fn ensure_identities(identities: &Identities) -> Result<(), IdentityError> {
    identities.ensure_many(&[EDGE_AGENT, EDGE_HUB]).map(drop)
}
