//! The gate before a store: a deadline for each operation, and a pause once one struck.

mod deadline;
mod machine;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use buttress_core::Clock;

pub use self::deadline::Deadline;
use self::machine::{FIRST, Left, Machine, Ticket};
use crate::{StoreError, class::StoreErrorKind};

/// A timer of a process that runs is not this late, and a busy one's nearly never.
const STOOD_STILL: Duration = Duration::from_millis(500);

/// The gate before a store. Every operation goes through it: it has a deadline, and after one
/// struck the store is left alone for a second, doubling to thirty, so that no request pays the
/// deadline twice. A store that could not be reached, and took half of the deadline or more to say
/// so, is left alone as well. After the pause one call at a time is let through, until one is
/// answered.
///
/// A deadline that strikes half a second late or more says nothing about the store: this process
/// stood still (it was stopped, or its machine paused), and finds all its deadlines passed.
///
/// Clones are the same gate. Make one for each store, not for each pattern on it.
///
/// ```
/// use std::time::Duration;
/// use buttress_store::{Gate, StoreError};
///
/// # async fn ask() -> Result<u8, StoreError> { Ok(1) }
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let gate = Gate::sql().with_deadline(Duration::from_secs(2))?;
/// let answer = gate.run(|_deadline| ask()).await?;
/// # assert_eq!(answer, 1);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Gate {
    clock: Clock,
    allowed: Duration,
    machine: Arc<Mutex<Machine>>,
}

impl Gate {
    /// The longest deadline that may be chosen.
    pub const LONGEST: Duration = Duration::from_secs(60 * 60);

    /// A gate whose operations may take five seconds ([`Deadline::SQL`]).
    #[must_use]
    pub fn sql() -> Self {
        Self::allowing(Deadline::SQL)
    }

    /// A gate whose operations may take half a second ([`Deadline::REDIS`]).
    #[must_use]
    pub fn redis() -> Self {
        Self::allowing(Deadline::REDIS)
    }

    fn allowing(allowed: Duration) -> Self {
        Self {
            clock: Clock::tokio(),
            allowed,
            machine: Arc::new(Mutex::new(Machine::new())),
        }
    }

    /// The same gate, with another deadline for operations that go through this value.
    ///
    /// # Errors
    ///
    /// [`GateError`], when it is not between a millisecond and an hour.
    pub fn with_deadline(mut self, allowed: Duration) -> Result<Self, GateError> {
        if !(Duration::from_millis(1)..=Self::LONGEST).contains(&allowed) {
            return Err(GateError::Deadline { allowed });
        }
        self.allowed = allowed;
        Ok(self)
    }

    /// The same gate, which leaves the store alone for at most so long at a time: for a service
    /// that must be back soon after its store. All clones of the gate keep to it.
    ///
    /// # Errors
    ///
    /// [`GateError`], when it is not between a second, which is the first pause, and an hour.
    pub fn with_longest_pause(self, longest: Duration) -> Result<Self, GateError> {
        if !(FIRST..=Self::LONGEST).contains(&longest) {
            return Err(GateError::Pause { longest });
        }
        self.machine().pause_at_most(longest);
        Ok(self)
    }

    /// The same gate, whose pauses are told by `clock`. Deadlines are always told by tokio's timer.
    #[must_use]
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// How long an operation that goes through this value may take.
    #[must_use]
    pub const fn allowed(&self) -> Duration {
        self.allowed
    }

    /// Runs an operation that keeps to the deadline it is given, by [`Deadline::run`].
    ///
    /// Dropping the future drops the operation, and says nothing about the store.
    ///
    /// # Errors
    ///
    /// The operation's own; of kind [`StoreErrorKind::LeftAlone`], with a `retry_after`, when the
    /// store is left alone: then the operation was not even begun.
    pub async fn run<T, F>(&self, operation: impl FnOnce(Deadline) -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let now = self.clock.now();
        let ticket = self.machine().enter(now).map_err(StoreError::left_alone)?;
        let mut pass = Pass {
            gate: self,
            ticket,
            left: Left::Abandoned,
        };
        let result = operation(Deadline::after(self.allowed)).await;
        pass.left = match &result {
            Ok(_) => Left::Answered,
            Err(error) => self.left(error.kind(), self.clock.now().saturating_since(now)),
        };
        result
    }

