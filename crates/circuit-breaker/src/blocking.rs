//! Calls that block their thread.

use buttress_core::{ByResult, CallError, Classify};

use crate::{CircuitBreaker, breaker::acquire_blocking, permit::Unwinding};

impl CircuitBreaker {
    /// Runs `operation` on this thread, unless the breaker rejects it. An `Err` is a failure, and
    /// so is a panic, which goes on.
    ///
    /// Half-open and out of probes, it blocks the thread as long as the policy's `half_open_wait`
    /// says, for a free slot or the verdict; by default not at all.
    ///
    /// # Errors
    ///
    /// The rejection, or the operation's own error.
    #[inline]
    pub fn call_blocking<T, E>(
        &self,
        operation: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, CallError<E>> {
        self.call_blocking_by(&ByResult, operation)
    }

    /// The same, judged by `judge`.
    ///
    /// # Errors
    ///
    /// The rejection, or the operation's own error.
    #[inline]
    pub fn call_blocking_by<T, E>(
        &self,
        judge: &impl Classify<T, E>,
        operation: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, CallError<E>> {
        let core = self.core_ref();
        let ticket = match core.acquire_plain() {
            Some(ticket) => ticket,
            None => acquire_blocking(core)?,
        };
        let unwinding = Unwinding::new(core, ticket);
        let result = operation();
        let verdict = judge.classify(result.as_ref());
        unwinding.forget();
        core.settle(ticket, verdict.outcome(), verdict.retry_after());
        result.map_err(CallError::Failed)
    }
}
