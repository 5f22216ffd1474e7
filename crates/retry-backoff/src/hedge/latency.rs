//! How long the last calls took.

use std::time::Duration;

/// How many are remembered.
const SEEN: usize = 256;
/// With fewer, nothing is said.
const ENOUGH: usize = 20;

/// The latest latencies, the oldest overwritten first.
#[derive(Debug, Default)]
pub(super) struct Latencies {
    seen: Vec<Duration>,
    next: usize,
}

impl Latencies {
    pub(super) fn add(&mut self, latency: Duration) {
        if self.seen.len() < SEEN {
            self.seen.push(latency);
        } else if let Some(oldest) = self.seen.get_mut(self.next) {
            *oldest = latency;
            self.next = (self.next + 1) % SEEN;
        }
    }

    /// The latency that so many of a thousand stay under or at.
    pub(super) fn quantile(&self, per_mille: u32) -> Option<Duration> {
        if self.seen.len() < ENOUGH {
            return None;
        }
        let mut sorted = self.seen.clone();
        let rank = usize::try_from(per_mille).unwrap_or(usize::MAX);
        let at = sorted.len().saturating_mul(rank).div_ceil(1000);
        let at = at.saturating_sub(1).min(sorted.len() - 1);
        Some(*sorted.select_nth_unstable(at).1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_of_the_latest_and_of_enough() {
        let mut latencies = Latencies::default();
        for millis in 1..ENOUGH {
            latencies.add(Duration::from_millis(millis as u64));
        }
        assert_eq!(latencies.quantile(500), None);
        for millis in 1..=1000 {
            latencies.add(Duration::from_millis(millis));
        }
        // 745 to 1000 are left.
        for (per_mille, millis) in [(1, 745), (500, 872), (950, 988), (999, 1000)] {
            let expected = Some(Duration::from_millis(millis));
            assert_eq!(latencies.quantile(per_mille), expected, "{per_mille}");
        }
    }
}
