//! The suite by which a store is judged: ours, and a stranger's.

use std::{sync::Arc, time::Duration};

use buttress_core::Clock;

use crate::{Bandwidth, Decision, Quota, SharedRateLimiter, WhenDown, store::Store};

/// Judges a store by what every store must do. It needs an empty one, and about two seconds.
///
/// Each claim is a function of its own name, so that a failure says which one does not hold.
///
/// # Panics
///
/// When the store does not do what it must.
pub async fn conformance(store: Arc<dyn Store>) {
    exactly_the_burst_is_given_out(&store).await;
    all_permits_are_taken_or_none(&store).await;
    keys_are_bytes_and_stay_apart(&store).await;
    looking_takes_nothing(&store).await;
    several_bandwidths_are_one_decision(&store).await;
    what_is_given_back_can_be_had_again(&store).await;
    a_debt_is_paid_before_anything_is_given(&store).await;
    windows_are_counted(&store).await;
    a_refused_one_is_allowed_when_it_was_told_and_not_before(&store).await;
    a_quota_that_changes_keeps_what_was_used(&store).await;
    a_forgotten_key_has_all_its_permits(&store).await;
    idle_keys_are_pruned_and_others_are_not(&store).await;
    many_at_once_get_no_more_than_the_quota(&store).await;
}

fn limiter(store: &Arc<dyn Store>, quota: Quota) -> SharedRateLimiter {
    let store = Arc::clone(store);
    SharedRateLimiter::builder("conformance", quota, store)
        .when_down(WhenDown::Closed)
        .build()
        .expect("a quota of this suite works in every store")
}

/// So slow that none comes back while the suite runs.
fn hourly(permits: u64) -> Quota {
    quota(Bandwidth::per_hour(permits).burst(permits))
}

fn quota(bandwidth: Bandwidth) -> Quota {
    Quota::new(bandwidth).expect("a quota of this suite can work")
}

async fn take(limiter: &SharedRateLimiter, key: &str, permits: u64) -> Decision {
    let decision = limiter.check_n(key, permits).await;
    decision.expect("a store that is judged answers")
}

async fn exactly_the_burst_is_given_out(store: &Arc<dyn Store>) {
    let limiter = limiter(store, hourly(5));
    for left in (0..5).rev() {
        let decision = take(&limiter, "burst", 1).await;
        assert!(decision.is_allowed(), "{decision:?}");
        assert_eq!((decision.limit(), decision.remaining()), (5, left));
        assert!(decision.reset_after() > Duration::ZERO);
    }
    let refused = take(&limiter, "burst", 1).await;
    assert!(!refused.is_allowed(), "{refused:?}");
    let wait = refused.retry_after().expect("it comes back in time");
    let rate = Duration::from_secs(720);
    assert!(
        wait <= rate && wait > rate - Duration::from_secs(60),
        "{wait:?}"
    );
}

async fn all_permits_are_taken_or_none(store: &Arc<dyn Store>) {
    let limiter = limiter(store, hourly(5));
    assert!(take(&limiter, "all or none", 3).await.is_allowed());
    let refused = take(&limiter, "all or none", 3).await;
    assert!(!refused.is_allowed());
    assert_eq!(refused.remaining(), 2);
    assert!(take(&limiter, "all or none", 2).await.is_allowed());
    let never = take(&limiter, "all or none", 6).await;
    assert!(never.can_never(), "{never:?}");
}

async fn keys_are_bytes_and_stay_apart(store: &Arc<dyn Store>) {
    let limiter = limiter(store, hourly(1));
    let long = vec![b'x'; 243];
    let mut longer = long.clone();
    longer[242] = b'y';
    let keys: [&[u8]; 12] = [
        b"Abc",
        b"abc",
        b"abc ",
        b"abc\0",
        b"\xff\xfe",
        b"{a}",
        b"a}",
        b"%7D",
        b"}",
        b"'; DROP TABLE buttress_rate_limits; --",
        &long,
        &longer,
    ];
    for key in keys {
        let decision = limiter.check(key).await.expect("it answers");
        assert!(decision.is_allowed(), "a key of its own: {key:?}");
    }
    for key in keys {
        let decision = limiter.check(key).await.expect("it answers");
        assert!(!decision.is_allowed(), "it is known: {key:?}");
    }
}

