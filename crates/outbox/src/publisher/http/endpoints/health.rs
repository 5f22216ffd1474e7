//! What is known of one endpoint of several: open, paused, disabled.

use std::{fmt, time::Duration};

use buttress_core::Moment;
use buttress_retry_backoff::{Backoff, Delays, Jitter};

/// The first pause of an endpoint that is down, doubled each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest one that is not asked for.
const LONGEST_PAUSE: Duration = Duration::from_secs(5 * 60);

/// Told what came of each sending, and the time.
pub(super) struct Health {
    pauses: Delays,
    /// Nothing is sent before.
    until: Option<Moment>,
    /// Since when nothing was taken.
    down_since: Option<Moment>,
    disabled: bool,
}

impl Health {
    pub(super) fn new() -> Self {
        // One endpoint and one sender: there is nobody to be spread from.
        let backoff = Backoff::exponential(FIRST_PAUSE).with_cap(LONGEST_PAUSE);
        Self {
            pauses: backoff.with_jitter(Jitter::None).delays(),
            until: None,
            down_since: None,
            disabled: false,
        }
    }

    pub(super) const fn is_disabled(&self) -> bool {
        self.disabled
    }

    /// How long it is still paused.
    pub(super) fn pause_left(&self, now: Moment) -> Option<Duration> {
        let left = self.until?.saturating_since(now);
        (!left.is_zero()).then_some(left)
    }

    /// It answered, with whatever: it is there.
    pub(super) fn answered(&mut self) {
        self.until = None;
        self.down_since = None;
        self.pauses.reset();
    }

    /// It is down. Whether that has lasted for so long that it was disabled just now.
    pub(super) fn is_down(
        &mut self,
        asked: Option<Duration>,
        now: Moment,
        patience: Duration,
    ) -> bool {
        // Of several sendings that were under way at once, the first has paused it.
        if self.pause_left(now).is_none() {
            let pause = self.pauses.next().unwrap_or(LONGEST_PAUSE);
            self.until = Some(now.saturating_add(pause));
        }
        if let Some(asked) = asked {
            self.until = self.until.max(Some(now.saturating_add(asked)));
        }
        let since = *self.down_since.get_or_insert(now);
        now.saturating_since(since) >= patience && self.disable()
    }

    /// Whether it was disabled just now.
    pub(super) const fn disable(&mut self) -> bool {
        !std::mem::replace(&mut self.disabled, true)
    }

    pub(super) fn enable(&mut self) {
        *self = Self::new();
    }
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Health")
            .field("until", &self.until)
            .field("down_since", &self.down_since)
            .field("disabled", &self.disabled)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::START.saturating_add(Duration::from_secs(seconds))
    }

    const DAY: Duration = Duration::from_secs(24 * 3600);

    #[test]
    fn pauses_double_up_to_five_minutes_and_begin_anew_after_an_answer() {
        let mut health = Health::new();
        let mut now = at(0);
        let mut pauses = Vec::new();
        for _ in 0..11 {
            assert!(!health.is_down(None, now, DAY));
            // A second sending that fails in the same moment pauses it no longer.
            assert!(!health.is_down(None, now, DAY));
            let pause = health.pause_left(now).unwrap();
            pauses.push(pause.as_secs());
            now = now.saturating_add(pause);
            assert_eq!(health.pause_left(now), None);
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        health.answered();
        health.is_down(None, now, DAY);
        assert_eq!(health.pause_left(now), Some(Duration::from_secs(1)));
    }

    #[test]
    fn a_word_of_the_endpoint_makes_a_pause_longer_and_never_shorter() {
        let mut health = Health::new();
        health.is_down(Some(Duration::from_secs(90)), at(0), DAY);
        assert_eq!(health.pause_left(at(0)), Some(Duration::from_secs(90)));
        health.is_down(Some(Duration::from_secs(5)), at(1), DAY);
        assert_eq!(health.pause_left(at(1)), Some(Duration::from_secs(89)));
        health.is_down(Some(Duration::MAX), at(1), DAY);
        assert!(health.pause_left(at(1)).is_some());
    }

    #[test]
    fn down_for_too_long_it_is_disabled_and_that_is_said_once() {
        let mut health = Health::new();
        assert!(!health.is_down(None, at(0), DAY));
        assert!(!health.is_down(None, at(24 * 3600 - 1), DAY));
        assert!(health.is_down(None, at(24 * 3600), DAY));
        assert!(!health.is_down(None, at(24 * 3600 + 1), DAY));
        assert!(health.is_disabled());
        health.enable();
        assert!(!health.is_disabled() && health.pause_left(at(24 * 3600)).is_none());
        // Any answer in between begins the time anew.
        assert!(!health.is_down(None, at(0), DAY));
        health.answered();
        assert!(!health.is_down(None, at(24 * 3600), DAY));
    }
}
