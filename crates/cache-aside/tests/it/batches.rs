//! Many keys at once.

use std::{
    io,
    sync::{Arc, Mutex},
};

use buttress_cache_aside::{Cache, CacheError, Loaded};
use futures_util::FutureExt as _;

use crate::stand::{SECOND, Stand, failed, policy};

/// Asks for these; says what was found, and what each call of the loader was asked for.
async fn many(
    cache: &Cache<u32>,
    keys: &[&'static str],
    calls: &Arc<Mutex<Vec<Vec<&'static str>>>>,
) -> Result<Vec<Option<u32>>, CacheError> {
    let calls = Arc::clone(calls);
    let loader = move |missing: Vec<&'static str>| async move {
        calls.lock().unwrap().push(missing.clone());
        // Each flight of the batch may poll the call once.
        for _ in 0..8 {
            tokio::task::yield_now().await;
        }
        let found = missing.into_iter().filter(|key| *key != "none");
        Ok::<_, io::Error>(
            found
                .map(|key| (key, u32::try_from(key.len()).unwrap()))
                .collect::<Vec<_>>(),
        )
    };
    cache.get_many_or_load(keys.iter().copied(), loader).await
}

#[tokio::test]
async fn all_that_are_missing_come_from_one_call_in_the_order_they_were_asked_for() {
    let (stand, calls) = (Stand::new(policy()), Arc::default());
    stand.cache.put("kept", 9).await;
    let asked = ["a", "kept", "none", "bb", "a"];
    let found = many(&stand.cache, &asked, &calls).await.unwrap();
    assert_eq!(found, [Some(1), Some(9), None, Some(2), Some(1)]);
    assert_eq!(*calls.lock().unwrap(), [["a", "none", "bb"]]);
    let found = many(&stand.cache, &["bb", "a"], &calls).await.unwrap();
    assert_eq!(found, [Some(2), Some(1)]);
    assert_eq!(calls.lock().unwrap().len(), 1);
    assert_eq!(many(&stand.cache, &[], &calls).await.unwrap(), []);
}

#[tokio::test]
async fn a_key_of_a_batch_is_one_flight_with_those_who_ask_for_it_alone_and_with_other_batches() {
    let (stand, calls) = (Stand::new(policy()), Arc::default());
    let (one, two, alone) = tokio::join!(
        many(&stand.cache, &["a", "bb"], &calls),
        many(&stand.cache, &["bb", "ccc"], &calls),
        stand.load("a", 7),
    );
    assert_eq!(one.unwrap(), [Some(1), Some(2)]);
    assert_eq!(two.unwrap(), [Some(2), Some(3)]);
    assert_eq!((alone.unwrap(), stand.loads.count()), (1, 0));
    assert_eq!(*calls.lock().unwrap(), [vec!["a", "bb"], vec!["ccc"]]);
}

#[tokio::test]
async fn a_batch_goes_on_for_those_who_wait_when_its_caller_is_dropped() {
    let (stand, calls) = (Stand::new(policy()), Arc::default());
    let mut batch = Box::pin(many(&stand.cache, &["a", "bb"], &calls));
    assert!(batch.as_mut().now_or_never().is_none());
    drop(batch);
    let alone = stand.load("bb", 7).await;
    assert_eq!(alone.unwrap(), 7, "nobody waited for the batch any more");
    let mut batch = Box::pin(many(&stand.cache, &["ccc"], &calls));
    let mut joined = Box::pin(stand.load("ccc", 7));
    assert!(batch.as_mut().now_or_never().is_none());
    assert!(joined.as_mut().now_or_never().is_none());
    drop(batch);
    assert_eq!(joined.await.unwrap(), 3);
}

#[tokio::test]
async fn an_invalidation_of_one_key_leaves_the_others_of_its_batch_alone() {
    let (stand, calls) = (Stand::new(policy()), Arc::default());
    let invalidated = async { stand.cache.invalidate("a").await };
    let (found, ()) = tokio::join!(many(&stand.cache, &["a", "bb"], &calls), invalidated);
    assert_eq!(found.unwrap(), [Some(1), Some(2)]);
    assert_eq!(stand.cache.get("a").await, None);
    assert_eq!(stand.cache.get("bb").await, Some(2));
}

#[tokio::test]
async fn a_batch_that_comes_after_a_tag_was_invalidated_joins_no_load_of_before() {
    let (stand, calls) = (Stand::new(policy()), Arc::default());
    let (gate, asked) = stand
        .load_behind_gate("a", Loaded::new(10).tags(["t"]))
        .await;
    stand.cache.invalidate_tag("t").await;
    gate.notify_one();
    assert_eq!(many(&stand.cache, &["a"], &calls).await.unwrap(), [Some(1)]);
    asked.await.unwrap().unwrap();
    assert_eq!(stand.cache.get("a").await, Some(1));
}

#[tokio::test]
async fn a_batch_that_fails_serves_what_is_stale_and_fails_where_nothing_is() {
    let stand = Stand::new(policy().stale_if_error(60 * SECOND));
    stand.cache.put("a", 1).await;
    stand.hand.advance(10 * SECOND);
    let fails = |_: Vec<&'static str>| async { Err::<Vec<(_, u32)>, _>(failed()) };
    let found = stand.cache.get_many_or_load(["a"], fails).await.unwrap();
    assert_eq!(found, [Some(1)]);
    let outcome = stand.cache.get_many_or_load(["a", "b"], fails).await;
    let error = outcome.unwrap_err();
    assert!(error.downcast_ref::<io::Error>().is_some(), "{error:?}");
    let panics = |_: Vec<&'static str>| async {
        assert!(std::hint::black_box(false), "planted");
        Ok::<Vec<(&str, u32)>, io::Error>(Vec::new())
    };
    let outcome = stand.cache.get_many_or_load(["c", "d"], panics).await;
    assert!(
        matches!(outcome, Err(CacheError::Panicked(_))),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn what_is_due_is_served_and_loaded_anew_behind_the_callers_back() {
    let stand = Stand::new(policy().stale_while_revalidate(60 * SECOND));
    let calls = Arc::default();
    stand.cache.put("a", 10).await;
    stand.cache.put("bb", 20).await;
    stand.hand.advance(10 * SECOND);
    let found = many(&stand.cache, &["a", "bb"], &calls).await.unwrap();
    assert_eq!(found, [Some(10), Some(20)]);
    stand.settle().await;
    stand.settle().await;
    assert_eq!(*calls.lock().unwrap(), [["a", "bb"]]);
    let found = many(&stand.cache, &["a", "bb"], &calls).await.unwrap();
    assert_eq!(found, [Some(1), Some(2)]);
}

#[tokio::test]
async fn a_key_that_is_too_long_to_be_kept_is_brought_to_each_place_it_was_asked_for_in() {
    let (stand, calls) = (Stand::new(policy().max_key_bytes(1)), Arc::default());
    let asked = ["bb", "a", "bb", "none", "bb"];
    let found = many(&stand.cache, &asked, &calls).await.unwrap();
    assert_eq!(found, [Some(2), Some(1), Some(2), None, Some(2)]);
}
