//! The descriptor, written as JSON by the compiler so that it lies readable in the library.

/// What a descriptor says. Made by [`crate::export_module!`].
#[doc(hidden)]
pub struct Facts {
    pub name: &'static str,
    pub version: &'static str,
    pub description: &'static str,
    pub inputs: &'static [&'static str],
    pub outputs: &'static [&'static str],
    pub methods: &'static [&'static str],
    pub trial_safe: bool,
    pub exclusive: bool,
}

/// Length of the descriptor in bytes.
#[doc(hidden)]
pub const fn length(facts: &Facts) -> usize {
    build::<0>(facts).len
}

/// The descriptor; `N` is its [`length`].
#[doc(hidden)]
pub const fn write<const N: usize>(facts: &Facts) -> [u8; N] {
    build::<N>(facts).bytes
}

/// Keeps what fits and counts all.
struct Page<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

const fn build<const N: usize>(facts: &Facts) -> Page<N> {
    let mut page = Page::<N> { bytes: [0; N], len: 0 };
    page.raw("{\"name\":");
    page.text(facts.name);
    page.raw(",\"version\":");
    page.text(facts.version);
    page.raw(",\"abi\":\"");
    page.number(crate::abi::DR_ABI_MAJOR);
    page.raw(".");
    page.number(crate::abi::DR_ABI_MINOR);
    page.raw("\",\"target\":\"");
    page.raw(std::env::consts::ARCH);
    page.raw("-");
    page.raw(std::env::consts::OS);
    page.raw("\",\"description\":");
    page.text(facts.description);
    page.raw(",\"inputs\":");
    page.list(facts.inputs);
    page.raw(",\"outputs\":");
    page.list(facts.outputs);
    page.raw(",\"methods\":");
    page.list(facts.methods);
    page.raw(",\"trialSafe\":");
    page.raw(if facts.trial_safe { "true" } else { "false" });
    page.raw(",\"exclusive\":");
    page.raw(if facts.exclusive { "true" } else { "false" });
    page.raw(",\"sdk\":\"rust ");
    page.raw(env!("CARGO_PKG_VERSION"));
    page.raw("\",\"panic\":\"unwind\"}");
    page
}

impl<const N: usize> Page<N> {
    const fn byte(&mut self, byte: u8) {
        if self.len < N {
            self.bytes[self.len] = byte;
        }
        self.len += 1;
    }

    const fn raw(&mut self, text: &str) {
        let (bytes, mut at) = (text.as_bytes(), 0);
        while at < bytes.len() {
            self.byte(bytes[at]);
            at += 1;
        }
    }

    const fn text(&mut self, text: &str) {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        self.byte(b'"');
        let (bytes, mut at) = (text.as_bytes(), 0);
        while at < bytes.len() {
            let byte = bytes[at];
            if byte == b'"' || byte == b'\\' {
                self.byte(b'\\');
                self.byte(byte);
            } else if byte < 0x20 {
                self.raw("\\u00");
                self.byte(HEX[(byte >> 4) as usize]);
                self.byte(HEX[(byte & 15) as usize]);
            } else {
                self.byte(byte);
            }
            at += 1;
        }
        self.byte(b'"');
    }

    const fn list(&mut self, texts: &[&str]) {
        self.byte(b'[');
        let mut at = 0;
        while at < texts.len() {
            if at > 0 {
                self.byte(b',');
            }
            self.text(texts[at]);
            at += 1;
        }
        self.byte(b']');
    }

    const fn number(&mut self, number: u32) {
        if number >= 10 {
            self.number(number / 10);
        }
        self.byte(b'0' + (number % 10) as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FACTS: Facts = Facts {
        name: "filter",
        version: "1.12.0",
        description: "says \"no\"\tC:\\ ü",
        inputs: &["in", "other"],
        outputs: &[],
        methods: &["reset"],
        trial_safe: true,
        exclusive: false,
    };
    static BYTES: [u8; length(&FACTS)] = write(&FACTS);

    #[test]
    fn the_descriptor_is_json_with_every_fact() {
        let read: serde_json::Value = serde_json::from_slice(&BYTES).unwrap();
        let target = format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS);
        assert_eq!(
            read,
            serde_json::json!({
                "name": "filter", "version": "1.12.0", "abi": "1.0", "target": target,
                "description": "says \"no\"\tC:\\ ü", "inputs": ["in", "other"], "outputs": [], "methods": ["reset"],
                "trialSafe": true, "exclusive": false, "sdk": "rust 0.1.0", "panic": "unwind",
            })
        );
    }
}
