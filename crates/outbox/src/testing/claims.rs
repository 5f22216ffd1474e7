//! What relays promise each other: lone claims, charges, and no overtaking between them.

use std::time::Duration;

use buttress_retry_backoff::Backoff;
use buttress_store::SqlDatabase;

use super::{Scribe, Suite, message};
use crate::{
    AfterDeath, Message, Relay, RelayPolicy, Topic, TopicPolicy, machine::lane_of, store::LeaveOut,
};

pub(super) async fn all<DB: SqlDatabase>(suite: &Suite<DB>) {
    lone_lapses(suite).await;
    two_relays(suite).await;
}

/// A message that kills whoever publishes it dies after so many lone lapses; its neighbours of the
/// same lane are all delivered.
async fn lone_lapses<DB: SqlDatabase>(suite: &Suite<DB>) {
    let name = "conformance.crash";
    let topic = Topic::new(name).expect("a topic");
    let store = &suite.outbox.store.store;
    store.prepare(&topic).await.expect("lanes");
    let lane = lane_of(b"0", store.lanes());
    let keys = (0..).map(|n| n.to_string());
    let keys: Vec<String> = keys
        .filter(|key| lane_of(key.as_bytes(), store.lanes()) == lane)
        .take(5)
        .collect();
    let messages: Vec<Message> = keys.iter().map(|key| message(name, key, key)).collect();
    suite.append(&messages).await;
    let lease = Duration::from_millis(30);
    // Whoever claims the lane notes that it publishes the first alone, and dies.
    for lapse in 1..=3 {
        let claimed = store.claim(&topic, lease, 1000).await.expect("lanes");
        let held = claimed.iter().find(|it| it.held.lane == lane);
        let held = held.expect("the lane").held;
        let others: Vec<_> = claimed
            .iter()
            .map(|it| it.held)
            .filter(|it| *it != held)
            .collect();
        store.release(&topic, &others).await.expect("released");
        let id = if suite.outbox.store.has_ring(name) {
            super::ring::lane(suite, &topic, lane).await[0].id
        } else {
            let from = [(lane, 0)];
            let rows = store.window(&topic, &from, LeaveOut::Nothing, 1, 1);
            rows.await.expect("rows")[0].id
        };
        assert!(store.alone(&topic, held, id).await.expect("an answer"));
        tokio::time::sleep(lease + Duration::from_millis(20)).await;
        let scribe = Scribe::default();
        scribe.say(|_| Err(crate::PublishError::down("not now")));
        let policy = TopicPolicy::new().with_lapses(3);
        let policy = policy
            .with_backoff(Backoff::none())
            .after_death(AfterDeath::Skip);
        let done = suite.relay(name, policy, &scribe).run_once().await;
        let done = done.expect("a pass");
        assert_eq!(done.died, usize::from(lapse == 3), "lapse {lapse}");
    }
    let letters = suite.outbox.dead_letters(&topic, 0, 10).await;
    let letters = letters.expect("dead letters");
    assert_eq!((letters.len(), letters[0].lapses), (1, 3));
    let scribe = Scribe::default();
    let done = suite
        .relay(name, TopicPolicy::new(), &scribe)
        .run_once()
        .await;
    assert_eq!(done.expect("a pass").delivered, 4);
    assert_eq!(scribe.heard(), keys[1..]);
}

/// OB-39: two relays at once, few keys, small batches: of no key anything is overtaken.
async fn two_relays<DB: SqlDatabase>(suite: &Suite<DB>) {
    let name = "conformance.two";
    let scribe = Scribe::default();
    let relay = |batch| {
        let policy = RelayPolicy::new().with_batch(batch);
        let policy = policy.with_lease(Duration::from_secs(2));
        Relay::builder(&suite.outbox)
            .policy(policy.with_poll(Duration::from_millis(20)))
            .topic(name, scribe.clone())
            .build()
            .expect("a relay")
    };
    let stop = tokio::sync::watch::Sender::new(false);
    let mut relays = tokio::task::JoinSet::new();
    for batch in [2, 7] {
        let relay = relay(batch);
        let mut stop = stop.subscribe();
        relays.spawn(async move {
            relay
                .run_until(async move {
                    let _ = stop.wait_for(|stop| *stop).await;
                })
                .await;
        });
    }
    let all: Vec<Message> = (0..400)
        .map(|n: u32| {
            message(
                name,
                [u8::try_from(n % 3).unwrap_or(0)],
                &format!("{} {n}", n % 3),
            )
        })
        .collect();
    for some in all.chunks(20) {
        suite.append_at_once(some).await;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let begun = tokio::time::timeout(Duration::from_secs(60), async {
        while super::lock(&scribe.heard).len() < 400 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    begun.await.expect("all is delivered");
    stop.send_replace(true);
    while relays.join_next().await.is_some() {}
    let heard = scribe.heard();
    for key in 0..3 {
        let of_key = heard.iter().filter(|it| it.starts_with(&key.to_string()));
        let expected = (0..400).filter(|n| n % 3 == key);
        let expected: Vec<String> = expected.map(|n| format!("{key} {n}")).collect();
        assert!(of_key.eq(expected.iter()), "the order of key {key}");
    }
    let topic = Topic::new(name).expect("a topic");
    let counts = suite.outbox.counts(&topic).await.expect("counts");
    assert_eq!(
        (counts.depth, counts.held_lanes),
        (0, 0),
        "all is handed back"
    );
}