async fn looking_takes_nothing(store: &Arc<dyn Store>) {
    let limiter = limiter(store, hourly(2));
    for _ in 0..5 {
        let look = limiter.peek_n("look", 2).await.expect("it answers");
        assert!(look.is_allowed() && look.remaining() == 2, "{look:?}");
        assert!(take(&limiter, "look", 0).await.is_allowed());
    }
    assert!(take(&limiter, "look", 2).await.is_allowed());
    let look = limiter.peek_n("look", 1).await.expect("it answers");
    assert!(
        !look.is_allowed() && look.retry_after().is_some(),
        "{look:?}"
    );
}

async fn several_bandwidths_are_one_decision(store: &Arc<dyn Store>) {
    let both = hourly(3).and(Bandwidth::per_day(4).fixed_window());
    let both = both.expect("it can work");
    let limiter = limiter(store, both);
    assert!(take(&limiter, "several", 3).await.is_allowed());
    let refused = take(&limiter, "several", 1).await;
    assert!(!refused.is_allowed());
    assert_eq!(refused.policy(), 0, "the first one refuses: {refused:?}");
    // The refusal took nothing from the second: with the first one's permits back, one is left.
    limiter.give_back("several", 3).await.expect("it answers");
    assert!(take(&limiter, "several", 3).await.is_allowed());
    let _debt = limiter.force("several", 1).await.expect("it answers");
    let refused = take(&limiter, "several", 1).await;
    assert!(!refused.is_allowed(), "{refused:?}");
}

async fn what_is_given_back_can_be_had_again(store: &Arc<dyn Store>) {
    let limiter = limiter(store, hourly(2));
    assert!(take(&limiter, "back", 2).await.is_allowed());
    limiter.give_back("back", 1).await.expect("it answers");
    assert!(take(&limiter, "back", 1).await.is_allowed());
    limiter.give_back("back", 1000).await.expect("it answers");
    assert!(take(&limiter, "back", 2).await.is_allowed());
    assert!(
        !take(&limiter, "back", 1).await.is_allowed(),
        "never more than the burst"
    );
}

async fn a_debt_is_paid_before_anything_is_given(store: &Arc<dyn Store>) {
    let limiter = limiter(store, hourly(2));
    let debt = limiter.force("debt", 5).await.expect("it answers");
    assert!(!debt.is_allowed());
    let wait = debt.retry_after().expect("it is paid in time");
    assert!(wait > Duration::from_secs(1800 * 2) && wait <= Duration::from_secs(1800 * 3));
    limiter.give_back("debt", 3).await.expect("it answers");
    assert!(!take(&limiter, "debt", 1).await.is_allowed());
    limiter.give_back("debt", 1).await.expect("it answers");
    assert!(take(&limiter, "debt", 1).await.is_allowed());
}

async fn windows_are_counted(store: &Arc<dyn Store>) {
    // Windows so long that as good as never one ends while this runs.
    let year = Duration::from_secs(365 * 86_400);
    for (key, bandwidth) in [
        ("fixed", Bandwidth::per(3, year).fixed_window()),
        ("interval", Bandwidth::per(3, year).by_interval()),
        (
            "sliding",
            Bandwidth::per(100, Duration::from_secs(86_400)).sliding_window(),
        ),
    ] {
        let limiter = limiter(store, quota(bandwidth));
        let most = bandwidth.permits();
        assert!(take(&limiter, key, most - 1).await.is_allowed(), "{key}");
        assert!(take(&limiter, key, 1).await.is_allowed(), "{key}");
        let refused = take(&limiter, key, 1).await;
        assert!(!refused.is_allowed(), "{key}: {refused:?}");
        assert!(refused.retry_after().is_some(), "{key}: {refused:?}");
    }
}

