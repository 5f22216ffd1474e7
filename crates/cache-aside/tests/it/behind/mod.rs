//! Writes that are answered before the source has them. Time is paused: it passes only where everybody waits.

mod crash;
mod crossed;
mod disturbed;
mod fleet;

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use buttress_cache_aside::{
    Cache, CachePolicy, Event, EventKind, Loaded, WhenFull, Write, WriteBehind, WriteBehindError,
    WriteBehindPolicy, Written,
};
use buttress_core::Clock;
use futures_util::FutureExt as _;

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(3600);

/// Keys with their values, and which version wrote them.
type Rows = HashMap<Vec<u8>, (u64, Option<u32>)>;

/// A source that notes what is written, and refuses what comes out of order.
#[derive(Clone, Default)]
struct Source {
    rows: Arc<Mutex<Rows>>,
    batches: Arc<Mutex<Vec<usize>>>,
    is_down: Arc<AtomicBool>,
}

impl Source {
    fn take(&self, writes: Vec<Write<u32>>) {
        self.batches.lock().unwrap().push(writes.len());
        let mut rows = self.rows.lock().unwrap();
        for write in writes {
            let (key, version) = (write.key().to_vec(), write.version());
            let before = rows.insert(key, (version, write.into_value()));
            let before = before.map_or(0, |(version, _)| version);
            // What is written again, because nobody knew, is the same.
            assert!(before <= version, "{version} after {before}");
        }
    }

    async fn write(self, writes: Vec<Write<u32>>) -> io::Result<()> {
        tokio::time::sleep(MILLISECOND).await;
        if self.is_down.load(SeqCst) {
            return Err(io::Error::other("down"));
        }
        self.take(writes);
        Ok(())
    }

    fn get(&self, key: &str) -> Option<u32> {
        let rows = self.rows.lock().unwrap();
        rows.get(key.as_bytes()).and_then(|(_, value)| *value)
    }

    fn sink(
        &self,
    ) -> impl Fn(Vec<Write<u32>>) -> futures_util::future::BoxFuture<'static, io::Result<()>>
    + Send
    + Sync
    + 'static
    + use<> {
        let source = self.clone();
        move |writes| source.clone().write(writes).boxed()
    }

    async fn read(&self, cache: &Cache<u32>, key: &str) -> Option<u32> {
        let (source, own) = (self.clone(), key.to_owned());
        let loader = move || async move { Ok::<_, io::Error>(source.get(&own)) };
        cache.find_or_load(key, loader).await.unwrap()
    }
}

fn cache(policy: CachePolicy) -> (Cache<u32>, Arc<Mutex<Vec<EventKind>>>) {
    let events: Arc<Mutex<Vec<EventKind>>> = Arc::default();
    let hears = Arc::clone(&events);
    let cache = Cache::builder("behind", policy)
        .observer(move |event: &Event| hears.lock().unwrap().push(event.kind))
        .build();
    (cache, events)
}

fn behind(cache: &Cache<u32>, source: &Source, policy: WriteBehindPolicy) -> WriteBehind<u32> {
    WriteBehind::start(cache, policy, source.sink()).unwrap()
}

