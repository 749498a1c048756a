//! Which id this device has, at its first start and ever after.

use crate::name::check_id;

use super::IdentityError;

/// Host names that say nothing about a device: images and installers give them to thousands.
const GENERIC: &[&str] = &[
    "localhost",
    "debian",
    "ubuntu",
    "raspberrypi",
    "raspberry",
    "fedora",
    "alpine",
    "archlinux",
    "centos",
    "linux",
    "buildroot",
    "openwrt",
    "yocto",
    "beaglebone",
    "jetson",
    "orangepi",
    "host",
    "server",
    "gateway",
    "edge",
    "device",
    "pc",
    "unknown",
];

/// The id for a first start: the one asked for, else the host name as far as it can be one. With notes for a person.
pub(super) fn first_id(requested: Option<&str>, host_name: &str) -> Result<(String, Vec<String>), IdentityError> {
    if let Some(id) = requested {
        check_id(id)?;
        return Ok((id.to_owned(), Vec::new()));
    }
    let id = fitted(host_name);
    let mut notes = Vec::new();
    if id != host_name {
        notes.push(format!("the host name '{host_name}' cannot be a device id as it is: this device is '{id}'"));
    }
    if is_generic(&id) {
        notes.push(format!(
            "the device id '{id}' is the host name, which many devices share; it is fixed now. To choose another one, start \
             with an empty state directory and --device-id ID"
        ));
    }
    Ok((id, notes))
}

/// Whether an id is a host name that images and installers give.
pub fn is_generic(id: &str) -> bool {
    let short = id.split('.').next().unwrap_or(id).to_ascii_lowercase();
    GENERIC.contains(&short.as_str())
}

/// Checks a later `--device-id` against the id that was fixed.
pub(super) fn check_later(fixed: &str, requested: Option<&str>) -> Result<(), IdentityError> {
    match requested {
        Some(asked) if asked != fixed => {
            Err(IdentityError::OtherDevice { fixed: fixed.to_owned(), asked: asked.to_owned() })
        }
        _ => Ok(()),
    }
}

/// The nearest id that the alphabet allows.
fn fitted(host_name: &str) -> String {
    let id: String = host_name
        .chars()
        .map(|c| if check_id(c.encode_utf8(&mut [0; 4])).is_ok() || c == '.' { c } else { '-' })
        .take(crate::name::MAX_ID_CHARS)
        .collect();
    if check_id(&id).is_ok() { id } else { "dinrail".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generic_host_names_are_warned_about() {
        for name in ["localhost", "debian", "raspberrypi", "Ubuntu", "localhost.localdomain"] {
            assert_eq!(first_id(None, name).unwrap().1.len(), 1, "{name}");
        }
        assert_eq!(first_id(None, "Hannover01").unwrap(), ("Hannover01".to_owned(), vec![]));
        assert_eq!(first_id(Some("debian"), "x").unwrap(), ("debian".to_owned(), vec![]), "asked for on purpose");
    }

    #[test]
    fn any_host_name_gives_a_valid_id() {
        for (name, id) in [("Halle 3/Süd", "Halle-3-S-d"), ("", "dinrail"), ("..", "dinrail"), ("a.b", "a.b")] {
            assert_eq!(first_id(None, name).unwrap().0, id);
        }
    }

    #[test]
    fn a_bad_id_asked_for_is_refused() {
        assert!(matches!(first_id(Some("a/b"), "x"), Err(IdentityError::Name(_))));
    }
}
