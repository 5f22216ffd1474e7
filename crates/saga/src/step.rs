//! A step: what it does, and how that is undone.

use std::{error::Error, fmt, time::Duration};

use buttress_core::Class;
use serde::{Serialize, de::DeserializeOwned};

use crate::{Context, FailureKind, UndoContext};

/// One step of a saga: what it does, and how that is undone.
///
/// A step may run more than once: its worker can die after the effect and before the journal knows
/// of it. So hand [`Context::idempotency_key`] to what it calls, which is the same each time, or
/// commit its output together with its own rows by [`Context::complete_in`].
///
/// Futures are dropped when a timeout strikes, the lease is lost or the runner stops; what the step
/// did is unknown then, and is counted with.
pub trait Step: Send + Sync + 'static {
    /// What the saga was started with.
    type Input: Serialize + DeserializeOwned + Send + Sync + 'static;
    /// What it returns. Later steps read it, and its undo is given it.
    type Output: Serialize + DeserializeOwned + Send + Sync + 'static;

    /// Does it.
    ///
    /// # Errors
    ///
    /// [`StepError`] says what is known of the effect: nothing was done and it may work later,
    /// nobody knows, or it is refused for good; or that it was not tried at all.
    fn run(
        &self,
        context: &Context<'_, Self::Input>,
    ) -> impl Future<Output = Result<Self::Output, StepError>> + Send;

    /// Takes it back. Must be content with finding nothing to take back, and where the effect is
    /// [`Effect::Unknown`] it must also forbid a late arrival: cancel the idempotency key, so that
    /// a request which is still on its way finds it refused.
    ///
    /// It is tried without end while its target is merely down. Unless you write one, there is
    /// nothing to be undone.
    ///
    /// # Errors
    ///
    /// [`StepError`]; one that is [refused](StepError::refused) leaves the saga in need of
    /// attention, after all other undos.
    fn undo(
        &self,
        context: &UndoContext<'_, Self::Input>,
        effect: Effect<Self::Output>,
    ) -> impl Future<Output = Result<(), StepError>> + Send {
        let _ = (context, effect);
        std::future::ready(Ok(()))
    }

    /// Whether, and for how long, trying would be in vain: a breaker that is open knows. Asked
    /// before an attempt at the step or at its undo begins; then it does not begin, no line is
    /// written to the journal, and it is asked again after that long and up to the first wait of
    /// the backoff longer. `None` unless you write one.
    ///
    /// An answer of the moment, and no promise: an attempt that is kept back all the same is
    /// [`StepError::postponed`].
    fn paused_for(&self) -> Option<Duration> {
        None
    }
}

/// What is known of a step's effect when it is undone.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Effect<T> {
    /// It certainly had none. Only steps that [ask for it](crate::StepPolicy::undo_always) are
    /// undone then.
    None,
    /// It may have had its effect, or may have it later.
    Unknown,
    /// It was done, and returned this.
    Done(T),
}

/// Why an attempt at a step, or at an undo, failed: what is known of the effect, and a code.
///
/// The code is written into the journal and shown to whoever asks for the saga, so it is a word,
/// not a message. The source is told to observers and to nobody else.
pub struct StepError {
    kind: FailureKind,
    code: &'static str,
    retry_after: Option<Duration>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl StepError {
    /// It had no effect, and may work later: nothing is listening, or it is too busy.
    #[must_use]
    pub const fn not_done(code: &'static str) -> Self {
        Self::new(FailureKind::NotDone, code)
    }

    /// It may have had its effect: no answer came.
    #[must_use]
    pub const fn unknown(code: &'static str) -> Self {
        Self::new(FailureKind::Unknown, code)
    }

    /// It was refused for good and had no effect: a declined card, nothing left in stock.
    #[must_use]
    pub const fn refused(code: &'static str) -> Self {
        Self::new(FailureKind::Final, code)
    }

    /// It was not tried at all: a breaker that is open, or a limiter, kept it back. It counts as
    /// no attempt, however often that happens, and says nothing of the effect. It is tried again
    /// after this long, and up to the first wait of the step's backoff longer, so that those who
    /// wait for one target do not come all at once.
    #[must_use]
    pub const fn postponed(code: &'static str, after: Duration) -> Self {
        Self::new(FailureKind::Postponed, code).with_retry_after(after)
    }

    /// By what a classifier said of it, as the family's others do. What was
    /// [done](Class::Done) is no error; it is taken for unknown.
    #[must_use]
    pub const fn of_class(class: Class, code: &'static str) -> Self {
        Self::new(
            match class {
                Class::NotDone => FailureKind::NotDone,
                Class::Final => FailureKind::Final,
                _ => FailureKind::Unknown,
            },
            code,
        )
    }

    const fn new(kind: FailureKind, code: &'static str) -> Self {
        Self {
            kind,
            code,
            retry_after: None,
            source: None,
        }
    }

    /// The same, because of this.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The same, whose next attempt waits for at least so long.
    #[must_use]
    pub const fn with_retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// What is known of the effect.
    #[must_use]
    pub const fn kind(&self) -> FailureKind {
        self.kind
    }

    /// Its code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        self.code
    }

    /// How long the other side asked to be left alone.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

impl fmt::Debug for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StepError")
            .field("kind", &self.kind)
            .field("code", &self.code)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            FailureKind::NotDone => "was not done",
            FailureKind::Unknown => "may have been done",
            FailureKind::Final => "was refused",
            FailureKind::Postponed => "was not tried",
        };
        write!(f, "the step {what} ({})", self.code)
    }
}

impl Error for StepError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// Where nothing better is known, nothing is: the effect may have come.
impl From<buttress_store::StoreError> for StepError {
    fn from(error: buttress_store::StoreError) -> Self {
        Self::of_class(error.class(), "STORE").because(error)
    }
}
