//! The sliding window counter: the last window's count, weighted by how much of it is still in sight.

/// The numbers of one counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counter {
    pub(crate) window: u64,
    pub(crate) permits: u64,
}

impl Counter {
    /// How much more than what is allowed the estimate would be with `more`, in ticks times permits;
    /// zero when it fits. The estimate is `before * (window - elapsed) / window + level`.
    pub(crate) fn fits(&self, level: u64, before: u64, elapsed: u64, more: u64) -> bool {
        let window = u128::from(self.window);
        let faded = u128::from(before) * u128::from(self.window - elapsed);
        let with = u128::from(level) + u128::from(more);
        faded + with * window <= u128::from(self.permits) * window
    }

    /// How many more fit.
    pub(crate) fn free(&self, level: u64, before: u64, elapsed: u64) -> u64 {
        let faded = u128::from(before) * u128::from(self.window - elapsed);
        let all = u128::from(self.permits) * u128::from(self.window);
        let free = all.saturating_sub(faded) / u128::from(self.window);
        u64::try_from(free)
            .unwrap_or(u64::MAX)
            .saturating_sub(level)
    }

    /// After how many ticks `more` fit, if nobody else comes; `more` is at most `permits`.
    pub(crate) fn wait(&self, level: u64, before: u64, elapsed: u64, more: u64) -> u64 {
        if self.fits(level, before, elapsed, more) {
            return 0;
        }
        let until_next = self.window - elapsed;
        let with = level.saturating_add(more);
        if with <= self.permits {
            return self.faded(before, self.permits - with) - elapsed;
        }
        let then = self.faded(level, self.permits.saturating_sub(more));
        until_next.saturating_add(then)
    }

    /// The elapsed time from which on `count` of the window before weighs no more than `room`.
    fn faded(&self, count: u64, room: u64) -> u64 {
        if count <= room {
            return 0;
        }
        let kept = u128::from(room) * u128::from(self.window) / u128::from(count);
        self.window - u64::try_from(kept).unwrap_or(u64::MAX).min(self.window)
    }

    /// After how many ticks nothing is left of what was counted.
    pub(crate) const fn reset(&self, level: u64, before: u64, elapsed: u64) -> u64 {
        let until_next = self.window - elapsed;
        match (level, before) {
            (0, 0) => 0,
            (0, _) => until_next,
            _ => until_next.saturating_add(self.window),
        }
    }
}
