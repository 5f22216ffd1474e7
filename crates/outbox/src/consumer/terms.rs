//! What a consumer goes by, the same for each broker.

use std::time::Duration;

use buttress_retry_backoff::{Backoff, Dice};

use crate::PolicyError;

/// How many messages are fetched at once.
const BATCH: u16 = 50;
/// The first wait, and the longest.
const FIRST: Duration = Duration::from_millis(100);
const LAST: Duration = Duration::from_secs(30);
/// As long as a handler may ask for.
const LONGEST: Duration = Duration::from_secs(60 * 60);
/// How long a handler may take.
const DEADLINE: Duration = Duration::from_secs(60);
/// As far as the waits grow.
const STEPS: u32 = 64;

/// What a consumer goes by: the same for each broker.
///
/// ```
/// use std::time::Duration;
///
/// use buttress_outbox::consumer::Terms;
///
/// # fn main() -> Result<(), buttress_outbox::PolicyError> {
/// let terms = Terms::new().with_attempts(10)?.with_deadline(Duration::from_secs(5))?;
/// # drop(terms);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Terms {
    pub(super) batch: u16,
    pub(super) attempts: Option<u32>,
    pub(super) deadline: Duration,
    backoff: Backoff,
}

impl Terms {
    /// The defaults.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            batch: BATCH,
            attempts: None,
            deadline: DEADLINE,
            backoff: Backoff::exponential(FIRST).with_cap(LAST),
        }
    }

    /// The same with so many messages fetched at once, 1 to 1000; 50 by default. All of them are in
    /// memory, and nobody else has them meanwhile.
    ///
    /// # Errors
    ///
    /// When it is out of its range.
    pub fn with_batch(mut self, messages: u16) -> Result<Self, PolicyError> {
        if !(1..=1000).contains(&messages) {
            return Err(PolicyError::new("batch", "1 to 1000"));
        }
        self.batch = messages;
        Ok(self)
    }

    /// The same with this wait before a message comes again, and while the broker is away; 100 ms
    /// and doubling, to 30 s, with full jitter, by default. It grows with each failure in a row.
    #[must_use]
    pub fn with_backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// The same with messages put aside that come for more than the nth time, 1 to 1000; by default
    /// they come until the handler says [`Never`](super::Handled::Never). It ends a message that
    /// kills whoever handles it, and one that is never done; in an outage of what the handler needs
    /// it puts aside what is sound, so let the handler wait there.
    ///
    /// Counted is what [`Received::attempt`](super::Received::attempt) says: also when a consumer was
    /// stopped that had fetched it and not begun, so let it be more than the instances that a
    /// roll-out stops one after the other.
    ///
    /// # Errors
    ///
    /// When it is out of its range.
    pub fn with_attempts(mut self, attempts: u32) -> Result<Self, PolicyError> {
        if !(1..=1000).contains(&attempts) {
            return Err(PolicyError::new("attempts", "1 to 1000"));
        }
        self.attempts = Some(attempts);
        Ok(self)
    }

    /// The same with handlers that may take so long, 1 ms to 1 day; 1 min by default. One that takes
    /// longer is dropped where it is, and the message comes again.
    ///
    /// # Errors
    ///
    /// When it is out of its range.
    pub fn with_deadline(mut self, deadline: Duration) -> Result<Self, PolicyError> {
        let range = Duration::from_millis(1)..=Duration::from_secs(24 * 60 * 60);
        if !range.contains(&deadline) {
            return Err(PolicyError::new("deadline", "1 ms to 1 day"));
        }
        self.deadline = deadline;
        Ok(self)
    }

    /// The wait after so many failures in a row, at least as long as was asked for.
    pub(super) fn wait(&self, failures: u32, asked: Duration) -> Duration {
        let nth = usize::try_from(failures.saturating_sub(1).min(STEPS)).unwrap_or_default();
        let delay = self.backoff.delays_with(Dice::random()).nth(nth);
        delay.unwrap_or_default().max(asked.min(LONGEST))
    }
}

impl Default for Terms {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_out_of_its_range_is_refused_by_name() {
        for batch in [0, 1001] {
            assert_eq!(Terms::new().with_batch(batch).unwrap_err().field(), "batch");
        }
        for attempts in [0, 1001] {
            let refused = Terms::new().with_attempts(attempts).unwrap_err();
            assert_eq!(refused.field(), "attempts");
        }
        for deadline in [Duration::ZERO, Duration::MAX] {
            let refused = Terms::new().with_deadline(deadline).unwrap_err();
            assert_eq!(refused.field(), "deadline");
        }
    }

    #[test]
    fn a_wait_is_as_long_as_is_asked_for_and_no_longer_than_an_hour() {
        let terms = Terms::new().with_backoff(Backoff::constant(Duration::from_secs(2)));
        for (asked, expected) in [(0, 2), (1, 2), (5, 5), (u64::MAX, 3600)] {
            let wait = terms.wait(u32::MAX, Duration::from_secs(asked));
            assert_eq!(wait, Duration::from_secs(expected), "{asked}");
        }
        assert!(Terms::new().wait(u32::MAX, Duration::ZERO) <= LAST);
    }
}
