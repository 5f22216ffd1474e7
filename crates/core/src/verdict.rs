//! What the result of a call says: about the health of what was called, and about what was done.

use std::time::Duration;

/// What a result says about the health of the thing that was called. A breaker counts this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// It answered as it should. A refusal with a good reason (not found, invalid) is an answer too.
    Success,
    /// It failed: no answer, or one that says that it cannot do its work.
    Failure,
    /// The result says nothing about it: the caller gave up, or the request never left.
    Ignored,
}

/// What is known about the effect of a call. A retry decides by this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Class {
    /// It was done.
    Done,
    /// It was certainly not done, and may succeed later: safe to try again.
    NotDone,
    /// It was refused for good: trying the same again will fail the same way.
    Final,
    /// It may have been done: the connection went, or the time ran out, while it was under way.
    /// Never try it again unless it is idempotent by a key.
    Unknown,
}

/// The judgement on one call: its [`Outcome`], its [`Class`], and when the other side asked to be
/// tried again.
///
/// ```
/// use std::time::Duration;
/// use buttress_core::{Class, Outcome, Verdict};
///
/// let busy = Verdict::not_done().with_retry_after(Duration::from_secs(2));
/// assert_eq!((busy.outcome(), busy.class()), (Outcome::Failure, Class::NotDone));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Verdict {
    outcome: Outcome,
    class: Class,
    retry_after: Option<Duration>,
}

impl Verdict {
    const fn new(outcome: Outcome, class: Class) -> Self {
        Self {
            outcome,
            class,
            retry_after: None,
        }
    }

    /// It worked.
    #[must_use]
    pub const fn success() -> Self {
        Self::new(Outcome::Success, Class::Done)
    }

    /// It failed before it had any effect: a refused connection, a 429, a serialization failure.
    /// A 5xx of something that has effects is [`Verdict::unknown`]: it may have come after them.
    #[must_use]
    pub const fn not_done() -> Self {
        Self::new(Outcome::Failure, Class::NotDone)
    }

    /// It failed, and may nevertheless have had its effect: a timeout, a connection lost mid-way.
    #[must_use]
    pub const fn unknown() -> Self {
        Self::new(Outcome::Failure, Class::Unknown)
    }

    /// It was refused for good by something that is well: not found, invalid, a conflict.
    #[must_use]
    pub const fn refused() -> Self {
        Self::new(Outcome::Success, Class::Final)
    }

    /// It failed for good, and what was called is not well: broken data, a missing table.
    #[must_use]
    pub const fn broken() -> Self {
        Self::new(Outcome::Failure, Class::Final)
    }

    /// It says nothing about what was called, and trying again is pointless: the caller gave up.
    #[must_use]
    pub const fn ignored() -> Self {
        Self::new(Outcome::Ignored, Class::Final)
    }

    /// The same verdict, with the time for which the other side asked to be left alone.
    #[must_use]
    pub const fn with_retry_after(mut self, retry_after: Duration) -> Self {
        self.retry_after = Some(retry_after);
        self
    }

    /// What it says about the health of what was called.
    #[must_use]
    pub const fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// What is known about the effect.
    #[must_use]
    pub const fn class(&self) -> Class {
        self.class
    }

    /// For how long the other side asked to be left alone, if it did.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

/// Judges results. An argument of a call, or a type parameter of a layer; never part of a handle,
/// for two callers of one handle may judge differently.
///
/// It sees the whole `Result`, because an `Ok` can be a failure (a 503 response) and an `Err` can
/// be an answer (not found). Every `Fn(Result<&T, &E>) -> Verdict` is one.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot judge a `Result<{T}, {E}>`",
    note = "pass `ByResult`, or a closure `|result: Result<&T, &E>| -> Verdict`"
)]
pub trait Classify<T, E> {
    /// The verdict on `result`. Must be quick and must not panic; it may be called more than once.
    fn classify(&self, result: Result<&T, &E>) -> Verdict;
}

impl<T, E, F> Classify<T, E> for F
where
    F: Fn(Result<&T, &E>) -> Verdict,
{
    fn classify(&self, result: Result<&T, &E>) -> Verdict {
        self(result)
    }
}

/// The plain reading: every `Ok` is a success, every `Err` a failure whose effect is unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_structs,
    reason = "a unit struct: it is its own value"
)]
pub struct ByResult;

impl<T, E> Classify<T, E> for ByResult {
    fn classify(&self, result: Result<&T, &E>) -> Verdict {
        match result {
            Ok(_) => Verdict::success(),
            Err(_) => Verdict::unknown(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_means_one_outcome_and_one_class() {
        let table = [
            (Verdict::success(), Outcome::Success, Class::Done),
            (Verdict::not_done(), Outcome::Failure, Class::NotDone),
            (Verdict::unknown(), Outcome::Failure, Class::Unknown),
            (Verdict::refused(), Outcome::Success, Class::Final),
            (Verdict::broken(), Outcome::Failure, Class::Final),
            (Verdict::ignored(), Outcome::Ignored, Class::Final),
        ];
        for (verdict, outcome, class) in table {
            assert_eq!(
                (verdict.outcome(), verdict.class()),
                (outcome, class),
                "{verdict:?}"
            );
            assert_eq!(verdict.retry_after(), None);
        }
    }

    #[test]
    fn an_error_of_which_nothing_is_known_is_never_safe_to_repeat() {
        let verdict = ByResult.classify(Err::<&u8, _>(&"gone"));
        assert_eq!(verdict.class(), Class::Unknown);
    }

    #[test]
    fn a_closure_may_judge_an_ok_as_a_failure() {
        let by_status = |result: Result<&u16, &String>| match result {
            Ok(status) if *status >= 500 => Verdict::not_done(),
            Ok(_) => Verdict::success(),
            Err(_) => Verdict::unknown(),
        };
        assert_eq!(by_status.classify(Ok(&503)).outcome(), Outcome::Failure);
        assert_eq!(by_status.classify(Ok(&200)).outcome(), Outcome::Success);
    }

    #[test]
    fn classifiers_can_be_boxed() {
        let boxed: Box<dyn Classify<u8, String>> = Box::new(ByResult);
        assert_eq!(boxed.classify(Ok(&1)).class(), Class::Done);
    }
}
