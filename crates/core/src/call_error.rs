//! The two ways in which a wrapped call fails: ours, and the user's own.

use std::{borrow::Cow, error::Error, fmt, time::Duration};

use crate::{Class, Fault};

/// Why a wrapped call gave no value: it was rejected before it was made, or it was made and failed.
///
/// All wraps of the family (breaker, retry, limiter, timeouts) share this one type, and it never
/// nests: a wrap around a wrap passes an inner rejection on as it is. [`CallError::flatten`] does
/// the same for code of your own.
///
/// ```
/// use buttress_core::{CallError, Rejection, RejectionKind};
///
/// fn read(result: Result<u8, CallError<std::io::Error>>) -> Option<u8> {
///     match result {
///         Ok(value) => Some(value),
///         Err(CallError::Failed(error)) => panic!("yours, unchanged: {error}"),
///         Err(CallError::Rejected(rejection)) => { let _wait = rejection.retry_after(); None }
///     }
/// }
/// let open = Rejection::new(RejectionKind::CircuitOpen, "payments");
/// assert_eq!(read(Err(open.into())), None);
/// ```
#[derive(Debug)]
#[expect(
    clippy::exhaustive_enums,
    reason = "a third arm would be a third way to fail: users match on these two"
)]
pub enum CallError<E> {
    /// The call was not made, so it had no effect.
    Rejected(Rejection),
    /// The call was made, and this is its own error.
    Failed(E),
}

impl<E> CallError<E> {
    /// What is known about the effect, as far as it can be told without knowing `E`: a rejected
    /// call was certainly not done; of a failed one nothing is known.
    #[must_use]
    pub const fn class(&self) -> Class {
        match self {
            Self::Rejected(_) => Class::NotDone,
            Self::Failed(_) => Class::Unknown,
        }
    }

    /// The call's own error, or the rejection given back.
    ///
    /// # Errors
    ///
    /// The rejection, when the call was not made.
    pub fn into_failed(self) -> Result<E, Rejection> {
        match self {
            Self::Failed(error) => Ok(error),
            Self::Rejected(rejection) => Err(rejection),
        }
    }

    /// The same with the call's own error changed by `change`.
    pub fn map_failed<O>(self, change: impl FnOnce(E) -> O) -> CallError<O> {
        match self {
            Self::Failed(error) => CallError::Failed(change(error)),
            Self::Rejected(rejection) => CallError::Rejected(rejection),
        }
    }
}

impl<E> CallError<CallError<E>> {
    /// Makes one of two: whichever wrap rejected, it was rejected.
    #[must_use]
    pub fn flatten(self) -> CallError<E> {
        match self {
            Self::Rejected(rejection) => CallError::Rejected(rejection),
            Self::Failed(inner) => inner,
        }
    }
}

impl<E> From<Rejection> for CallError<E> {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }
}

impl<E> fmt::Display for CallError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected(_) => f.write_str("the call was rejected"),
            Self::Failed(_) => f.write_str("the call failed"),
        }
    }
}

/// The source is the [`Rejection`] itself, so whoever walks a chain of causes finds it by type, and
/// need not know `E`.
impl<E: Error + 'static> Error for CallError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Rejected(rejection) => Some(rejection),
            Self::Failed(error) => Some(error),
        }
    }
}

impl<E: Fault + 'static> Fault for CallError<E> {
    fn code(&self) -> &'static str {
        match self {
            Self::Rejected(rejection) => rejection.code(),
            Self::Failed(error) => error.code(),
        }
    }

    fn status(&self) -> u16 {
        match self {
            Self::Rejected(rejection) => rejection.status(),
            Self::Failed(error) => error.status(),
        }
    }

    fn public_message(&self) -> Cow<'_, str> {
        match self {
            Self::Rejected(rejection) => rejection.public_message(),
            Self::Failed(error) => error.public_message(),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Rejected(rejection) => rejection.retry_after(),
            Self::Failed(error) => error.retry_after(),
        }
    }
}

/// What rejected a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RejectionKind {
    /// A circuit breaker is open.
    CircuitOpen,
    /// A rate limit is used up.
    RateLimited,
    /// As many calls as may run at once are running, and the wait for a place was too long.
    ConcurrencyLimited,
    /// The time for the call was over before it could begin.
    DeadlineExceeded,
    /// What decides (a store, say) could not be asked, and the policy is to refuse then.
    Unavailable,
}

impl RejectionKind {
    /// Code, status, and the sentence for the caller.
    const fn public(self) -> (&'static str, u16, &'static str) {
        match self {
            Self::CircuitOpen => (
                "CIRCUIT_OPEN",
                503,
                "A service behind this one is failing; calls to it are paused.",
            ),
            Self::RateLimited => ("RATE_LIMITED", 429, "Too many requests."),
            Self::ConcurrencyLimited => (
                "CONCURRENCY_LIMITED",
                503,
                "Too many requests are being served at once.",
            ),
            Self::DeadlineExceeded => (
                "DEADLINE_EXCEEDED",
                504,
                "The time for this request was over before it was served.",
            ),
            Self::Unavailable => (
                "UNAVAILABLE",
                503,
                "The service cannot take requests right now.",
            ),
        }
    }
}

/// A call that was not made, what stood in its way, and when it is worth coming back.
#[derive(Debug, thiserror::Error)]
#[error("{} rejected the call: {}", name, kind.public().0)]
pub struct Rejection {
    kind: RejectionKind,
    name: Cow<'static, str>,
    retry_after: Option<Duration>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl Rejection {
    /// A rejection by the handle called `name`, which is for logs and is not shown to callers.
    pub fn new(kind: RejectionKind, name: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            name: name.into(),
            retry_after: None,
            source: None,
        }
    }

