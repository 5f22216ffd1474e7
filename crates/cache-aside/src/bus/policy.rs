//! The knobs of a line.

use std::time::Duration;

/// How a [`Line`](super::Line) keeps itself informed.
///
/// | field | default | allowed |
/// | --- | --- | --- |
/// | `beat` | 250 ms | 10 ms to 1 min |
/// | `silence` | 2 s | two beats to 10 min |
/// | `deadline` | 500 ms | 1 ms to 1 h |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_structs,
    reason = "it is checked where a line starts"
)]
pub struct LinePolicy {
    /// How often an instance says something. What was heard is known to that, and to a round trip.
    pub beat: Duration,
    /// After how long without its own beat coming back a connection is taken for lost, and made anew.
    pub silence: Duration,
    /// How long one message may take.
    pub deadline: Duration,
}

impl Default for LinePolicy {
    fn default() -> Self {
        Self {
            beat: Duration::from_millis(250),
            silence: Duration::from_secs(2),
            deadline: Duration::from_millis(500),
        }
    }
}

impl LinePolicy {
    pub(crate) fn checked(self) -> Result<Self, LinePolicyError> {
        let minute = Duration::from_secs(60);
        if !(Duration::from_millis(10)..=minute).contains(&self.beat) {
            return Err(LinePolicyError::Beat(self.beat));
        }
        if !(self.beat * 2..=minute * 10).contains(&self.silence) {
            return Err(LinePolicyError::Silence(self.silence));
        }
        if !(Duration::from_millis(1)..=minute * 60).contains(&self.deadline) {
            return Err(LinePolicyError::Deadline(self.deadline));
        }
        Ok(self)
    }
}

/// A policy that cannot work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LinePolicyError {
    /// `beat`.
    #[error("beat: {0:?} is not between 10 ms and 1 min")]
    Beat(Duration),
    /// `silence`.
    #[error("silence: {0:?} is not between two beats and 10 min")]
    Silence(Duration),
    /// `deadline`.
    #[error("deadline: {0:?} is not between 1 ms and 1 h")]
    Deadline(Duration),
}
