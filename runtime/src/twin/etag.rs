//! The tag of a twin's state, and the tags that a writer names. Source: RFC 9110, `If-Match`; IoT Hub, which takes `"*"` for `*`.

use super::snapshot::Section;

/// Tag of what the service side may write: eight bytes of a counter in base64, as IoT Hub's tags look.
pub(super) fn of(tags: &Section, desired: &Section) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    // 64 bits are eleven digits of six bits with two to spare.
    let bits = u128::from(tags.revision + desired.revision - 1) << 2;
    (0..11).rev().map(|i| char::from(ALPHABET[(bits >> (6 * i)) as usize & 63])).chain(['=']).collect()
}

/// Whether `asked`, the value of `If-Match`, names a state with this tag: one tag or a list, quoted or not, weak or not; a star
/// names any. No tag at all names any as well.
pub fn matches(asked: &str, etag: &str) -> bool {
    let mut tags = asked.split(',').map(bare).filter(|tag| !tag.is_empty()).peekable();
    tags.peek().is_none() || tags.any(|tag| tag == "*" || tag == etag)
}

fn bare(tag: &str) -> &str {
    let tag = tag.trim();
    let tag = tag.strip_prefix("W/").unwrap_or(tag);
    tag.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_revisions(tags: u64, desired: u64) -> String {
        of(&Section { revision: tags, ..Section::empty() }, &Section { revision: desired, ..Section::empty() })
    }

    #[test]
    fn etags_look_like_those_of_iot_hub() {
        assert_eq!(at_revisions(1, 1), "AAAAAAAAAAE=");
        assert_eq!(at_revisions(1, 7), "AAAAAAAAAAc=");
        assert_eq!(at_revisions(1, 256), "AAAAAAAAAQA=");
        assert_eq!(at_revisions(1, i64::MAX as u64), "f/////////8=");
    }

    #[test]
    fn one_tag_of_a_list_is_enough_however_it_is_written() {
        for (asked, is_met) in [
            ("AAE=", true),
            ("\"AAE=\"", true),
            ("W/\"AAE=\"", true),
            (" \"AAI=\" , W/\"AAE=\"", true),
            ("*", true),
            ("\"*\"", true),
            ("\"AAI=\", *", true),
            ("", true),
            ("\"AAI=\"", false),
            ("\"AAI=\", \"AAM=\"", false),
            ("\"aae=\"", false),
            ("AAE", false),
            ("\"AAE=", false),
        ] {
            assert_eq!(matches(asked, "AAE="), is_met, "{asked}");
        }
    }
}
