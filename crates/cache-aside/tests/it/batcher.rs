//! Single loads, gathered: each key once, in calls of bounded size, whoever comes and goes.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    thread,
    time::Duration,
};

use buttress_cache_aside::{BatchError, BatchPolicy, Batcher, Cache, CachePolicy};
use buttress_testkit::{cancel_sweep, tier::short_or_long};
use futures_util::{FutureExt as _, future::join_all};
use proptest::prelude::*;

const MILLISECOND: Duration = Duration::from_millis(1);

/// Ten times each key, none from 100 on; and which calls there were.
struct Source {
    calls: Arc<Mutex<Vec<Vec<u32>>>>,
    batcher: Batcher<u32, u32>,
}

impl Source {
    fn new(policy: BatchPolicy, takes: Duration) -> Self {
        let calls: Arc<Mutex<Vec<Vec<u32>>>> = Arc::default();
        let noted = Arc::clone(&calls);
        let loader = move |keys: Vec<u32>| {
            noted.lock().unwrap().push(keys.clone());
            async move {
                tokio::time::sleep(takes).await;
                // In another order than they were asked for, and one that nobody asked for.
                let there = keys.into_iter().rev().filter(|key| *key < 100);
                let there = there.map(|key| (key, key * 10));
                Ok::<Vec<_>, io::Error>(there.chain([(99_999, 0)]).collect())
            }
        };
        let batcher = Batcher::new(policy, loader).unwrap();
        Self { calls, batcher }
    }

    fn calls(&self) -> Vec<Vec<u32>> {
        self.calls.lock().unwrap().clone()
    }
}

fn policy(window: Duration, most: usize) -> BatchPolicy {
    BatchPolicy { window, most }
}

fn expected(key: u32) -> Option<u32> {
    (key < 100).then_some(key * 10)
}

