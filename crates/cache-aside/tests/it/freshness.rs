//! How long an entry is served, and what is served when it is over.

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use buttress_cache_aside::{Cache, CacheError, CacheOutcome, EarlyRefresh, Loaded};
use buttress_core::Clock;

use crate::stand::{SECOND, Stand, failed, policy, seconds};

#[tokio::test]
async fn an_entry_is_fresh_until_its_time_is_over_and_not_a_nanosecond_longer() {
    let stand = Stand::new(policy().ttl(10 * SECOND));
    assert_eq!(stand.load("key", 1).await.unwrap(), 1);
    stand.hand.advance(10 * SECOND - Duration::from_nanos(1));
    assert_eq!(stand.load("key", 2).await.unwrap(), 1);
    stand.hand.advance(Duration::from_nanos(1));
    assert_eq!(stand.load("key", 2).await.unwrap(), 2);
    assert_eq!(stand.loads.count(), 2);
}

#[tokio::test]
async fn ca_02_after_a_failed_load_the_stale_value_is_served_for_the_throttle() {
    let stand = Stand::new(
        policy()
            .ttl(SECOND)
            .stale_if_error(60 * SECOND)
            .throttle(2 * SECOND),
    );
    stand.cache.put("key", 42).await;
    stand.hand.advance(seconds(1.5));
    assert_eq!(stand.cache.get("key").await, None, "nothing has failed yet");
    assert_eq!(stand.cache.peek("key").unwrap().into_value(), Some(42));
    assert_eq!(stand.fail("key").await.unwrap(), 42);
    stand.hand.advance(seconds(0.1));
    assert_eq!(stand.cache.get("key").await, Some(42));
    stand.hand.advance(seconds(2.0));
    assert_eq!(stand.cache.get("key").await, None);
}

