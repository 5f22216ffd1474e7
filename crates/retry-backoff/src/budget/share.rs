//! Envoy's rule: retries under way are at most a share of the calls under way.

#[derive(Debug)]
pub(super) struct Share {
    percent: u32,
    at_least: u32,
    calls: u32,
    retries: u32,
}

impl Share {
    pub(super) const fn new(percent: u32, at_least: u32) -> Self {
        Self {
            percent,
            at_least,
            calls: 0,
            retries: 0,
        }
    }

    fn most(&self) -> u64 {
        let share = u64::from(self.percent) * u64::from(self.calls) / 100;
        share.max(u64::from(self.at_least))
    }

    pub(super) const fn calls(&self) -> u32 {
        self.calls
    }

    pub(super) const fn retries(&self) -> u32 {
        self.retries
    }

    /// So many may be under way with so many calls, of `parts` that share what is always allowed.
    pub(super) fn most_with(&self, calls: i64, parts: i64) -> i64 {
        let share = i64::from(self.percent).saturating_mul(calls.max(0)) / 100;
        let at_least = i64::from(self.at_least);
        share.max((at_least + parts - 1) / parts.max(1))
    }

    /// One more, as others' calls allow it.
    pub(super) const fn take(&mut self) -> bool {
        self.retries = self.retries.saturating_add(1);
        true
    }

    pub(super) const fn enter(&mut self) {
        self.calls = self.calls.saturating_add(1);
    }

    pub(super) const fn leave(&mut self) {
        self.calls = self.calls.saturating_sub(1);
    }

    pub(super) fn withdraw(&mut self) -> bool {
        let allowed = u64::from(self.retries) < self.most();
        if allowed {
            self.retries += 1;
        }
        allowed
    }

    pub(super) const fn give_back(&mut self, retries: u32) {
        self.retries = self.retries.saturating_sub(retries);
    }

    pub(super) fn available(&self) -> u64 {
        self.most().saturating_sub(u64::from(self.retries))
    }

    #[cfg(test)]
    pub(super) const fn is_idle(&self) -> bool {
        self.calls == 0 && self.retries == 0
    }
}
