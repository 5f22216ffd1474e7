//! What a saga is called.

use std::{fmt, str::FromStr};

use buttress_store::Micros;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// What one saga is called: 128 bits that nobody else has, a UUID of version 7 unless you bring
/// your own. Later ones are greater, as far as hosts' clocks agree; nothing depends on it but the
/// order of lists.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SagaId(Uuid);

impl SagaId {
    /// A new one.
    #[must_use]
    pub fn random() -> Self {
        Self(Uuid::now_v7())
    }

    /// One of your own: starting with it twice is one saga, for ever.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// What the child of a step is called: the same whenever it is asked for, and beside its parent
    /// in lists. A parent that was pruned and started again is another, and so are its children.
    pub(crate) fn child(&self, created_at: Micros, step: &str, attempt: u32) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"child of a saga");
        hash.update(self.as_bytes());
        hash.update(created_at.get().to_be_bytes());
        hash.update(attempt.to_be_bytes());
        hash.update(step.as_bytes());
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hash.finalize()[..16]);
        bytes[..6].copy_from_slice(&self.as_bytes()[..6]);
        Self(uuid::Builder::from_custom_bytes(bytes).into_uuid())
    }

    /// As it is stored.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

impl fmt::Display for SagaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for SagaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for SagaId {
    type Err = NoSagaId;

    fn from_str(text: &str) -> Result<Self, NoSagaId> {
        text.parse().map(Self).map_err(|_| NoSagaId)
    }
}

/// A text that names no saga: it is no UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a saga's id is a UUID")]
#[expect(
    clippy::exhaustive_structs,
    reason = "a unit struct: it is its own value"
)]
pub struct NoSagaId;
