//! Work under a key, from the claim to the verdict.

use std::{borrow::Cow, time::Duration};

use buttress_core::{ByResult, Class, Classify, Fault};
use buttress_store::LeaseLost;
use bytes::Bytes;

use crate::{CompleteError, Fingerprint, Idempotency, IdempotencyError, Refusal, ScopedKey};

/// What came of the work: now, or the first time.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ran {
    /// What came of it.
    pub outcome: Bytes,
    /// It was done before, and was not done now.
    pub replayed: bool,
}

/// Why there is no outcome to answer with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError<E> {
    /// The work was not begun: somebody is at it, or the key was used for something else.
    #[error("the work was not begun")]
    Refused(#[source] Refusal),
    /// The work was not begun: the store did not answer.
    #[error("the work was not begun")]
    NotBegun(#[source] IdempotencyError),
    /// The work's own error. By its class the key was released, or is in doubt.
    #[error("the work failed")]
    Failed(#[source] E),
    /// The key was lost while the work was under way, and the work was dropped: another may be at
    /// it. What it had done by then it has done.
    #[error("the work was stopped")]
    Stopped(#[source] LeaseLost),
    /// The work was done, and is not known to be recorded.
    #[error("the work was done and could not be recorded")]
    #[non_exhaustive]
    NotRecorded {
        /// What came of it.
        outcome: Bytes,
        /// Why.
        #[source]
        error: CompleteError,
    },
    /// The process ended first. The key is in doubt.
    #[error("the work was stopped, for the process ends")]
    Drained,
}

impl Idempotency {
    /// Does `work` once: claims the key, runs it, and records what came of it; who comes later is
    /// given that. An error of the work leaves the key in doubt, for it may have had its effect;
    /// [`run_with`](Self::run_with) judges by the error.
    ///
    /// Dropping the future drops the work, and the key is handed back as the policy says of
    /// abandoned ones. Work that should go on goes through [`run_detached`](Self::run_detached).
    ///
    /// # Errors
    ///
    /// [`RunError`].
    pub async fn run<E, F>(
        &self,
        key: &ScopedKey,
        fingerprint: &Fingerprint,
        work: impl FnOnce() -> F,
    ) -> Result<Ran, RunError<E>>
    where
        F: Future<Output = Result<Bytes, E>>,
    {
        self.run_with(key, fingerprint, &ByResult, work).await
    }

    /// The same, with a classifier of your own. What it says was done is recorded; what was not
    /// done, or refused for good, gives the key back, so that a corrected request may use it; what
    /// is unknown leaves it in doubt. A refusal that is to be replayed is an `Ok` of your bytes.
    ///
    /// # Errors
    ///
    /// [`RunError`].
    pub async fn run_with<E, F>(
        &self,
        key: &ScopedKey,
        fingerprint: &Fingerprint,
        classify: &impl Classify<Bytes, E>,
        work: impl FnOnce() -> F,
    ) -> Result<Ran, RunError<E>>
    where
        F: Future<Output = Result<Bytes, E>>,
    {
        let begun = self.begin(key, fingerprint).await;
        let guard = match begun.map_err(RunError::NotBegun)?.accepted() {
            Ok(Ok(guard)) => guard,
            Ok(Err(outcome)) => return Ok(Ran::new(outcome, true)),
            Err(refusal) => return Err(RunError::Refused(refusal)),
        };
        let result = tokio::select! {
            biased;
            result = work() => result,
            lost = guard.lost() => return Err(RunError::Stopped(lost)),
        };
        let class = classify.classify(result.as_ref()).class();
        match (class, result) {
            (Class::Done, Ok(outcome)) => match guard.complete(outcome.clone()).await {
                Ok(()) => Ok(Ran::new(outcome, false)),
                Err(error) => Err(RunError::NotRecorded { outcome, error }),
            },
            (class, result) => {
                // A verdict that cannot be written is an event; the lease runs out in any case.
                let _ = match class {
                    Class::NotDone | Class::Final => guard.release().await,
                    _ => guard.keep_unknown().await,
                };
                let outcome = result.map_err(RunError::Failed)?;
                Ok(Ran::new(outcome, false))
            }
        }
    }

    /// As [`run`](Self::run), on a task of its own that goes on when this future is dropped: a
    /// client that hangs up does not stop in the middle what he will ask for again.
    /// [`drain`](Self::drain) waits for it.
    ///
    /// # Errors
    ///
    /// [`RunError`].
    ///
    /// # Panics
    ///
    /// When the work panics, and outside of a tokio runtime.
    pub async fn run_detached<E, F>(
        &self,
        key: &ScopedKey,
        fingerprint: &Fingerprint,
        work: impl FnOnce() -> F + Send + 'static,
    ) -> Result<Ran, RunError<E>>
    where
        E: Send + 'static,
        F: Future<Output = Result<Bytes, E>> + Send + 'static,
    {
        let (this, key, fingerprint) = (self.clone(), key.clone(), *fingerprint);
        let task = self.spawn(async move { this.run(&key, &fingerprint, work).await });
        task.await.unwrap_or(Err(RunError::Drained))
    }
}

impl Ran {
    const fn new(outcome: Bytes, replayed: bool) -> Self {
        Self { outcome, replayed }
    }
}

impl<E: Fault + 'static> Fault for RunError<E> {
    fn code(&self) -> &'static str {
        self.fault().map_or("IDEMPOTENCY_KEY_IN_USE", Fault::code)
    }

    fn status(&self) -> u16 {
        self.fault().map_or(409, Fault::status)
    }

    fn public_message(&self) -> Cow<'_, str> {
        self.fault().map_or(
            "A request with this idempotency key is being processed.".into(),
            Fault::public_message,
        )
    }

    fn retry_after(&self) -> Option<Duration> {
        match self.fault() {
            Some(fault) => fault.retry_after(),
            None => Some(Duration::from_secs(1)),
        }
    }
}

impl<E: Fault + 'static> RunError<E> {
    /// What knows how it leaves; work that was stopped leaves as one that is in flight.
    fn fault(&self) -> Option<&dyn Fault> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            Self::NotBegun(error) => Some(error),
            Self::Failed(error) => Some(error),
            Self::NotRecorded { error, .. } => Some(error),
            Self::Stopped(_) | Self::Drained => None,
        }
    }
}
