//! When a webhook that was not taken is sent again.

use std::time::Duration;

use buttress_retry_backoff::Backoff;

/// How often a message is sent by the specification's schedule, the first time included.
pub const ATTEMPTS: u32 = 10;

/// The waits between the attempts, in seconds. The first attempt is made at once.
const WAITS: [u64; 9] = [
    5,
    5 * 60,
    30 * 60,
    2 * 60 * 60,
    5 * 60 * 60,
    10 * 60 * 60,
    14 * 60 * 60,
    20 * 60 * 60,
    24 * 60 * 60,
];

/// The schedule that the specification shows: at once, then after 5 s, 5 min, 30 min, 2 h, 5 h,
/// 10 h, 14 h, 20 h and 24 h, which are three days and some hours together; then every 24 h, for
/// whoever asks for more attempts than [`ATTEMPTS`].
///
/// It has no jitter of its own. Where many messages fail together, spread them:
/// `retry_schedule().with_jitter(Jitter::Proportional(0.1))`.
#[must_use]
pub fn retry_schedule() -> Backoff {
    Backoff::custom(|retry| {
        let wait = WAITS.get(retry as usize).or(WAITS.last());
        Duration::from_secs(wait.copied().unwrap_or_default())
    })
}
