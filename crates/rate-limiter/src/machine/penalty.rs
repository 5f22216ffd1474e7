//! Progressive delay: each failure doubles the wait, a success clears it.

/// The numbers of the rule, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PenaltyRule {
    /// How many failures cost nothing.
    pub(crate) free: u32,
    pub(crate) first: u64,
    pub(crate) longest: u64,
    /// How long after the end of its wait a key is remembered.
    pub(crate) memory: u64,
}

/// What is known of one key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Penalty {
    pub(crate) failures: u32,
    until: u64,
}

impl PenaltyRule {
    /// Begins an attempt, which counts as failed until it is told otherwise: so a thousand that are
    /// made at once are not one. The wait, if it may not begin.
    pub(crate) fn attempt(&self, was: Penalty, now: u64) -> Result<Penalty, u64> {
        let wait = was.until.saturating_sub(now);
        if wait > 0 {
            return Err(wait);
        }
        let failures = self.remembered(was, now).saturating_add(1);
        let delay = self.delay(failures);
        Ok(Penalty {
            failures,
            until: now.saturating_add(delay),
        })
    }

    /// How many failures are still remembered.
    pub(crate) fn remembered(&self, was: Penalty, now: u64) -> u32 {
        if self.left(was, now) == 0 {
            return 0;
        }
        was.failures
    }

    /// How long until a key in this state equals one never seen.
    pub(crate) fn left(&self, was: Penalty, now: u64) -> u64 {
        if was.failures == 0 {
            return 0;
        }
        was.until.saturating_add(self.memory).saturating_sub(now)
    }

    /// The wait after so many failures.
    pub(crate) fn delay(&self, failures: u32) -> u64 {
        let Some(beyond) = failures.checked_sub(self.free.saturating_add(1)) else {
            return 0;
        };
        let doubled = 1_u64.checked_shl(beyond).unwrap_or(u64::MAX);
        self.first.saturating_mul(doubled).min(self.longest)
    }
}

impl Penalty {
    /// How long the key has to wait.
    pub(crate) const fn wait(&self, now: u64) -> u64 {
        self.until.saturating_sub(now)
    }
}
