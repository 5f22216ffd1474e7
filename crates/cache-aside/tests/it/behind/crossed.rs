//! A stop that crosses a flush, and a load that crosses a put.

use buttress_cache_aside::EarlyRefresh;

use super::*;

/// What was handed back is written by nobody: who waits for that would wait for ever.
#[tokio::test(start_paused = true)]
async fn who_waits_for_what_a_stop_hands_back_is_told() {
    let (cache, _) = cache(CachePolicy::default());
    let source = Source::default();
    source.is_down.store(true, SeqCst);
    let behind = behind(&cache, &source, WriteBehindPolicy::default());
    behind.put("a", 1).await.unwrap();
    let flushing = tokio::spawn({
        let behind = behind.clone();
        async move { behind.flush().await }
    });
    tokio::time::sleep(SECOND).await;
    assert!(!flushing.is_finished(), "the source is down");
    assert_eq!(behind.stop(SECOND).await.len(), 1);
    let told = tokio::time::timeout(LONG, flushing).await;
    told.expect("it waits for what is written by nobody")
        .unwrap();
}

/// The chance of an early refresh is drawn between the look at what waits and the load. Other threads put then.
#[tokio::test]
async fn no_load_that_crosses_a_put_shows_what_the_source_had_before_it() {
    let holds: Arc<Mutex<Option<WriteBehind<u32>>>> = Arc::default();
    let putting = Arc::clone(&holds);
    let (clock, hand) = Clock::manual();
    let policy = CachePolicy::builder()
        .jitter_percent(0)
        .ttl(10 * SECOND)
        .max_entry_weight(10)
        .early_refresh(EarlyRefresh::xfetch(100.0));
    let cache = Cache::builder("behind", policy.build().unwrap())
        .clock(clock)
        .random(move || {
            if let Some(behind) = putting.lock().unwrap().take() {
                // Too heavy to be kept, so nothing but what waits says that it was put.
                let put = behind.put("a", Loaded::new(2).weight(11));
                put.now_or_never().unwrap().unwrap();
            }
            u64::MAX >> 1
        })
        .build();
    let source = Source::default();
    let behind = behind(&cache, &source, lazy());
    let slow = {
        let hand = hand.clone();
        move || async move {
            hand.advance(SECOND);
            Ok::<_, io::Error>(1)
        }
    };
    assert_eq!(cache.get_or_load("a", slow).await.unwrap(), 1);
    hand.advance(5 * SECOND);
    *holds.lock().unwrap() = Some(behind.clone());
    let old = || async { Ok::<_, io::Error>(1) };
    let _crosses = cache.get_or_load("a", old).await.unwrap();
    assert_eq!(behind.pending(), 1, "it was put meanwhile");
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert_eq!(cache.get_or_load("a", old).await.unwrap(), 2);
}
