//! Finagle's rule: each call brings in a part of a token, a retry takes a whole one, and both are
//! forgotten after a while.

use std::time::Duration;

use buttress_core::Moment;

const SLOTS: usize = 10;
/// A token in the parts that are counted.
pub(super) const TOKEN: i64 = 1_000_000;

/// Told the time.
#[derive(Debug)]
pub(super) struct Tokens {
    slot_nanos: u64,
    /// What came in less what was taken, in the slot of time in which it was.
    slots: [i64; SLOTS],
    /// The number of the slot that is written now, counted from the clock's start.
    at: u64,
    reserve: i64,
    deposit: i64,
}

impl Tokens {
    pub(super) fn new(ttl: Duration, per_second: u32, deposit: u64) -> Self {
        let nanos = u64::try_from(ttl.as_nanos()).unwrap_or(u64::MAX);
        let millis = i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX);
        Self {
            slot_nanos: (nanos / 10).max(1),
            slots: [0; SLOTS],
            at: 0,
            reserve: millis
                .saturating_mul(i64::from(per_second))
                .saturating_mul(TOKEN / 1000),
            deposit: i64::try_from(deposit).unwrap_or(i64::MAX),
        }
    }

    /// Empties the slots whose time has come again: as many as have begun, all at most, however
    /// long nobody came.
    fn expire(&mut self, now: Moment) -> &mut i64 {
        let current = now.as_nanos() / self.slot_nanos;
        let begun = current.saturating_sub(self.at).min(10);
        self.at = self.at.max(current);
        for back in 0..begun {
            self.slots[slot(self.at - back)] = 0;
        }
        &mut self.slots[slot(self.at)]
    }

    fn balance(&self) -> i64 {
        self.slots
            .iter()
            .fold(self.reserve, |sum, slot| sum.saturating_add(*slot))
    }

    pub(super) fn deposit(&mut self, now: Moment) {
        let deposit = self.deposit;
        let slot = self.expire(now);
        *slot = slot.saturating_add(deposit);
    }

    pub(super) fn withdraw(&mut self, now: Moment) -> bool {
        self.expire(now);
        self.balance() >= TOKEN && self.take(now)
    }

    /// Takes one, also one that others have brought in.
    pub(super) fn take(&mut self, now: Moment) -> bool {
        let slot = self.expire(now);
        *slot = slot.saturating_sub(TOKEN);
        true
    }

    /// What was taken here and not brought in here.
    pub(super) fn drawn(&mut self, now: Moment) -> i64 {
        self.expire(now);
        self.reserve.saturating_sub(self.balance())
    }

    pub(super) const fn reserve(&self) -> i64 {
        self.reserve
    }

    pub(super) fn available(&mut self, now: Moment) -> u64 {
        self.expire(now);
        u64::try_from(self.balance() / TOKEN).unwrap_or(0)
    }
}

fn slot(number: u64) -> usize {
    usize::try_from(number % 10).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::from_nanos(seconds * 1_000_000_000)
    }

    fn tokens(ttl: u64, per_second: u32, millionths: u64) -> Tokens {
        Tokens::new(Duration::from_secs(ttl), per_second, millionths)
    }

    #[test]
    fn g3_1_as_many_retries_as_calls_bring_in_and_the_reserve() {
        let mut table: Vec<_> = [100, 1000, 10_000, 100_000, 250_000, 500_000]
            .into_iter()
            .chain([750_000, 990_000, 999_000, 999_900])
            .map(|part| (60, 0, part))
            .collect();
        table.extend([(1, 10, 0), (2, 5, 0), (1, 10, 100_000), (2, 5, 500_000)]);
        for (ttl, per_second, part) in table {
            let mut tokens = tokens(ttl, per_second, part);
            let reserve = ttl * u64::from(per_second);
            assert_eq!(tokens.available(at(0)), reserve);
            let mut permitted = 0;
            for _ in 0..10_000 {
                tokens.deposit(at(0));
                if tokens.withdraw(at(0)) {
                    permitted += 1;
                } else {
                    assert_eq!(tokens.available(at(0)), 0);
                }
            }
            assert_eq!(permitted, 10_000 * part / 1_000_000 + reserve, "{part}");
        }
    }

    #[test]
    fn g3_2_two_tokens_a_call() {
        let mut tokens = tokens(60, 0, 2_000_000);
        (0..10_000).for_each(|_| tokens.deposit(at(0)));
        assert_eq!(tokens.available(at(0)), 20_000);
    }

    #[test]
    fn g3_3_the_reserve_is_there_from_the_start() {
        assert_eq!(tokens(1, 10, 0).available(at(0)), 10);
    }

    #[test]
    fn g3_5_what_came_in_expires() {
        let mut tokens = tokens(3, 0, 100_000_000);
        tokens.deposit(at(0));
        assert!(tokens.withdraw(at(0)));
        assert!(!tokens.withdraw(at(3)));
    }

    /// Theirs keeps the withdrawals until after the third second, for its slots drift when read.
    #[test]
    fn g3_6_what_was_taken_from_the_reserve_comes_back_after_the_ttl() {
        let mut tokens = tokens(3, 33, 1_000_000);
        for _ in 0..99 {
            assert!(tokens.withdraw(at(0)));
        }
        assert!(!tokens.withdraw(at(0)));
        tokens.deposit(at(0));
        assert!(tokens.withdraw(at(0)));
        for second in 1..3 {
            assert!(!tokens.withdraw(at(second)), "{second}");
        }
        assert_eq!(tokens.available(at(3)), 99);
        for _ in 0..50 {
            assert!(tokens.withdraw(at(4)));
        }
        assert_eq!(tokens.available(at(7)), 99);
    }

    #[test]
    fn a_month_without_calls_is_expired_at_once() {
        let mut tokens = tokens(1, 0, 1_000_000);
        tokens.deposit(at(0));
        assert_eq!(tokens.available(at(30 * 86_400)), 0);
        tokens.deposit(Moment::from_nanos(u64::MAX));
        assert_eq!(tokens.available(Moment::from_nanos(u64::MAX)), 1);
    }
}