#[tokio::test(start_paused = true)]
async fn what_is_asked_for_at_once_is_one_call_and_each_gets_his_own() {
    for window in [Duration::ZERO, MILLISECOND] {
        let source = Source::new(policy(window, 100), MILLISECOND);
        let keys = [3, 1, 3, 200, 2, 1];
        let loads = keys.map(|key| source.batcher.load(key));
        let found = join_all(loads).await;
        for (key, found) in keys.into_iter().zip(found) {
            assert_eq!(found.unwrap(), expected(key), "{key}");
        }
        assert_eq!(source.calls(), [vec![3, 1, 200, 2]], "{window:?}");
        let many = source.batcher.load_many([5, 500, 5]).await.unwrap();
        assert_eq!(many, [Some(50), None, Some(50)]);
        assert_eq!(source.calls().len(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn tasks_within_a_window_are_gathered_and_what_comes_later_is_in_the_next() {
    let source = Source::new(policy(10 * MILLISECOND, 100), 100 * MILLISECOND);
    let ask = |key| {
        let batcher = source.batcher.clone();
        tokio::spawn(async move { batcher.load(key).await.unwrap() })
    };
    let first = ask(1);
    tokio::time::sleep(5 * MILLISECOND).await;
    let second = ask(2);
    tokio::time::sleep(50 * MILLISECOND).await;
    // Its call has begun: what it reads may be older than this question.
    let again = ask(1);
    assert_eq!(first.await.unwrap(), Some(10));
    assert_eq!(second.await.unwrap(), Some(20));
    assert_eq!(again.await.unwrap(), Some(10));
    assert_eq!(source.calls(), [vec![1, 2], vec![1]]);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_full_begins_at_once() {
    let source = Source::new(policy(1000 * MILLISECOND, 2), MILLISECOND);
    let clock = buttress_core::Clock::tokio();
    let begun = clock.now();
    let loads = (0..4).map(|key| source.batcher.load(key));
    join_all(loads).await;
    let took = clock.now().saturating_since(begun);
    assert!(took < 100 * MILLISECOND, "{took:?}");
    assert_eq!(source.calls(), [vec![0, 1], vec![2, 3]]);
}

#[tokio::test(start_paused = true)]
async fn a_key_for_which_nobody_waits_any_more_is_not_asked_for() {
    let source = Source::new(policy(10 * MILLISECOND, 100), MILLISECOND);
    let mut gone = Box::pin(source.batcher.load(1));
    let mut also_asked = Box::pin(source.batcher.load(2));
    let stays = source.batcher.load(2);
    assert!((&mut gone).now_or_never().is_none());
    assert!((&mut also_asked).now_or_never().is_none());
    drop((gone, also_asked));
    assert_eq!(stays.await.unwrap(), Some(20));
    assert_eq!(source.calls(), [vec![2]]);
    // And when all have gone there is no call.
    let mut gone = Box::pin(source.batcher.load(3));
    assert!((&mut gone).now_or_never().is_none());
    drop(gone);
    tokio::time::sleep(1000 * MILLISECOND).await;
    assert_eq!(source.calls().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_is_dropped_at_any_point_costs_the_others_nothing() {
    for window in [Duration::ZERO, MILLISECOND] {
        let source = Source::new(policy(window, 100), MILLISECOND);
        let others: Arc<Mutex<Vec<tokio::task::JoinHandle<_>>>> = Arc::default();
        let swept = cancel_sweep(
            || {
                // He is the first, and at the wheel.
                let load = source.batcher.load(1);
                let batcher = source.batcher.clone();
                let others = Arc::clone(&others);
                async move {
                    let other = async move { batcher.load_many([1, 2, 200]).await.unwrap() };
                    others.lock().unwrap().push(tokio::spawn(other));
                    load.await
                }
            },
            async |_point| {
                let other = others.lock().unwrap().pop();
                if let Some(other) = other {
                    assert_eq!(other.await.unwrap(), [Some(10), Some(20), None]);
                }
            },
        )
        .await;
        assert!(swept.points >= 2, "{swept:?}");
    }
}

/// Counts how many of it there are.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_is_dropped_with_the_last_who_waits_for_it() {
    let running = Arc::new(AtomicUsize::new(0));
    let counts = Arc::clone(&running);
    let loader = move |_: Vec<u32>| {
        counts.fetch_add(1, SeqCst);
        let counted = Counted(Arc::clone(&counts));
        async move {
            std::future::pending::<()>().await;
            drop(counted);
            Ok::<Vec<(u32, u32)>, io::Error>(Vec::new())
        }
    };
    let batcher = Batcher::new(policy(MILLISECOND, 2), loader).unwrap();
    let (one, other) = (batcher.clone(), batcher.clone());
    let one = tokio::spawn(async move { one.load(1).await });
    let other = tokio::spawn(async move { other.load(2).await });
    tokio::time::sleep(10 * MILLISECOND).await;
    assert_eq!(running.load(SeqCst), 1);
    one.abort();
    drop(one.await);
    tokio::time::sleep(10 * MILLISECOND).await;
    assert_eq!(running.load(SeqCst), 1, "one waits still");
    other.abort();
    drop(other.await);
    assert_eq!(running.load(SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn an_error_reaches_all_and_one_keys_error_reaches_those_who_asked_for_it() {
    let fails = |_: Vec<u32>| async { Err::<Vec<(u32, u32)>, _>(io::Error::other("down")) };
    let batcher = Batcher::new(BatchPolicy::default(), fails).unwrap();
    let (one, other) = tokio::join!(batcher.load(1), batcher.load(2));
    for error in [one.unwrap_err(), other.unwrap_err()] {
        assert!(error.downcast_ref::<io::Error>().is_some());
    }
    let some_fail = |keys: Vec<u32>| async move {
        let odd = |key| match key % 2 {
            0 => Ok(key),
            _ => Err(io::Error::other("odd")),
        };
        let each = keys.into_iter().map(move |key| (key, odd(key)));
        Ok::<Vec<_>, io::Error>(each.collect())
    };
    let batcher = Batcher::with_results(BatchPolicy::default(), some_fail).unwrap();
    let (one, two) = tokio::join!(batcher.load(1), batcher.load(2));
    assert!(matches!(one, Err(BatchError::Load(_))));
    assert_eq!(two.unwrap(), Some(2));
    assert!(batcher.load_many([2, 1]).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_panic_reaches_all_who_wait_and_hangs_nobody() {
    for waits in [false, true] {
        let calls = Arc::new(AtomicUsize::new(0));
        let counts = Arc::clone(&calls);
        let loader = move |keys: Vec<u32>| {
            let first = counts.fetch_add(1, SeqCst) == 0;
            assert!(waits || !first, "at once");
            async move {
                tokio::task::yield_now().await;
                assert!(!first, "while it runs");
                let each = keys.into_iter().map(|key| (key, key));
                Ok::<Vec<_>, io::Error>(each.collect())
            }
        };
        let batcher = Batcher::new(BatchPolicy::default(), loader).unwrap();
        let (one, other) = tokio::join!(batcher.load(1), batcher.load(2));
        let expected = if waits { "while it runs" } else { "at once" };
        for error in [one.unwrap_err(), other.unwrap_err()] {
            match error {
                BatchError::Panicked(words) => assert_eq!(&*words, expected),
                error => panic!("{error:?}"),
            }
        }
        assert_eq!(batcher.load(3).await.unwrap(), Some(3), "the next is well");
    }
}

#[tokio::test(start_paused = true)]
async fn as_the_loader_of_a_cache_it_makes_one_call_of_many_misses() {
    let source = Source::new(BatchPolicy::default(), MILLISECOND);
    let cache = Cache::<u32>::new("numbers", CachePolicy::default());
    let ask = |key: u32| {
        let batcher = source.batcher.clone();
        let cache = cache.clone();
        async move {
            let loader = move || async move { batcher.load(key).await };
            cache.find_or_load(key.to_string(), loader).await.unwrap()
        }
    };
    let keys = [1, 2, 1, 200, 3];
    let found = join_all(keys.map(ask)).await;
    assert_eq!(found, keys.map(expected));
    assert_eq!(source.calls(), [vec![1, 2, 200, 3]]);
    join_all([1, 2, 3].map(ask)).await;
    assert_eq!(source.calls().len(), 1, "they are kept");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_threads_each_question_is_answered_and_no_call_is_over_its_bound() {
    let source = Source::new(policy(MILLISECOND, 7), Duration::ZERO);
    let tasks: Vec<_> = (0..64_u32)
        .map(|task| {
            let batcher = source.batcher.clone();
            tokio::spawn(async move {
                for round in 0..20 {
                    let key = (task * 7 + round) % 120;
                    assert_eq!(batcher.load(key).await.unwrap(), expected(key));
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let calls = source.calls();
    assert!(calls.iter().all(|keys| (1..=7).contains(&keys.len())));
    let asked: usize = calls.iter().map(Vec::len).sum();
    assert!(asked <= 64 * 20, "{asked}");
}

/// Asks its own batcher when it is dropped, as a user's future may.
struct AsksOnce(Arc<OnceLock<Batcher<u32, u32>>>);

impl Drop for AsksOnce {
    fn drop(&mut self) {
        let batcher = self.0.get().unwrap();
        assert!(batcher.load(3).now_or_never().is_none());
    }
}

/// Both go on at once, or as nearly so as can be had.
fn meet(arrived: &AtomicUsize, round: usize) {
    arrived.fetch_add(1, SeqCst);
    let mut spins = 0_u32;
    while arrived.load(SeqCst) < 2 * round {
        spins += 1;
        match spins % 1024 {
            0 => thread::yield_now(),
            _ => std::hint::spin_loop(),
        }
    }
}

/// The last caller goes while the next one comes, who is too late for this call and may be the last to hold it.
#[test]
fn a_call_that_is_dropped_by_who_comes_next_is_dropped_outside_of_the_lock() {
    let (says, heard) = mpsc::channel();
    thread::spawn(move || {
        let own: Arc<OnceLock<Batcher<u32, u32>>> = Arc::default();
        let asks = Arc::clone(&own);
        let loader = move |_: Vec<u32>| {
            let asks = AsksOnce(Arc::clone(&asks));
            async move {
                std::future::pending::<()>().await;
                drop(asks);
                Ok::<Vec<(u32, u32)>, io::Error>(Vec::new())
            }
        };
        let batcher = Batcher::new(policy(Duration::ZERO, 1), loader).unwrap();
        assert!(own.set(batcher.clone()).is_ok());
        let arrived = Arc::new(AtomicUsize::new(0));
        let (comes, arrives) = (batcher.clone(), Arc::clone(&arrived));
        let rounds = short_or_long(20_000, 1_000_000);
        let other = thread::spawn(move || {
            for round in 1..=rounds {
                meet(&arrives, round);
                // A little later each time: what is looked for is over in some nanoseconds.
                (0..round % 50).for_each(|_| std::hint::spin_loop());
                assert!(comes.load(2).now_or_never().is_none());
            }
        });
        for round in 1..=rounds {
            let mut goes = Box::pin(batcher.load(1));
            // The window is over with the first poll, the call begins with the second.
            assert!((&mut goes).now_or_never().is_none());
            assert!((&mut goes).now_or_never().is_none());
            meet(&arrived, round);
            drop(goes);
        }
        other.join().unwrap();
        says.send(()).unwrap();
    });
    let ended = heard.recv_timeout(Duration::from_secs(120));
    ended.expect("nobody waits for his own lock");
}

#[test]
fn a_policy_that_cannot_work_is_refused() {
    let make = |policy| {
        let loader = |_: Vec<u32>| async { Ok::<Vec<(u32, u32)>, io::Error>(Vec::new()) };
        Batcher::new(policy, loader)
            .map(drop)
            .map_err(|it| it.field())
    };
    assert_eq!(make(policy(1001 * MILLISECOND, 1)), Err("window"));
    assert_eq!(make(policy(MILLISECOND, 0)), Err("most"));
    assert_eq!(make(policy(MILLISECOND, 100_001)), Err("most"));
    assert_eq!(make(policy(Duration::ZERO, 100_000)), Ok(()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(short_or_long(64, 5_000)))]

    /// Whoever comes when, and whoever goes: who stays is answered, in each call a key is once, and of those who were
    /// there at once nobody is in two calls.
    #[test]
    fn each_key_is_in_one_call_of_its_window(
        most in 1..5_usize,
        callers in prop::collection::vec((0..8_u32, 0..30_u64, prop::option::of(0..40_u64)), 1..24),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async move {
            let source = Source::new(policy(5 * MILLISECOND, most), 3 * MILLISECOND);
            let tasks = callers.iter().copied().map(|(key, comes, leaves)| {
                let batcher = source.batcher.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(MILLISECOND * u32::try_from(comes).unwrap()).await;
                    let load = batcher.load(key);
                    match leaves {
                        Some(after) => {
                            let after = Duration::from_micros(after * 300);
                            tokio::time::timeout(after, load).await.ok()
                        }
                        None => Some(load.await),
                    }
                })
            });
            let mut asked: HashMap<u32, usize> = HashMap::new();
            let found = join_all(tasks.collect::<Vec<_>>()).await;
            for ((key, _, leaves), found) in callers.iter().zip(found) {
                *asked.entry(*key).or_default() += 1;
                match found.unwrap() {
                    Some(found) => assert_eq!(found.unwrap(), expected(*key)),
                    None => assert!(leaves.is_some()),
                }
            }
            for call in source.calls() {
                assert!((1..=most).contains(&call.len()), "{call:?}");
                let mut distinct = call.clone();
                distinct.sort_unstable();
                distinct.dedup();
                assert_eq!(distinct.len(), call.len(), "{call:?}");
                for key in call {
                    // No key is in more calls than there were who asked for it.
                    let left = asked.get_mut(&key).expect("somebody asked for it");
                    *left = left.checked_sub(1).expect("for somebody else");
                }
            }
        });
    }
}
