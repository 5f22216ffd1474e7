//! The secret that a sender and a receiver share.

use std::{fmt, str::FromStr, sync::Arc};

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use hmac::{Hmac, KeyInit, Mac};
use rand::Rng;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::SecretError;

/// What is put before a secret to tell it from other things.
const PREFIX: &str = "whsec_";
/// How many bytes a new secret has.
const GENERATED: usize = 32;
/// How many characters a secret of 64 bytes can take, padding included.
const LONGEST_TEXT: usize = 88;

/// Secrets go from hand to hand, and some hands drop the padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A secret for HMAC-SHA256: 24 to 64 random bytes, written `whsec_` and base64.
///
/// One secret serves one endpoint, and no other. It is cheap to clone, is not shown by `Debug`,
/// has no equality, and is wiped from memory when the last clone is dropped.
#[derive(Clone)]
pub struct Secret {
    inner: Arc<Inner>,
}

struct Inner {
    bytes: Zeroizing<Vec<u8>>,
    /// The key's two blocks are hashed once, not for each message.
    keyed: Hmac<Sha256>,
}

impl Secret {
    /// The fewest bytes, 192 bits.
    pub const SHORTEST: usize = 24;
    /// The most bytes, 512 bits.
    pub const LONGEST: usize = 64;

    /// Reads `whsec_…`, or the same without its prefix.
    ///
    /// # Errors
    ///
    /// When it is no base64, or has fewer than 24 or more than 64 bytes. A key for the asymmetric
    /// scheme (`whsk_`, `whpk_`) is none of ours.
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        let text = text.strip_prefix(PREFIX).unwrap_or(text);
        if ["whsk_", "whpk_"]
            .iter()
            .any(|other| text.starts_with(other))
        {
            return Err(SecretError::Asymmetric);
        }
        if text.len() > LONGEST_TEXT {
            return Err(SecretError::Length);
        }
        let decoded = BASE64.decode(text).map_err(|_| SecretError::Encoding)?;
        Self::from_bytes(Zeroizing::new(decoded))
    }

    /// Takes the bytes as they are.
    ///
    /// # Errors
    ///
    /// When there are fewer than 24 or more than 64.
    pub fn from_bytes(bytes: impl Into<Zeroizing<Vec<u8>>>) -> Result<Self, SecretError> {
        let bytes = bytes.into();
        if !(Self::SHORTEST..=Self::LONGEST).contains(&bytes.len()) {
            return Err(SecretError::Length);
        }
        let keyed = Hmac::new_from_slice(&bytes).map_err(|_| SecretError::Length)?;
        let inner = Arc::new(Inner { bytes, keyed });
        Ok(Self { inner })
    }

    /// A new one of 32 bytes from the thread's generator, which is a cryptographic one that the
    /// operating system seeds.
    ///
    /// # Panics
    ///
    /// When the operating system has no randomness to give.
    #[must_use]
    pub fn generate() -> Self {
        let mut bytes = Zeroizing::new(vec![0; GENERATED]);
        rand::rng().fill_bytes(&mut bytes);
        Self::from_bytes(bytes).expect("32 bytes are between 24 and 64")
    }

    /// The secret in the form that its other holder is given: `whsec_…`. Show it once, store it as
    /// you store passwords to others' services, and log it never.
    #[must_use]
    pub fn expose(&self) -> Zeroizing<String> {
        let encoded = Zeroizing::new(BASE64.encode(self.inner.bytes.as_slice()));
        Zeroizing::new(format!("{PREFIX}{}", *encoded))
    }

    /// The code over `id.timestamp.body`, by the texts that are sent.
    pub(super) fn mac(&self, id: &str, timestamp: &str, body: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.inner.keyed.clone();
        for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
            Mac::update(&mut mac, part);
        }
        mac
    }
}

/// Shows that there is one, and nothing of it.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl FromStr for Secret {
    type Err = SecretError;

    fn from_str(text: &str) -> Result<Self, SecretError> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    #[test]
    fn what_was_exposed_is_read_again() {
        let secret = Secret::generate();
        let again = Secret::parse(&secret.expose()).unwrap();
        assert_eq!(*secret.inner.bytes, *again.inner.bytes);
        assert_eq!(secret.inner.bytes.len(), GENERATED);
        assert_eq!(*Secret::parse(TEXT).unwrap().expose(), TEXT);
    }

    #[test]
    fn two_generated_ones_differ() {
        assert_ne!(*Secret::generate().expose(), *Secret::generate().expose());
    }

    #[test]
    fn only_24_to_64_bytes_are_taken() {
        for (length, fits) in [(0, false), (23, false), (24, true), (64, true), (65, false)] {
            let text = BASE64.encode(vec![7; length]);
            assert_eq!(Secret::parse(&text).is_ok(), fits, "{length}");
            let bare = text.trim_end_matches('=');
            assert_eq!(
                Secret::parse(bare).is_ok(),
                fits,
                "{length} without padding"
            );
        }
        let huge = "A".repeat(1 << 20);
        assert!(matches!(Secret::parse(&huge), Err(SecretError::Length)));
    }

    #[test]
    fn other_keys_and_no_keys_are_refused() {
        for text in [
            "",
            "whsec_",
            "whsec_***",
            "whsk_AAAA",
            "whpk_AAAA",
            "whsec_whsk_AAAA",
        ] {
            assert!(Secret::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn it_is_not_shown() {
        let secret = Secret::parse(TEXT).unwrap();
        assert_eq!(format!("{secret:?} {secret:#?}"), "Secret(…) Secret(…)");
    }
}
