//! Choosing a policy, field by field.

use std::time::Duration;

use super::{CachePolicy, EarlyRefresh};
use crate::PolicyError;

const MILLISECOND: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3600);
/// The longest life that can be chosen, by a policy or by a loader.
pub(crate) const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

/// Builds a [`CachePolicy`]. The fields, their defaults and their ranges are in its table.
#[derive(Clone, Debug)]
#[must_use]
pub struct CachePolicyBuilder {
    policy: CachePolicy,
}

impl Default for CachePolicyBuilder {
    fn default() -> Self {
        Self {
            policy: CachePolicy {
                ttl: Duration::from_secs(60),
                jitter_percent: 10,
                stale_while_revalidate: Duration::ZERO,
                stale_if_error: Duration::ZERO,
                throttle: Duration::from_secs(5),
                early_refresh: None,
                negative_ttl: Duration::ZERO,
                soft_timeout: None,
                hard_timeout: Some(Duration::from_secs(30)),
                capacity: 10_000,
                expected_entries: None,
                max_entry_weight: None,
                max_key_bytes: 255,
            },
        }
    }
}

impl CachePolicyBuilder {
    /// An entry is fresh for at most so long after its load ended.
    pub const fn ttl(mut self, ttl: Duration) -> Self {
        self.policy.ttl = ttl;
        self
    }

    /// Each time to live is shortened by a random part of so many percent, so that entries that came
    /// together are not loaded together.
    pub const fn jitter_percent(mut self, percent: u32) -> Self {
        self.policy.jitter_percent = percent;
        self
    }

    /// For so long after its time to live an entry is served at once, and loaded anew in a task of its
    /// own (RFC 5861, section 3).
    pub const fn stale_while_revalidate(mut self, after: Duration) -> Self {
        self.policy.stale_while_revalidate = after;
        self
    }

    /// For so long after its time to live an entry is served when its load fails (RFC 5861, section 4).
    pub const fn stale_if_error(mut self, after: Duration) -> Self {
        self.policy.stale_if_error = after;
        self
    }

    /// After a load that failed none is begun for so long, while a stale value is there to be served.
    pub const fn throttle(mut self, throttle: Duration) -> Self {
        self.policy.throttle = throttle;
        self
    }

    /// A fresh entry that is read is loaded anew, in a task of its own, before it is stale.
    pub const fn early_refresh(mut self, when: EarlyRefresh) -> Self {
        self.policy.early_refresh = Some(when);
        self
    }

    /// It is kept for so long that there is nothing under a key. Such entries take their place in the
    /// capacity like others.
    pub const fn negative_ttl(mut self, ttl: Duration) -> Self {
        self.policy.negative_ttl = ttl;
        self
    }

    /// A caller that waits for a load for so long is served the stale value, if there is one; the load goes on
    /// in a task of its own.
    pub const fn soft_timeout(mut self, timeout: Duration) -> Self {
        self.policy.soft_timeout = Some(timeout);
        self
    }

    /// A load that takes so long is ended: its future is dropped, and its callers get the stale value or an error.
    pub const fn hard_timeout(mut self, timeout: Duration) -> Self {
        self.policy.hard_timeout = Some(timeout);
        self
    }

    /// A load may take as long as it likes. Then a source that hangs hangs its callers.
    pub const fn no_hard_timeout(mut self) -> Self {
        self.policy.hard_timeout = None;
        self
    }

    /// So many entries are kept in the process; with a weigher, so much weight.
    pub const fn capacity(mut self, capacity: u64) -> Self {
        self.policy.capacity = capacity;
        self
    }

    /// About how many entries there will be, where a weigher weighs them: what was evicted lately is
    /// remembered in proportion. A guess within a factor of ten is good enough.
    pub const fn expected_entries(mut self, entries: u64) -> Self {
        self.policy.expected_entries = Some(entries);
        self
    }

    /// An entry that is heavier is given to its callers and not kept.
    pub const fn max_entry_weight(mut self, weight: u32) -> Self {
        self.policy.max_entry_weight = Some(weight);
        self
    }

    /// Under a longer key nothing is kept: each call loads for itself.
    pub const fn max_key_bytes(mut self, bytes: usize) -> Self {
        self.policy.max_key_bytes = bytes;
        self
    }

    /// The policy.
    ///
    /// # Errors
    ///
    /// What cannot work: the field, and its range.
    pub fn build(self) -> Result<CachePolicy, PolicyError> {
        let policy = &self.policy;
        let life = "up to 366 days";
        let timeout = "1 ms to 1 hour";
        let refuse = |good: bool, field, range| {
            if good {
                Ok(())
            } else {
                Err(PolicyError::new(field, range))
            }
        };
        let is_ttl = (MILLISECOND..=LONGEST).contains(&policy.ttl);
        refuse(is_ttl, "ttl", "1 ms to 366 days")?;
        refuse(policy.jitter_percent <= 50, "jitter_percent", "0 to 50")?;
        for (field, chosen) in [
            ("stale_while_revalidate", policy.stale_while_revalidate),
            ("stale_if_error", policy.stale_if_error),
            ("negative_ttl", policy.negative_ttl),
        ] {
            refuse(chosen <= LONGEST, field, life)?;
        }
        refuse(policy.throttle <= HOUR, "throttle", "up to 1 hour")?;
        policy.early_refresh.map_or(Ok(()), EarlyRefresh::check)?;
        for (field, chosen) in [
            ("soft_timeout", policy.soft_timeout),
            ("hard_timeout", policy.hard_timeout),
        ] {
            let good = chosen.is_none_or(|chosen| (MILLISECOND..=HOUR).contains(&chosen));
            refuse(good, field, timeout)?;
        }
        if let Some(soft) = policy.soft_timeout {
            let below = policy.hard_timeout.is_none_or(|hard| soft < hard);
            refuse(below, "soft_timeout", "below hard_timeout")?;
            let serves = policy.stale_if_error > Duration::ZERO;
            let what = "used with stale_if_error: without it there is no stale value to serve";
            refuse(serves, "soft_timeout", what)?;
        }
        let range = 1..=1 << 40;
        refuse(range.contains(&policy.capacity), "capacity", "1 to 2^40")?;
        let expected = policy.expected_entries;
        let good = expected.is_none_or(|entries| (1..=1 << 32).contains(&entries));
        refuse(good, "expected_entries", "1 to 2^32")?;
        let good = policy.max_entry_weight != Some(0);
        refuse(good, "max_entry_weight", "at least 1")?;
        let good = (1..=65_535).contains(&policy.max_key_bytes);
        refuse(good, "max_key_bytes", "1 to 65,535")?;
        Ok(self.policy)
    }

    /// The defaults, which are known to be good.
    pub(super) fn into_policy(self) -> CachePolicy {
        self.policy
    }
}
