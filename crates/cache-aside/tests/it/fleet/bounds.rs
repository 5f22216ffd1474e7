//! Trips, names, and how old what is served may be.

use super::*;

#[tokio::test]
async fn many_keys_are_one_trip_and_one_call_for_the_missing_ones() {
    let fleet = Fleet::new();
    let a = fleet.with(policy(), false);
    a.load("k1", Loaded::new(1)).await;
    a.load("k2", Loaded::new(2)).await;
    let b = fleet.with(policy(), false);
    let before = fleet.shelf.trips.load(SeqCst);
    let calls = Arc::new(AtomicUsize::new(0));
    let counts = Arc::clone(&calls);
    let loader = move |missing: Vec<&'static str>| async move {
        counts.fetch_add(1, SeqCst);
        assert_eq!(missing, ["k3", "k4"]);
        Ok::<_, io::Error>(vec![("k3", 3_u32), ("k4", 4)])
    };
    let keys = ["k1", "k3", "k2", "k4"];
    let found = b.cache.get_many_or_load(keys, loader).await.unwrap();
    assert_eq!(found, [Some(1), Some(3), Some(2), Some(4)]);
    assert_eq!(calls.load(SeqCst), 1);
    let trips = fleet.shelf.trips.load(SeqCst) - before;
    assert_eq!(trips, 1 + 2, "one to read them all, and a fill for each");
    // All of them are there now, for a third as well: nothing is called.
    let c = fleet.with(policy(), false);
    let loader = |missing: Vec<&'static str>| async move {
        Err::<Vec<(&'static str, u32)>, _>(io::Error::other(format!("{missing:?}")))
    };
    let found = c.cache.get_many_or_load(keys, loader).await.unwrap();
    assert_eq!(found, [Some(1), Some(3), Some(2), Some(4)]);
}

#[tokio::test]
async fn without_a_bus_an_entry_is_looked_at_again_soon() {
    let fleet = Fleet::new();
    let make = || {
        let second = SecondLevel::new(fleet.shelf.clone(), framing());
        let second = second.staleness(SECOND).unwrap();
        Cache::<u32>::builder("fleet", policy())
            .clock(fleet.clock.clone())
            .second_level(second)
            .build()
    };
    let (a, b) = (make(), make());
    let load = async |cache: &Cache<u32>, value| {
        let loader = move || async move { Ok::<_, io::Error>(value) };
        cache.get_or_load("k", loader).await.unwrap()
    };
    assert_eq!(load(&a, 1).await, 1);
    assert_eq!(load(&b, 0).await, 1);
    a.invalidate("k").await;
    assert_eq!(load(&a, 2).await, 2);
    fleet.hand.advance(SECOND - Duration::from_millis(1));
    assert_eq!(
        load(&b, 0).await,
        1,
        "nobody told it, and it is within the bound"
    );
    fleet.hand.advance(Duration::from_millis(1));
    assert_eq!(load(&b, 0).await, 2);
}

/// A flight that began long ago is not joined by who cannot know whether it was overtaken.
#[tokio::test]
async fn a_deaf_instance_joins_no_old_flight() {
    let fleet = Fleet::new();
    let second = SecondLevel::new(fleet.shelf.clone(), framing());
    let second = second.staleness(SECOND).unwrap();
    let cache = Cache::<u32>::builder("fleet", policy())
        .clock(fleet.clock.clone())
        .second_level(second)
        .build();
    let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (told, waits) = (Arc::clone(&begun), Arc::clone(&go_on));
    let slow = cache.clone();
    let slow = tokio::spawn(async move {
        let loader = move || async move {
            told.notify_one();
            waits.notified().await;
            Ok::<_, io::Error>(1_u32)
        };
        slow.get_or_load("k", loader).await.unwrap()
    });
    begun.notified().await;
    fleet.hand.advance(SECOND + Duration::from_millis(1));
    let loader = || async { Ok::<_, io::Error>(2_u32) };
    assert_eq!(cache.get_or_load("k", loader).await.unwrap(), 2);
    go_on.notify_one();
    assert_eq!(slow.await.unwrap(), 1);
    assert_eq!(cache.get("k").await, Some(2), "the older one is not kept");
}

#[tokio::test]
async fn what_is_not_ours_is_missed_and_told() {
    let fleet = Fleet::new();
    let key = Key::new("5:fleet,k").unwrap();
    let record = Record {
        bytes: b"anybody's",
        fresh: 10 * SECOND,
        life: 10 * SECOND,
    };
    stored(&fleet, &key, record).await;
    let a = fleet.with(policy(), false);
    assert_eq!(a.load("k", Loaded::new(1)).await, 1);
    assert!(a.heard(|event| matches!(event, EventKind::Unreadable { .. })));
    let b = fleet.with(policy(), false);
    assert_eq!(b.load("k", Loaded::new(2)).await, 1, "it was replaced");
}

#[tokio::test]
async fn two_caches_on_one_store_do_not_meet() {
    let fleet = Fleet::new();
    let make = |name: &'static str| {
        let second = SecondLevel::new(fleet.shelf.clone(), framing());
        Cache::<u32>::builder(name, policy())
            .clock(fleet.clock.clone())
            .second_level(second)
            .build()
    };
    let (one, two) = (make("a"), make("a:b"));
    one.put("b:c", 1_u32).await;
    two.put("c", 2_u32).await;
    two.clear().await;
    assert_eq!(make("a").get("b:c").await, Some(1));
    assert_eq!(make("a:b").get("c").await, None);
}
