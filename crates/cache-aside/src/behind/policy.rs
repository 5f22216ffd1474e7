//! The knobs of writing behind.

use std::time::Duration;

use super::queue::Rule;
use crate::PolicyError;

/// How writes wait for the source, and what is done when it does not take them.
///
/// | field | default | allowed |
/// | --- | --- | --- |
/// | `delay` | 1 s | up to 1 h |
/// | `batch` | 100 keys | 1 to 10,000 |
/// | `most` | 10,000 keys | a batch to 1,000,000 |
/// | `when_full` | wait | |
/// | `timeout` | 30 s | 1 ms to 1 h |
/// | `first_pause` | 100 ms | 1 ms to 1 min |
/// | `longest_pause` | 30 s | the first to 1 h |
/// | `give_up_after` | never | 1 to 1000 attempts |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_structs,
    reason = "it is checked where writing behind begins"
)]
pub struct WriteBehindPolicy {
    /// How long a write waits for others, and for its own key's next, which takes its place. What a crash loses is at
    /// most what came in so long, and in what a write takes, as long as the source takes it.
    pub delay: Duration,
    /// How many keys are written at once. As soon as so many wait, they are.
    pub batch: usize,
    /// How many keys may wait.
    pub most: usize,
    /// What becomes of one more.
    pub when_full: WhenFull,
    /// After how long a write is dropped, and tried again. What was sent may still take effect, after a newer one: a source
    /// that does not roll back what is dropped compares [`Write::version`](super::Write::version).
    pub timeout: Duration,
    /// The pause after a write that failed; it doubles.
    pub first_pause: Duration,
    /// The longest.
    pub longest_pause: Duration,
    /// How many times a write is tried alone, if it is given up at all. Only a write that failed alone counts, for of others
    /// it is not known that it was theirs; and each does when the source is away.
    pub give_up_after: Option<u32>,
}

/// What becomes of a write for which there is no room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WhenFull {
    /// Its caller waits until there is, in his turn.
    #[default]
    Wait,
    /// It is refused: [`WriteBehindError::Full`](super::WriteBehindError::Full).
    Refuse,
}

impl Default for WriteBehindPolicy {
    fn default() -> Self {
        Self {
            delay: Duration::from_secs(1),
            batch: 100,
            most: 10_000,
            when_full: WhenFull::Wait,
            timeout: Duration::from_secs(30),
            first_pause: Duration::from_millis(100),
            longest_pause: Duration::from_secs(30),
            give_up_after: None,
        }
    }
}

impl WriteBehindPolicy {
    pub(super) fn checked(self) -> Result<Self, PolicyError> {
        let (millisecond, hour) = (Duration::from_millis(1), Duration::from_secs(3600));
        let minute = Duration::from_secs(60);
        for (good, field, range) in [
            (self.delay <= hour, "delay", "up to 1 h"),
            (
                (1..=10_000).contains(&self.batch),
                "batch",
                "1 to 10,000 keys",
            ),
            (
                (self.batch..=1_000_000).contains(&self.most),
                "most",
                "a batch to 1,000,000 keys",
            ),
            (
                (millisecond..=hour).contains(&self.timeout),
                "timeout",
                "1 ms to 1 h",
            ),
            (
                (millisecond..=minute).contains(&self.first_pause),
                "first_pause",
                "1 ms to 1 min",
            ),
            (
                (self.first_pause..=hour).contains(&self.longest_pause),
                "longest_pause",
                "the first pause to 1 h",
            ),
            (
                self.give_up_after.is_none_or(|it| (1..=1000).contains(&it)),
                "give_up_after",
                "1 to 1000 attempts, or none",
            ),
        ] {
            if !good {
                return Err(PolicyError::new(field, range));
            }
        }
        Ok(self)
    }

    pub(super) const fn rule(&self) -> Rule {
        Rule {
            batch: self.batch,
            delay: self.delay,
            first_pause: self.first_pause,
            longest_pause: self.longest_pause,
            give_up_after: self.give_up_after,
        }
    }
}
