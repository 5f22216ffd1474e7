//! What becomes of a key, by the answer that its request got.

use std::{fmt, sync::Arc};

use http::{HeaderMap, StatusCode};

/// What becomes of a key when its request has been answered.
///
/// A handler that knows better than the status puts one into its response's extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Keep {
    /// The answer is kept under the key and replayed.
    Answer,
    /// Nothing was done: the key is free, and a corrected request may use it.
    Nothing,
    /// It may have been done, and nobody knows: neither an answer nor a free key.
    Unknown,
}

/// Which answers are kept under their key, which leave it free, and which leave it unknown.
///
/// | status | the key |
/// | --- | --- |
/// | 2xx, and 303 (the answer to a POST is elsewhere) | keeps the answer |
/// | 408, 5xx | unknown: a time limit or a failure that may have come after the effect |
/// | every other 4xx, 429 among them, every other 3xx, 1xx | free |
///
/// 408, 429 and 5xx are never kept as answers, whatever a rule or a handler says: who is told to
/// come back would be told so for as long as the key is remembered.
#[derive(Clone, Default)]
pub struct StatusRule {
    choice: Option<Arc<Choice>>,
}

type Choice = dyn Fn(StatusCode, &HeaderMap) -> Option<Keep> + Send + Sync;

impl StatusRule {
    /// By the table.
    #[must_use]
    pub const fn new() -> Self {
        Self { choice: None }
    }

    /// The same with these refusals kept: definite ones, that a corrected request should not take
    /// back under the same key (402, say).
    #[must_use]
    pub fn with_refusals(refusals: impl IntoIterator<Item = StatusCode>) -> Self {
        let refusals: Vec<_> = refusals.into_iter().collect();
        Self::by(move |status, _| refusals.contains(&status).then_some(Keep::Answer))
    }

    /// As `choice` says, and by the table where it says nothing.
    #[must_use]
    pub fn by(
        choice: impl Fn(StatusCode, &HeaderMap) -> Option<Keep> + Send + Sync + 'static,
    ) -> Self {
        Self {
            choice: Some(Arc::new(choice)),
        }
    }

    /// What becomes of the key of this answer. `said` is what the handler said.
    #[must_use]
    pub fn of(&self, status: StatusCode, headers: &HeaderMap, said: Option<Keep>) -> Keep {
        let chosen = self
            .choice
            .as_ref()
            .and_then(|choice| choice(status, headers));
        match said.or(chosen).unwrap_or_else(|| by_table(status)) {
            Keep::Answer if is_passing(status) => by_table(status),
            keep => keep,
        }
    }
}

impl fmt::Debug for StatusRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StatusRule")
            .field("choice", &self.choice.is_some())
            .finish()
    }
}

#[cfg(feature = "tower")]
impl Keep {
    /// The same, for a request that nobody waits for: nobody is told of a refusal, so it frees
    /// nothing, and what says more of the program, or of its caller, than of the request is not kept
    /// as its answer.
    pub(crate) fn without_client(self, status: StatusCode) -> Self {
        match (self, status.as_u16()) {
            (Self::Answer, 401 | 403 | 404 | 405) | (Self::Nothing, _) => Self::Unknown,
            (keep, _) => keep,
        }
    }
}

fn by_table(status: StatusCode) -> Keep {
    match status.as_u16() {
        200..=299 | 303 => Keep::Answer,
        408 | 500.. => Keep::Unknown,
        _ => Keep::Nothing,
    }
}

/// What would be another answer a moment later.
fn is_passing(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 425 | 429 | 500..)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keep(rule: &StatusRule, status: u16, said: Option<Keep>) -> Keep {
        rule.of(
            StatusCode::from_u16(status).unwrap(),
            &HeaderMap::new(),
            said,
        )
    }

    #[test]
    fn each_status_has_its_place() {
        let rule = StatusRule::new();
        for (status, expected) in [
            (200, Keep::Answer),
            (202, Keep::Answer),
            (204, Keep::Answer),
            (303, Keep::Answer),
            (304, Keep::Nothing),
            (307, Keep::Nothing),
            (400, Keep::Nothing),
            (402, Keep::Nothing),
            (408, Keep::Unknown),
            (409, Keep::Nothing),
            (422, Keep::Nothing),
            (429, Keep::Nothing),
            (500, Keep::Unknown),
            (503, Keep::Unknown),
            (599, Keep::Unknown),
            (999, Keep::Unknown),
        ] {
            assert_eq!(keep(&rule, status, None), expected, "{status}");
        }
    }

    #[test]
    fn a_passing_state_is_never_kept_as_an_answer() {
        let all = StatusRule::by(|_, _| Some(Keep::Answer));
        for status in [408, 425, 429, 500, 502, 503, 504, 999] {
            for rule in [&all, &StatusRule::new()] {
                assert_ne!(
                    keep(rule, status, Some(Keep::Answer)),
                    Keep::Answer,
                    "{status}"
                );
            }
        }
    }

    #[test]
    fn a_definite_refusal_is_kept_by_choice_and_a_handler_knows_best() {
        let rule = StatusRule::with_refusals([StatusCode::PAYMENT_REQUIRED]);
        assert_eq!(keep(&rule, 402, None), Keep::Answer);
        assert_eq!(keep(&rule, 422, None), Keep::Nothing);
        assert_eq!(keep(&rule, 402, Some(Keep::Nothing)), Keep::Nothing);
        assert_eq!(keep(&rule, 503, Some(Keep::Nothing)), Keep::Nothing);
        assert_eq!(keep(&rule, 200, Some(Keep::Unknown)), Keep::Unknown);
    }
}
