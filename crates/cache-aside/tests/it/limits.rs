//! How much is kept, and under which keys.

use std::io;

use buttress_cache_aside::{Cache, CacheOutcome, CachePolicy, Loaded, composite_key};
use proptest::prelude::*;

use crate::stand::{SECOND, Stand, policy};

#[tokio::test]
async fn ca_27_what_is_too_large_is_returned_and_not_kept() {
    let policy = CachePolicy::builder()
        .capacity(1 << 30)
        .max_entry_weight(1 << 20);
    let cache = Cache::<Vec<u8>>::builder("bytes", policy.build().unwrap())
        .weigher(|key, value| u32::try_from(key.len() + value.len()).unwrap_or(u32::MAX))
        .build();
    let load = |key: String, bytes: usize| {
        let cache = cache.clone();
        async move {
            let loader = move |_| async move { Ok::<_, io::Error>(vec![0; bytes]) };
            let served = cache.serve_or_load(&key, loader).await.unwrap();
            assert_eq!(served.value().map(Vec::len), Some(bytes));
            cache.peek(&key).is_some()
        }
    };
    assert!(load("fits".into(), (1 << 20) - 4).await);
    assert!(!load("large".into(), 1 << 20).await);
    assert!(load("k".repeat(255), 1).await);
    assert!(!load("k".repeat(256), 1).await, "the key is too long");
    assert_eq!(cache.len(), 2);
}

#[tokio::test]
async fn what_became_too_large_leaves_no_old_value_behind() {
    let stand = Stand::new(policy().max_entry_weight(10));
    stand.cache.put("key", 1).await;
    stand.cache.put("key", Loaded::new(2).weight(11)).await;
    assert!(stand.cache.is_empty());
    // Heavier than a whole shard holds: the level itself refuses it.
    let small = Stand::new(policy().capacity(32));
    small.cache.put("key", 1).await;
    let loader = |_| async { Ok::<_, io::Error>(Loaded::new(2).weight(33)) };
    small.hand.advance(10 * SECOND);
    let served = small.cache.serve_or_load("key", loader).await.unwrap();
    let CacheOutcome::Loaded { stored, .. } = served.outcome() else {
        panic!("{served:?}")
    };
    assert!(!stored && small.cache.is_empty());
}

#[tokio::test]
async fn a_flood_of_keys_that_are_not_there_is_bounded_and_leaves_what_is_read_often() {
    let tally = buttress_testkit::tally::suite("CA8");
    let stand = Stand::new(policy().capacity(1_000).negative_ttl(10 * SECOND));
    for key in 0..100 {
        stand.load(&format!("hot {key}"), key).await.unwrap();
    }
    for flood in 0..20_000_u32 {
        let none = || async { Ok::<_, io::Error>(None) };
        let key = format!("made up {flood}");
        assert_eq!(stand.cache.find_or_load(key, none).await.unwrap(), None);
        let hot = format!("hot {}", flood % 100);
        stand.cache.get(hot).await;
    }
    assert!(stand.cache.len() <= 1_024, "{}", stand.cache.len());
    let mut kept = 0;
    for key in 0..100 {
        kept += usize::from(stand.cache.get(format!("hot {key}")).await.is_some());
    }
    assert!(kept >= 90, "{kept} of 100");
    tally.operations(20_000);
}

#[tokio::test]
async fn a_cache_of_one_entry_keeps_the_last() {
    let stand = Stand::new(policy().capacity(1));
    stand.cache.put("a", 1).await;
    stand.cache.put("b", 2).await;
    assert_eq!(stand.cache.get("b").await, Some(2));
    assert_eq!((stand.cache.get("a").await, stand.cache.len()), (None, 1));
}

#[tokio::test]
async fn weight_counts_and_the_capacity_holds() {
    let policy = CachePolicy::builder()
        .capacity(10_000)
        .expected_entries(100);
    let cache = Cache::<String>::builder("weighed", policy.build().unwrap())
        .weigher(|_, value| u32::try_from(value.len()).unwrap_or(u32::MAX))
        .build();
    for key in 0..1_000 {
        cache.put(format!("{key}"), "x".repeat(100)).await;
        assert!(cache.weight() <= 10_000, "{}", cache.weight());
    }
    assert!(cache.weight() > 5_000, "{}", cache.weight());
}

#[tokio::test]
async fn an_entry_with_more_tags_than_there_may_be_is_not_kept() {
    let stand = Stand::new(policy());
    let tags = |count: usize| (0..count).map(|tag| tag.to_string()).collect::<Vec<_>>();
    stand.cache.put("64", Loaded::new(1).tags(tags(64))).await;
    stand.cache.put("65", Loaded::new(1).tags(tags(65))).await;
    stand
        .cache
        .put("again", Loaded::new(1).tags(vec!["t"; 65]))
        .await;
    assert!(stand.cache.peek("64").is_some());
    assert!(stand.cache.peek("65").is_none());
    assert!(stand.cache.peek("again").is_some(), "they are one");
}

#[test]
fn ca7_key_collision_a_colon_in_a_part_is_no_border() {
    let tally = buttress_testkit::tally::suite("CA7");
    assert_ne!(composite_key(["a:b", "c"]), composite_key(["a", "b:c"]));
    assert_ne!(composite_key(["a", "b"]), composite_key(["ab"]));
    assert_ne!(composite_key(["a", ""]), composite_key(["a"]));
    assert_ne!(composite_key(["1:a,"]), composite_key(["a"]));
    tally.operations(4);
}

/// What parts a key was made of: that it can be told is why no two lists make the same.
fn parts_of(mut key: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut parts = Vec::new();
    while !key.is_empty() {
        let colon = key.iter().position(|byte| *byte == b':')?;
        let length: usize = std::str::from_utf8(&key[..colon]).ok()?.parse().ok()?;
        let rest = &key[colon + 1..];
        parts.push(rest.get(..length)?.to_vec());
        key = rest.get(length..)?.strip_prefix(b",")?;
    }
    Some(parts)
}

#[test]
fn ca7_key_collision_no_two_lists_of_parts_make_the_same_key() {
    let tally = buttress_testkit::tally::suite("CA7");
    each_key_collision_no_two_lists_of_parts_make_the_same_key();
    tally.operations(buttress_testkit::short_or_long(10_000, 1_000_000));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(
        buttress_testkit::tier::short_or_long(10_000, 1_000_000)
    ))]

    fn each_key_collision_no_two_lists_of_parts_make_the_same_key(
        parts in prop::collection::vec("[0-9:,a]{0,6}", 0..6)
    ) {
        let key = composite_key(&parts);
        let parts: Vec<_> = parts.into_iter().map(String::into_bytes).collect();
        prop_assert_eq!(parts_of(&key), Some(parts));
    }
}
