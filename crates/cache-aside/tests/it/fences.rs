//! What a write or an invalidation means for loads that began before it. Other caches have been caught at each of these.

use std::io;

use buttress_cache_aside::{Cache, CacheError, CacheOutcome, Loaded};

use crate::stand::{SECOND, Stand, failed, policy};

#[tokio::test]
async fn an_invalidation_during_a_load_is_not_overwritten_by_it() {
    let stand = Stand::new(policy());
    let (gate, asked) = stand.load_behind_gate("key", 10.into()).await;
    stand.cache.invalidate("key").await;
    gate.notify_one();
    assert_eq!(asked.await.unwrap().unwrap(), Some(10), "he asked before");
    assert_eq!(stand.cache.get("key").await, None);
}

#[tokio::test]
async fn a_put_during_a_load_is_not_overwritten_by_it() {
    let stand = Stand::new(policy());
    let (gate, asked) = stand.load_behind_gate("key", 10.into()).await;
    stand.cache.put("key", 20).await;
    gate.notify_one();
    asked.await.unwrap().unwrap();
    assert_eq!(stand.cache.get("key").await, Some(20));
}

#[tokio::test]
async fn a_clear_during_a_load_is_not_overwritten_by_it_and_its_flight_is_not_joined() {
    let stand = Stand::new(policy());
    let (gate, asked) = stand.load_behind_gate("key", 10.into()).await;
    stand.cache.clear().await;
    assert_eq!(stand.load("key", 20).await.unwrap(), 20);
    gate.notify_one();
    asked.await.unwrap().unwrap();
    assert_eq!(stand.cache.get("key").await, Some(20));
}

#[tokio::test]
async fn an_expiry_during_a_load_is_not_overwritten_by_it() {
    let stand = Stand::new(policy().stale_if_error(60 * SECOND));
    stand.cache.put("key", 1).await;
    stand.hand.advance(10 * SECOND);
    let (gate, asked) = stand.load_behind_gate("key", 10.into()).await;
    stand.cache.expire("key").await;
    gate.notify_one();
    asked.await.unwrap().unwrap();
    assert_eq!(stand.cache.get("key").await, None);
    assert_eq!(stand.fail("key").await.unwrap(), 1);
}

#[tokio::test]
async fn an_invalidated_tag_hits_the_loads_under_way_that_will_bring_it() {
    let stand = Stand::new(policy());
    let tagged = Loaded::new(10).tags(["t"]);
    let (gate, asked) = stand.load_behind_gate("key", tagged).await;
    stand.cache.invalidate_tag("t").await;
    gate.notify_one();
    assert_eq!(asked.await.unwrap().unwrap(), Some(10), "he asked before");
    assert_eq!(stand.cache.get("key").await, None);
}

#[tokio::test]
async fn who_joins_a_load_after_its_tag_was_invalidated_loads_for_himself() {
    let stand = Stand::new(policy());
    let tagged = Loaded::new(10).tags(["t"]);
    let (gate, asked) = stand.load_behind_gate("key", tagged).await;
    stand.cache.invalidate_tag("t").await;
    // What the load will bring has a tag, but nobody knows that yet.
    let (late, _) = tokio::join!(stand.load("key", 20), async { gate.notify_one() });
    assert_eq!(late.unwrap(), 20);
    assert_eq!(asked.await.unwrap().unwrap(), Some(10));
    assert_eq!(stand.cache.get("key").await, Some(20));
}

#[tokio::test]
async fn an_invalidation_of_another_tag_costs_no_second_load() {
    let stand = Stand::new(policy());
    let tagged = Loaded::new(10).tags(["t"]);
    let (gate, asked) = stand.load_behind_gate("key", tagged).await;
    stand.cache.invalidate_tag("other").await;
    let (late, _) = tokio::join!(stand.load("key", 20), async { gate.notify_one() });
    assert_eq!(late.unwrap(), 10);
    asked.await.unwrap().unwrap();
    assert_eq!(stand.loads.count(), 1);
}

