//! Built anew, while all goes on.

use std::{
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    time::Duration,
};

use buttress_core::Class;
use buttress_outbox::Topic;
use buttress_testkit::{seed::Seed, short_or_long};
use rand::RngExt as _;
use read_model::{
    queries::{Queries, Whole},
    rebuild::{RebuildError, Rebuilt, rebuild},
    traffic::Traffic,
};

use crate::place::{Place, sum};

/// Reads until it is told to stop. Every read is of a whole state, and none is older than one
/// before, across the switch too.
async fn read_on(queries: &Queries, done: &AtomicBool) -> usize {
    let mut last: Option<Whole> = None;
    let mut generations = 1;
    while !done.load(SeqCst) {
        let whole = queries.whole().await.unwrap();
        assert_eq!(whole.by_customer, whole.by_order, "{whole:?}");
        if let Some(last) = last {
            assert!(whole.events >= last.events, "{last:?} and then {whole:?}");
            generations += usize::from(whole.generation != last.generation);
        }
        last = Some(whole);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    generations
}

async fn write_on(traffic: &mut Traffic, done: &AtomicBool) {
    while !done.load(SeqCst) {
        traffic.command().await.unwrap();
        // Slower than a replay on a loaded machine, which would follow them for ever.
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

/// Until it is done: another process may have the write lock for too long.
async fn rebuild_at_last(place: &Place) -> Rebuilt {
    loop {
        match rebuild(&place.database).await {
            Ok(rebuilt) => return rebuilt,
            Err(RebuildError::Store(error)) if error.class() == Class::NotDone => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// Two write, two projectors follow, one of which is killed now and then; rebuilds come one after
/// the other, and every second one is killed in the middle.
async fn nothing_is_lost(place: Place) {
    let seed = Seed::new();
    let mut rng = seed.rng();
    let rebuilds = short_or_long(6, 120);
    let (mut one, mut two) = (place.traffic(), place.traffic());
    for _ in 0..150 {
        one.command().await.unwrap();
    }
    let done = AtomicBool::new(false);
    let rebuilding = async {
        let _steady = place.program("project").spawn();
        let mut mortal = place.program("project").spawn();
        let (mut replayed, mut before, mut left) = (0, 0, 0);
        for nth in 0..rebuilds {
            if nth % 2 == 0 {
                let mut killed = place.program("rebuild").spawn();
                let range = Duration::from_millis(5)..Duration::from_millis(120);
                killed.kill_within(range, &mut rng).await;
                if rng.random_range(0..2) == 0 {
                    mortal.kill();
                    mortal = place.program("project").spawn();
                }
            } else {
                let rebuilt = rebuild_at_last(&place).await;
                replayed += rebuilt.replayed;
                before += rebuilt.before;
                left += rebuilt.left;
            }
        }
        done.store(true, SeqCst);
        assert!(
            replayed > 0,
            "and {before} brought before, {left} left to a projector"
        );
        place.caught_up().await
    };
    let (view, (), (), generations) = tokio::join!(
        rebuilding,
        write_on(&mut one, &done),
        write_on(&mut two, &done),
        read_on(&place.queries, &done),
    );
    // What was written while `done` was seen is caught up with by now, or now.
    drop(view);
    let _last = place.program("project").spawn();
    let view = place.caught_up().await;
    assert_eq!(view, sum([&one, &two]));
    assert_eq!(view, place.queries.counted().await.unwrap());
    assert!(generations > rebuilds / 4, "readers saw {generations}");
    let events = place.queries.whole().await.unwrap().events;
    assert_eq!(events, i64::try_from(one.done() + two.done()).unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebuild_during_traffic_loses_nothing_applies_nothing_twice_and_keeps_no_reader_waiting()
{
    nothing_is_lost(Place::on_sqlite().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebuild_during_traffic_loses_nothing_on_postgres() {
    let Some(place) = Place::on_postgres().await else {
        return;
    };
    nothing_is_lost(place).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebuild_from_too_little_is_refused_and_the_old_one_is_shown_on() {
    let place = Place::on_sqlite().await;
    let mut traffic = place.traffic();
    for _ in 0..30 {
        traffic.command().await.unwrap();
    }
    let _projector = place.program("project").spawn();
    let view = place.caught_up().await;
    let topic = Topic::new("orders").unwrap();
    tokio::time::sleep(Duration::from_millis(5)).await;
    let outbox = place.database.outbox();
    let pruned = outbox.prune(&topic, Duration::from_millis(1), 10).await;
    assert_eq!(pruned.unwrap(), 10);
    let refused = rebuild(&place.database).await.unwrap_err();
    assert!(matches!(refused, RebuildError::TooLittleKept { orders } if orders > 0));
    assert_eq!(place.queries.customers().await.unwrap(), view);
    for _ in 0..10 {
        traffic.command().await.unwrap();
    }
    assert_eq!(place.caught_up().await, *traffic.folded());
}
