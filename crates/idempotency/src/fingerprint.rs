//! What a request asked for, in 32 bytes, so that a key is not used for two different things.

use std::fmt;

use subtle::ConstantTimeEq as _;

/// What a request asked for: a digest, and the version of the rule by which it was made.
///
/// The same key with another fingerprint is a mistake, and is told so. It is compared in constant
/// time. A record of *another version* cannot be compared, and is taken for the same request:
/// when a program that makes fingerprints by a new rule is rolled out, the retries of what the old
/// one did must find it.
#[derive(Clone, Copy)]
pub struct Fingerprint {
    version: u8,
    digest: [u8; 32],
}

impl Fingerprint {
    /// How many bytes it is stored as.
    pub const LENGTH: usize = 33;

    /// A digest of 32 bytes, made by rule `version`.
    #[must_use]
    pub const fn new(version: u8, digest: [u8; 32]) -> Self {
        Self { version, digest }
    }

    /// For work that its key says all about: a message id, a job's number.
    #[must_use]
    pub const fn none() -> Self {
        Self::new(0, [0; 32])
    }

    /// By which rule it was made.
    #[must_use]
    pub const fn version(&self) -> u8 {
        self.version
    }

    /// As it is stored: the version, then the digest.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::LENGTH] {
        let mut bytes = [self.version; Self::LENGTH];
        bytes[1..].copy_from_slice(&self.digest);
        bytes
    }

    /// The one that was stored as these bytes, if they are one.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; Self::LENGTH] = bytes.try_into().ok()?;
        let (version, digest) = bytes.split_first()?;
        Some(Self::new(*version, digest.try_into().ok()?))
    }

    /// Whether both are of the same request, as far as that can be told.
    #[must_use]
    pub fn fits(&self, other: &Self) -> bool {
        self.version != other.version || bool::from(self.digest.ct_eq(&other.digest))
    }
}

/// The version alone: a digest of something short can be guessed.
impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fingerprint")
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bit_makes_another_request_and_another_version_cannot_be_told() {
        let one = Fingerprint::new(1, [7; 32]);
        for bit in 0..256 {
            let mut digest = [7; 32];
            digest[bit / 8] ^= 1 << (bit % 8);
            assert!(!one.fits(&Fingerprint::new(1, digest)), "{bit}");
            assert!(one.fits(&Fingerprint::new(2, digest)), "{bit}");
        }
        assert!(one.fits(&Fingerprint::from_bytes(&one.to_bytes()).unwrap()));
        assert!(Fingerprint::from_bytes(&[1; 32]).is_none());
    }
}
