//! Keys: what proves that somebody is who they say. A key signs, and is shown to nobody who did not ask for exactly that.
//!
//! The master key is the only one on disk in clear (see [`super::key_file`]). The keys of identities and policies are derived
//! from it when they are needed; those that an operator gave are sealed with it.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

/// Bytes of a key that an operator may give. Source: IoT Hub's registry.
pub const GIVEN_KEY_BYTES: std::ops::RangeInclusive<usize> = 16..=64;
/// Bytes of a key that is made here.
const KEY_BYTES: usize = 32;
/// How sealed bytes begin: the way they are sealed.
const SEALED_FORM: u8 = 1;
/// What the sealing key is derived for. No id has a space, so that no identity's key is this one.
const SEALING: &str = "dinrail seal 1";

/// A key for HMAC-SHA256. Gone from memory when dropped; `Debug` shows nothing of it.
#[derive(Clone)]
pub struct SymmetricKey(Zeroizing<Vec<u8>>);

/// Why a key cannot be used. The texts hold nothing of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not base64.
    #[error("the key is not base64")]
    NotBase64,
    /// Too short to be safe, or longer than IoT Hub takes.
    #[error("the key has {bytes} bytes; a key has {} to {}", GIVEN_KEY_BYTES.start(), GIVEN_KEY_BYTES.end())]
    Length {
        /// Its length.
        bytes: usize,
    },
    /// The system gives no random bytes.
    #[error("the system gives no random bytes for a key")]
    NoRandom,
    /// Sealed under another master key, for something else, or damaged.
    #[error("what is sealed cannot be opened with this device's key: it was sealed with another one, or is damaged")]
    NotOpened,
}

impl KeyError {
    /// What a person does next.
    pub fn hint(&self) -> &'static str {
        match self {
            KeyError::NotBase64 | KeyError::Length { .. } => {
                "make one with: openssl rand -base64 32; or leave the key out to have one derived"
            }
            KeyError::NoRandom => "look at the system's random source, such as /dev/urandom",
            KeyError::NotOpened => "bring back keys/device.key of the state directory, or give the secret anew",
        }
    }
}

impl SymmetricKey {
    /// A key that an operator gives, in base64.
    pub fn from_base64(text: &str) -> Result<SymmetricKey, KeyError> {
        let bytes = Zeroizing::new(STANDARD.decode(text.trim()).map_err(|_| KeyError::NotBase64)?);
        if !GIVEN_KEY_BYTES.contains(&bytes.len()) {
            return Err(KeyError::Length { bytes: bytes.len() });
        }
        Ok(SymmetricKey(bytes))
    }

    /// The key in base64: for whoever may have it, see [`super::Role::Owner`].
    pub fn to_base64(&self) -> Zeroizing<String> {
        Zeroizing::new(STANDARD.encode(&*self.0))
    }

    /// A new one.
    pub fn random() -> Result<SymmetricKey, KeyError> {
        let mut bytes = Zeroizing::new(vec![0; KEY_BYTES]);
        SystemRandom::new().fill(&mut bytes).map_err(|_| KeyError::NoRandom)?;
        Ok(SymmetricKey(bytes))
    }

    /// HMAC-SHA256 of `message`.
    pub fn sign(&self, message: &[u8]) -> [u8; 32] {
        let mut signature = [0; 32];
        signature.copy_from_slice(hmac::sign(&self.hmac(), message).as_ref());
        signature
    }

    /// Whether `signature` is that of `message`, in a time that does not depend on where they differ.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        hmac::verify(&self.hmac(), message, signature).is_ok()
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn from_bytes(bytes: Vec<u8>) -> SymmetricKey {
        SymmetricKey(Zeroizing::new(bytes))
    }

    fn hmac(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &self.0)
    }
}

impl fmt::Debug for SymmetricKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SymmetricKey(…)")
    }
}

/// The key of this device, from which all others come.
#[derive(Clone)]
pub struct MasterKey(SymmetricKey);

impl MasterKey {
    /// A new one.
    pub fn random() -> Result<MasterKey, KeyError> {
        SymmetricKey::random().map(MasterKey)
    }

    pub(super) fn new(key: SymmetricKey) -> MasterKey {
        MasterKey(key)
    }

    pub(super) fn symmetric(&self) -> &SymmetricKey {
        &self.0
    }

