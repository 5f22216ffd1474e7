//! Keys in memory of a fixed size: decided as elsewhere, and what the size costs is as it is said.

use std::{
    sync::{
        Arc, Barrier,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use buttress_core::Clock;
use buttress_rate_limiter::{Bandwidth, Carry, KeyedRateLimiter, Quota};
use buttress_testkit::short_or_long;
use proptest::prelude::*;

fn fixed(keys: usize, bandwidth: Bandwidth, clock: Clock) -> KeyedRateLimiter<u64> {
    KeyedRateLimiter::builder("fixed", Quota::new(bandwidth).unwrap())
        .max_keys(keys)
        .fixed_memory()
        .clock(clock)
        .build()
        .unwrap()
}

#[derive(Clone, Copy, Debug)]
enum Call {
    Check(u64),
    Force(u64),
    GiveBack(u64),
    Peek(u64),
    Reset,
    Sweep,
}

fn calls() -> impl Strategy<Value = Vec<(u64, Call, u64)>> {
    let call = prop_oneof![
        6 => (1_u64..12).prop_map(Call::Check),
        1 => (1_u64..30).prop_map(Call::Force),
        1 => (1_u64..12).prop_map(Call::GiveBack),
        2 => (0_u64..12).prop_map(Call::Peek),
        1 => Just(Call::Reset),
        1 => Just(Call::Sweep),
    ];
    prop::collection::vec((0_u64..20, call, 0_u64..200_000_000), 1..200)
}

proptest! {
    #[test]
    fn every_key_is_decided_as_by_a_limiter_that_keeps_the_keys(calls in calls(), window: bool) {
        let bandwidth = Bandwidth::per_second(10);
        let bandwidth = if window { bandwidth.fixed_window() } else { bandwidth };
        let (clock, hand) = Clock::manual();
        let own = fixed(1000, bandwidth, clock.clone());
        let other = KeyedRateLimiter::<u64>::builder("kept", Quota::new(bandwidth).unwrap());
        let other = other.clock(clock).build().unwrap();
        for (key, call, step) in calls {
            hand.advance(Duration::from_nanos(step));
            match call {
                Call::Check(n) => prop_assert_eq!(own.check_n(&key, n), other.check_n(&key, n)),
                Call::Force(n) => prop_assert_eq!(own.force(&key, n), other.force(&key, n)),
                Call::GiveBack(n) => {
                    own.give_back(&key, n);
                    other.give_back(&key, n);
                }
                Call::Peek(n) => prop_assert_eq!(own.peek_n(&key, n), other.peek_n(&key, n)),
                Call::Reset => {
                    own.reset(&key);
                    other.reset(&key);
                }
                Call::Sweep => {
                    own.sweep();
                    other.sweep();
                    prop_assert_eq!(own.len(), other.len());
                }
            }
        }
        prop_assert_eq!(own.forgotten(), 0);
    }
}

/// Threads that meet at few places, which change hands all the time.
#[test]
fn no_key_ever_gets_more_than_its_quota_while_places_change_hands() {
    const KEYS: u64 = 12;
    let rounds = short_or_long(300_u64, 20_000);
    let (clock, hand) = Clock::manual();
    // Four sets for twelve keys, of which six are in use at a time.
    let limiter = fixed(8, Bandwidth::per_second(5), clock);
    let given: Arc<Vec<AtomicU64>> = Arc::new((0..KEYS).map(|_| AtomicU64::new(0)).collect());
    let barrier = Arc::new(Barrier::new(3));
    let threads: Vec<_> = (0..2)
        .map(|_| {
            let (limiter, given) = (limiter.clone(), Arc::clone(&given));
            let barrier = Arc::clone(&barrier);
            std::thread::spawn(move || {
                for round in 0..rounds {
                    barrier.wait();
                    for at in 0..120 {
                        let key = (round % 2) * (KEYS / 2) + at % (KEYS / 2);
                        let allowed = u64::from(limiter.check(&key).is_allowed());
                        given[usize::try_from(key).unwrap()].fetch_add(allowed, Relaxed);
                    }
                    barrier.wait();
                }
            })
        })
        .collect();
    let mut forgotten = 0;
    for round in 0..rounds {
        barrier.wait();
        barrier.wait();
        let lost = limiter.forgotten() - forgotten;
        forgotten += lost;
        let used = (round % 2) * (KEYS / 2)..(round % 2 + 1) * (KEYS / 2);
        let mut beyond = 0;
        for key in used {
            let got = given[usize::try_from(key).unwrap()].swap(0, Relaxed);
            assert!(got >= 5, "key {key} got {got} of 5 in round {round}");
            beyond += got - 5;
        }
        assert!(beyond <= lost * 5, "{beyond} too many, {lost} forgotten");
        hand.advance(Duration::from_secs(1));
    }
    for thread in threads {
        thread.join().unwrap();
    }
}

/// RL7, in fixed memory: the flood drives out itself.
#[test]
fn rl7_a_flood_of_keys_does_not_free_an_attacker_in_fixed_memory() {
    let (clock, hand) = Clock::manual();
    let limiter = fixed(1000, Bandwidth::per_minute(10), clock);
    let attacker = u64::MAX;
    while limiter.check(&attacker).is_allowed() {}
    for key in 0..short_or_long(200_000_u64, 10_000_000) {
        assert!(limiter.check(&key).is_allowed(), "a new client is served");
        if key % 1000 == 0 {
            hand.advance(Duration::from_micros(100));
            assert!(!limiter.check(&attacker).is_allowed(), "after {key} keys");
        }
    }
    assert!(limiter.len() <= 2048, "{} keys", limiter.len());
    assert!(limiter.forgotten() > 0, "and it says so");
}

#[test]
fn as_many_busy_keys_as_it_is_for_cost_few_of_them_their_place() {
    let (clock, _hand) = Clock::manual();
    let limiter = fixed(65_536, Bandwidth::per_minute(10), clock);
    for key in 0..65_536 {
        assert!(limiter.check(&key).is_allowed());
    }
    let forgotten = limiter.forgotten();
    assert!((500..2600).contains(&forgotten), "{forgotten} of 65,536");
}

#[test]
fn a_quota_that_needs_more_than_a_word_is_refused_and_none_is_changed() {
    let several = Quota::per_second(3).unwrap();
    let several = several.and(Bandwidth::per_minute(5)).unwrap();
    let built = KeyedRateLimiter::<u64>::builder("several", several).fixed_memory();
    assert_eq!(built.build().unwrap_err().field(), "quota");
    let limiter = fixed(10, Bandwidth::per_second(1), Clock::manual().0);
    let changed = limiter.set_quota(Quota::per_second(2).unwrap(), Carry::AsItIs);
    assert_eq!(changed.unwrap_err().field(), "quota");
}
