//! Permits that are taken before they are there.

use std::{fmt, time::Duration};

use buttress_core::Moment;

use super::RateLimiter;
use crate::Decision;

/// Permits that are taken already, to be used when their time has come. Dropped before that was said
/// ([`ready`](Reservation::ready), [`keep`](Reservation::keep)), it gives them back.
#[must_use = "dropping it gives the permits back"]
pub struct Reservation {
    limiter: RateLimiter,
    permits: u64,
    decision: Decision,
    since: Moment,
}

impl Reservation {
    pub(super) const fn new(
        limiter: RateLimiter,
        permits: u64,
        decision: Decision,
        since: Moment,
    ) -> Self {
        Self {
            limiter,
            permits,
            decision,
            since,
        }
    }

    /// What the limiter said.
    pub const fn decision(&self) -> Decision {
        self.decision
    }

    /// How long until they may be used.
    #[must_use]
    pub fn wait(&self) -> Duration {
        let gone = self.limiter.clock().now().saturating_since(self.since);
        self.decision.wait().saturating_sub(gone)
    }

    /// Waits until they may be used, and uses them.
    ///
    /// Dropping the future gives them back.
    pub async fn ready(self) {
        loop {
            let wait = self.wait();
            if wait.is_zero() {
                return self.keep();
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// Uses them: the caller waits by himself.
    pub fn keep(mut self) {
        self.permits = 0;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.permits > 0 {
            self.limiter.give_back(self.permits);
        }
    }
}

impl fmt::Debug for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservation")
            .field("permits", &self.permits)
            .field("wait", &self.wait())
            .finish_non_exhaustive()
    }
}
