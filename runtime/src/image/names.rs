//! Names out of a library's tables, within limits: entries of a hostile table may all point into one long text.

/// Longest name that is taken; a longer one is left out, here and in the library that would define it.
const MAX_NAME_BYTES: usize = 4 * 1024;
/// What the names of one file may cost together. The largest libraries in use stay far below.
const MAX_NAMES_BYTES: usize = 32 * 1024 * 1024;
/// What keeping a name costs besides its bytes.
const EACH_BYTES: usize = 64;

/// Reads the names of one file.
#[derive(Debug)]
pub(super) struct Names {
    left: usize,
}

impl Names {
    pub fn new() -> Names {
        Names { left: MAX_NAMES_BYTES }
    }

    /// True once no more names are read: what is known of the file is not all.
    pub fn is_spent(&self) -> bool {
        self.left == 0
    }

    /// The name at an offset of a table; `None` where none ends there, where it is too long, and once all is spent.
    pub fn read(&mut self, table: &[u8], at: u64) -> Option<String> {
        if self.is_spent() {
            return None;
        }
        let text = text_at(table, at);
        // A name that is too long was looked at too.
        let cost = EACH_BYTES + text.as_ref().map_or(MAX_NAME_BYTES, String::len);
        self.left = self.left.saturating_sub(cost);
        text
    }
}

/// The text at an offset of a table of names, up to its zero byte.
pub(super) fn text_at(names: &[u8], at: u64) -> Option<String> {
    let rest = names.get(usize::try_from(at).ok()?..)?;
    let rest = &rest[..rest.len().min(MAX_NAME_BYTES + 1)];
    Some(String::from_utf8_lossy(&rest[..rest.iter().position(|byte| *byte == 0)?]).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_up_to_the_zero_byte() {
        let names = b"GLIBC_2.38\0GLIBC_2.3.4\0GLIBC_2.2";
        assert_eq!(text_at(names, 0).as_deref(), Some("GLIBC_2.38"));
        assert_eq!(text_at(names, 23), None);
        assert_eq!(text_at(names, 99), None);
    }

    #[test]
    fn long_names_and_those_beyond_the_limit_are_left_out() {
        let mut table = vec![b'a'; 2 * MAX_NAME_BYTES];
        table.push(0);
        let mut names = Names::new();
        assert_eq!(names.read(&table, 0), None);
        assert_eq!(names.read(&table, MAX_NAME_BYTES as u64).map(|name| name.len()), Some(MAX_NAME_BYTES));
        let read = std::iter::from_fn(|| names.read(&table, MAX_NAME_BYTES as u64)).count();
        assert!(names.is_spent() && read * MAX_NAME_BYTES <= MAX_NAMES_BYTES, "{read}");
    }
}
