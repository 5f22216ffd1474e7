//! What tells one claim from every other: an epoch that grows, and a random token.

use std::fmt;

/// 128 random bits, new for each claim.
///
/// `Debug` shows half of them, enough to tell two apart in a log.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token([u8; 16]);

impl Token {
    /// A new one, by the thread's generator, which the operating system seeds.
    #[must_use]
    pub fn random() -> Self {
        Self(rand::random())
    }

    /// The one that was stored.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// As it is stored: `BYTEA`, `BINARY(16)`, `BLOB`.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in &self.0[..8] {
            write!(f, "{byte:02x}")?;
        }
        f.write_str("…")
    }
}

/// Epoch and token of a claim. Complete, extend, fail and release carry both and take effect only
/// while both are still the record's: zero rows means that the lease is lost.
///
/// The epoch alone would not do: it begins anew when a record is reaped, when Redis is flushed, or
/// when a rowid is used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fence {
    epoch: i64,
    token: Token,
}

impl Fence {
    /// The fence of a claim, as the store recorded it.
    #[must_use]
    pub const fn new(epoch: i64, token: Token) -> Self {
        Self { epoch, token }
    }

    /// Which claim of its record it is. It grows with each.
    #[must_use]
    pub const fn epoch(&self) -> i64 {
        self.epoch
    }

    /// What no other claim has.
    #[must_use]
    pub const fn token(&self) -> &Token {
        &self.token
    }
}
