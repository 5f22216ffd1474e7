//! The AWS SDKs' rule: a retry borrows capacity and brings it back when it succeeds.

use super::Strain;

#[derive(Debug)]
pub(super) struct Quota {
    capacity: u32,
    left: u32,
    error: u32,
    timeout: u32,
    throttled: u32,
}

impl Quota {
    pub(super) const fn new(capacity: u32, error: u32, timeout: u32, throttled: u32) -> Self {
        Self {
            capacity,
            left: capacity,
            error,
            timeout,
            throttled,
        }
    }

    pub(super) const fn cost(&self, strain: Strain) -> u32 {
        match strain {
            Strain::Error => self.error,
            Strain::Timeout => self.timeout,
            Strain::Throttled => self.throttled,
        }
    }

    pub(super) fn cheapest(&self) -> u32 {
        self.error.min(self.timeout).min(self.throttled).max(1)
    }

    pub(super) const fn capacity(&self) -> u32 {
        self.capacity
    }

    pub(super) const fn drawn(&self) -> u32 {
        self.capacity.saturating_sub(self.left)
    }

    /// What was taken; `None` when there was not enough, and then nothing was.
    pub(super) const fn withdraw(&mut self, strain: Strain) -> Option<u32> {
        let cost = self.cost(strain);
        match self.left.checked_sub(cost) {
            Some(left) => {
                self.left = left;
                Some(cost)
            }
            None => None,
        }
    }

    pub(super) fn bring_back(&mut self, amount: u32) {
        self.left = self.left.saturating_add(amount).min(self.capacity);
    }

    pub(super) fn available(&self) -> u64 {
        u64::from(self.left / self.cheapest())
    }

    #[cfg(test)]
    pub(super) const fn left(&self) -> u32 {
        self.left
    }
}
