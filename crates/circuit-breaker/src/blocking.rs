//! Calls that block their thread.

use buttress_core::{ByResult, CallError, Classify};

use crate::{CircuitBreaker, permit::Held};

impl CircuitBreaker {
    /// Runs `operation` on this thread, unless the breaker rejects it. An `Err` is a failure, and
    /// so is a panic, which goes on. Never waits for the breaker.
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
        let ticket = match core.acquire() {
            Ok(ticket) => ticket,
            Err(refusal) => core.refused(refusal)?,
        };
        let mut held = Held::new(core, ticket);
        let (result, verdict) = held.run(|| {
            let result = operation();
            let verdict = judge.classify(result.as_ref());
            (result, verdict)
        });
        held.settle(verdict.outcome(), verdict.retry_after());
        result.map_err(CallError::Failed)
    }
}