async fn a_refused_one_is_allowed_when_it_was_told_and_not_before(store: &Arc<dyn Store>) {
    let quotas = [
        Bandwidth::per(2, Duration::from_millis(400)).burst(1),
        Bandwidth::per(1, Duration::from_millis(200)).fixed_window(),
        Bandwidth::per(1, Duration::from_millis(200)).sliding_window(),
    ];
    for (at, bandwidth) in quotas.into_iter().enumerate() {
        let limiter = limiter(store, quota(bandwidth));
        let key = format!("told {at}");
        for _ in 0..3 {
            while take(&limiter, &key, 1).await.is_allowed() {}
            let clock = Clock::tokio();
            let before = clock.now();
            let refused = take(&limiter, &key, 1).await;
            let Some(wait) = refused.retry_after() else {
                continue; // the time came in between
            };
            // The store judged after `before` was read: so whoever is early by `before`, is early.
            let mut served = false;
            while !served && clock.now().saturating_since(before) + Duration::from_millis(20) < wait
            {
                served = take(&limiter, &key, 1).await.is_allowed();
                let at = clock.now().saturating_since(before);
                assert!(!served || at >= wait, "{at:?} of {wait:?}");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            if served {
                continue; // a slow machine: its time had come before it was asked
            }
            tokio::time::sleep(wait).await;
            let then = take(&limiter, &key, 1).await;
            assert!(then.is_allowed(), "{bandwidth:?}: {wait:?}");
        }
    }
}

async fn a_quota_that_changes_keeps_what_was_used(store: &Arc<dyn Store>) {
    let limiter = limiter(store, hourly(10));
    assert!(take(&limiter, "changes", 8).await.is_allowed());
    limiter.set_quota(hourly(30)).expect("it can work");
    let look = limiter.peek_n("changes", 0).await.expect("it answers");
    assert_eq!((look.limit(), look.remaining()), (30, 22));
    assert!(take(&limiter, "changes", 22).await.is_allowed());
    limiter.set_quota(hourly(7)).expect("it can work");
    let refused = take(&limiter, "changes", 1).await;
    assert!(!refused.is_allowed(), "{refused:?}");
}

async fn a_forgotten_key_has_all_its_permits(store: &Arc<dyn Store>) {
    let limiter = limiter(store, hourly(1));
    assert!(take(&limiter, "forgotten", 1).await.is_allowed());
    limiter.reset("forgotten").await.expect("it answers");
    assert!(take(&limiter, "forgotten", 1).await.is_allowed());
}

async fn idle_keys_are_pruned_and_others_are_not(store: &Arc<dyn Store>) {
    let busy = limiter(store, hourly(1));
    assert!(take(&busy, "not idle", 1).await.is_allowed());
    let quick = limiter(store, quota(Bandwidth::per_second(1000)));
    assert!(take(&quick, "idle", 1).await.is_allowed());
    tokio::time::sleep(Duration::from_millis(1100)).await;
    // Keys of other tests may become idle meanwhile, each of them once.
    let mut looks = 0;
    while quick.prune(1000).await.expect("it answers") > 0 {
        looks += 1;
        assert!(looks < 100, "something is left to prune, time and again");
    }
    assert!(!take(&busy, "not idle", 1).await.is_allowed());
}

async fn many_at_once_get_no_more_than_the_quota(store: &Arc<dyn Store>) {
    let limiter = limiter(store, hourly(20));
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let limiter = limiter.clone();
            tokio::spawn(async move {
                let mut allowed = 0;
                for _ in 0..5 {
                    allowed += u32::from(take(&limiter, "many", 1).await.is_allowed());
                }
                allowed
            })
        })
        .collect();
    let mut allowed = 0;
    for task in tasks {
        allowed += task
            .await
            .expect("a task of this suite does not fail otherwise");
    }
    assert_eq!(allowed, 20, "all of the quota, and nothing beyond");
}
