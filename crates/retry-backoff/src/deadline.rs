//! Until when something may take, as a value that is handed on.

use std::{fmt, time::Duration};

use buttress_core::{Clock, Moment};

use crate::Attempt;

/// Until when a piece of work may take. A plain value: who is given one takes no longer, and hands
/// it on to what he calls, which then does not either. So the time for a request is set once, at
/// the edge, and each retry further in sees what is left of it.
///
/// It comes from [`Attempt::deadline`] or is made by hand; [`Call::until`](crate::call::Call::until)
/// takes it. The HTTP layer (feature `http`) finds one in a request's extensions, keeps to it, and
/// puts the one of each attempt there. Only within a process: another host has another clock, so
/// send it [`Deadline::left`] instead.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use buttress_retry_backoff::{Deadline, Retry, RetryPolicy};
///
/// let retry = Retry::new("rates", RetryPolicy::default());
/// let deadline = Deadline::after(Duration::from_secs(2));
/// let rate = retry.call(|| async { Ok::<_, std::io::Error>(7) }).until(&deadline).await?;
/// assert!(rate == 7 && deadline.left() <= Duration::from_secs(2));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Deadline {
    clock: Clock,
    end: Moment,
}

impl Deadline {
    /// So long from now, by tokio's clock.
    #[must_use]
    pub fn after(left: Duration) -> Self {
        Self::by(&Clock::tokio(), left)
    }

    /// So long from now, by `clock`.
    #[must_use]
    pub fn by(clock: &Clock, left: Duration) -> Self {
        Self::at(clock, clock.now().saturating_add(left))
    }

    pub(crate) fn at(clock: &Clock, end: Moment) -> Self {
        Self {
            clock: clock.clone(),
            end,
        }
    }

    /// What is left; zero when it is over.
    #[must_use]
    pub fn left(&self) -> Duration {
        self.end.saturating_since(self.clock.now())
    }

    /// Whether nothing is left.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.left().is_zero()
    }
}

impl fmt::Debug for Deadline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deadline")
            .field("left", &self.left())
            .finish()
    }
}

impl<E> Attempt<'_, E> {
    /// [`Attempt::limit`] as a value that can be handed on: when this attempt will be dropped.
    #[must_use]
    pub fn deadline(&self) -> Option<Deadline> {
        self.later_deadline().map(|deadline| deadline())
    }

    /// The same when it is asked for, which is when the clock is read.
    pub(crate) fn later_deadline(&self) -> Option<impl FnOnce() -> Deadline> {
        let (clock, limit, now) = (self.clock()?, self.limit()?, self.now());
        Some(move || {
            let now = now.unwrap_or_else(|| clock.now());
            Deadline::at(clock, now.saturating_add(limit))
        })
    }
}
