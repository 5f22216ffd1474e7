//! Two instances, one of which writes behind.

use buttress_cache_aside::{
    SecondLevel,
    bus::{LinePolicy, MemoryBus},
    codec::{Codec, CodecError, Framing, Json, Schema},
    store::MemoryStore,
};
use buttress_testkit::{cancel_sweep, eventually, redis, tier::short_or_long};

use super::*;
use crate::stores::redis_store;

const PATIENCE: Duration = Duration::from_secs(60);

fn instance(store: &Arc<MemoryStore>, bus: &MemoryBus) -> Cache<u32> {
    let framing = Framing::new(Json::new(), Schema::new("u32", 1).unwrap());
    let line = LinePolicy {
        beat: Duration::from_millis(10),
        ..LinePolicy::default()
    };
    let second = SecondLevel::new(Arc::clone(store), framing)
        .staleness(LONG)
        .unwrap()
        .bus(bus.clone(), line)
        .unwrap();
    // Nothing ends by itself while the test runs.
    let policy = CachePolicy::builder().ttl(LONG).build().unwrap();
    Cache::builder("fleet", policy).second_level(second).build()
}

#[tokio::test]
async fn others_read_what_was_put_and_once_it_is_written_what_the_source_has() {
    let (store, bus) = (Arc::new(MemoryStore::new()), MemoryBus::new());
    let (writer, reader) = (instance(&store, &bus), instance(&store, &bus));
    for cache in [&writer, &reader] {
        eventually("it hears", PATIENCE, async || {
            cache.heard_within(LONG).then_some(())
        })
        .await;
    }
    let source = Source::default();
    let rows = Arc::clone(&source.rows);
    rows.lock().unwrap().insert(b"k".to_vec(), (0, Some(5)));
    let behind = behind(&writer, &source, lazy());
    behind.put("k", 1).await.unwrap();
    eventually("it is shared", PATIENCE, async || {
        (source.read(&reader, "k").await == Some(1)).then_some(())
    })
    .await;
    assert_eq!(source.get("k"), Some(5), "before the source has it");
    // What the second level loses meanwhile, others load from a source that has not got it, and keep it.
    reader.invalidate("k").await;
    assert_eq!(source.read(&reader, "k").await, Some(5));
    assert_eq!(reader.get("k").await, Some(5));
    assert_eq!(source.read(&writer, "k").await, Some(1), "its own process");
    behind.flush().await;
    assert_eq!(source.get("k"), Some(1));
    eventually("the others hear of it", PATIENCE, async || {
        (source.read(&reader, "k").await == Some(1)).then_some(())
    })
    .await;
    eventually("it owes nothing", PATIENCE, async || {
        (writer.owed() == 0).then_some(())
    })
    .await;
}

/// While the others are told that what could not be written is none, whoever stops it gives up.
#[tokio::test(start_paused = true)]
async fn a_stop_that_is_dropped_at_any_point_leaves_what_was_not_written_to_the_next() {
    let stopped: Mutex<Option<WriteBehind<u32>>> = Mutex::new(None);
    let returned = Mutex::new(0);
    let swept = cancel_sweep(
        async || {
            let cache = instance(&Arc::new(MemoryStore::new()), &MemoryBus::new());
            let source = Source::default();
            source.is_down.store(true, SeqCst);
            let behind = behind(&cache, &source, lazy());
            for key in ["a", "b"] {
                behind.put(key, 1).await.unwrap();
            }
            *stopped.lock().unwrap() = Some(behind.clone());
            *returned.lock().unwrap() = behind.stop(Duration::ZERO).await.len();
        },
        async |_point| {
            let first = std::mem::take(&mut *returned.lock().unwrap());
            let behind = stopped.lock().unwrap().take();
            if let Some(behind) = behind {
                let second = behind.stop(Duration::ZERO).await.len();
                assert_eq!(first + second, 2);
                assert!(behind.stop(Duration::ZERO).await.is_empty());
            }
        },
    )
    .await;
    assert!(swept.points >= 4, "{swept:?}");
}

/// A codec in which something happens while the first value is written.
struct Meanwhile {
    inner: Json,
    once: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl std::fmt::Debug for Meanwhile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Meanwhile")
    }
}

#[derive(Clone, Debug)]
struct Shared(Arc<Meanwhile>);

impl Codec<u32> for Shared {
    fn id(&self) -> u8 {
        200
    }

    fn encode(&self, value: &u32) -> Result<Vec<u8>, CodecError> {
        let once = self.0.once.lock().unwrap().take();
        if let Some(once) = once {
            once();
        }
        self.0.inner.encode(value)
    }

    fn decode(&self, bytes: &[u8]) -> Result<u32, CodecError> {
        self.0.inner.decode(bytes)
    }
}

/// A put that is being shared when a later one of its key comes, and is shared whole before it.
#[tokio::test]
async fn a_put_that_is_overtaken_on_its_way_is_not_what_others_read() {
    let store = Arc::new(MemoryStore::new());
    let codec = Shared(Arc::new(Meanwhile {
        inner: Json::new(),
        once: Mutex::new(None),
    }));
    let instance = || {
        let framing = Framing::new(codec.clone(), Schema::new("u32", 1).unwrap());
        let second = SecondLevel::new(Arc::clone(&store), framing);
        Cache::builder("fleet", CachePolicy::default())
            .second_level(second)
            .build()
    };
    let writer = instance();
    let source = Source::default();
    let behind = behind(&writer, &source, lazy());
    let later = behind.clone();
    let overtakes = move || {
        let put = later.put("k", 2).now_or_never();
        put.expect("nothing is waited for here").unwrap();
    };
    *codec.0.once.lock().unwrap() = Some(Box::new(overtakes));
    behind.put("k", 1).await.unwrap();
    assert_eq!(source.read(&writer, "k").await, Some(2));
    assert_ne!(instance().get("k").await, Some(1), "two or nothing");
    behind.flush().await;
    assert_eq!(source.read(&instance(), "k").await, Some(2));
}

/// Puts that are shared while others of the same key are written: what is shared in the end is what the source has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_shared_late_is_not_what_was_put_before() {
    let Some(prefix) = redis::fresh_prefix() else {
        return;
    };
    let store = Arc::new(redis_store(&prefix).await);
    let instance = || {
        let framing = Framing::new(Json::new(), Schema::new("u32", 1).unwrap());
        let second = SecondLevel::new(Arc::clone(&store), framing);
        Cache::builder("fleet", CachePolicy::default())
            .second_level(second)
            .build()
    };
    let writer = instance();
    let source = Source::default();
    let policy = WriteBehindPolicy {
        delay: Duration::ZERO,
        ..WriteBehindPolicy::default()
    };
    let behind = behind(&writer, &source, policy);
    for round in 0..short_or_long(100, 10_000_u32) {
        let key = format!("k{round}");
        let puts: Vec<_> = (1..=3)
            .map(|value| {
                let (behind, key) = (behind.clone(), key.clone());
                tokio::spawn(async move { behind.put(key, value).await.unwrap() })
            })
            .collect();
        for put in puts {
            put.await.unwrap();
        }
        behind.flush().await;
        eventually("it owes nothing", PATIENCE, async || {
            (writer.owed() == 0).then_some(())
        })
        .await;
        let (there, reader) = (source.get(&key), instance());
        assert!(there.is_some());
        assert_eq!(source.read(&reader, &key).await, there, "{round}");
        assert_eq!(source.read(&writer, &key).await, there, "{round}");
    }
}
