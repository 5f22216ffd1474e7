//! One load per key, whoever comes, goes, fails or panics.

use std::{io, sync::Arc, time::Duration};

use buttress_cache_aside::{Cache, CacheError, CachePolicy};
use buttress_testkit::tier::short_or_long;
use futures_util::future::join_all;
use tokio::sync::{Notify, Semaphore};

use crate::stand::{Loads, SECOND, Stand, failed, policy};

const CALLERS: usize = 1_000;

fn numbers() -> Cache<u32> {
    Cache::new("numbers", CachePolicy::default())
}

#[tokio::test]
async fn ca_01_so_many_callers_make_one_load_and_all_get_its_value() {
    let (cache, loads) = (numbers(), Loads::default());
    let calls = (0..CALLERS).map(|_| {
        let loads = loads.clone();
        cache.get_or_load("key", || async move {
            loads.begin();
            tokio::time::sleep(Duration::from_millis(20)).await;
            Ok::<_, io::Error>(7)
        })
    });
    for value in join_all(calls).await {
        assert_eq!(value.unwrap(), 7);
    }
    assert_eq!(loads.count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_tasks_make_one_load_also_when_its_leader_is_dropped() {
    let tally = buttress_testkit::tally::suite("CA2");
    for _ in 0..short_or_long(3, 100) {
        one_stampede().await;
    }
    tally.operations(1_000 * short_or_long(3, 100));
}

async fn one_stampede() {
    let (cache, loads, gate) = (numbers(), Loads::default(), Arc::new(Semaphore::new(0)));
    let call = |cache: &Cache<u32>| {
        let (cache, loads, gate) = (cache.clone(), loads.clone(), Arc::clone(&gate));
        tokio::spawn(async move {
            let loader = move || async move {
                loads.begin();
                let _permit = gate.acquire().await;
                Ok::<_, io::Error>(7)
            };
            cache.get_or_load("key", loader).await
        })
    };
    let leader = call(&cache);
    while loads.count() == 0 {
        tokio::task::yield_now().await;
    }
    let followers: Vec<_> = (0..CALLERS).map(|_| call(&cache)).collect();
    leader.abort();
    assert!(leader.await.unwrap_err().is_cancelled());
    gate.add_permits(1);
    for follower in followers {
        assert_eq!(follower.await.unwrap().unwrap(), 7);
    }
    assert_eq!(loads.count(), 1, "the load went on without its leader");
}

#[tokio::test]
async fn a_waiter_outlives_any_number_of_callers_who_give_up() {
    let stand = Stand::new(policy().no_hard_timeout());
    let (gate, first) = stand.load_behind_gate("key", 1.into()).await;
    let cache = stand.cache.clone();
    let never = || async { panic!("he joins") as Result<u32, io::Error> };
    let waiter = tokio::spawn(async move { cache.get_or_load("key", never).await });
    stand.settle().await;
    first.abort();
    for _ in 0..1_000 {
        let cache = stand.cache.clone();
        let short = tokio::spawn(async move { cache.get_or_load("key", never).await });
        tokio::task::yield_now().await;
        short.abort();
    }
    stand.settle().await;
    gate.notify_one();
    assert_eq!(waiter.await.unwrap().unwrap(), 1);
    assert_eq!(stand.loads.count(), 1);
}

#[tokio::test]
async fn an_error_reaches_all_who_wait_and_is_the_loaders_own() {
    let (cache, loads) = (numbers(), Loads::default());
    let calls = (0..CALLERS).map(|_| {
        let loads = loads.clone();
        cache.get_or_load("key", || async move {
            loads.begin();
            tokio::task::yield_now().await;
            Err::<u32, _>(failed())
        })
    });
    for outcome in join_all(calls).await {
        let error = outcome.unwrap_err();
        let own = error.downcast_ref::<io::Error>().unwrap();
        assert_eq!(own.to_string(), "the source is down");
    }
    assert_eq!(loads.count(), 1, "waiters do not retry one after another");
    let next = cache.get_or_load("key", || async { Ok::<_, io::Error>(1) });
    assert_eq!(next.await.unwrap(), 1, "an error is not kept");
}

#[tokio::test]
async fn a_panic_reaches_all_who_wait_and_hangs_nobody() {
    let tally = buttress_testkit::tally::suite("CA3");
    let (cache, loads) = (numbers(), Loads::default());
    let calls = (0..CALLERS).map(|number| {
        let loads = loads.clone();
        cache.get_or_load("key", move || async move {
            loads.begin();
            tokio::task::yield_now().await;
            assert!(number > CALLERS, "planted");
            Ok::<u32, io::Error>(1)
        })
    });
    for outcome in join_all(calls).await {
        let Err(CacheError::Panicked(words)) = outcome else {
            panic!("{outcome:?}")
        };
        assert_eq!(&*words, "planted");
    }
    assert_eq!(loads.count(), 1);
    tally.faults(1);
}

#[tokio::test]
async fn a_loader_that_panics_before_its_first_await_or_while_it_is_dropped_hangs_nobody() {
    struct PanicsWhenDropped;
    impl Drop for PanicsWhenDropped {
        fn drop(&mut self) {
            panic!("in drop");
        }
    }
    let cache = numbers();
    let early = cache.get_or_load("early", || {
        assert!(std::hint::black_box(false), "planted");
        async { Ok::<u32, io::Error>(1) }
    });
    assert!(matches!(early.await, Err(CacheError::Panicked(_))));
    let late = cache.get_or_load("late", || {
        let held = PanicsWhenDropped;
        async move {
            std::mem::forget(held);
            let _dropped = PanicsWhenDropped;
            Ok::<u32, io::Error>(1)
        }
    });
    assert!(matches!(late.await, Err(CacheError::Panicked(_))));
}

#[tokio::test]
async fn ca_23_a_load_ends_with_its_last_caller_and_a_later_caller_begins_anew() {
    let stand = Stand::new(policy());
    let dropped = Arc::new(Notify::new());
    struct Tells(Arc<Notify>);
    impl Drop for Tells {
        fn drop(&mut self) {
            self.0.notify_one();
        }
    }
    let call = || {
        let (cache, loads) = (stand.cache.clone(), stand.loads.clone());
        let tells = Tells(Arc::clone(&dropped));
        tokio::spawn(async move {
            let loader = move || async move {
                let _tells = tells;
                loads.begin();
                std::future::pending::<()>().await;
                Ok::<u32, io::Error>(1)
            };
            cache.get_or_load("key", loader).await
        })
    };
    let (one, two) = (call(), call());
    stand.settle().await;
    assert_eq!(stand.loads.count(), 1);
    one.abort();
    stand.settle().await;
    assert_eq!(stand.loads.count(), 1, "the other took over");
    two.abort();
    // The loader of the one who joined was dropped with him; the second is the load itself.
    dropped.notified().await;
    dropped.notified().await;
    assert_eq!(stand.load("key", 5).await.unwrap(), 5);
    assert_eq!(stand.loads.count(), 2);
}

#[tokio::test]
async fn ca_25_a_load_that_was_forgotten_is_not_joined() {
    let stand = Stand::new(policy());
    let gate = Arc::new(Semaphore::new(0));
    let (cache, loads, held) = (stand.cache.clone(), stand.loads.clone(), Arc::clone(&gate));
    let before = tokio::spawn(async move {
        let loader = move || async move {
            loads.begin();
            let _permit = held.acquire().await;
            Ok::<_, io::Error>(1)
        };
        cache.get_or_load("key", loader).await
    });
    stand.settle().await;
    stand.cache.invalidate("key").await;
    assert_eq!(stand.load("key", 2).await.unwrap(), 2);
    gate.add_permits(1);
    assert_eq!(before.await.unwrap().unwrap(), 1, "he asked before");
    assert_eq!(
        stand.cache.get("key").await,
        Some(2),
        "and nobody after him sees it"
    );
}

#[tokio::test(start_paused = true)]
async fn ca_06_a_load_that_takes_too_long_is_ended() {
    let stand = Stand::new(policy().hard_timeout(SECOND));
    let loader = || async {
        std::future::pending::<()>().await;
        Ok::<u32, io::Error>(1)
    };
    let outcome = stand.cache.get_or_load("key", loader).await;
    assert!(matches!(outcome, Err(CacheError::TimedOut(SECOND))));
}
