//! What lanes promise: one owner at a time, and nothing is settled by anybody else.

use std::time::Duration;

use buttress_store::SqlDatabase;

use super::{Suite, message};
use crate::{
    Topic,
    machine::History,
    policy::AfterDeath,
    store::{Died, Held, LeaveOut, SetAside, Settlement, Until},
};

const LEASE: Duration = Duration::from_secs(30);

pub(super) async fn all<DB: SqlDatabase>(suite: &Suite<DB>) {
    one_owner(suite).await;
    lapses(suite).await;
    stale(suite).await;
    shares(suite).await;
}

fn topic(name: &str) -> Topic {
    Topic::new(name).expect("a topic")
}

async fn one_owner<DB: SqlDatabase>(suite: &Suite<DB>) {
    let topic = topic("conformance.owner");
    let store = &suite.outbox.store.store;
    store.prepare(&topic).await.expect("lanes");
    store.prepare(&topic).await.expect("lanes, again");
    let all = u32::try_from(store.lanes()).expect("lanes");
    let first = store.claim(&topic, LEASE, 3).await.expect("lanes");
    assert_eq!(first.len(), 3, "no more than was asked for");
    assert!(
        first
            .iter()
            .all(|it| !it.lapsed && it.held.fence.epoch() == 1)
    );
    let rest = store.claim(&topic, LEASE, all).await.expect("lanes");
    assert_eq!(rest.len(), usize::try_from(all).expect("lanes") - 3);
    let none = store.claim(&topic, LEASE, all).await.expect("lanes");
    assert!(none.is_empty(), "a lane has one owner");
    let held: Vec<Held> = first.iter().map(|it| it.held).collect();
    store.release(&topic, &held).await.expect("released");
    let again = store.claim(&topic, LEASE, all).await.expect("lanes");
    assert_eq!(again.len(), 3);
    assert!(
        again
            .iter()
            .all(|it| !it.lapsed && it.held.fence.epoch() == 2)
    );
    // Whoever released them holds them no more.
    store.release(&topic, &held).await.expect("nothing");
    let beat = store.beat(&topic, &[1; 16], LEASE, &held).await;
    assert!(beat.expect("a beat").kept.is_empty());
    let held: Vec<Held> = again.iter().map(|it| it.held).collect();
    let beat = store.beat(&topic, &[1; 16], LEASE, &held).await;
    assert_eq!(beat.expect("a beat").kept.len(), 3);
}

async fn lapses<DB: SqlDatabase>(suite: &Suite<DB>) {
    let topic = topic("conformance.lapse");
    let store = &suite.outbox.store.store;
    store.prepare(&topic).await.expect("lanes");
    let short = Duration::from_millis(30);
    let claimed = store.claim(&topic, short, 1).await.expect("a lane");
    let held = claimed[0].held;
    assert!(store.alone(&topic, held, 77).await.expect("an answer"));
    tokio::time::sleep(Duration::from_millis(50)).await;
    let mut found = None;
    let all = u32::try_from(store.lanes()).expect("lanes");
    for next in store.claim(&topic, LEASE, all).await.expect("lanes") {
        if next.held.lane == held.lane {
            found = Some(next);
        } else {
            assert!(!next.lapsed);
        }
    }
    let found = found.expect("a lapsed lane is free");
    assert!(found.lapsed && found.alone == Some(77));
    assert!(!store.alone(&topic, held, 78).await.expect("an answer"));
    let held = found.held;
    let cleared = Settlement {
        held: vec![held],
        not_alone: vec![held.lane],
        ..Settlement::default()
    };
    let mine = store.settle(&topic, cleared).await.expect("settled");
    assert_eq!(mine, [held.lane]);
}

