//! So many at the same moment as there are permits: each gets his own, whoever read the clock first.

use std::{
    hint,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use buttress_core::Clock;
use buttress_rate_limiter::{Bandwidth, KeyedRateLimiter, ProgressiveDelay, Quota, RateLimiter};
use buttress_testkit::{short_or_long, tally};

/// How many ask at the same moment: one each, and that is the burst. Two meet more closely than many
/// do on a small machine.
const CALLERS: u64 = 2;

/// Lets all callers ask in the same moment, round after round, and says in how many of them somebody
/// was refused. In each round `ask` is given the round's number, and is a key never seen or a limiter
/// whose burst is whole again.
fn refusals(rounds: u64, ask: impl Fn(u64) -> bool + Send + Sync + 'static) -> u64 {
    let (ask, came) = (Arc::new(ask), Arc::new(AtomicU64::new(0)));
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let (ask, came) = (Arc::clone(&ask), Arc::clone(&came));
            thread::spawn(move || {
                let mut refused = 0;
                for round in 0..rounds {
                    came.fetch_add(1, SeqCst);
                    let mut spins = 0_u32;
                    while came.load(SeqCst) < (round + 1) * CALLERS {
                        spins += 1;
                        // Where there is one processor less than callers, they could wait for long.
                        if spins.is_multiple_of(500) {
                            thread::yield_now();
                        }
                        hint::spin_loop();
                    }
                    refused += u64::from(!ask(round));
                }
                refused
            })
        })
        .collect();
    callers.into_iter().map(|it| it.join().unwrap()).sum()
}

/// A limiter for each round.
struct Direct(Vec<RateLimiter>);

impl Direct {
    fn new(rounds: u64, quota: &Quota, clock: &Clock) -> Self {
        let limiters = (0..rounds)
            .map(|_| RateLimiter::builder("burst", quota.clone()).clock(clock.clone()))
            .map(|limiter| limiter.build().unwrap());
        Self(limiters.collect())
    }

    fn of(&self, round: u64) -> &RateLimiter {
        &self.0[usize::try_from(round).unwrap()]
    }
}

fn rounds() -> u64 {
    short_or_long(1_000, 100_000)
}

/// All clocks by which a time can be read.
fn clocks() -> [(&'static str, Clock); 4] {
    [
        ("tokio", Clock::tokio()),
        ("quanta", Clock::quanta()),
        ("coarse", Clock::coarse()),
        ("ticked", Clock::ticked(Duration::from_micros(100)).unwrap()),
    ]
}

/// Quotas of which so many permits are there whenever the first of them is asked for.
fn quotas() -> Vec<(&'static str, Quota)> {
    let slow = Bandwidth::per_day(CALLERS);
    // Windows so short that many a round lies on the edge of two.
    let short = |permits| Bandwidth::per(permits, Duration::from_micros(5));
    let several = Quota::new(slow).unwrap().and(Bandwidth::per_hour(CALLERS));
    let mixed = Quota::new(slow)
        .unwrap()
        .and(Bandwidth::per_hour(CALLERS).sliding_window());
    [
        ("token bucket", Quota::new(slow)),
        ("by interval", Quota::new(short(CALLERS).by_interval())),
        ("fixed window", Quota::new(short(CALLERS).fixed_window())),
        ("sliding window", Quota::new(slow.sliding_window())),
        ("sliding log", Quota::new(slow.sliding_log())),
        (
            "sliding log, short",
            Quota::new(short(CALLERS).sliding_log()),
        ),
        ("several bandwidths", several),
        ("a bucket and a window", mixed),
    ]
    .map(|(name, quota)| (name, quota.unwrap()))
    .into()
}

#[test]
fn a_burst_that_is_asked_for_at_one_moment_is_given_whole_by_a_direct_limiter() {
    let tally = tally::suite("RL1");
    for (clock_name, clock) in clocks() {
        for (name, quota) in quotas() {
            let rounds = rounds() / 2;
            let limiters = Direct::new(rounds, &quota, &clock);
            let ask = move |round| limiters.of(round).check().is_allowed();
            tally.operations(rounds * CALLERS);
            assert_eq!(refusals(rounds, ask), 0, "{name}, by {clock_name}");
        }
    }
}

#[test]
fn a_burst_that_is_asked_for_at_one_moment_is_given_whole_to_one_who_reserves_it() {
    let tally = tally::suite("RL1");
    for (clock_name, clock) in clocks() {
        let rounds = rounds() / 2;
        let quota = Quota::new(Bandwidth::per_day(CALLERS)).unwrap();
        let limiters = Direct::new(rounds, &quota, &clock);
        let ask = move |round| {
            let reserved = limiters.of(round).reserve(1, Duration::ZERO);
            reserved
                .map(buttress_rate_limiter::Reservation::keep)
                .is_ok()
        };
        tally.operations(rounds * CALLERS);
        assert_eq!(refusals(rounds, ask), 0, "by {clock_name}");
    }
}

#[test]
fn a_burst_that_is_asked_for_at_one_moment_is_given_whole_to_a_key() {
    let tally = tally::suite("RL1");
    for (clock_name, clock) in clocks() {
        for (name, quota) in quotas() {
            let limiter = KeyedRateLimiter::<u64>::builder("burst", quota)
                .clock(clock.clone())
                .build()
                .unwrap();
            let ask = move |round: u64| limiter.check(&round).is_allowed();
            tally.operations(rounds() * CALLERS);
            assert_eq!(refusals(rounds(), ask), 0, "{name}, by {clock_name}");
        }
    }
}

#[test]
fn a_burst_that_is_asked_for_at_one_moment_is_given_whole_in_fixed_memory() {
    let tally = tally::suite("RL1");
    for (clock_name, clock) in clocks() {
        for (name, quota) in quotas().into_iter().take(3) {
            let limiter = KeyedRateLimiter::<u64>::builder("burst", quota)
                .clock(clock.clone())
                .max_keys(1 << 17)
                .fixed_memory()
                .build()
                .unwrap();
            let ask = move |round: u64| limiter.check(&round).is_allowed();
            tally.operations(rounds() * CALLERS);
            assert_eq!(refusals(rounds(), ask), 0, "{name}, by {clock_name}");
        }
    }
}

#[test]
fn attempts_that_are_free_are_begun_at_one_moment() {
    let tally = tally::suite("RL1");
    for (clock_name, clock) in clocks() {
        let delay = ProgressiveDelay::<u64>::builder("logins")
            .free(u32::try_from(CALLERS).unwrap() - 1)
            .clock(clock)
            .build()
            .unwrap();
        let ask = move |round: u64| delay.attempt(&round).is_ok();
        tally.operations(rounds() * CALLERS);
        assert_eq!(refusals(rounds(), ask), 0, "by {clock_name}");
    }
}
