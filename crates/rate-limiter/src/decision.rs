//! What a limiter answers.

use std::{borrow::Cow, fmt, time::Duration};

use buttress_core::{Rejection, RejectionKind};

use crate::machine::{Look, NEVER, Ruling, TickNanos};

/// What a limiter answers: whether the permits were given, and what is left.
///
/// Of several bandwidths it tells about the one that decided: the one that refuses for longest, or
/// the one with the fewest permits left. It is plain numbers; most are worked out when asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
#[must_use = "it says whether the permits were given"]
pub struct Decision {
    allowed: bool,
    by: usize,
    look: Look,
    tick: TickNanos,
}

impl Decision {
    #[inline]
    pub(crate) const fn new(ruling: Ruling, tick: TickNanos) -> Self {
        Self {
            allowed: ruling.allowed,
            by: ruling.by,
            look: ruling.look,
            tick,
        }
    }

    /// Whether the permits were given.
    #[must_use]
    #[inline]
    pub const fn is_allowed(&self) -> bool {
        self.allowed
    }

    /// The most that can be had at once: the burst, or the window's permits.
    #[must_use]
    pub const fn limit(&self) -> u64 {
        self.look.limit / self.look.cost
    }

    /// How many can be had now, after this decision.
    #[must_use]
    pub const fn remaining(&self) -> u64 {
        self.look.free / self.look.cost
    }

    /// After how long the same request would be allowed, if nobody else comes: one nanosecond (in a
    /// store, one microsecond) before, it would not. `None` when it is allowed, or can never be.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        if self.allowed || self.look.wait == NEVER {
            return None;
        }
        Some(self.wait())
    }

    /// Whether more was asked for than can ever be had at once: waiting does not help.
    #[must_use]
    pub const fn can_never(&self) -> bool {
        !self.allowed && self.look.wait == NEVER
    }

    /// After how long all permits can be had again, if nobody takes any.
    #[must_use]
    pub const fn reset_after(&self) -> Duration {
        nanos(self.look.reset_ticks(), self.tick)
    }

    /// Which bandwidth of the quota this is about, counted from 0.
    #[must_use]
    pub const fn policy(&self) -> usize {
        self.by
    }

    /// The decision as a rejection, unless it is allowed: for `?`, and for a retry that knows when to
    /// come back. `name` is for the log.
    ///
    /// # Errors
    ///
    /// [`Rejection`] of the kind `RateLimited`.
    pub fn into_result(self, name: impl Into<Cow<'static, str>>) -> Result<Self, Rejection> {
        if self.allowed {
            return Ok(self);
        }
        let rejection = Rejection::new(RejectionKind::RateLimited, name);
        Err(match self.retry_after() {
            Some(wait) => rejection.with_retry_after(wait),
            None => rejection,
        })
    }

    pub(crate) const fn wait(&self) -> Duration {
        nanos(self.look.wait_ticks(), self.tick)
    }

    /// The same, though the limiter refuses: in shadow.
    #[inline]
    pub(crate) const fn let_through(mut self) -> Self {
        self.allowed = true;
        self
    }

    /// The same for more than can ever be had.
    pub(crate) const fn never(mut self) -> Self {
        self.allowed = false;
        self.look.wait = NEVER;
        self
    }

    /// Allowed out of a slice that was taken before, of which so many are left beside what the store had.
    pub(crate) const fn granted_of(mut self, left: u64) -> Self {
        self.allowed = true;
        self.look.wait = 0;
        self.look.free = self
            .look
            .free
            .saturating_add(left.saturating_mul(self.look.cost));
        self
    }

    /// The same refusal, with what is left of its wait.
    pub(crate) fn refused_for(mut self, wait: Duration) -> Self {
        let ticks = wait.as_nanos().div_ceil(u128::from(self.tick));
        let ticks = u64::try_from(ticks).unwrap_or(NEVER - 1);
        self.look = self.look.waiting(ticks);
        self
    }

    /// A decision that nothing was asked for: the store is down, and the policy is to let through.
    pub(crate) const fn open(limit: u64) -> Self {
        Self {
            allowed: true,
            by: 0,
            look: Look {
                cost: 1,
                limit,
                free: limit,
                gain: 1,
                wait: 0,
                reset: 0,
            },
            tick: 1,
        }
    }
}

impl fmt::Debug for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decision")
            .field("allowed", &self.allowed)
            .field("limit", &self.limit())
            .field("remaining", &self.remaining())
            .field("retry_after", &self.retry_after())
            .field("reset_after", &self.reset_after())
            .field("policy", &self.by)
            .finish()
    }
}

const fn nanos(ticks: u64, tick: TickNanos) -> Duration {
    Duration::from_nanos(ticks.saturating_mul(tick))
}