/// A settlement by whoever lost the lane changes nothing, whatever is in it.
async fn stale<DB: SqlDatabase>(suite: &Suite<DB>) {
    let topic = topic("conformance.stale");
    let store = &suite.outbox.store.store;
    store.prepare(&topic).await.expect("lanes");
    let all = u32::try_from(store.lanes()).expect("lanes");
    let messages: Vec<_> = (0..40).map(|n| message(topic.as_str(), [n], "x")).collect();
    suite.append_at_once(&messages).await;
    let short = Duration::from_millis(30);
    let zombie = store.claim(&topic, short, all).await.expect("lanes");
    let from: Vec<(i16, i64)> = zombie.iter().map(|it| (it.held.lane, 0)).collect();
    let rows = store
        .window(&topic, &from, LeaveOut::Nothing, 100, 100)
        .await
        .expect("rows");
    assert_eq!(rows.len(), 40);
    tokio::time::sleep(Duration::from_millis(50)).await;
    let owner = store.claim(&topic, LEASE, all).await.expect("lanes");
    let settlement = |of: &[crate::store::Claimed]| {
        let mut held: Vec<Held> = of.iter().map(|it| it.held).collect();
        held.sort_unstable_by_key(|it| it.lane);
        Settlement {
            held,
            delivered: rows[4..].iter().map(|it| (it.lane, it.id)).collect(),
            ..Settlement::default()
        }
    };
    let with_more = |of: &[crate::store::Claimed]| {
        let mut settlement = settlement(of);
        let row = &rows[0];
        settlement.aside.push(SetAside {
            lane: row.lane,
            key: row.key.clone(),
            head: row.id,
            history: History::default(),
            until: Until::Told,
            error: String::new(),
        });
        let row = &rows[1];
        settlement.died.push(Died {
            lane: row.lane,
            id: row.id,
            history: History::default(),
            error: String::new(),
            then: AfterDeath::Skip,
        });
        settlement
    };
    for stale in [settlement(&zombie), with_more(&zombie)] {
        let mine = store.settle(&topic, stale).await.expect("an answer");
        assert!(mine.is_empty());
        let counts = suite.outbox.counts(&topic).await.expect("counts");
        assert_eq!((counts.depth, counts.dead, counts.blocked_keys), (40, 0, 0));
    }
    let all = settlement(&owner);
    for _ in 0..2 {
        let mine = store.settle(&topic, all.clone()).await.expect("settled");
        assert_eq!(mine.len(), all.held.len(), "again, without harm");
        let counts = suite.outbox.counts(&topic).await.expect("counts");
        assert_eq!(counts.depth, 4);
    }
    let done = store.settle(&topic, with_more(&owner)).await;
    assert_eq!(done.expect("settled").len(), all.held.len());
    let counts = suite.outbox.counts(&topic).await.expect("counts");
    assert_eq!((counts.depth, counts.dead, counts.blocked_keys), (3, 1, 1));
    // What is set aside is left out of reads, and the rest is in order.
    let rows = store
        .window(&topic, &from, LeaveOut::Waiting, 100, 100)
        .await
        .expect("rows");
    assert_eq!(rows.len(), 2);
    let rows = store
        .window(&topic, &from, LeaveOut::Aside, 1, 1)
        .await
        .expect("rows");
    assert_eq!(rows.len(), 1);
}

/// A relay knows of the others, and when they go.
async fn shares<DB: SqlDatabase>(suite: &Suite<DB>) {
    let topic = topic("conformance.share");
    let store = &suite.outbox.store.store;
    store.prepare(&topic).await.expect("lanes");
    let beat = async |relay: u8| {
        let beat = store.beat(&topic, &[relay; 16], LEASE, &[]).await;
        beat.expect("a beat").relays
    };
    assert_eq!(beat(1).await, 1);
    assert_eq!(beat(2).await, 2);
    assert_eq!(beat(1).await, 2);
    store.leave(&topic, &[2; 16]).await.expect("it leaves");
    assert_eq!(beat(1).await, 1);
    suite.outbox.pause(&topic, "why not").await.expect("paused");
    let paused = store.beat(&topic, &[1; 16], LEASE, &[]).await;
    assert!(paused.expect("a beat").paused);
    suite.outbox.resume(&topic).await.expect("resumed");
}