fn lazy() -> WriteBehindPolicy {
    WriteBehindPolicy {
        delay: LONG,
        ..WriteBehindPolicy::default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_is_answered_at_once_and_the_source_gets_the_last_of_each_key_together() {
    let (cache, _) = cache(CachePolicy::default());
    let source = Source::default();
    let behind = behind(&cache, &source, WriteBehindPolicy::default());
    let clock = Clock::tokio();
    let begun = clock.now();
    for round in 0..10 {
        for key in ["a", "b", "c"] {
            behind.put(key, round).await.unwrap();
        }
    }
    behind.put("c", None).await.unwrap();
    assert_eq!(clock.now(), begun, "nobody waited");
    assert_eq!((behind.pending(), source.get("a")), (3, None));
    tokio::time::sleep(SECOND + 2 * MILLISECOND).await;
    assert_eq!(behind.pending(), 0);
    assert_eq!(*source.batches.lock().unwrap(), [3]);
    assert_eq!((source.get("a"), source.get("c")), (Some(9), None));
    // A batch's worth of them does not wait.
    for key in 0..250_u32 {
        behind.put(key.to_string(), key).await.unwrap();
    }
    tokio::time::sleep(10 * MILLISECOND).await;
    assert_eq!(*source.batches.lock().unwrap(), [3, 100, 100]);
    behind.flush().await;
    assert_eq!(*source.batches.lock().unwrap(), [3, 100, 100, 50]);
}

#[tokio::test(start_paused = true)]
async fn what_was_put_is_read_here_whatever_the_cache_has_lost() {
    let short = CachePolicy::builder()
        .ttl(SECOND)
        .stale_while_revalidate(10 * SECOND)
        .jitter_percent(0);
    let (cache, _) = cache(short.build().unwrap());
    let source = Source::default();
    source
        .rows
        .lock()
        .unwrap()
        .insert(b"k".to_vec(), (0, Some(1)));
    let behind = behind(&cache, &source, lazy());
    assert_eq!(source.read(&cache, "k").await, Some(1));
    behind.put("k", 2).await.unwrap();
    for lost in 0..6 {
        match lost {
            0 => {}
            1 => cache.invalidate("k").await,
            2 => cache.clear().await,
            3 => cache.expire("k").await,
            4 => tokio::time::sleep(2 * SECOND).await, // it would be loaded anew behind the back
            _ => tokio::time::sleep(60 * SECOND).await,
        }
        assert_eq!(source.read(&cache, "k").await, Some(2), "{lost}");
        assert_eq!(cache.get("k").await, Some(2), "{lost}");
        let many = cache.get_many_or_load(["k"], |_| async {
            Ok::<Vec<(&str, u32)>, io::Error>(Vec::new())
        });
        assert_eq!(many.await.unwrap(), [Some(2)], "{lost}");
    }
    behind.put("k", Loaded::not_found()).await.unwrap();
    assert_eq!(source.read(&cache, "k").await, None, "removed");
    assert_eq!(source.get("k"), Some(1), "and not yet there");
    behind.flush().await;
    assert_eq!(source.get("k"), None);
    assert_eq!(source.read(&cache, "k").await, None);
    let nothing = behind.put("k", Loaded::not_modified()).await;
    assert_eq!(nothing, Err(WriteBehindError::NothingToWrite));
}

/// A load that began before a write, and ends after it was written, is not kept.
#[tokio::test(start_paused = true)]
async fn a_load_of_before_a_write_does_not_come_back() {
    let (cache, _) = cache(CachePolicy::default());
    let source = Source::default();
    let behind = behind(&cache, &source, WriteBehindPolicy::default());
    let slow = cache.clone();
    let slow = tokio::spawn(async move {
        let loader = || async {
            tokio::time::sleep(10 * SECOND).await;
            Ok::<_, io::Error>(1_u32)
        };
        slow.get_or_load("k", loader).await.unwrap()
    });
    tokio::time::sleep(MILLISECOND).await;
    behind.put("k", 2).await.unwrap();
    behind.flush().await;
    assert_eq!(
        slow.await.unwrap(),
        1,
        "who came before gets what he asked for"
    );
    assert_eq!(source.read(&cache, "k").await, Some(2));
}

#[tokio::test(start_paused = true)]
async fn where_there_is_no_room_one_waits_or_is_refused_and_a_key_that_waits_is_room() {
    let source = Source::default();
    source.is_down.store(true, SeqCst);
    let full = |when_full| WriteBehindPolicy {
        batch: 1,
        most: 2,
        when_full,
        longest_pause: SECOND,
        ..WriteBehindPolicy::default()
    };
    let (one, _) = cache(CachePolicy::default());
    let refuses = behind(&one, &source, full(WhenFull::Refuse));
    refuses.put("a", 1).await.unwrap();
    refuses.put("b", 1).await.unwrap();
    assert_eq!(refuses.put("c", 1).await, Err(WriteBehindError::Full));
    assert_eq!(one.get("c").await, None, "nothing was done");
    refuses.put("a", 2).await.unwrap();
    let (other, _) = cache(CachePolicy::default());
    let waits = behind(&other, &source, full(WhenFull::Wait));
    for key in ["a", "b"] {
        waits.put(key, 1).await.unwrap();
    }
    let mut gone = Box::pin(waits.put("gone", 1));
    let mut third = Box::pin(waits.put("c", 1));
    assert!((&mut gone).now_or_never().is_none());
    assert!((&mut third).now_or_never().is_none());
    drop(gone);
    waits.put("a", 2).await.unwrap();
    source.is_down.store(false, SeqCst);
    third.await.unwrap();
    waits.flush().await;
    assert_eq!((source.get("c"), source.get("gone")), (Some(1), None));
    refuses.flush().await;
    refuses.put("c", 3).await.unwrap();
    refuses.flush().await;
    assert_eq!((refuses.pending(), waits.pending()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_stop_writes_all_and_takes_no_more() {
    let (cache, _) = cache(CachePolicy::default());
    let source = Source::default();
    let policy = WriteBehindPolicy { batch: 7, ..lazy() };
    let behind = behind(&cache, &source, policy);
    for key in 0..100_u32 {
        behind.put(key.to_string(), key).await.unwrap();
    }
    assert!(behind.stop(LONG).await.is_empty());
    for key in 0..100_u32 {
        assert_eq!(source.get(&key.to_string()), Some(key));
    }
    let late = behind.put("late", 1).await;
    assert_eq!(late, Err(WriteBehindError::Stopped));
    assert!(behind.stop(LONG).await.is_empty(), "twice is no harm");
}

#[tokio::test(start_paused = true)]
async fn a_stop_returns_what_could_not_be_written_and_nothing_is_written_after_it() {
    let (cache, _) = cache(CachePolicy::default());
    let source = Source::default();
    let policy = WriteBehindPolicy {
        batch: 2,
        most: 3,
        ..lazy()
    };
    let behind = behind(&cache, &source, policy);
    source.is_down.store(true, SeqCst);
    for (key, value) in [("a", 1), ("b", 2), ("c", 3), ("a", 4)] {
        behind.put(key, value).await.unwrap();
    }
    let one_more = behind.clone();
    let one_more = tokio::spawn(async move { one_more.put("d", 5).await });
    tokio::task::yield_now().await;
    let clock = Clock::tokio();
    let begun = clock.now();
    // Who stops it may give up, and it is stopped all the same.
    assert!(
        tokio::time::timeout(SECOND, behind.stop(LONG))
            .await
            .is_err()
    );
    let left = behind.stop(20 * SECOND).await;
    let took = clock.now().saturating_since(begun);
    assert!(took < 22 * SECOND, "{took:?}");
    assert_eq!(one_more.await.unwrap(), Err(WriteBehindError::Stopped));
    let left: Vec<_> = left
        .iter()
        .map(|write| (write.key(), write.value().copied()))
        .collect();
    let expected = [("b", 2), ("c", 3), ("a", 4)];
    let expected = expected.map(|(key, value)| (key.as_bytes(), Some(value)));
    assert_eq!(left, expected);
    source.is_down.store(false, SeqCst);
    tokio::time::sleep(LONG).await;
    assert!(source.rows.lock().unwrap().is_empty());
    assert_eq!(cache.get("a").await, None, "the source has no such value");
}

#[tokio::test(start_paused = true)]
async fn what_is_queued_is_written_when_the_last_handle_is_dropped() {
    let (cache, _) = cache(CachePolicy::default());
    let source = Source::default();
    let behind = behind(&cache, &source, lazy());
    behind.put("k", 1).await.unwrap();
    let clone = behind.clone();
    drop(behind);
    tokio::time::sleep(SECOND).await;
    assert_eq!(source.get("k"), None, "one is left");
    drop(clone);
    tokio::time::sleep(SECOND).await;
    assert_eq!(source.get("k"), Some(1));
    let again = WriteBehind::start(&cache, lazy(), source.sink());
    assert_eq!(again.unwrap_err().field(), "cache");
}

#[tokio::test(start_paused = true)]
async fn what_the_source_never_takes_is_given_up_and_told_and_the_cache_holds_it_no_more() {
    let (cache, events) = cache(CachePolicy::default());
    let source = Source::default();
    let takes = source.clone();
    let sink = move |writes: Vec<Write<u32>>| {
        let source = takes.clone();
        async move {
            // One is refused in so many words, another fails whatever comes with it.
            if writes.iter().any(|write| write.key() == b"poison") {
                return Err(io::Error::other("it cannot be"));
            }
            let is_bad = |write: &Write<u32>| write.key() == b"refused";
            let (bad, good): (Vec<_>, Vec<_>) = writes.into_iter().partition(is_bad);
            source.take(good);
            Ok(Written::all_but(bad.iter().map(Write::key)))
        }
    };
    let heard: Arc<Mutex<Vec<Write<u32>>>> = Arc::default();
    let hears = Arc::clone(&heard);
    let policy = WriteBehindPolicy {
        give_up_after: Some(4),
        ..WriteBehindPolicy::default()
    };
    let given_up = move |write: Write<u32>| {
        hears.lock().unwrap().push(write);
        panic!("it is not ours to care");
    };
    let behind = WriteBehind::start_with(&cache, policy, sink, given_up).unwrap();
    for key in ["a", "poison", "b", "refused", "c"] {
        behind.put(key, 7).await.unwrap();
    }
    behind.flush().await;
    for key in ["a", "b", "c"] {
        assert_eq!(source.get(key), Some(7), "{key}");
    }
    let mut keys: Vec<_> = heard
        .lock()
        .unwrap()
        .iter()
        .map(|it| it.key().to_vec())
        .collect();
    keys.sort_unstable();
    assert_eq!(keys, [b"poison".to_vec(), b"refused".to_vec()]);
    for key in ["poison", "refused"] {
        assert_eq!(source.read(&cache, key).await, None, "{key}");
    }
    let events = events.lock().unwrap();
    let given_up = events
        .iter()
        .filter(|kind| matches!(kind, EventKind::WriteGivenUp { keys: 1, .. }));
    assert_eq!(given_up.count(), 2);
    assert_eq!(behind.pending(), 0);
}

#[test]
fn a_policy_that_cannot_work_is_refused() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let _entered = runtime.enter();
    let good = WriteBehindPolicy::default();
    for (policy, field) in [
        (
            WriteBehindPolicy {
                delay: 2 * LONG,
                ..good
            },
            "delay",
        ),
        (WriteBehindPolicy { batch: 0, ..good }, "batch"),
        (WriteBehindPolicy { most: 99, ..good }, "most"),
        (
            WriteBehindPolicy {
                timeout: Duration::ZERO,
                ..good
            },
            "timeout",
        ),
        (
            WriteBehindPolicy {
                first_pause: Duration::ZERO,
                ..good
            },
            "first_pause",
        ),
        (
            WriteBehindPolicy {
                longest_pause: MILLISECOND,
                ..good
            },
            "longest_pause",
        ),
        (
            WriteBehindPolicy {
                give_up_after: Some(0),
                ..good
            },
            "give_up_after",
        ),
    ] {
        let (cache, _) = cache(CachePolicy::default());
        let source = Source::default();
        let refused = WriteBehind::start(&cache, policy, source.sink());
        assert_eq!(refused.unwrap_err().field(), field);
    }
}
