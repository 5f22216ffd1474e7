//! The lease as its holder has it, and the heartbeat that keeps it.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use buttress_core::{Clock, Moment};

use super::{
    Fence, LeaseTerms,
    machine::{Machine, Next},
};
use crate::StoreError;

/// A claim that is about to be sent. The lease counts from here, not from the answer.
#[derive(Debug)]
#[must_use = "ask the store for it, and say what it granted"]
pub struct Claim {
    terms: LeaseTerms,
    clock: Clock,
    sent: Moment,
}

impl Claim {
    /// Looks at the clock. Make it before the call to the store.
    pub fn new(terms: LeaseTerms, clock: Clock) -> Self {
        let sent = clock.now();
        Self { terms, clock, sent }
    }

    /// The store granted it, under this fence.
    #[must_use]
    pub fn granted(self, fence: Fence) -> Lease {
        let machine = Machine::new(self.terms, self.sent);
        Lease {
            fence,
            clock: self.clock,
            machine: Arc::new(Mutex::new(machine)),
        }
    }
}

/// Something that is claimed, held for a time and extended while work on it goes on.
///
/// Clones are the same lease. Dropping it releases nothing: release it at the store, or let it run
/// out.
///
/// ```
/// use buttress_core::Clock;
/// use buttress_store::{Claim, Fence, LeaseTerms, StoreError, Token};
///
/// # async fn extend(_: Fence) -> Result<bool, StoreError> { Ok(true) }
/// # async fn work() -> &'static str { "done" }
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let claim = Claim::new(LeaseTerms::default(), Clock::tokio());
/// let fence = Fence::new(1, Token::random()); // what the store recorded
/// let lease = claim.granted(fence);
/// let outcome = tokio::select! {
///     output = work() => Ok(output), // to be completed with the fence
///     lost = lease.keep(extend) => Err(lost), // stop: somebody else may have it
/// };
/// assert_eq!(outcome, Ok("done"));
/// # }
/// ```
#[derive(Clone)]
pub struct Lease {
    fence: Fence,
    clock: Clock,
    machine: Arc<Mutex<Machine>>,
}

impl Lease {
    /// What the store knows it by.
    #[must_use]
    pub const fn fence(&self) -> Fence {
        self.fence
    }

    /// For how much longer it is ours for certain; zero when it is lost.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        let now = self.clock.now();
        self.machine().remaining(now)
    }

    /// Whether it is ours for certain. Only the fence protects what is written: look here to stop
    /// early, not to be sure.
    #[must_use]
    pub fn is_held(&self) -> bool {
        !self.remaining().is_zero()
    }

    /// Extends it at each third of its length, up to its ceiling, and ends when it is lost.
    ///
    /// `extend` asks the store, with the fence; `Ok(false)`, zero rows, means that it is somebody
    /// else's. After an error it is asked again, as long as there is time.
    ///
    /// Dropping the future stops extending. One extension may be under way then, and be done.
    pub async fn keep<F>(&self, mut extend: impl FnMut(Fence) -> F) -> LeaseLost
    where
        F: Future<Output = Result<bool, StoreError>>,
    {
        loop {
            let sent = self.clock.now();
            let next = self.machine().next(sent);
            match next {
                Next::Lost(lost) => return lost,
                Next::Wait(wait) => tokio::time::sleep(wait).await,
                Next::Extend(patience) => {
                    let answer = tokio::time::timeout(patience, extend(self.fence)).await;
                    let now = self.clock.now();
                    let mut machine = self.machine();
                    match answer {
                        Ok(Ok(true)) => machine.extended(sent),
                        Ok(Ok(false)) => machine.taken(),
                        Ok(Err(_)) | Err(_) => machine.not_extended(now),
                    }
                }
            }
        }
    }

    fn machine(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("fence", &self.fence)
            .field("remaining", &self.remaining())
            .finish_non_exhaustive()
    }
}

/// Why a lease is no longer held. The work on it must stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LeaseLost {
    /// The store says that it is somebody else's, or nobody's.
    #[error("the lease was taken by another")]
    Taken,
    /// It could not be extended in time.
    #[error("the lease ran out before it could be extended")]
    Expired,
    /// The work took longer than its ceiling.
    #[error("the lease reached its ceiling")]
    Ceiling,
}

#[cfg(test)]
mod tests {
    use std::{
        future::{pending, ready},
        sync::atomic::{AtomicU32, Ordering},
    };

    use super::*;
    use crate::{Phase, StoreErrorKind, Token};

    fn lease() -> (Lease, Clock) {
        let clock = Clock::tokio();
        let claim = Claim::new(LeaseTerms::default(), clock.clone());
        (claim.granted(Fence::new(1, Token::random())), clock)
    }

    fn seconds(clock: &Clock) -> u64 {
        clock.now().as_nanos() / 1_000_000_000
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_kept_up_to_its_ceiling() {
        let (lease, clock) = lease();
        let beats = AtomicU32::new(0);
        let lost = lease.keep(|fence| {
            assert_eq!(fence, lease.fence());
            beats.fetch_add(1, Ordering::Relaxed);
            ready(Ok(true))
        });
        assert_eq!(lost.await, LeaseLost::Ceiling);
        assert_eq!(beats.load(Ordering::Relaxed), 27);
        assert_eq!(seconds(&clock), 297, "ten leases, less the margin");
        assert!(!lease.is_held());
    }

    #[tokio::test(start_paused = true)]
    async fn who_lost_it_learns_it_at_the_next_beat() {
        let (lease, clock) = lease();
        assert_eq!(lease.keep(|_| ready(Ok(false))).await, LeaseLost::Taken);
        assert_eq!(seconds(&clock), 10);
        assert!(!lease.is_held());
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_hangs_or_fails_costs_the_lease_in_time() {
        let (hung, clock) = lease();
        assert_eq!(hung.keep(|_| pending()).await, LeaseLost::Expired);
        assert_eq!(
            seconds(&clock),
            27,
            "given up before the store gives it away"
        );
        let (failing, clock) = lease();
        let lost = failing.keep(|_| {
            let error = StoreError::new(StoreErrorKind::Unreachable, Phase::Connect);
            ready(Err(error))
        });
        assert_eq!(lost.await, LeaseLost::Expired);
        assert_eq!(seconds(&clock), 27);
    }

    #[tokio::test(start_paused = true)]
    async fn one_beat_that_fails_is_made_good_by_the_next() {
        let (lease, clock) = lease();
        let beats = AtomicU32::new(0);
        let lost = lease.keep(|_| {
            ready(match beats.fetch_add(1, Ordering::Relaxed) {
                1 => Err(StoreError::new(StoreErrorKind::Lost, Phase::Statement)),
                5 => Ok(false),
                _ => Ok(true),
            })
        });
        assert_eq!(lost.await, LeaseLost::Taken);
        assert_eq!(seconds(&clock), 51, "the second beat came a second late");
    }
}
