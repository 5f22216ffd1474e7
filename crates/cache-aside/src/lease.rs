//! The lease of a load: who loads a key for the whole fleet.
//!
//! It is the lease of a token, not of a key: what ends the token ends the lease, so that nobody waits for a loader whose
//! fill would be refused. And it protects nothing. Two who hold it at once, one of them unknowingly, load twice; which
//! of them fills is decided by the token, as without it.

use std::{fmt, time::Duration};

use crate::store::FillToken;

/// A claim to load a key for all: for a token that one was given, in one's own name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct LoadClaim {
    token: FillToken,
    holder: [u8; 16],
}

impl LoadClaim {
    /// A claim in a name that nobody else has: a random number.
    #[must_use]
    pub fn new(token: FillToken) -> Self {
        // All zeros are nobody's name: they say that nobody waits.
        let mut holder: [u8; 16] = rand::random();
        holder[0] |= 1;
        Self { token, holder }
    }

    /// For what it is.
    #[must_use]
    pub const fn token(&self) -> &FillToken {
        &self.token
    }

    /// Whose it is: never all zeros.
    #[must_use]
    pub const fn holder(&self) -> &[u8; 16] {
        &self.holder
    }
}

impl fmt::Debug for LoadClaim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LoadClaim")
    }
}

/// Who loads a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "it is what stores answer")]
pub enum Leased {
    /// Who asks, until the term is over.
    Ours,
    /// Somebody else.
    Taken {
        /// How long his term is still; above zero.
        left: Duration,
    },
    /// Everybody: who had the lease could not share what he loaded.
    Open,
    /// Nobody: the token does not stand any more. The key was filled or changed, and is to be looked at again.
    Ended,
}