#[tokio::test]
async fn ca_03_a_stale_value_is_served_instead_of_errors_until_its_end_and_loads_are_throttled() {
    // Five seconds after it was set: two fresh, three more instead of errors.
    let stand = Stand::new(
        policy()
            .ttl(2 * SECOND)
            .stale_if_error(3 * SECOND)
            .throttle(SECOND),
    );
    stand.cache.put("key", 42).await;
    stand.hand.advance(2 * SECOND);
    for _ in 0..29 {
        assert_eq!(stand.fail("key").await.unwrap(), 42);
        stand.hand.advance(seconds(0.1));
    }
    assert_eq!(stand.loads.count(), 3, "one a second");
    stand.hand.advance(seconds(0.1));
    let error = stand.fail("key").await.unwrap_err();
    assert!(error.downcast_ref::<io::Error>().is_some(), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn ca_05_a_soft_timeout_ends_no_wait_where_there_is_nothing_stale() {
    let stand = Stand::new(policy().stale_if_error(60 * SECOND).soft_timeout(SECOND));
    let slow = || async {
        tokio::time::sleep(5 * SECOND).await;
        Ok::<_, io::Error>(7)
    };
    assert_eq!(stand.cache.get_or_load("key", slow).await.unwrap(), 7);
}

#[tokio::test(start_paused = true)]
async fn after_the_soft_timeout_the_stale_value_is_served_and_the_load_goes_on_and_is_kept() {
    let stand = Stand::new(policy().stale_if_error(60 * SECOND).soft_timeout(SECOND));
    stand.cache.put("key", 1).await;
    stand.hand.advance(20 * SECOND);
    let slow = |_| async {
        tokio::time::sleep(5 * SECOND).await;
        Ok::<_, io::Error>(2)
    };
    let clock = Clock::tokio();
    let before = clock.now();
    let served = stand.cache.serve_or_load("key", slow).await.unwrap();
    assert_eq!(clock.now().saturating_since(before), SECOND);
    assert_eq!(served.outcome(), CacheOutcome::StaleIfError);
    assert_eq!(
        (served.stale_for(), served.into_value()),
        (10 * SECOND, Some(1))
    );
    // Until the throttle is over, nobody waits for the soft timeout again.
    assert_eq!(stand.load("key", 9).await.unwrap(), 1);
    assert_eq!(clock.now().saturating_since(before), SECOND);
    tokio::time::sleep(5 * SECOND).await;
    assert_eq!(stand.load("key", 9).await.unwrap(), 2);
    assert_eq!(stand.loads.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn ca_07_a_load_that_takes_too_long_is_ended_and_the_stale_value_served() {
    let stand = Stand::new(policy().stale_if_error(60 * SECOND).hard_timeout(SECOND));
    stand.cache.put("key", 1).await;
    stand.hand.advance(20 * SECOND);
    assert_eq!(stand.hang("key").await.unwrap(), 1);
    assert_eq!(stand.loads.count(), 1);
}

#[tokio::test]
async fn ca_09_an_early_refresh_blocks_no_reader_and_there_is_one_of_them() {
    let stand = Stand::new(
        policy()
            .early_refresh(EarlyRefresh::at(0.8))
            .no_hard_timeout(),
    );
    stand.cache.put("key", 1).await;
    stand.hand.advance(seconds(7.9));
    assert_eq!(stand.load("key", 2).await.unwrap(), 1);
    stand.settle().await;
    assert_eq!(stand.loads.count(), 0);
    stand.hand.advance(seconds(0.1));
    for _ in 0..10 {
        assert_eq!(stand.hang("key").await.unwrap(), 1);
        stand.settle().await;
    }
    assert_eq!(stand.loads.count(), 1);
}

#[tokio::test]
async fn an_early_refresh_that_ends_makes_the_entry_fresh_and_one_that_fails_leaves_it() {
    let stand = Stand::new(
        policy()
            .early_refresh(EarlyRefresh::at(0.5))
            .throttle(2 * SECOND),
    );
    stand.cache.put("key", 1).await;
    stand.hand.advance(5 * SECOND);
    assert_eq!(stand.fail("key").await.unwrap(), 1);
    stand.settle().await;
    assert_eq!(stand.loads.count(), 1);
    assert_eq!(stand.load("key", 2).await.unwrap(), 1);
    stand.settle().await;
    assert_eq!(stand.loads.count(), 1, "throttled");
    stand.hand.advance(2 * SECOND);
    assert_eq!(stand.load("key", 2).await.unwrap(), 1);
    stand.settle().await;
    assert_eq!(stand.load("key", 3).await.unwrap(), 2);
    assert_eq!(stand.loads.count(), 2);
}

#[tokio::test]
async fn a_caller_who_comes_when_it_is_over_joins_the_early_refresh() {
    let stand = Stand::new(policy().early_refresh(EarlyRefresh::at(0.5)));
    stand.cache.put("key", 1).await;
    stand.hand.advance(5 * SECOND);
    let (gate, asked) = stand.load_behind_gate("key", 2.into()).await;
    assert_eq!(asked.await.unwrap().unwrap(), Some(1));
    stand.hand.advance(5 * SECOND);
    let (late, _) = tokio::join!(stand.load("key", 3), async { gate.notify_one() });
    assert_eq!(late.unwrap(), 2);
    assert_eq!(stand.loads.count(), 1);
}

#[tokio::test]
async fn an_early_refresh_is_drawn_at_each_read_near_the_end() {
    let (clock, hand) = Clock::manual();
    let draws = Arc::new(Mutex::new(vec![u64::MAX, u64::MAX, 0_u64]));
    let count = Arc::clone(&draws);
    let cache = Cache::<u32>::builder(
        "drawn",
        policy()
            .early_refresh(EarlyRefresh::xfetch(1.0))
            .build()
            .unwrap(),
    )
    .clock(clock)
    .random(move || count.lock().unwrap().pop().unwrap_or(u64::MAX))
    .build();
    let slow = hand.clone();
    let loader = move || async move {
        slow.advance(SECOND / 10);
        Ok::<_, io::Error>(1)
    };
    assert_eq!(cache.get_or_load("key", loader).await.unwrap(), 1);
    let refreshed = || async { Ok::<_, io::Error>(2) };
    hand.advance(5 * SECOND);
    assert_eq!(cache.get_or_load("key", refreshed).await.unwrap(), 1);
    assert_eq!(
        draws.lock().unwrap().len(),
        3,
        "so far from the end nothing is drawn"
    );
    // Now the luckiest draw is due, and the unluckiest two are not.
    hand.advance(2 * SECOND);
    assert_eq!(cache.get_or_load("key", refreshed).await.unwrap(), 1);
    for _ in 0..5 {
        tokio::task::yield_now().await;
    }
    assert_eq!(cache.get("key").await, Some(2));
    assert_eq!(draws.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn ca_10_an_early_refresh_outside_of_its_range_is_refused() {
    for share in [0.0, -1.0, 1.0, 2.0, f64::NAN] {
        let error = policy().early_refresh(EarlyRefresh::at(share)).build();
        assert_eq!(error.unwrap_err().field(), "early_refresh", "{share}");
    }
    for beta in [0.0, -1.0, 101.0, f64::NAN, f64::INFINITY] {
        let error = policy().early_refresh(EarlyRefresh::xfetch(beta)).build();
        assert_eq!(error.unwrap_err().field(), "early_refresh", "{beta}");
    }
}

#[tokio::test]
async fn ca_18_what_is_served_instead_of_an_error_is_not_kept_longer_by_jitter() {
    let (clock, hand) = Clock::manual();
    let chosen = policy().jitter_percent(50).stale_if_error(60 * SECOND);
    let cache = Cache::<u32>::builder("jitter", chosen.throttle(Duration::ZERO).build().unwrap())
        .clock(clock)
        .build();
    cache.put("key", 1).await;
    hand.advance(10 * SECOND);
    let fails = || async { Err::<u32, _>(failed()) };
    assert_eq!(cache.get_or_load("key", fails).await.unwrap(), 1);
    let next = || async { Ok::<_, io::Error>(2) };
    assert_eq!(cache.get_or_load("key", next).await.unwrap(), 2);
}

#[tokio::test]
async fn entries_that_came_together_do_not_end_together_and_none_lives_longer_than_was_chosen() {
    let (clock, hand) = Clock::manual();
    let cache = Cache::<u32>::builder("jitter", policy().jitter_percent(20).build().unwrap())
        .clock(clock)
        .build();
    let keys: Vec<_> = (0..1_000).map(|key| key.to_string()).collect();
    for key in &keys {
        cache.put(key, 1).await;
    }
    let fresh = |cache: &Cache<u32>| {
        let keys = keys.iter();
        keys.filter(|key| !cache.peek(key).is_none_or(|it| it.fresh_for().is_zero()))
            .count()
    };
    hand.advance(8 * SECOND - Duration::from_nanos(1));
    assert_eq!(fresh(&cache), 1_000);
    hand.advance(SECOND);
    let half = fresh(&cache);
    assert!((350..650).contains(&half), "{half}");
    hand.advance(SECOND + Duration::from_nanos(1));
    assert_eq!(fresh(&cache), 0);
}

#[tokio::test]
async fn ca_21_what_is_expired_is_served_instead_of_an_error_and_what_is_invalidated_is_not() {
    let stand = Stand::new(policy().stale_if_error(60 * SECOND));
    stand.cache.put("expired", 1).await;
    stand.cache.put("invalidated", 1).await;
    stand.cache.expire("expired").await;
    stand.cache.invalidate("invalidated").await;
    assert_eq!(stand.cache.get("expired").await, None);
    assert_eq!(stand.fail("expired").await.unwrap(), 1);
    stand.fail("invalidated").await.unwrap_err();
    // Without the policy's leave it is the same as invalidated.
    let strict = Stand::new(policy());
    strict.cache.put("expired", 1).await;
    strict.cache.expire("expired").await;
    assert!(strict.cache.is_empty());
}

#[tokio::test]
async fn ca_22_a_conditional_load_that_finds_nothing_new_makes_the_old_value_fresh() {
    let stand = Stand::new(policy());
    let first = |_| async { Ok::<_, io::Error>(Loaded::new(1).etag("\"v1\"").tags(["t"])) };
    stand.cache.serve_or_load("key", first).await.unwrap();
    stand.hand.advance(3600 * SECOND);
    let conditional = |context: buttress_cache_aside::LoadContext<u32>| async move {
        assert_eq!(
            (context.stale(), context.etag()),
            (Some(&1), Some("\"v1\""))
        );
        assert_eq!(context.key(), b"key");
        Ok::<_, io::Error>(Loaded::not_modified())
    };
    let served = stand.cache.serve_or_load("key", conditional).await.unwrap();
    assert_eq!(served.etag(), Some("\"v1\""));
    assert_eq!(served.tags().collect::<Vec<_>>(), ["t"]);
    assert_eq!(
        (served.fresh_for(), served.into_value()),
        (10 * SECOND, Some(1))
    );
    assert_eq!(stand.load("key", 2).await.unwrap(), 1, "it is kept");
    stand.cache.invalidate("key").await;
    let nothing = || async { Ok::<_, io::Error>(Loaded::<u32>::not_modified()) };
    let error = stand.cache.get_or_load("key", nothing).await.unwrap_err();
    assert!(matches!(error, CacheError::NothingToKeep), "{error:?}");
}

#[tokio::test]
async fn ca_26_a_stale_value_is_served_while_it_is_loaded_anew_and_stays_when_that_fails() {
    let stand = Stand::new(
        policy()
            .stale_while_revalidate(60 * SECOND)
            .throttle(SECOND),
    );
    stand.cache.put("key", 1).await;
    stand.hand.advance(10 * SECOND);
    assert_eq!(stand.fail("key").await.unwrap(), 1);
    stand.settle().await;
    assert_eq!(stand.load("key", 2).await.unwrap(), 1);
    stand.settle().await;
    assert_eq!(
        stand.loads.count(),
        1,
        "a failed one is not tried at each read"
    );
    stand.hand.advance(SECOND);
    assert_eq!(stand.load("key", 2).await.unwrap(), 1);
    stand.settle().await;
    assert_eq!(stand.cache.get("key").await, Some(2));
    // Past its window the caller waits.
    stand.hand.advance(70 * SECOND);
    assert_eq!(stand.load("key", 3).await.unwrap(), 3);
}

#[test]
fn without_a_runtime_a_stale_value_is_loaded_anew_by_its_reader() {
    let stand = Stand::new(
        policy()
            .stale_while_revalidate(60 * SECOND)
            .no_hard_timeout(),
    );
    let asked = async {
        stand.cache.put("key", 1).await;
        stand.hand.advance(10 * SECOND);
        stand.load("key", 2).await
    };
    assert_eq!(
        futures_util::future::FutureExt::now_or_never(asked)
            .unwrap()
            .unwrap(),
        2
    );
}

#[tokio::test]
async fn that_there_is_none_is_kept_for_its_own_time_and_an_error_is_not_kept() {
    let tally = buttress_testkit::tally::suite("CA8");
    let stand = Stand::new(
        policy()
            .negative_ttl(2 * SECOND)
            .stale_if_error(60 * SECOND),
    );
    let none = || async { Ok::<_, io::Error>(None) };
    let find = |loader| stand.cache.find_or_load("key", loader);
    assert_eq!(find(none).await.unwrap(), None);
    assert!(stand.load("key", 1).await.unwrap_err().is_not_found());
    assert_eq!(stand.loads.count(), 0, "it is kept");
    stand.hand.advance(2 * SECOND);
    stand.fail("key").await.unwrap_err();
    assert_eq!(
        stand.load("key", 1).await.unwrap(),
        1,
        "and neither it nor the error any more"
    );
    tally.faults(1);
}

#[tokio::test]
async fn that_there_is_none_is_not_kept_unless_it_is_asked_for_and_takes_away_what_was() {
    let stand = Stand::new(policy().stale_if_error(60 * SECOND));
    stand.cache.put("key", 1).await;
    stand.hand.advance(10 * SECOND);
    let none = || async { Ok::<_, io::Error>(None) };
    assert_eq!(stand.cache.find_or_load("key", none).await.unwrap(), None);
    assert!(stand.cache.is_empty());
    assert_eq!(stand.load("key", 2).await.unwrap(), 2);
    // A loader may ask for it by itself.
    let none = || async { Ok::<_, io::Error>(Loaded::<u32>::not_found().ttl(SECOND)) };
    stand.cache.find_or_load("other", none).await.unwrap();
    assert!(stand.load("other", 1).await.unwrap_err().is_not_found());
}

#[tokio::test]
async fn a_loader_has_the_last_word_on_how_its_value_is_kept() {
    let stand = Stand::new(policy());
    let load = |key, loaded: Loaded<u32>| {
        let loader = |_| async { Ok::<_, io::Error>(loaded) };
        stand.cache.serve_or_load(key, loader)
    };
    let short = load("short", Loaded::new(1).ttl(SECOND)).await.unwrap();
    assert_eq!(short.fresh_for(), SECOND);
    stand.cache.put("not kept", 1).await;
    stand.cache.expire("not kept").await;
    for unkept in [
        Loaded::new(1).do_not_cache(),
        Loaded::new(1).ttl(Duration::ZERO),
    ] {
        let served = load("not kept", unkept).await.unwrap();
        let CacheOutcome::Loaded { stored, .. } = served.outcome() else {
            panic!("{served:?}")
        };
        assert!(!stored && stand.cache.peek("not kept").is_none());
    }
    let forgiving = Loaded::new(1).ttl(SECOND).stale_if_error(2 * SECOND);
    load("forgiving", forgiving).await.unwrap();
    stand.hand.advance(seconds(2.5));
    assert_eq!(stand.fail("forgiving").await.unwrap(), 1);
    stand.fail("short").await.unwrap_err();
    let endless = load("endless", Loaded::new(1).ttl(Duration::MAX))
        .await
        .unwrap();
    assert_eq!(endless.fresh_for(), 366 * 24 * 3600 * SECOND);
}