#[tokio::test]
async fn a_refresh_behind_a_readers_back_is_fenced_like_any_load() {
    let stand = Stand::new(policy().stale_while_revalidate(60 * SECOND));
    stand.cache.put("key", 1).await;
    stand.hand.advance(10 * SECOND);
    let (gate, asked) = stand.load_behind_gate("key", 2.into()).await;
    assert_eq!(asked.await.unwrap().unwrap(), Some(1));
    stand.cache.put("key", 3).await;
    gate.notify_one();
    stand.settle().await;
    assert_eq!(stand.cache.get("key").await, Some(3));
}

#[tokio::test]
async fn what_was_invalidated_is_not_served_instead_of_the_error_of_a_load_that_began_before() {
    let stand = Stand::new(policy().stale_if_error(60 * SECOND));
    stand.cache.put("key", 1).await;
    stand.hand.advance(10 * SECOND);
    let invalidating = stand.cache.clone();
    let loader = || async move {
        invalidating.invalidate("key").await;
        Err::<u32, _>(failed())
    };
    stand.cache.get_or_load("key", loader).await.unwrap_err();
}

#[tokio::test]
async fn two_types_of_errors_are_one_load() {
    #[derive(Debug, thiserror::Error)]
    #[error("mine")]
    struct Mine;
    let stand = Stand::new(policy());
    let loads = stand.loads.clone();
    let first = stand.cache.get_or_load("key", || async move {
        loads.begin();
        tokio::task::yield_now().await;
        Err::<u32, _>(Mine)
    });
    let (one, two) = tokio::join!(first, stand.fail("key"));
    assert!(one.unwrap_err().downcast_ref::<Mine>().is_some());
    assert!(two.unwrap_err().downcast_ref::<Mine>().is_some());
    assert_eq!(stand.loads.count(), 1);
}

#[tokio::test]
async fn a_write_through_keeps_what_it_wrote_and_fences_the_loads_of_before() {
    let stand = Stand::new(policy());
    let (gate, asked) = stand.load_behind_gate("key", 10.into()).await;
    let written = stand
        .cache
        .write_through("key", || async { Ok::<_, io::Error>(20_u32) });
    assert_eq!(written.await.unwrap(), Some(20));
    gate.notify_one();
    asked.await.unwrap().unwrap();
    assert_eq!(stand.cache.get("key").await, Some(20));
}

#[tokio::test]
async fn a_write_that_fails_or_is_dropped_may_have_been_done_and_leaves_nothing_kept() {
    let stand = Stand::new(policy());
    stand.cache.put("key", 1).await;
    let failing = stand
        .cache
        .write_through("key", || async { Err::<u32, _>(failed()) });
    assert_eq!(failing.await.unwrap_err().to_string(), "the source is down");
    assert_eq!(stand.cache.get("key").await, None);
    stand.cache.put("key", 1).await;
    let hanging = stand.cache.write_through("key", || async {
        std::future::pending::<()>().await;
        Ok::<u32, io::Error>(2)
    });
    tokio::time::timeout(SECOND / 100, hanging)
        .await
        .unwrap_err();
    assert_eq!(stand.cache.get("key").await, None);
}

#[tokio::test]
async fn writes_that_cross_keep_nothing_for_nobody_knows_which_was_the_last() {
    let stand = Stand::new(policy());
    let write = |value: u32, pauses: usize| {
        stand.cache.write_through("key", move || async move {
            for _ in 0..pauses {
                tokio::task::yield_now().await;
            }
            Ok::<_, io::Error>(value)
        })
    };
    let (one, two) = tokio::join!(write(1, 3), write(2, 1));
    assert_eq!((one.unwrap(), two.unwrap()), (Some(1), Some(2)));
    assert_eq!(stand.cache.get("key").await, None);
    // And once they are over, the next one is alone again.
    write(3, 1).await.unwrap();
    assert_eq!(stand.cache.get("key").await, Some(3));
}

