//! What a publisher says of a message that it did not deliver.

use std::{borrow::Cow, error::Error, fmt, time::Duration};

use buttress_core::Fault;

/// Why a message was not delivered, and so what the relay does with it.
///
/// Only what is known about *this* message counts against it: a destination that is down, a lost
/// confirm, a crash cost it nothing.
///
/// | made by | what it says | what the relay does |
/// | --- | --- | --- |
/// | [`refused`](Self::refused) | this message, and not the destination | counts it; tries again later, its key waiting; after the limit it is dead |
/// | [`refused_for_good`](Self::refused_for_good) | the same, and it will be refused for ever | it is dead at once |
/// | [`down`](Self::down) | the destination takes nothing now | pauses the topic with a growing backoff; nothing counts |
/// | [`unknown`](Self::unknown) | it may have been delivered | tries again later, its key waiting; nothing counts |
/// | [`gone`](Self::gone) | the destination wants nothing any more | pauses the topic until somebody resumes it; nothing counts |
/// | [`skipped`](Self::skipped) | it was not tried | tries again; nothing counts |
///
/// The reason is kept as the message's last error and shown to operators: at most
/// [`PublishError::LONGEST_REASON`] bytes, control characters escaped. Put no secret in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishError {
    kind: PublishErrorKind,
    reason: Box<str>,
    retry_after: Option<Duration>,
}

/// What a [`PublishError`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PublishErrorKind {
    /// This message was refused, and may be taken later.
    Refused,
    /// This message was refused, and will be for ever.
    RefusedForGood,
    /// The destination is down.
    Down,
    /// It may have been delivered or not.
    Unknown,
    /// The destination wants no message any more.
    Gone,
    /// It was not tried.
    Skipped,
}

impl PublishError {
    /// The most bytes of a reason; the rest is cut off.
    pub const LONGEST_REASON: usize = 1024;

    fn new(kind: PublishErrorKind, reason: impl fmt::Display) -> Self {
        let mut text = String::new();
        for character in reason.to_string().chars() {
            let escaped: String = if character.is_control() {
                character.escape_default().collect()
            } else {
                character.into()
            };
            if text.len() + escaped.len() > Self::LONGEST_REASON {
                break;
            }
            text.push_str(&escaped);
        }
        Self {
            kind,
            reason: text.into(),
            retry_after: None,
        }
    }

    /// This message was refused: a verdict that counts against it.
    pub fn refused(reason: impl fmt::Display) -> Self {
        Self::new(PublishErrorKind::Refused, reason)
    }

    /// This message was refused and will be however often it is sent.
    pub fn refused_for_good(reason: impl fmt::Display) -> Self {
        Self::new(PublishErrorKind::RefusedForGood, reason)
    }

    /// The destination takes nothing now: not reached, overloaded, starting.
    pub fn down(reason: impl fmt::Display) -> Self {
        Self::new(PublishErrorKind::Down, reason)
    }

    /// It may have been delivered: the confirm was lost, or did not come in time.
    pub fn unknown(reason: impl fmt::Display) -> Self {
        Self::new(PublishErrorKind::Unknown, reason)
    }

    /// The destination wants nothing any more: HTTP's 410.
    pub fn gone(reason: impl fmt::Display) -> Self {
        Self::new(PublishErrorKind::Gone, reason)
    }

    /// It was not tried, because one before it was not delivered.
    #[must_use]
    pub fn skipped() -> Self {
        Self::new(PublishErrorKind::Skipped, "not tried")
    }

    /// The same, with the destination's word on when to come back. The relay waits at least so
    /// long, and at most its policy's longest wait.
    #[must_use]
    pub const fn with_retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// What it is about.
    #[must_use]
    pub const fn kind(&self) -> PublishErrorKind {
        self.kind
    }

    /// Why, for operators.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// The destination's word on when to come back.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// Whether it says something about all messages: down or gone.
    #[must_use]
    pub const fn is_about_all(&self) -> bool {
        matches!(self.kind, PublishErrorKind::Down | PublishErrorKind::Gone)
    }
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            PublishErrorKind::Refused => "the message was refused",
            PublishErrorKind::RefusedForGood => "the message was refused for good",
            PublishErrorKind::Down => "the destination is down",
            PublishErrorKind::Unknown => "whether the message was delivered is unknown",
            PublishErrorKind::Gone => "the destination wants no messages any more",
            PublishErrorKind::Skipped => return f.write_str("the message was not tried"),
        };
        write!(f, "{what}: {}", self.reason)
    }
}

impl Error for PublishError {}

impl Fault for PublishError {
    fn code(&self) -> &'static str {
        match self.kind {
            PublishErrorKind::Refused | PublishErrorKind::RefusedForGood => "MESSAGE_REFUSED",
            _ => "UNAVAILABLE",
        }
    }

    fn status(&self) -> u16 {
        match self.kind {
            PublishErrorKind::Refused | PublishErrorKind::RefusedForGood => 502,
            _ => 503,
        }
    }

    fn public_message(&self) -> Cow<'_, str> {
        "A message could not be delivered.".into()
    }

    fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_bounded_and_has_no_control_characters() {
        let error = PublishError::refused("a\r\nb\0");
        assert_eq!(error.reason(), "a\\r\\nb\\u{0}");
        let error = PublishError::down("ä".repeat(2000));
        assert_eq!(error.reason().len(), PublishError::LONGEST_REASON);
        assert!(error.is_about_all());
    }
}