    /// The same, with the time after which a call may be let through.
    #[must_use]
    pub const fn with_retry_after(mut self, retry_after: Duration) -> Self {
        self.retry_after = Some(retry_after);
        self
    }

    /// The same, with what the pattern knows beyond this type; found again by downcasting the
    /// `source()`.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What rejected the call.
    #[must_use]
    pub const fn kind(&self) -> RejectionKind {
        self.kind
    }

    /// The name of the handle that rejected it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// After how long a call may be let through; `None` when that cannot be told.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

impl Fault for Rejection {
    fn code(&self) -> &'static str {
        self.kind.public().0
    }

    fn status(&self) -> u16 {
        self.kind.public().1
    }

    fn public_message(&self) -> Cow<'_, str> {
        self.kind.public().2.into()
    }

    fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

/// A call that was made took longer than it may, and was dropped. What it did is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the attempt did not end within {limit:?}")]
pub struct TimedOut {
    limit: Duration,
}

impl TimedOut {
    /// It was given so long.
    #[must_use]
    pub const fn new(limit: Duration) -> Self {
        Self { limit }
    }

    /// How long it was given.
    #[must_use]
    pub const fn limit(&self) -> Duration {
        self.limit
    }
}

impl Fault for TimedOut {
    fn code(&self) -> &'static str {
        "UPSTREAM_TIMEOUT"
    }

    fn status(&self) -> u16 {
        504
    }

    fn public_message(&self) -> Cow<'_, str> {
        "A service behind this one did not answer in time.".into()
    }
}

/// A boxed error as an error: a box is none, so it fits into no [`CallError`] that shall be one.
/// Between a layer of tower's, which fails with a box, and one of the family:
/// `.map_err(Boxed::from)`.
#[derive(Debug, thiserror::Error)]
#[error("a service failed")]
pub struct Boxed(#[source] Box<dyn Error + Send + Sync>);

impl From<Box<dyn Error + Send + Sync>> for Boxed {
    fn from(error: Box<dyn Error + Send + Sync>) -> Self {
        Self(error)
    }
}

impl Boxed {
    /// The box.
    #[must_use]
    pub fn into_inner(self) -> Box<dyn Error + Send + Sync> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rejection() -> Rejection {
        Rejection::new(RejectionKind::RateLimited, "orders")
            .with_retry_after(Duration::from_secs(3))
    }

    #[test]
    fn a_wrap_around_a_wrap_flattens_to_one() {
        let inner: CallError<CallError<u8>> = CallError::Failed(CallError::Failed(7));
        assert!(matches!(inner.flatten(), CallError::Failed(7)));
        let inner: CallError<CallError<u8>> = CallError::Failed(rejection().into());
        assert!(matches!(inner.flatten(), CallError::Rejected(_)));
        let outer: CallError<CallError<u8>> = rejection().into();
        assert!(matches!(outer.flatten(), CallError::Rejected(_)));
    }

    #[test]
    fn the_users_own_error_comes_back_by_type() {
        let error = CallError::Failed(std::io::Error::other("mine"));
        let source = error
            .source()
            .and_then(|source| source.downcast_ref::<std::io::Error>());
        assert_eq!(source.map(ToString::to_string).as_deref(), Some("mine"));
        assert_eq!(error.into_failed().unwrap().to_string(), "mine");
        assert!(CallError::<u8>::from(rejection()).into_failed().is_err());
    }

    #[test]
    fn display_never_repeats_its_source() {
        let failed = CallError::Failed(std::io::Error::other("secret detail"));
        assert_eq!(failed.to_string(), "the call failed");
        let rejected: CallError<std::io::Error> = rejection().with_source("why").into();
        assert_eq!(rejected.to_string(), "the call was rejected");
        assert_eq!(
            crate::Chain(&rejected).to_string(),
            "the call was rejected: orders rejected the call: RATE_LIMITED: why"
        );
    }

    #[test]
    fn a_rejection_is_found_by_type_among_the_sources() {
        let rejected: CallError<std::io::Error> = rejection().into();
        let found = rejected
            .source()
            .and_then(|it| it.downcast_ref::<Rejection>());
        assert_eq!(found.map(Rejection::kind), Some(RejectionKind::RateLimited));
    }

    #[test]
    fn only_a_rejected_call_is_known_not_to_have_been_made() {
        assert_eq!(CallError::<u8>::from(rejection()).class(), Class::NotDone);
        assert_eq!(CallError::Failed(1).class(), Class::Unknown);
    }

    #[test]
    fn every_kind_has_a_code_an_error_status_and_a_public_sentence_without_the_handles_name() {
        use RejectionKind as Kind;
        let kinds = [
            Kind::CircuitOpen,
            Kind::RateLimited,
            Kind::ConcurrencyLimited,
            Kind::DeadlineExceeded,
            Kind::Unavailable,
        ];
        let mut codes: Vec<_> = kinds.iter().map(|kind| kind.public().0).collect();
        for kind in kinds {
            let rejection = Rejection::new(kind, "internal-name");
            assert!((400..600).contains(&rejection.status()));
            assert!(!rejection.public_message().contains("internal-name"));
        }
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), kinds.len());
    }

    #[test]
    fn the_rejection_leaves_with_its_own_code_through_the_wrap() {
        let error: CallError<Rejection> = rejection().into();
        assert_eq!((error.code(), error.status()), ("RATE_LIMITED", 429));
        assert_eq!(Fault::retry_after(&error), Some(Duration::from_secs(3)));
    }
}