#[tokio::test]
async fn a_tag_that_is_invalidated_during_a_write_hits_what_it_wrote() {
    let stand = Stand::new(policy());
    let cache = stand.cache.clone();
    let write = stand.cache.write_through("key", || async move {
        cache.invalidate_tag("t").await;
        Ok::<_, io::Error>(Loaded::new(1).tags(["t"]))
    });
    assert_eq!(write.await.unwrap(), Some(1));
    assert_eq!(stand.cache.get("key").await, None);
}

#[tokio::test]
async fn an_invalidation_during_a_write_leaves_nothing_kept() {
    let stand = Stand::new(policy());
    let cache = stand.cache.clone();
    let write = stand.cache.write_through("key", || async move {
        cache.invalidate("key").await;
        Ok::<_, io::Error>(1_u32)
    });
    write.await.unwrap();
    assert_eq!(stand.cache.get("key").await, None);
    let cache = stand.cache.clone();
    let write = stand.cache.write_through("key", || async move {
        cache.clear().await;
        Ok::<_, io::Error>(1_u32)
    });
    write.await.unwrap();
    assert_eq!(stand.cache.get("key").await, None);
}

#[tokio::test]
async fn what_is_invalidated_after_a_commit_is_kept_until_then_and_after_a_rollback() {
    let stand = Stand::new(policy());
    stand.cache.put("key", 1).await;
    let after = stand.cache.invalidate_after_commit("key");
    assert_eq!(stand.cache.get("key").await, Some(1));
    drop(after); // a rollback
    assert_eq!(stand.cache.get("key").await, Some(1));
    stand.cache.invalidate_after_commit("key").fire();
    assert_eq!(stand.cache.get("key").await, None);
}

#[tokio::test]
async fn ca_11_removing_a_tag_hits_what_has_it_and_nothing_else() {
    let stand = Stand::new(policy());
    let load = |key, value: u32, tags: [&'static str; 2]| {
        let loader = move || async move { Ok::<_, io::Error>(Loaded::new(value).tags(tags)) };
        stand.cache.get_or_load(key, loader)
    };
    stand
        .cache
        .put("foo", Loaded::new(1).tags(["x", "y"]))
        .await;
    stand
        .cache
        .put("bar", Loaded::new(2).tags(["y", "z"]))
        .await;
    load("baz", 3, ["x", "z"]).await.unwrap();
    stand.cache.invalidate_tag("x").await;
    assert_eq!(stand.cache.get("foo").await, None);
    assert_eq!(stand.cache.get("bar").await, Some(2));
    assert_eq!(load("baz", 333, ["x", "z"]).await.unwrap(), 333);
    stand.cache.invalidate_tag("y").await;
    assert_eq!(load("foo", 1111, ["x", "y"]).await.unwrap(), 1111);
    assert_eq!(load("bar", 2222, ["y", "z"]).await.unwrap(), 2222);
    assert_eq!(load("baz", 0, ["x", "z"]).await.unwrap(), 333);
}

#[tokio::test]
async fn a_loader_that_asks_the_cache_for_another_key_waits_for_nobody() {
    let stand = Stand::new(policy());
    let inner = stand.cache.clone();
    let nested = stand.cache.get_or_load("outer", || async move {
        inner
            .get_or_load("inner", || async { Ok::<_, io::Error>(1) })
            .await
    });
    assert_eq!(nested.await.unwrap(), 1);
}

#[tokio::test]
async fn who_waited_for_anothers_load_is_told_so() {
    let cache = Cache::<u32>::new("told", policy().build().unwrap());
    let ask = || {
        cache.serve_or_load("key", |_| async {
            tokio::task::yield_now().await;
            Ok::<_, CacheError>(1)
        })
    };
    let (one, two) = tokio::join!(ask(), ask());
    for (served, joined) in [(one, false), (two, true)] {
        let CacheOutcome::Loaded {
            collapsed,
            was_stale,
            stored,
            ..
        } = served.unwrap().outcome()
        else {
            panic!("it was loaded")
        };
        assert_eq!((collapsed, was_stale, stored), (joined, false, true));
    }
    assert_eq!(ask().await.unwrap().outcome(), CacheOutcome::Hit);
}
