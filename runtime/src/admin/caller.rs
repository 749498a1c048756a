//! Who is at the other end, what they may do, and by what name it is kept.

use std::net::SocketAddr;

use crate::identity::{Principal, Role};

/// Who is at the other end: a user of this system, or somebody who has proved it by a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// User of this system, as the kernel says, with what that one may do.
    User {
        /// Its number.
        uid: u32,
        /// Root and the runtime's own user are owners, the others what the configuration says.
        role: Role,
    },
    /// Somebody of this system who could read the token of the loopback address.
    TokenHolder,
    /// From another machine, by a shared access signature.
    Remote {
        /// Who that is.
        principal: Principal,
        /// From where.
        from: SocketAddr,
    },
}

impl Caller {
    /// A user of this system. `own`: the runtime's own user.
    #[cfg_attr(not(unix), allow(dead_code, reason = "elsewhere nobody comes by a socket"))]
    pub(super) fn user(uid: u32, own: u32, group_role: Role) -> Caller {
        Caller::User { uid, role: if uid == 0 || uid == own { Role::Owner } else { group_role } }
    }

    /// The name that is kept with what the caller does.
    pub fn name(&self) -> String {
        match self {
            Caller::User { uid, .. } => {
                let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
                user_name(&users, *uid).unwrap_or_else(|| format!("user {uid}"))
            }
            Caller::TokenHolder => "local user".into(),
            Caller::Remote { principal, .. } => principal.to_string(),
        }
    }

    /// What it may do; `None` for an identity of the registry, which may do only what is its own.
    pub fn role(&self) -> Option<Role> {
        match self {
            Caller::User { role, .. } => Some(*role),
            Caller::TokenHolder => Some(Role::Owner),
            Caller::Remote { principal: Principal::Policy { role, .. }, .. } => Some(*role),
            Caller::Remote { principal: Principal::Identity(_), .. } => None,
        }
    }

    /// Where it is: an address, or this system.
    pub fn place(&self) -> String {
        match self {
            Caller::User { .. } | Caller::TokenHolder => "this system".into(),
            Caller::Remote { from, .. } => from.ip().to_canonical().to_string(),
        }
    }
}

fn user_name(passwd: &str, uid: u32) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_go_by_the_systems_name_for_them() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nmeier:x:1000:1000::/home/meier:/bin/sh\nbroken\n";
        assert_eq!(user_name(passwd, 1000).as_deref(), Some("meier"));
        assert_eq!(user_name(passwd, 1001), None);
        assert_eq!(Caller::user(4_000_000, 1, Role::Reader).name(), "user 4000000");
    }

    #[test]
    fn root_and_the_runtimes_own_user_are_owners_and_others_are_what_is_configured() {
        let role = |uid| Caller::user(uid, 1000, Role::Operator).role();
        assert_eq!([role(0), role(1000), role(1001)], [Some(Role::Owner), Some(Role::Owner), Some(Role::Operator)]);
        assert_eq!(Caller::user(1001, 1000, Role::Reader).role(), Some(Role::Reader));
    }
}
