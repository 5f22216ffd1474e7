//! What other systems' own tests expect of a fleet.

use super::*;

/// A loader begun before a change anywhere is seen by nobody after it.
#[tokio::test]
async fn ca_29_a_loader_that_was_overtaken_elsewhere_is_kept_by_nobody() {
    let fleet = Fleet::new();
    let (a, b) = (fleet.instance().await, fleet.instance().await);
    for change in 0..5_u32 {
        let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (told, waits) = (Arc::clone(&begun), Arc::clone(&go_on));
        let cache = a.cache.clone();
        let slow = tokio::spawn(async move {
            let loader = move || async move {
                told.notify_one();
                waits.notified().await;
                Ok::<_, io::Error>(Loaded::new(1_u32).tags(["t"]))
            };
            cache.get_or_load("k", loader).await.unwrap()
        });
        begun.notified().await;
        match change {
            0 => b.cache.invalidate("k").await,
            1 => b.cache.put("k", 2_u32).await,
            2 => b.cache.invalidate_tag("t").await,
            3 => b.cache.clear().await,
            _ => b.cache.expire("k").await,
        }
        go_on.notify_one();
        assert_eq!(slow.await.unwrap(), 1, "its own caller came before");
        fleet.source.store(2, SeqCst);
        let c = fleet.with(policy(), false);
        for instance in [&c, &b] {
            assert_eq!(instance.get().await, 2, "{change}");
        }
        a.shows(2).await;
        b.cache.invalidate("k").await;
        assert_eq!(b.cache.get("k").await, None);
        eventually("a heard it", PATIENCE, async || {
            a.cache.get("k").await.is_none().then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn ca_31_an_entry_that_is_on_its_way_is_not_kept_after_an_invalidation() {
    let fleet = Fleet::new();
    let (a, b) = (fleet.instance().await, fleet.instance().await);
    b.get().await;
    let (reached, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    *fleet.shelf.hold.lock().unwrap() = Some((Arc::clone(&reached), Arc::clone(&go_on)));
    let cache = a.cache.clone();
    let asks = tokio::spawn(async move {
        let loader = || async { Ok::<_, io::Error>(0_u32) };
        cache.get_or_load("k", loader).await.unwrap()
    });
    reached.notified().await;
    fleet.source.store(20, SeqCst);
    b.cache.invalidate("k").await;
    eventually("a heard it", PATIENCE, async || {
        a.heard(|event| *event == EventKind::Invalidated)
            .then_some(())
    })
    .await;
    go_on.notify_one();
    assert_eq!(asks.await.unwrap(), 10, "it was asked before");
    assert_eq!(a.cache.len(), 0, "and is not kept");
    assert_eq!(a.get().await, 20);
}

#[tokio::test]
async fn ca_11_tags_reach_all_instances_and_only_their_entries() {
    let fleet = Fleet::new();
    let (a, b) = (fleet.instance().await, fleet.instance().await);
    let set = async |instance: &Instance, key, value: u32, tags: [&'static str; 2]| {
        instance.load(key, Loaded::new(value).tags(tags)).await
    };
    let (x, y, z) = ("x", "y", "z");
    set(&a, "foo", 1, [x, y]).await;
    set(&a, "bar", 2, [y, z]).await;
    set(&a, "baz", 3, [x, z]).await;
    for key in ["foo", "bar", "baz"] {
        assert_ne!(
            b.load(key, Loaded::new(0)).await,
            0,
            "from the second level"
        );
    }
    let gone = async |key: &str| {
        eventually("b heard it", PATIENCE, async || {
            b.cache.get(key).await.is_none().then_some(())
        })
        .await;
    };
    a.cache.invalidate_tag(x).await;
    assert_eq!(a.cache.get("foo").await, None);
    assert_eq!(a.cache.get("bar").await, Some(2));
    gone("foo").await;
    assert_eq!(b.cache.get("bar").await, Some(2));
    gone("baz").await;
    assert_eq!(set(&b, "baz", 333, [x, z]).await, 333);
    a.cache.invalidate_tag(y).await;
    gone("foo").await;
    gone("bar").await;
    assert_eq!(set(&b, "foo", 1111, [x, y]).await, 1111);
    assert_eq!(set(&b, "bar", 2222, [y, z]).await, 2222);
    for instance in [&a, &b] {
        assert_eq!(instance.load("foo", Loaded::new(0)).await, 1111);
        assert_eq!(instance.load("bar", Loaded::new(0)).await, 2222);
        assert_eq!(instance.load("baz", Loaded::new(0)).await, 333);
    }
}

#[tokio::test]
async fn ca_13_an_entry_whose_tags_are_not_known_is_missed() {
    let fleet = Fleet::new();
    let a = fleet.with(policy(), false);
    a.load("k", Loaded::new(1).tags(["t"])).await;
    a.load("untagged", Loaded::new(1)).await;
    // The marks are lost: nobody knows what was marked.
    let key = |name: &str| Key::new([b"5:fleet,", name.as_bytes()].concat()).unwrap();
    let soon = Deadline::after(PATIENCE);
    let mut kept = Vec::new();
    for name in ["k", "untagged"] {
        let reading = fleet.shelf.store.read(&[key(name)], None, soon).await;
        let Looked::Held(held) = reading.unwrap().keys.remove(0) else {
            panic!("{name} was filled");
        };
        kept.push((key(name), held));
    }
    fleet.shelf.store.flush();
    for (key, held) in kept {
        let record = Record {
            bytes: &held.bytes,
            fresh: held.fresh,
            life: held.life,
        };
        stored(&fleet, &key, record).await;
    }
    let b = fleet.with(policy(), false);
    assert_eq!(b.load("k", Loaded::new(2)).await, 2);
    assert_eq!(b.load("untagged", Loaded::new(2)).await, 2);
}

#[tokio::test]
async fn ca_14_an_entry_from_the_second_level_has_what_is_left_of_its_life() {
    let fleet = Fleet::new();
    let (a, b) = (fleet.instance().await, fleet.instance().await);
    a.load("k", Loaded::new(1).ttl(2 * SECOND)).await;
    fleet.hand.advance(SECOND);
    // It would have it for ten.
    assert_eq!(b.load("k", Loaded::new(2)).await, 1);
    fleet.hand.advance(SECOND / 2);
    assert_eq!(b.cache.get("k").await, Some(1));
    fleet.hand.advance(SECOND);
    assert_eq!(b.cache.get("k").await, None, "after two in all");
}

#[tokio::test]
async fn ca_15_a_newer_one_in_the_second_level_is_used_before_the_source() {
    let fleet = Fleet::new();
    let stale = CachePolicy::builder()
        .jitter_percent(0)
        .ttl(2 * SECOND)
        .stale_if_error(100 * SECOND)
        .build()
        .unwrap();
    let (a, b) = (fleet.with(stale.clone(), false), fleet.with(stale, false));
    a.load("k", Loaded::new(1)).await;
    assert_eq!(b.load("k", Loaded::new(0)).await, 1);
    fleet.hand.advance(3 * SECOND);
    a.load("k", Loaded::new(3)).await;
    assert_eq!(b.load("k", Loaded::new(4)).await, 3, "b has a stale one");
}

#[tokio::test]
async fn a_stale_one_in_the_second_level_is_served_instead_of_an_error_and_a_removed_one_is_not() {
    let fleet = Fleet::new();
    let stale = CachePolicy::builder()
        .jitter_percent(0)
        .ttl(2 * SECOND)
        .stale_if_error(100 * SECOND)
        .build()
        .unwrap();
    let a = fleet.with(stale.clone(), false);
    a.load("k", Loaded::new(1)).await;
    fleet.hand.advance(3 * SECOND);
    let b = fleet.with(stale.clone(), false);
    let loader = |_| async { Err::<u32, _>(io::Error::other("the source is down")) };
    let served = b.cache.serve_or_load("k", loader).await.unwrap();
    assert_eq!(served.outcome(), CacheOutcome::StaleIfError);
    assert_eq!(served.into_value(), Some(1));
    a.cache.expire("k").await;
    assert_eq!(fleet.with(stale.clone(), false).fail("k").await, Some(1));
    a.cache.invalidate("k").await;
    assert_eq!(fleet.with(stale, false).fail("k").await, None);
}

#[tokio::test]
async fn ca_17_ca_19_what_was_missed_while_all_was_away_is_made_up_for() {
    let fleet = Fleet::new();
    let (a, b) = (fleet.instance().await, fleet.instance().await);
    assert_eq!((a.get().await, b.get().await), (10, 10));
    fleet.shelf.set_down(true);
    fleet.source.store(30, SeqCst);
    a.events.lock().unwrap().clear();
    b.cache.put("k", 30_u32).await;
    // The bus is there, and is told nothing while the store does not have it.
    tokio::time::sleep(line().beat * 5).await;
    assert_eq!((a.get().await, b.get().await), (10, 30));
    assert!(!a.heard(|event| *event == EventKind::Invalidated));
    assert_eq!(b.cache.owed(), 1);
    assert!(b.heard(|event| matches!(event, EventKind::Owed { debts: 1, .. })));
    fleet.shelf.set_down(false);
    a.shows(30).await;
    b.shows(30).await;
    b.pays().await;
    // And with the bus away, and the store there.
    fleet.bus.set_away(true);
    fleet.source.store(40, SeqCst);
    b.cache.put("k", 40_u32).await;
    assert_eq!(b.get().await, 40);
    assert_eq!(b.cache.owed(), 1);
    fleet.bus.set_away(false);
    a.shows(40).await;
    b.pays().await;
    assert_eq!(b.get().await, 40);
}
