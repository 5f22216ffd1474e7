//! One load for all instances, and what ends it. Time is paused: it passes only where everybody waits.

use buttress_cache_aside::{CacheError, EarlyRefresh, LeasePolicy};
use futures_util::future::join_all;

use super::*;

pub(super) const MILLISECOND: Duration = Duration::from_millis(1);

pub(super) fn instance(
    store: impl CacheStore + 'static,
    policy: CachePolicy,
    lease: LeasePolicy,
) -> Cache<u32> {
    let second = SecondLevel::new(store, framing()).one_load(lease).unwrap();
    // The first level is not what is looked at.
    let second = second.staleness(MILLISECOND).unwrap();
    let builder = Cache::builder("fleet", policy);
    builder.second_level(second).build()
}

struct Loads {
    shelf: Shelf,
    begun: Arc<AtomicUsize>,
    clock: Clock,
}

impl Loads {
    fn new() -> Self {
        Self {
            shelf: Shelf::new(Clock::default()),
            begun: Arc::default(),
            clock: Clock::default(),
        }
    }

    fn instance(&self, lease: LeasePolicy) -> Cache<u32> {
        instance(self.shelf.clone(), policy(), lease)
    }

    fn count(&self) -> usize {
        self.begun.load(SeqCst)
    }

    /// Asks with a loader that takes so long, and then brings the number of its load.
    fn ask(
        &self,
        cache: &Cache<u32>,
        takes: Duration,
        loaded: fn(u32) -> Result<Loaded<u32>, io::Error>,
    ) -> impl Future<Output = Result<u32, CacheError>> + Send + 'static {
        let (cache, begun) = (cache.clone(), Arc::clone(&self.begun));
        async move {
            let loader = move || async move {
                let number = begun.fetch_add(1, SeqCst) + 1;
                tokio::time::sleep(takes).await;
                loaded(u32::try_from(number).unwrap())
            };
            cache.get_or_load("k", loader).await
        }
    }

    async fn timed<T>(&self, work: impl Future<Output = T>) -> (T, Duration) {
        let begun = self.clock.now();
        let done = work.await;
        (done, self.clock.now().saturating_since(begun))
    }
}

fn plain(number: u32) -> Result<Loaded<u32>, io::Error> {
    Ok(Loaded::new(number))
}

const LEASE: LeasePolicy = LeasePolicy {
    term: Duration::from_secs(3),
    wait: Duration::from_secs(60),
    ceiling: Duration::from_secs(30),
};

#[tokio::test(start_paused = true)]
async fn ca2_of_many_instances_that_miss_at_once_one_loads() {
    let fleet = Loads::new();
    let instances: Vec<_> = (0..16).map(|_| fleet.instance(LEASE)).collect();
    let asked = instances.iter().flat_map(|cache| {
        let ask = || tokio::spawn(fleet.ask(cache, 10 * SECOND, plain));
        [ask(), ask()]
    });
    let (found, took) = fleet.timed(join_all(asked.collect::<Vec<_>>())).await;
    for found in found {
        assert_eq!(found.unwrap().unwrap(), 1);
    }
    assert_eq!(
        fleet.count(),
        1,
        "longer than a term, and one load all the same"
    );
    assert!(took <= 11 * SECOND, "they look again: {took:?}");
}

