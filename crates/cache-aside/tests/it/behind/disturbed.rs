//! The source fails in every way, and callers go at every point.

use buttress_testkit::{
    cancel_sweep,
    fault::{Fault, Plan, fault_sweep},
    tier::short_or_long,
};
use proptest::prelude::*;

use super::*;

fn quick() -> WriteBehindPolicy {
    WriteBehindPolicy {
        delay: 10 * MILLISECOND,
        batch: 3,
        timeout: SECOND,
        longest_pause: SECOND,
        ..WriteBehindPolicy::default()
    }
}

/// A source behind a plan of faults. What it was told to forget by being dropped, it forgets.
fn planned(
    source: &Source,
    plan: Plan<io::Error>,
) -> impl Fn(Vec<Write<u32>>) -> futures_util::future::BoxFuture<'static, io::Result<()>>
+ Send
+ Sync
+ 'static {
    let source = source.clone();
    move |writes| {
        let (source, plan) = (source.clone(), plan.clone());
        async move { plan.around("write", source.write(writes)).await }.boxed()
    }
}

#[tokio::test(start_paused = true)]
async fn any_fault_at_any_write_loses_none_and_writes_no_older_one_after_a_newer() {
    let error = |_injected| io::Error::other("struck");
    let runs = fault_sweep(&Fault::ALL, error, async |plan| {
        let (cache, _) = cache(CachePolicy::default());
        let source = Source::default();
        let behind = WriteBehind::start(&cache, quick(), planned(&source, plan)).unwrap();
        for round in 1..4 {
            for key in ["a", "b", "c", "d"] {
                behind.put(key, round).await.unwrap();
                assert_eq!(source.read(&cache, key).await, Some(round));
            }
            // While the first of them are written, the next ones come.
            tokio::time::sleep(11 * MILLISECOND).await;
            cache.clear().await;
        }
        for key in ["a", "b", "c", "d"] {
            assert_eq!(source.read(&cache, key).await, Some(3));
        }
        assert!(behind.stop(60 * SECOND).await.is_empty());
        for key in ["a", "b", "c", "d"] {
            assert_eq!(source.get(key), Some(3), "{key}");
        }
    })
    .await;
    assert!(runs as usize >= 4 * Fault::ALL.len(), "{runs}");
}

#[tokio::test(start_paused = true)]
async fn one_that_is_never_written_keeps_none_that_come_after_it() {
    let (cache, _) = cache(CachePolicy::default());
    let source = Source::default();
    let takes = source.clone();
    let sink = move |writes: Vec<Write<u32>>| {
        let source = takes.clone();
        async move {
            if writes.iter().any(|write| write.key() == b"poison") {
                return Err(io::Error::other("it cannot be"));
            }
            source.take(writes);
            Ok(())
        }
    };
    let behind = WriteBehind::start(&cache, WriteBehindPolicy::default(), sink).unwrap();
    behind.put("poison", 1).await.unwrap();
    // By now it waits for half a minute at a time.
    tokio::time::sleep(600 * SECOND).await;
    for key in ["a", "b", "c"] {
        behind.put(key, 7).await.unwrap();
    }
    tokio::time::sleep(120 * SECOND).await;
    for key in ["a", "b", "c"] {
        assert_eq!(source.get(key), Some(7), "{key}");
    }
    assert_eq!(behind.pending(), 1);
    behind.put("d", 7).await.unwrap();
    let left = behind.stop(120 * SECOND).await;
    assert_eq!(left.iter().map(Write::key).collect::<Vec<_>>(), [b"poison"]);
    assert_eq!(source.get("d"), Some(7));
}

#[tokio::test(start_paused = true)]
async fn a_put_that_is_dropped_at_any_point_is_written_whole_or_not_at_all() {
    let (cache, _) = cache(CachePolicy::default());
    let source = Source::default();
    let policy = WriteBehindPolicy {
        batch: 1,
        most: 1,
        ..quick()
    };
    let behind = behind(&cache, &source, policy);
    let swept = cancel_sweep(
        async || {
            // There is no room: it waits.
            behind.put("first", 1).await.unwrap();
            behind.put("second", 2).await
        },
        async |_point| {
            behind.flush().await;
            let there = source.get("second");
            assert_eq!(source.read(&cache, "second").await, there);
            assert_eq!(behind.pending(), 0);
            behind.put("second", None).await.unwrap();
            behind.flush().await;
            // The one place is free again.
            tokio::time::timeout(60 * SECOND, behind.put("third", 3))
                .await
                .unwrap()
                .unwrap();
            behind.flush().await;
        },
    )
    .await;
    assert!(swept.points >= 1, "{swept:?}");
}

#[derive(Clone, Debug)]
enum Step {
    Put(u8, u32),
    Remove(u8),
    Pass(u64),
    Forget(u8),
    Clear,
    Read(u8),
    /// How the next writes go.
    Source(How),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Good,
    Fails,
    FailsWhenDone,
    Panics,
    Hangs,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let how = prop_oneof![
        4 => Just(How::Good),
        1 => Just(How::Fails),
        1 => Just(How::FailsWhenDone),
        1 => Just(How::Panics),
        1 => Just(How::Hangs),
    ];
    let step = prop_oneof![
        6 => (0..5_u8, any::<u32>()).prop_map(|(key, value)| Step::Put(key, value)),
        1 => (0..5_u8).prop_map(Step::Remove),
        4 => (0..60_u64).prop_map(Step::Pass),
        1 => (0..5_u8).prop_map(Step::Forget),
        1 => Just(Step::Clear),
        3 => (0..5_u8).prop_map(Step::Read),
        2 => how.prop_map(Step::Source),
    ];
    prop::collection::vec(step, 1..60)
}

