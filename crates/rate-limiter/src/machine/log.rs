//! The sliding window log: the time of every permit, so it is exact.

use std::collections::VecDeque;

/// The permits of the last window. As many entries as there are permits, at most.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Log {
    entries: VecDeque<(u64, u64)>,
    total: u64,
}

impl Log {
    /// Forgets what is a window old, and tells the time: that of the last entry, if the clock is behind.
    pub(crate) fn at(&mut self, now: u64, window: u64) -> u64 {
        let now = self.entries.back().map_or(now, |(last, _)| now.max(*last));
        while let Some((at, permits)) = self.entries.front()
            && at.saturating_add(window) <= now
        {
            self.total -= permits;
            self.entries.pop_front();
        }
        now
    }

    pub(crate) const fn total(&self) -> u64 {
        self.total
    }

    /// Takes permits at `now`, which [`Log::at`] told.
    pub(crate) fn take(&mut self, now: u64, permits: u64) {
        if permits == 0 {
            return;
        }
        let permits = permits.min(u64::MAX - self.total);
        self.total += permits;
        match self.entries.back_mut() {
            Some((at, count)) if *at == now => *count += permits,
            _ => self.entries.push_back((now, permits)),
        }
    }

    /// Gives the newest back.
    pub(crate) fn give_back(&mut self, mut permits: u64) {
        while permits > 0
            && let Some((_, count)) = self.entries.back_mut()
        {
            let back = permits.min(*count);
            *count -= back;
            permits -= back;
            self.total -= back;
            if *count == 0 {
                self.entries.pop_back();
            }
        }
    }

    /// When enough of the oldest are a window old for `excess` permits; `now` if that is none.
    pub(crate) fn frees(&self, mut excess: u64, now: u64, window: u64) -> u64 {
        let mut at = now;
        for (taken, permits) in &self.entries {
            if excess == 0 {
                break;
            }
            excess = excess.saturating_sub(*permits);
            at = taken.saturating_add(window);
        }
        at
    }

    /// When all of them are a window old.
    pub(crate) fn ends(&self, window: u64) -> u64 {
        let last = self.entries.back();
        last.map_or(0, |(last, _)| last.saturating_add(window))
    }
}
