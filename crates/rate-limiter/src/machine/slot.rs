//! State in three numbers, as stores keep it: for a bucket when it was last looked at and what was owed
//! then, for a counter its window and the counts of it and of the one before.

use super::bucket::Bucket;

/// The state of one bandwidth of one key. All zero is that of a key never seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Slot {
    /// The tick, or the window, that the other two are of.
    pub(crate) seen: u64,
    /// What was owed then, in units; or the permits of this window.
    pub(crate) level: u64,
    /// The permits of the window before.
    pub(crate) before: u64,
}

impl Slot {
    /// The state at `now`.
    ///
    /// A clock that goes back pays nothing and takes nothing. One that goes back by more than `step`
    /// is another clock (a failover to a host whose clock is behind): it is believed from there on, and
    /// what is owed stays owed.
    pub(crate) const fn owed(self, bucket: &Bucket, now: u64, step: u64) -> Self {
        if now >= self.seen {
            let paid = bucket.paid_between(self.seen, now);
            return Self {
                seen: now,
                level: self.level.saturating_sub(paid),
                before: 0,
            };
        }
        if self.seen - now > step {
            return Self { seen: now, ..self };
        }
        self
    }

    /// The state in window `now`, of a sliding window counter.
    pub(crate) const fn rolled(self, window: u64, step: u64) -> Self {
        if window < self.seen {
            if self.seen - window > step {
                return Self {
                    seen: window,
                    ..self
                };
            }
            return self;
        }
        match window - self.seen {
            0 => self,
            1 => Self {
                seen: window,
                level: 0,
                before: self.level,
            },
            _ => Self {
                seen: window,
                level: 0,
                before: 0,
            },
        }
    }
}
