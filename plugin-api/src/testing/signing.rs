//! What the bench signs with: the key [`KEY`], in the way of the runtime.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

/// The key of every identity on the bench: no secret.
pub const KEY: &[u8; 32] = b"the key of every bench no secret";
/// Longest life of a token.
pub const MAX_TTL_SECS: u64 = 365 * 24 * 3600;
/// Bytes that SHA-256 takes at a time.
const BLOCK: usize = 64;

/// HMAC-SHA256 (RFC 2104) of `message` with [`KEY`].
pub fn sign(message: &[u8]) -> [u8; 32] {
    let keyed = |pad: u8, text: &[u8]| {
        let mut block = [pad; BLOCK];
        block.iter_mut().zip(KEY).for_each(|(byte, key)| *byte ^= key);
        Sha256::new().chain_update(block).chain_update(text).finalize()
    };
    keyed(0x5c, &keyed(0x36, message)).into()
}

/// A token of `identity` for `host`.
pub fn token(host: &str, identity: &str, ttl_secs: u64) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let expiry = now + ttl_secs;
    let resource = encoded(&format!("{host}{identity}"));
    let signature = encoded(&STANDARD.encode(sign(format!("{resource}\n{expiry}").as_bytes())));
    format!("SharedAccessSignature sr={resource}&sig={signature}&se={expiry}")
}

/// As a part of a URI.
fn encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bench_signs_as_other_implementations_do() {
        // python3: hmac.new(b"the key of every bench no secret", b"a", hashlib.sha256).hexdigest()
        let hex: String = sign(b"a").iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "7b0391ebc3e2352b7fba0dfc799dc02267c0c83f079c8e5c0c484c92a995bfd6");
    }
}
