//! What the ring promises by itself: nothing is passed that was not delivered, whatever is believed.

use std::time::Duration;

use buttress_store::{Fence, SqlDatabase};

use super::{Scribe, Suite, message};
use crate::{
    Message, Topic, TopicPolicy,
    machine::lane_of,
    store::{Held, LeaveOut, Reach, Row, Settlement},
};

pub(super) async fn all<DB: SqlDatabase>(suite: &Suite<DB>) {
    open(suite).await;
    if suite.outbox.store.has_ring("conformance.ring") {
        what_is_passed_was_delivered_or_moves(suite).await;
        who_had_a_lane_before_has_none_of_the_ring(suite).await;
    }
}

/// Messages go to the ring when a relay has made all lanes of the topic lanes of it.
async fn open<DB: SqlDatabase>(suite: &Suite<DB>) {
    for name in suite.outbox.store.rings.iter() {
        let relay = suite.relay(name, TopicPolicy::new(), &Scribe::default());
        relay.run_once().await.expect("a pass");
    }
}

/// All of a lane, in both tables.
pub(super) async fn lane<DB: SqlDatabase>(suite: &Suite<DB>, topic: &Topic, lane: i16) -> Vec<Row> {
    let store = &suite.outbox.store.store;
    let positions = store.positions(topic, &[lane]).await.expect("positions");
    let all = Reach {
        lane,
        low: 0,
        position: positions[0].1,
        upto: i64::MAX,
    };
    let rows = store
        .ring_window(topic, &[all], LeaveOut::Nothing, 100, 100)
        .await;
    rows.expect("rows")
}

async fn what_is_passed_was_delivered_or_moves<DB: SqlDatabase>(suite: &Suite<DB>) {
    let name = "conformance.ring";
    let topic = Topic::new(name).expect("a topic");
    let store = &suite.outbox.store.store;
    let number = lane_of(b"a", store.lanes());
    let subjects = ["0", "1", "2", "3", "4"];
    let messages: Vec<Message> = subjects.map(|it| message(name, "a", it)).to_vec();
    suite.append_at_once(&messages).await;
    let claimed = store.claim(&topic, Duration::from_secs(60), 1000).await;
    let claimed: Vec<Held> = claimed.expect("lanes").iter().map(|it| it.held).collect();
    let held = claimed.iter().find(|it| it.lane == number);
    let held = *held.expect("the lane");
    let ids: Vec<i64> = lane(suite, &topic, number)
        .await
        .iter()
        .map(|it| it.id)
        .collect();
    assert!(ids.len() == 5 && ids.is_sorted());
    let depth = async || {
        let counts = suite.outbox.counts(&topic).await.expect("counts");
        assert_eq!(counts.oldest_age.is_zero(), counts.depth == 0);
        counts.depth
    };
    assert_eq!(depth().await, 5);
    // Who lost the lane passes nothing.
    let passed = |held: Held, upto: i64, delivered: &[i64]| Settlement {
        held: vec![held],
        passed: vec![(number, upto)],
        streamed: delivered.iter().map(|id| (number, *id)).collect(),
        ..Settlement::default()
    };
    let old = Held {
        lane: number,
        fence: Fence::new(held.fence.epoch() - 1, *held.fence.token()),
    };
    let stale = store.settle(&topic, passed(old, ids[4], &ids)).await;
    assert_eq!((stale.expect("an answer"), depth().await), (vec![], 5));
    // Planted: it is said to have been passed, and the third was not delivered. Twice, as when an
    // answer was lost.
    for _ in 0..2 {
        let delivered = [ids[0], ids[1], ids[3]];
        let mine = store.settle(&topic, passed(held, ids[3], &delivered)).await;
        assert_eq!(mine.expect("an answer"), [number]);
        let rows = lane(suite, &topic, number).await;
        let left: Vec<(i64, bool)> = rows.iter().map(|it| (it.id, it.stream)).collect();
        assert_eq!(left, [(ids[2], false), (ids[4], true)], "it has moved");
        assert_eq!(depth().await, 2);
        let past = suite.outbox.history(&topic, 0, 10).await.expect("a page");
        let past: Vec<i64> = past.iter().map(|it| it.sequence).collect();
        assert_eq!(past, [ids[2], ids[4]]);
    }
    store.release(&topic, &claimed).await.expect("released");
    let scribe = Scribe::default();
    let relay = suite.relay(name, TopicPolicy::new(), &scribe);
    assert_eq!(relay.run_once().await.expect("a pass").delivered, 2);
    assert_eq!(scribe.heard(), ["2", "4"]);
    assert_eq!(depth().await, 0);
}

/// Whoever held a lane when it was none of the ring would overtake what is in its stream.
async fn who_had_a_lane_before_has_none_of_the_ring<DB: SqlDatabase>(suite: &Suite<DB>) {
    let topic = Topic::new("conformance.before").expect("a topic");
    let store = &suite.outbox.store.store;
    store.prepare(&topic).await.expect("lanes");
    let lease = Duration::from_millis(30);
    let before = store.claim(&topic, lease, 1000).await.expect("lanes");
    assert!(before.iter().all(|it| !it.ring));
    let before: Vec<Held> = before.iter().map(|it| it.held).collect();
    // Until its lease is over they are his.
    while !store.ring(&topic).await.expect("an answer") {
        tokio::time::sleep(lease).await;
    }
    let beat = store.beat(&topic, &[7; 16], lease, &before).await;
    assert_eq!(beat.expect("a beat").kept, Vec::<i16>::new());
    let after = store.claim(&topic, lease, 1000).await.expect("lanes");
    assert_eq!(after.len(), before.len());
    assert!(after.iter().all(|it| it.ring && it.lapsed));
    store.leave(&topic, &[7; 16]).await.expect("it left");
}
