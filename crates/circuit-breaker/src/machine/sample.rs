//! One result, as windows and rounds take it.

/// What a call came to. Four bits, so that a window holds eight of them in half a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sample(u64);

impl Sample {
    pub(crate) const FAILED: u64 = 1;
    pub(crate) const SLOW: u64 = 2;
    pub(crate) const ABANDONED: u64 = 4;
    /// Set in every result: a slot without it is empty.
    pub(crate) const PRESENT: u64 = 8;
    pub(crate) const MASK: u64 = 15;

    /// A success within its time.
    pub(crate) const SUCCESS: Self = Self(Self::PRESENT);
    pub(crate) const FAILURE: Self = Self(Self::PRESENT | Self::FAILED);
    /// Dropped without a verdict, where that counts as itself.
    pub(crate) const DROPPED: Self = Self(Self::PRESENT | Self::ABANDONED);

    /// The same, slow.
    pub(crate) const fn slow(self) -> Self {
        Self(self.0 | Self::SLOW)
    }

    pub(crate) const fn bits(self) -> u64 {
        self.0
    }

    pub(crate) const fn is_failed(self) -> bool {
        self.0 & Self::FAILED != 0
    }

    pub(crate) const fn is_slow(self) -> bool {
        self.0 & Self::SLOW != 0
    }

    pub(crate) const fn is_abandoned(self) -> bool {
        self.0 & Self::ABANDONED != 0
    }
}