    /// What an error says about the store, and how long it took to say so.
    fn left(&self, kind: StoreErrorKind, took: Duration) -> Left {
        let unanswered = match kind {
            StoreErrorKind::Deadline => Left::Struck,
            // A connection that gives up by a timeout of its own has cost the caller as much.
            away if away.is_away() && took.saturating_mul(2) >= self.allowed => Left::Struck,
            away if away.is_away() => Left::Unreachable,
            _ => return Left::Answered,
        };
        if took >= self.allowed.saturating_add(STOOD_STILL) {
            return Left::Abandoned;
        }
        unanswered
    }

    fn machine(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate")
            .field("allowed", &self.allowed)
            .field("machine", &*self.machine())
            .finish_non_exhaustive()
    }
}

/// A call on its way. Whatever becomes of it, the gate hears of its end.
struct Pass<'g> {
    gate: &'g Gate,
    ticket: Ticket,
    left: Left,
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        let now = self.gate.clock.now();
        self.gate.machine().leave(self.ticket, self.left, now);
    }
}

/// A gate that cannot work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GateError {
    /// The deadline.
    #[error("deadline: {allowed:?} is not between 1 ms and 1 h")]
    Deadline {
        /// What was given.
        allowed: Duration,
    },
    /// The longest pause.
    #[error("longest pause: {longest:?} is not between 1 s and 1 h")]
    Pause {
        /// What was given.
        longest: Duration,
    },
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;
    use crate::Phase;

    async fn hang(deadline: Deadline) -> Result<(), StoreError> {
        let never = pending::<Result<(), StoreError>>();
        deadline.run(Phase::Statement, never).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_times_out_before_the_deadline_is_paid_for_once_as_well() {
        let timed_out = async |after: u64| {
            tokio::time::sleep(Duration::from_millis(after)).await;
            Err::<(), _>(StoreError::new(StoreErrorKind::Unreachable, Phase::Connect))
        };
        let gate = Gate::redis();
        for at_once in [0, 249] {
            let error = gate.run(|_| timed_out(at_once)).await.unwrap_err();
            assert_eq!(error.kind(), StoreErrorKind::Unreachable);
        }
        gate.run(|_| timed_out(499)).await.unwrap_err();
        let error = gate.run(|_| timed_out(499)).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::LeftAlone);
    }

    #[tokio::test(start_paused = true)]
    async fn no_request_pays_the_deadline_twice() {
        let gate = Gate::redis();
        let clock = Clock::tokio();
        let error = gate.run(hang).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Deadline);
        assert_eq!(clock.now().as_nanos() / 1_000_000, 500);
        let error = gate.clone().run(hang).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::LeftAlone);
        assert_eq!(error.retry_after(), Some(Duration::from_secs(1)));
        assert_eq!(clock.now().as_nanos() / 1_000_000, 500, "it failed at once");
        tokio::time::advance(Duration::from_secs(1)).await;
        gate.run(|_| ready(Ok(()))).await.unwrap();
        gate.run(|_| ready(Ok(()))).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_that_stood_still_does_not_take_it_for_the_stores_silence() {
        // The operation is judged when the process goes on, long after its deadline.
        let slept_through = async |kind: StoreErrorKind, millis: u64| {
            tokio::time::sleep(Duration::from_millis(millis)).await;
            Err::<(), _>(StoreError::new(kind, Phase::Statement))
        };
        for kind in [StoreErrorKind::Deadline, StoreErrorKind::Lost] {
            let gate = Gate::redis();
            gate.run(|_| slept_through(kind, 1000)).await.unwrap_err();
            gate.run(|_| ready(Ok(()))).await.unwrap();
            gate.run(|_| slept_through(kind, 999)).await.unwrap_err();
            let error = gate.run(|_| ready(Ok(()))).await.unwrap_err();
            assert_eq!(error.kind(), StoreErrorKind::LeftAlone, "{kind:?}");
        }
    }

    #[test]
    fn a_deadline_that_cannot_work_is_refused() {
        for wrong in [Duration::ZERO, Duration::MAX] {
            assert!(Gate::sql().with_deadline(wrong).is_err());
        }
        assert!(Gate::sql().with_deadline(Duration::from_millis(1)).is_ok());
        for wrong in [Duration::ZERO, Duration::MAX] {
            assert!(Gate::sql().with_longest_pause(wrong).is_err());
        }
        assert!(
            Gate::sql()
                .with_longest_pause(Duration::from_secs(1))
                .is_ok()
        );
        assert!(Deadline::after(Duration::MAX).remaining() > Duration::from_secs(1));
    }
}