#[tokio::test(start_paused = true)]
async fn without_the_policy_each_instance_loads() {
    let fleet = Loads::new();
    let make = || {
        let second = SecondLevel::new(fleet.shelf.clone(), framing());
        Cache::builder("fleet", policy())
            .second_level(second)
            .build()
    };
    let (a, b) = (make(), make());
    let both = tokio::join!(fleet.ask(&a, SECOND, plain), fleet.ask(&b, SECOND, plain));
    assert!(both.0.is_ok() && both.1.is_ok());
    assert_eq!(fleet.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn ca3_a_holder_whose_callers_go_hands_on_his_turn_at_every_point() {
    let fleet = Loads::new();
    let holder = fleet.instance(LEASE);
    let waiter = fleet.instance(LEASE);
    buttress_testkit::cancel_sweep(
        || {
            let held = fleet.ask(&holder, 2 * SECOND, plain);
            async { held.await.map(drop) }
        },
        async |_point| {
            let asked = fleet.ask(&waiter, MILLISECOND, plain);
            let (found, took) = fleet.timed(asked).await;
            assert!(found.is_ok());
            assert!(took < SECOND, "not after a term, but at once: {took:?}");
            waiter.invalidate("k").await;
            holder.invalidate("k").await;
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_loader_that_fails_hands_on_its_turn() {
    let fleet = Loads::new();
    let (a, b) = (fleet.instance(LEASE), fleet.instance(LEASE));
    let fails = fleet.ask(&a, SECOND, |_| Err(io::Error::other("down")));
    let fails = tokio::spawn(fails);
    tokio::time::sleep(MILLISECOND).await;
    let (found, took) = fleet.timed(fleet.ask(&b, SECOND, plain)).await;
    assert!(fails.await.unwrap().is_err());
    assert_eq!((found.unwrap(), fleet.count()), (2, 2));
    assert!(took <= 3 * SECOND, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn for_what_cannot_be_shared_nobody_queues() {
    let fleet = Loads::new();
    let instances: Vec<_> = (0..16).map(|_| fleet.instance(LEASE)).collect();
    let alone = |number| Ok(Loaded::new(number).do_not_cache());
    let asked = instances.iter();
    let asked: Vec<_> = asked
        .map(|cache| tokio::spawn(fleet.ask(cache, SECOND, alone)))
        .collect();
    let (found, took) = fleet.timed(join_all(asked)).await;
    assert!(found.into_iter().all(|found| found.unwrap().is_ok()));
    assert_eq!(fleet.count(), 16);
    assert!(took <= 3 * SECOND, "all but the first at once: {took:?}");
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_longer_than_the_bound() {
    let fleet = Loads::new();
    let lease = LeasePolicy {
        wait: 5 * SECOND,
        ..LEASE
    };
    let slow = tokio::spawn(fleet.ask(&fleet.instance(lease), 20 * SECOND, plain));
    tokio::time::sleep(MILLISECOND).await;
    let asked = fleet.ask(&fleet.instance(lease), SECOND, plain);
    let (found, took) = fleet.timed(asked).await;
    assert_eq!((found.unwrap(), fleet.count()), (2, 2));
    assert!(took >= 6 * SECOND && took < 7 * SECOND, "{took:?}");
    // The first gets his own; what is shared is the second's, who was there first.
    assert_eq!(slow.await.unwrap().unwrap(), 1);
    let shared = fleet.instance(lease).get("k").await;
    assert_eq!(shared, None, "its ten seconds are over");
}

#[tokio::test(start_paused = true)]
async fn a_load_that_hangs_keeps_the_others_away_until_the_ceiling() {
    let fleet = Loads::new();
    let lease = LeasePolicy {
        wait: 600 * SECOND,
        ceiling: 12 * SECOND,
        ..LEASE
    };
    let cache = instance(
        fleet.shelf.clone(),
        CachePolicy::builder().no_hard_timeout().build().unwrap(),
        lease,
    );
    let hangs = tokio::spawn(fleet.ask(&cache, 1000 * SECOND, plain));
    tokio::time::sleep(MILLISECOND).await;
    let asked = fleet.ask(&fleet.instance(lease), SECOND, plain);
    let (found, took) = fleet.timed(asked).await;
    assert_eq!((found.unwrap(), fleet.count()), (2, 2));
    assert!(took > 11 * SECOND && took < 14 * SECOND, "{took:?}");
    hangs.abort();
}

/// A second level that fails must not make each caller load for himself, as those of others do; nor must a leader who goes.
#[tokio::test(start_paused = true)]
async fn while_the_second_level_is_away_a_process_makes_one_load_of_a_key() {
    for lease in [false, true] {
        let fleet = Loads::new();
        let second = SecondLevel::new(fleet.shelf.clone(), framing());
        let second = match lease {
            true => second.one_load(LEASE).unwrap(),
            false => second,
        };
        let cache = Cache::builder("fleet", policy()).second_level(second);
        let cache = cache.build();
        fleet.shelf.set_down(true);
        let leader = tokio::spawn(fleet.ask(&cache, SECOND / 2, plain));
        tokio::time::sleep(MILLISECOND).await;
        let asked: Vec<_> = (0..100)
            .map(|_| tokio::spawn(fleet.ask(&cache, SECOND / 2, plain)))
            .collect();
        tokio::time::sleep(MILLISECOND).await;
        leader.abort();
        for found in join_all(asked).await {
            assert_eq!(found.unwrap().unwrap(), 1);
        }
        assert_eq!(fleet.count(), 1, "a lease: {lease}");
    }
}

/// Beats that the store answers slowly make a term's third longer, and not the ceiling.
#[tokio::test(start_paused = true)]
async fn a_slow_store_does_not_lift_the_ceiling() {
    let fleet = Loads::new();
    let lease = LeasePolicy {
        term: SECOND,
        wait: 600 * SECOND,
        ceiling: 12 * SECOND,
    };
    let cache = instance(
        fleet.shelf.clone(),
        CachePolicy::builder().no_hard_timeout().build().unwrap(),
        lease,
    );
    *fleet.shelf.slow.lock().unwrap() = 400 * MILLISECOND;
    let hangs = tokio::spawn(fleet.ask(&cache, 1000 * SECOND, plain));
    tokio::time::sleep(500 * MILLISECOND).await;
    let asked = fleet.ask(&fleet.instance(lease), SECOND, plain);
    let (found, took) = fleet.timed(asked).await;
    assert_eq!((found.unwrap(), fleet.count()), (2, 2));
    assert!(took > 10 * SECOND && took < 15 * SECOND, "{took:?}");
    hangs.abort();
}

/// Where loads are slow, an entry may be drawn for an early load at any time. One that another instance has just loaded
/// is as good as a load.
#[tokio::test(start_paused = true)]
async fn what_another_instance_has_just_renewed_early_is_not_loaded_again() {
    let fleet = Loads::new();
    let make = || {
        let policy = CachePolicy::builder()
            .ttl(60 * SECOND)
            .jitter_percent(0)
            .early_refresh(EarlyRefresh::xfetch(1.0));
        let second = SecondLevel::new(fleet.shelf.clone(), framing());
        let second = second.staleness(3600 * SECOND).unwrap();
        Cache::builder("fleet", policy.build().unwrap())
            // A tenth: 2.3 times what the load took before the end.
            .random(|| u64::MAX / 10)
            .second_level(second.one_load(LEASE).unwrap())
            .build()
    };
    let (a, b) = (make(), make());
    let takes = 4 * SECOND;
    for cache in [&a, &b] {
        assert_eq!(fleet.ask(cache, takes, plain).await.unwrap(), 1);
    }
    tokio::time::sleep(52 * SECOND).await;
    for cache in [&a, &b] {
        assert_eq!(fleet.ask(cache, takes, plain).await.unwrap(), 1);
        tokio::time::sleep(takes + MILLISECOND).await;
        assert_eq!(cache.get("k").await, Some(2));
    }
    assert_eq!(fleet.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_load_that_nobody_polls_keeps_nobody_away_for_longer_than_a_term() {
    let fleet = Loads::new();
    let mut asleep = Box::pin(fleet.ask(&fleet.instance(LEASE), SECOND, plain));
    while fleet.count() == 0 {
        assert!((&mut asleep).now_or_never().is_none());
        tokio::task::yield_now().await;
    }
    let (found, took) = fleet
        .timed(fleet.ask(&fleet.instance(LEASE), MILLISECOND, plain))
        .await;
    assert_eq!(found.unwrap(), 2);
    assert!(took <= LEASE.term + SECOND, "{took:?}");
    assert_eq!(asleep.await.unwrap(), 1, "and goes on where it was");
    let shared = fleet.instance(LEASE).get("k").await;
    assert_eq!(shared, Some(2), "the later one's is kept");
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_a_load_that_was_overtaken_and_it_is_kept_by_nobody() {
    let fleet = Loads::new();
    let first = tokio::spawn(fleet.ask(&fleet.instance(LEASE), 2 * SECOND, plain));
    tokio::time::sleep(SECOND).await;
    fleet.instance(LEASE).invalidate("k").await;
    let asked = fleet.ask(&fleet.instance(LEASE), MILLISECOND, plain);
    let (found, took) = fleet.timed(asked).await;
    assert_eq!(found.unwrap(), 2);
    assert!(took < SECOND, "at once: {took:?}");
    assert_eq!(first.await.unwrap().unwrap(), 1);
    assert_eq!(fleet.instance(LEASE).get("k").await, Some(2));
}

#[tokio::test(start_paused = true)]
async fn a_stale_entry_is_loaded_anew_once() {
    let fleet = Loads::new();
    let policy = || {
        let stale = CachePolicy::builder().ttl(SECOND).jitter_percent(0);
        let stale = stale.stale_if_error(60 * SECOND);
        stale.build().unwrap()
    };
    let make = || instance(fleet.shelf.clone(), policy(), LEASE);
    fleet.ask(&make(), MILLISECOND, plain).await.unwrap();
    tokio::time::sleep(2 * SECOND).await;
    let asked: Vec<_> = (0..8)
        .map(|_| tokio::spawn(fleet.ask(&make(), SECOND / 2, plain)))
        .collect();
    for found in join_all(asked).await {
        assert_eq!(found.unwrap().unwrap(), 2);
    }
    assert_eq!(fleet.count(), 2);
}

#[test]
fn a_lease_that_cannot_work_is_refused() {
    let second = || SecondLevel::new(MemoryStore::new(), framing());
    for (lease, field) in [
        (
            LeasePolicy {
                term: 99 * MILLISECOND,
                ..LEASE
            },
            "term",
        ),
        (
            LeasePolicy {
                wait: Duration::ZERO,
                ..LEASE
            },
            "wait",
        ),
        (
            LeasePolicy {
                ceiling: SECOND,
                ..LEASE
            },
            "ceiling",
        ),
    ] {
        assert_eq!(second().one_load(lease).unwrap_err().field(), field);
    }
    assert!(second().one_load(LeasePolicy::default()).is_ok());
}
