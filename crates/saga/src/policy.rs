//! What a user chooses: how steps are tried again, and how many sagas a runner drives.

use std::time::Duration;

use buttress_retry_backoff::Backoff;
use buttress_store::LeaseTerms;

/// How a step is tried, timed and undone.
///
/// | knob | default | range |
/// | --- | --- | --- |
/// | `attempts` | 5; behind the pivot without end | from 1 |
/// | `backoff` | exponential from 200 ms, full jitter, at most 5 s | |
/// | `undo_backoff` | the same | |
/// | `timeout` of an attempt | 30 s | 1 ms to a day |
/// | `undo_timeout` | 30 s | 1 ms to a day |
/// | `undo_always` | no: what certainly had no effect is not undone | |
///
/// Undos are tried without end while their target is merely down.
#[derive(Clone, Debug, PartialEq)]
pub struct StepPolicy {
    pub(crate) attempts: u32,
    pub(crate) backoff: Backoff,
    pub(crate) undo_backoff: Backoff,
    pub(crate) timeout: Duration,
    pub(crate) undo_timeout: Duration,
    pub(crate) undo_always: bool,
}

impl StepPolicy {
    /// How many attempts before a step in front of the pivot is given up.
    #[must_use]
    pub const fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }

    /// It is tried until it succeeds or is refused.
    #[must_use]
    pub const fn unlimited_attempts(self) -> Self {
        self.attempts(u32::MAX)
    }

    /// The waits between attempts.
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// The waits between attempts at the undo.
    #[must_use]
    pub fn undo_backoff(mut self, backoff: Backoff) -> Self {
        self.undo_backoff = backoff;
        self
    }

    /// How long an attempt may take. Whether it was done is unknown then.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How long an attempt at the undo may take.
    #[must_use]
    pub const fn undo_timeout(mut self, timeout: Duration) -> Self {
        self.undo_timeout = timeout;
        self
    }

    /// The undo is called even if the step certainly had no effect, with [`crate::Effect::None`].
    #[must_use]
    pub const fn undo_always(mut self) -> Self {
        self.undo_always = true;
        self
    }

    pub(crate) fn check(&self) -> Result<(), PolicyError> {
        if self.attempts == 0 {
            return Err(PolicyError::new("attempts", "from 1"));
        }
        for (field, timeout) in [
            ("timeout", self.timeout),
            ("undo_timeout", self.undo_timeout),
        ] {
            if !(Duration::from_millis(1)..=DAY).contains(&timeout) {
                return Err(PolicyError::new(field, "from 1 ms to a day"));
            }
        }
        Ok(())
    }
}

const DAY: Duration = Duration::from_secs(86_400);

impl Default for StepPolicy {
    fn default() -> Self {
        let backoff =
            Backoff::exponential(Duration::from_millis(200)).with_cap(Duration::from_secs(5));
        Self {
            attempts: 5,
            undo_backoff: backoff.clone(),
            backoff,
            timeout: Duration::from_secs(30),
            undo_timeout: Duration::from_secs(30),
            undo_always: false,
        }
    }
}

/// How a runner works.
///
/// | knob | default | range |
/// | --- | --- | --- |
/// | `concurrency`: sagas at once | 16 | 1 to 10,000 |
/// | `poll`: how often the store is asked when nobody wakes the runner | 1 s | 1 ms to an hour |
/// | `lease` | 10 s, at most 1000 leases | see [`LeaseTerms`] |
/// | `lone_lapses`: how many workers may die on one saga alone | 10 | 1 to 1000 |
/// | `hold`: waits up to this long keep the claim | 500 ms | up to the lease |
/// | `grace`: how long steps may go on at shutdown | 10 s | up to an hour |
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunnerPolicy {
    pub(crate) concurrency: usize,
    pub(crate) poll: Duration,
    pub(crate) lease: LeaseTerms,
    pub(crate) lone_lapses: u32,
    pub(crate) hold: Duration,
    pub(crate) grace: Duration,
}

impl RunnerPolicy {
    /// How many sagas are driven at once.
    #[must_use]
    pub const fn concurrency(mut self, concurrency: usize) -> Self {
        self.concurrency = concurrency;
        self
    }

    /// How often the store is asked for work when nobody wakes the runner.
    #[must_use]
    pub const fn poll(mut self, poll: Duration) -> Self {
        self.poll = poll;
        self
    }

    /// For how long a saga is claimed. After a crash it is free when its lease ends.
    #[must_use]
    pub const fn lease(mut self, lease: LeaseTerms) -> Self {
        self.lease = lease;
        self
    }

    /// How many workers may die on one saga, which they had to themselves, before it is parked.
    #[must_use]
    pub const fn lone_lapses(mut self, lapses: u32) -> Self {
        self.lone_lapses = lapses;
        self
    }

    /// Waits between attempts that are no longer than this keep the claim; longer ones give it
    /// back.
    #[must_use]
    pub const fn hold(mut self, hold: Duration) -> Self {
        self.hold = hold;
        self
    }

    /// How long steps that are under way may go on once the runner is told to stop.
    #[must_use]
    pub const fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    pub(crate) fn check(&self) -> Result<(), PolicyError> {
        let hour = Duration::from_secs(3600);
        if !(1..=10_000).contains(&self.concurrency) {
            return Err(PolicyError::new("concurrency", "from 1 to 10,000"));
        }
        if !(Duration::from_millis(1)..=hour).contains(&self.poll) {
            return Err(PolicyError::new("poll", "from 1 ms to an hour"));
        }
        if !(1..=1000).contains(&self.lone_lapses) {
            return Err(PolicyError::new("lone_lapses", "from 1 to 1000"));
        }
        if self.hold > self.lease.length() {
            return Err(PolicyError::new("hold", "no longer than the lease"));
        }
        if self.grace > hour {
            return Err(PolicyError::new("grace", "no longer than an hour"));
        }
        Ok(())
    }
}

impl Default for RunnerPolicy {
    fn default() -> Self {
        // Both are within the ranges that their own constructors name.
        let lease = LeaseTerms::new(Duration::from_secs(10))
            .and_then(|terms| terms.with_ceiling(1000))
            .unwrap_or_default();
        Self {
            concurrency: 16,
            poll: Duration::from_secs(1),
            lease,
            lone_lapses: 10,
            hold: Duration::from_millis(500),
            grace: Duration::from_secs(10),
        }
    }
}

/// A policy that cannot work: which field, and what it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} must be {range}")]
pub struct PolicyError {
    field: &'static str,
    range: &'static str,
}

impl PolicyError {
    pub(crate) const fn new(field: &'static str, range: &'static str) -> Self {
        Self { field, range }
    }

    /// Which field.
    #[must_use]
    pub const fn field(&self) -> &'static str {
        self.field
    }
}