    /// The key for `label`: the same one each time, from which neither the master key nor another one follows.
    pub fn derive(&self, label: &str) -> SymmetricKey {
        SymmetricKey::from_bytes(self.0.sign(label.as_bytes()).to_vec())
    }

    /// Seals a secret for the disk. It opens with the same `context` only, so that no sealed value can stand in for another.
    pub fn seal(&self, context: &str, plaintext: &[u8]) -> Result<Vec<u8>, KeyError> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).map_err(|_| KeyError::NoRandom)?;
        let mut secret = Zeroizing::new(plaintext.to_vec());
        let tag = self
            .sealing_key()?
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(context), &mut secret)
            .map_err(|_| KeyError::NotOpened)?;
        let mut sealed = Vec::with_capacity(1 + NONCE_LEN + secret.len() + tag.as_ref().len());
        sealed.push(SEALED_FORM);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(&secret);
        sealed.extend_from_slice(tag.as_ref());
        Ok(sealed)
    }

    /// Opens what [`MasterKey::seal`] has sealed for the same `context`.
    pub fn open(&self, context: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let rest = sealed.strip_prefix(&[SEALED_FORM]).ok_or(KeyError::NotOpened)?;
        let (nonce, rest) = rest.split_at_checked(NONCE_LEN).ok_or(KeyError::NotOpened)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| KeyError::NotOpened)?;
        let mut secret = Zeroizing::new(rest.to_vec());
        let length = self
            .sealing_key()?
            .open_in_place(nonce, Aad::from(context), &mut secret)
            .map_err(|_| KeyError::NotOpened)?
            .len();
        secret.truncate(length);
        Ok(secret)
    }

    fn sealing_key(&self) -> Result<LessSafeKey, KeyError> {
        let key = self.derive(SEALING);
        UnboundKey::new(&AES_256_GCM, key.bytes()).map(LessSafeKey::new).map_err(|_| KeyError::NotOpened)
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn master() -> MasterKey {
        MasterKey::new(SymmetricKey::from_bytes((0..32).collect()))
    }

    #[test]
    fn keys_sign_as_other_implementations_do() {
        // From python3:
        // base64.b64encode(hmac.new(bytes(range(32)), b"filter:638000000000000000:primary", hashlib.sha256).digest())
        assert_eq!(
            *master().derive("filter:638000000000000000:primary").to_base64(),
            "PcpqdVqycnLAg78e54ZFgxTcXQHFJv/8VcyO2BfSof8="
        );
    }

    #[test]
    fn what_is_sealed_opens_with_its_context_and_key_only() {
        let sealed = master().seal("secret plc-pw", b"hunter2").unwrap();

        assert_eq!(*master().open("secret plc-pw", &sealed).unwrap(), b"hunter2");
        assert!(!sealed.windows(7).any(|part| part == b"hunter2"));
        assert_ne!(
            sealed,
            master().seal("secret plc-pw", b"hunter2").unwrap(),
            "the same secret twice looks different"
        );
        assert_eq!(master().open("secret other", &sealed), Err(KeyError::NotOpened));
        assert_eq!(MasterKey::random().unwrap().open("secret plc-pw", &sealed), Err(KeyError::NotOpened));
        for length in 0..sealed.len() {
            assert_eq!(master().open("secret plc-pw", &sealed[..length]), Err(KeyError::NotOpened), "{length}");
        }
        for at in 0..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[at] ^= 1;
            assert_eq!(master().open("secret plc-pw", &damaged), Err(KeyError::NotOpened), "{at}");
        }
    }

    #[test]
    fn given_keys_have_16_to_64_bytes() {
        for bytes in [16, 32, 64] {
            let text = STANDARD.encode(vec![7; bytes]);
            assert_eq!(*SymmetricKey::from_base64(&text).unwrap().to_base64(), text);
        }
        for bytes in [0, 15, 65] {
            let refused = SymmetricKey::from_base64(&STANDARD.encode(vec![7; bytes]));
            assert_eq!(refused.unwrap_err(), KeyError::Length { bytes });
        }
        assert_eq!(SymmetricKey::from_base64("not base64!").unwrap_err(), KeyError::NotBase64);
    }

    #[test]
    fn keys_are_not_shown_by_debug() {
        let text = format!("{:?} {:?}", master(), master().derive("x"));
        assert_eq!(text, "MasterKey(…) SymmetricKey(…)");
    }
}