async fn run(steps: Vec<Step>) {
    // So small that what was put is evicted.
    let small = CachePolicy::builder().capacity(2).ttl(20 * MILLISECOND);
    let (cache, _) = cache(small.build().unwrap());
    let source = Source::default();
    let how = Arc::new(Mutex::new(How::Good));
    let (takes, chooses) = (source.clone(), Arc::clone(&how));
    let sink = move |writes: Vec<Write<u32>>| {
        let (source, how) = (takes.clone(), *chooses.lock().unwrap());
        async move {
            tokio::time::sleep(7 * MILLISECOND).await;
            match how {
                How::Good => source.take(writes),
                How::Fails => return Err(io::Error::other("down")),
                How::FailsWhenDone => {
                    source.take(writes);
                    return Err(io::Error::other("down"));
                }
                How::Panics => panic!("the source panics"),
                How::Hangs => std::future::pending().await,
            }
            Ok(())
        }
    };
    let behind = WriteBehind::start(&cache, quick(), sink).unwrap();
    let mut put: HashMap<u8, Option<u32>> = HashMap::new();
    for step in steps {
        match step {
            Step::Put(key, value) => {
                behind.put([key], value).await.unwrap();
                put.insert(key, Some(value));
            }
            Step::Remove(key) => {
                behind.put([key], None).await.unwrap();
                put.insert(key, None);
            }
            Step::Pass(millis) => tokio::time::sleep(Duration::from_millis(millis)).await,
            Step::Forget(key) => cache.invalidate([key]).await,
            Step::Clear => cache.clear().await,
            Step::Source(next) => *how.lock().unwrap() = next,
            Step::Read(key) => {
                let name = String::from_utf8(vec![key]).unwrap();
                let read = source.read(&cache, &name).await;
                assert_eq!(read, put.get(&key).copied().flatten(), "{key}");
            }
        }
    }
    *how.lock().unwrap() = How::Good;
    assert!(behind.stop(60 * SECOND).await.is_empty());
    for (key, value) in put {
        let name = String::from_utf8(vec![key]).unwrap();
        assert_eq!(source.get(&name), value, "{key}");
        assert_eq!(source.read(&cache, &name).await, value, "{key}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(short_or_long(128, 20_000)))]

    /// Whatever the source does and the cache loses: who put reads what he put, no older write comes after a newer one
    /// (the source would panic), and all is there in the end.
    #[test]
    fn a_process_reads_its_own_writes_and_the_source_gets_the_last_of_each(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(run(steps));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_threads_each_reads_what_he_put_last_and_so_does_the_source() {
    let tiny = CachePolicy::builder().capacity(4);
    let (cache, _) = cache(tiny.build().unwrap());
    let source = Source::default();
    let policy = WriteBehindPolicy {
        delay: MILLISECOND,
        batch: 4,
        most: 8,
        ..WriteBehindPolicy::default()
    };
    let behind = behind(&cache, &source, policy);
    let tasks: Vec<_> = (0..8_u32)
        .map(|task| {
            let (behind, cache, source) = (behind.clone(), cache.clone(), source.clone());
            tokio::spawn(async move {
                // Of each key one task is the writer.
                for round in 0..short_or_long(100, 5_000_u32) {
                    let key = format!("{task}:{}", round % 3);
                    behind.put(&key, round).await.unwrap();
                    if round % 7 == 0 {
                        cache.invalidate(&key).await;
                    }
                    assert_eq!(source.read(&cache, &key).await, Some(round), "{key}");
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert!(behind.stop(LONG).await.is_empty());
    let last = short_or_long(100, 5_000_u32) - 1;
    for task in 0..8_u32 {
        assert_eq!(source.get(&format!("{task}:{}", last % 3)), Some(last));
    }
}

/// A put that is overtaken between its place in the queue and its place in the cache.
#[tokio::test]
async fn a_put_that_is_overtaken_on_its_way_is_not_kept() {
    let later: Arc<Mutex<Option<WriteBehind<u32>>>> = Arc::default();
    let overtakes = Arc::clone(&later);
    let cache = Cache::builder("behind", CachePolicy::default())
        .weigher(move |_: &[u8], _: &u32| {
            let once = overtakes.lock().unwrap().take();
            if let Some(behind) = once {
                let put = behind.put("k", 2).now_or_never();
                put.expect("nothing is waited for here").unwrap();
            }
            1
        })
        .build();
    let source = Source::default();
    let behind = behind(&cache, &source, lazy());
    *later.lock().unwrap() = Some(behind.clone());
    behind.put("k", 1).await.unwrap();
    assert_eq!(source.read(&cache, "k").await, Some(2));
    behind.flush().await;
    assert_eq!(source.read(&cache, "k").await, Some(2));
    assert_eq!(source.get("k"), Some(2));
}

/// Two who put one key at once: whoever's is the last, all agree about it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_who_put_at_once_cache_and_source_keep_the_same() {
    for round in 0..short_or_long(200, 20_000_u32) {
        let (cache, _) = cache(CachePolicy::default());
        let source = Source::default();
        let behind = behind(&cache, &source, quick());
        let put = |value| {
            let behind = behind.clone();
            tokio::spawn(async move { behind.put("k", value).await.unwrap() })
        };
        let (one, other) = (put(1), put(2));
        one.await.unwrap();
        other.await.unwrap();
        let read = source.read(&cache, "k").await;
        behind.flush().await;
        assert_eq!(source.get("k"), read, "{round}");
        assert_eq!(source.read(&cache, "k").await, read, "{round}");
    }
}
