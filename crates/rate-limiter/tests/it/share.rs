//! While the store is down, each instance gives out its share: together no more than the quota.

use std::{num::NonZeroU32, time::Duration};

use buttress_core::Clock;
use buttress_rate_limiter::{Bandwidth, Quota, SharedRateLimiter, WhenDown};
use buttress_testkit::tally;

use crate::over_http::Down;

/// So many instances, each with a store that never answers.
fn instances(count: u32, quota: &Quota, clock: &Clock) -> Vec<SharedRateLimiter> {
    let share = WhenDown::Share(NonZeroU32::new(count).unwrap());
    (0..count)
        .map(|_| {
            SharedRateLimiter::builder("share", quota.clone(), Down)
                .when_down(share)
                .clock(clock.clone())
                .build()
                .unwrap()
        })
        .collect()
}

/// How many are given out over all instances, when each is asked until it refuses.
async fn given(instances: &[SharedRateLimiter]) -> u64 {
    let mut given = 0;
    for instance in instances {
        while instance.check("k").await.unwrap().is_allowed() {
            given += 1;
        }
    }
    given
}

#[tokio::test(start_paused = true)]
async fn instances_whose_store_is_down_give_out_no_more_than_the_quota_together() {
    let tally = tally::suite("RL4");
    let period = Duration::from_secs(100);
    let per = |permits| Bandwidth::per(permits, period);
    for (bandwidth, at_once, in_a_period) in [
        (per(100), 100, 100),
        (per(100).burst(8), 8, 8),
        (per(102), 100, 100),
        (per(100).by_interval(), 100, 100),
        (per(103).fixed_window(), 100, 100),
        (per(103).sliding_window(), 100, 100),
        // Fewer than there are instances: each has one, and then together no more than before.
        (per(2), 4, 0),
        (per(2).fixed_window(), 4, 0),
    ] {
        let (clock, hand) = Clock::manual();
        hand.advance(period * 1000);
        let quota = Quota::new(bandwidth).unwrap();
        let instances = instances(4, &quota, &clock);
        assert_eq!(given(&instances).await, at_once, "{bandwidth:?}");
        assert!(instances.iter().all(SharedRateLimiter::is_store_down));
        hand.advance(period);
        let next = given(&instances).await;
        assert!(next <= in_a_period, "{bandwidth:?}: {next}");
        hand.advance(period * 2);
        assert_eq!(
            given(&instances).await,
            at_once.min(in_a_period.max(4)),
            "{bandwidth:?}"
        );
        tally.operations(at_once);
    }
}

#[tokio::test(start_paused = true)]
async fn a_share_follows_the_quota_when_that_is_changed() {
    let (clock, _hand) = Clock::manual();
    let instances = instances(5, &Quota::new(Bandwidth::per_hour(50)).unwrap(), &clock);
    for instance in &instances {
        assert!(instance.check_n("k", 5).await.unwrap().is_allowed());
        instance
            .set_quota(Quota::new(Bandwidth::per_hour(30)).unwrap())
            .unwrap();
    }
    assert_eq!(
        given(&instances).await,
        25,
        "six each, of which one is used"
    );
}

#[test]
fn a_share_that_would_be_less_than_a_permit_a_year_is_refused() {
    let quota = Quota::new(Bandwidth::per(1, Duration::from_secs(86_400 * 300))).unwrap();
    let share = |count| {
        SharedRateLimiter::builder("share", quota.clone(), Down)
            .when_down(WhenDown::Share(NonZeroU32::new(count).unwrap()))
            .build()
    };
    assert!(share(1).is_ok());
    let refused = share(2).unwrap_err().to_string();
    assert!(refused.contains("when_down.share"), "{refused}");
}
