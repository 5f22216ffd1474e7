//! Many keys: apart, bounded, swept, and not to be flushed out.

use std::{sync::Arc, time::Duration};

use buttress_core::{Clock, Registry};
use buttress_rate_limiter::{Bandwidth, Carry, KeyedRateLimiter, Quota};
use buttress_testkit::short_or_long;

#[test]
fn keys_of_any_type_and_size_are_looked_up_as_they_are_borrowed() {
    let texts = KeyedRateLimiter::<String>::new("texts", Quota::per_minute(1).unwrap()).unwrap();
    let huge = "k".repeat(1 << 20);
    for key in ["", "a", "A", "\u{1F600}", "a\0b", &huge] {
        assert!(texts.check(key).is_allowed(), "{} bytes", key.len());
        assert!(!texts.check(key).is_allowed(), "{} bytes", key.len());
    }
    let bytes = KeyedRateLimiter::<Vec<u8>>::new("bytes", Quota::per_minute(1).unwrap()).unwrap();
    assert!(bytes.check(&b"\xff\x00"[..]).is_allowed());
    let pairs = KeyedRateLimiter::<(u32, u32)>::new("pairs", Quota::per_minute(1).unwrap());
    assert!(pairs.unwrap().check(&(1, 2)).is_allowed());
}

#[test]
fn a_key_that_is_never_admitted_is_not_kept() {
    let limiter = KeyedRateLimiter::<u64>::new("keys", Quota::per_minute(5).unwrap()).unwrap();
    assert!(limiter.check_n(&1, 6).can_never());
    assert!(limiter.peek_n(&2, 1).is_allowed());
    limiter.give_back(&3, 1);
    assert!(limiter.is_empty());
}

#[test]
fn idle_keys_go_when_room_is_wanted_and_busy_ones_stay() {
    let (clock, hand) = Clock::manual();
    let limiter = KeyedRateLimiter::<u64>::builder("keys", Quota::per_second(10).unwrap())
        .clock(clock)
        .build()
        .unwrap();
    let _debt = limiter.force(&u64::MAX, 1_000_000_000);
    for round in 0..20_u64 {
        for key in 0..10_000 {
            assert!(limiter.check(&(round * 10_000 + key)).is_allowed());
        }
        hand.advance(Duration::from_secs(1));
    }
    assert!(
        limiter.len() < 60_000,
        "{} of 200,000 are held",
        limiter.len()
    );
    assert!(
        !limiter.check(&u64::MAX).is_allowed(),
        "the busy one is known"
    );
    limiter.sweep();
    assert_eq!(limiter.len(), 1);
    assert_eq!(
        limiter.forgotten(),
        0,
        "nothing was forgotten that was not idle"
    );
}

/// RL7: a flood of keys that nobody has seen. (governor #171: its memory grows without a bound.)
#[test]
fn rl7_a_flood_of_keys_neither_grows_memory_nor_frees_an_attacker() {
    let tally = buttress_testkit::tally::suite("RL7");
    let (clock, hand) = Clock::manual();
    let bandwidth = Bandwidth::per_minute(10);
    let limiter = KeyedRateLimiter::<u64>::builder("flood", Quota::new(bandwidth).unwrap())
        .max_keys(20_000)
        .clock(clock)
        .build()
        .unwrap();
    let attacker = u64::MAX;
    while limiter.check(&attacker).is_allowed() {}
    for key in 0..short_or_long(1_000_000_u64, 10_000_000) {
        assert!(limiter.check(&key).is_allowed(), "a new client is served");
        if key % 1000 == 0 {
            hand.advance(Duration::from_micros(100));
            assert!(!limiter.check(&attacker).is_allowed(), "after {key} keys");
        }
    }
    assert!(limiter.len() <= 20_000 + 16, "{} keys", limiter.len());
    assert!(limiter.forgotten() > 0, "and it says so");
    tally.operations(short_or_long(1_000_000, 10_000_000));
}

#[test]
fn a_quota_is_changed_for_every_key() {
    let (clock, hand) = Clock::manual();
    let quota = |permits| Quota::per_second(permits).unwrap();
    let limiter = KeyedRateLimiter::<u64>::builder("keys", quota(10))
        .clock(clock)
        .build()
        .unwrap();
    for key in 0..5_000 {
        assert!(limiter.check_n(&key, 6).is_allowed());
    }
    limiter.set_quota(quota(20), Carry::AsItIs).unwrap();
    for key in 0..5_000 {
        assert_eq!(limiter.peek_n(&key, 0).remaining(), 4);
    }
    let window = Quota::new(Bandwidth::per_second(7).fixed_window()).unwrap();
    limiter.set_quota(window, Carry::AsItIs).unwrap();
    assert_eq!(limiter.peek_n(&3, 0).remaining(), 4);
    hand.advance(Duration::from_secs(1));
    assert_eq!(limiter.peek_n(&3, 0).remaining(), 7);
    let other = Quota::new(Bandwidth::per_second(7).sliding_log()).unwrap();
    let refused = limiter.set_quota(other, Carry::AsItIs).unwrap_err();
    assert_eq!(refused.field(), "quota");
    limiter.reset(&3);
    assert_eq!(limiter.peek_n(&3, 0).remaining(), 7);
}

#[test]
fn trusted_keys_and_several_bandwidths_are_limited_alike() {
    let quota = Quota::per_second(3).unwrap();
    let quota = quota.and(Bandwidth::per_minute(5).sliding_log()).unwrap();
    let (clock, hand) = Clock::manual();
    let registry = Registry::new();
    let limiter = KeyedRateLimiter::<Arc<str>>::builder("both", quota)
        .trusted_keys()
        .clock(clock)
        .registry(&registry)
        .build()
        .unwrap();
    let key: Arc<str> = "a".into();
    assert!(limiter.check_n(&key, 3).is_allowed());
    assert_eq!(limiter.check(&key).policy(), 0);
    hand.advance(Duration::from_secs(1));
    assert!(limiter.check_n(&key, 2).is_allowed());
    assert_eq!(limiter.check(&key).policy(), 1, "the second one is used up");
    limiter.give_back(&key, 1);
    assert!(limiter.check(&key).is_allowed());
    let entries = registry.entries();
    let mut gauges = Vec::new();
    entries[0].gauges(&mut |name, value| gauges.push((name, value)));
    assert!(gauges.contains(&("buttress_rate_limiter_keys", 1)));
}
