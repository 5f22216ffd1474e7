//! Choosing a ring, and choosing none again, beside messages that are there.

use std::time::Duration;

use buttress_outbox::{
    Message, Outbox, OutboxError, OutboxStore, Relay, Topic, TopicOrder, TopicPolicy,
    publisher::in_process,
};
use buttress_testkit::eventually;

use super::{Heard, TOPIC, append, in_table, message, open, streamed};
use crate::base;

const PATIENCE: Duration = Duration::from_secs(60);

fn numbered(from: usize, to: usize) -> Vec<Message> {
    let both = |n: usize| ["a", "b"].map(|key| message(key, &format!("n{n}")));
    (from..to).flat_map(both).collect()
}

fn names(number: usize) -> Vec<String> {
    (0..number).map(|n| format!("n{n}")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_goes_into_a_ring_and_out_of_it_and_its_keys_keep_their_order() {
    let Some(base) = base::on_ring(&[TOPIC], 10).await else {
        return;
    };
    let plain = Outbox::new(OutboxStore::postgres(base.pool.clone()).unwrap());
    let ringed = Outbox::new(base.store.clone());
    // Nobody has made its lanes yet: wherever a ring is asked for, they go to the table.
    append(&base.pool, &plain, &numbered(0, 5)).await;
    append(&base.pool, &ringed, &numbered(5, 10)).await;
    assert_eq!((streamed(&base).await, in_table(&base).await), (0, 20));
    // A relay that holds lanes as none of the ring, and dies. Its lanes are no lanes of the ring
    // before its lease is over, and then nobody thinks they are what they were.
    let topic = Topic::new(TOPIC).unwrap();
    let heard = Heard::default();
    let held = plain.clone();
    let dying = tokio::spawn(async move {
        let publisher = in_process(|_| std::future::pending());
        let lease = buttress_outbox::RelayPolicy::new().with_lease(Duration::from_secs(2));
        let relay = Relay::builder(&held).policy(lease).topic(TOPIC, publisher);
        relay
            .build()
            .unwrap()
            .run_until(std::future::pending::<()>())
            .await;
    });
    eventually("it holds lanes", PATIENCE, async || {
        (plain.counts(&topic).await.unwrap().held_lanes == 64).then_some(())
    })
    .await;
    dying.abort();
    let relay = heard.relay(&ringed, |_| Ok(())).build().unwrap();
    relay.run_once().await.unwrap();
    append(&base.pool, &ringed, &numbered(10, 15)).await;
    assert_eq!(streamed(&base).await, 0, "they are another's still");
    eventually("its lanes are made", PATIENCE, async || {
        relay.run_once().await.unwrap();
        let opened = base::rows(&base.pool, "buttress_outbox_ring").await;
        (opened == 1).then_some(())
    })
    .await;
    // From here on to both tables, as in a roll-out, and relays of both minds.
    let other = heard.relay(&plain, |_| Ok(())).build().unwrap();
    for n in 15..40 {
        let outbox = if n % 2 == 0 { &plain } else { &ringed };
        append(&base.pool, outbox, &numbered(n, n + 1)).await;
        if n % 5 == 0 {
            relay.run_once().await.unwrap();
            other.run_once().await.unwrap();
            ringed.truncate().await.unwrap();
        }
    }
    assert!(streamed(&base).await > 0);
    // And out of it again.
    append(&base.pool, &plain, &numbered(40, 45)).await;
    eventually("all is heard", PATIENCE, async || {
        other.run_once().await.unwrap();
        (plain.counts(&topic).await.unwrap().depth == 0).then_some(())
    })
    .await;
    for key in ["a", "b"] {
        assert_eq!(heard.of(key), names(45), "{key}");
    }
}

#[tokio::test]
async fn what_cannot_have_a_ring_is_refused() {
    let sqlite = base::on_sqlite().await.unwrap();
    let refused = sqlite.store.clone().with_ring([TOPIC]).unwrap_err();
    assert!(
        matches!(&refused, OutboxError::Policy(it) if it.field() == "ring"),
        "{refused}"
    );
    let Some((base, outbox)) = open(10).await else {
        return;
    };
    let refused = base.store.clone().with_ring([""]).unwrap_err();
    assert!(matches!(refused, OutboxError::Message(_)));
    let global = TopicPolicy::new().with_order(TopicOrder::Global);
    let refused = Heard::default().relay_by(&outbox, global.clone(), |_| Ok(()));
    let refused = refused.build().unwrap_err();
    assert!(
        matches!(&refused, OutboxError::Policy(it) if it.field() == "order"),
        "{refused}"
    );
    // Who does not know of it finds it when he has the lanes, and delivers nothing out of line.
    append(&base.pool, &outbox, &numbered(0, 3)).await;
    let plain = Outbox::new(OutboxStore::postgres(base.pool.clone()).unwrap());
    let heard = Heard::default();
    let relay = heard.relay_by(&plain, global, |_| Ok(())).build().unwrap();
    let pass = relay.run_once().await.unwrap();
    assert_eq!((pass.delivered, pass.held_up), (0, 1));
}

/// In a statement of the user's own.
#[tokio::test]
async fn an_append_rides_in_a_statement_into_the_ring_or_the_statement_fails() {
    let Some(base) = base::on_ring(&[TOPIC], 10).await else {
        return;
    };
    let outbox = Outbox::new(base.store.clone());
    let append = outbox.append_after_in_ring("bumped", 2).unwrap();
    assert!(outbox.append_after_in_ring("no name", 2).is_err());
    let furnish = "CREATE TABLE business (k BIGINT NOT NULL, n BIGINT NOT NULL);
         INSERT INTO business VALUES (1, 0), (2, 0), (2, 0)";
    sqlx::raw_sql(furnish).execute(&base.pool).await.unwrap();
    let sql = format!(
        "WITH bumped AS (UPDATE business SET n = n + 1 WHERE k = $1 RETURNING n) {}",
        append.sql()
    );
    let sql: &'static str = sql.leak();
    let bump = async |key: i64, message: &Message| {
        let query = append.bind(sqlx::query(sql).bind(key), message);
        let done = query.execute(&base.pool).await;
        done.map(|done| done.rows_affected())
    };
    // Its lanes are none of the ring yet: nothing is changed, and nothing is lost silently.
    assert!(bump(1, &message("a", "n0")).await.is_err());
    let heard = Heard::default();
    let relay = heard.relay(&outbox, |_| Ok(())).build().unwrap();
    relay.run_once().await.unwrap();
    assert_eq!(bump(1, &message("a", "n0")).await.unwrap(), 1);
    assert_eq!(bump(2, &message("a", "n1")).await.unwrap(), 1);
    assert_eq!(bump(3, &message("a", "none")).await.unwrap(), 0);
    let late = Message::builder(TOPIC, "/ring", "late").key("a");
    let late = late.delayed(Duration::from_secs(9)).build().unwrap();
    assert!(bump(1, &late).await.is_err());
    let changed = "SELECT sum(n)::bigint FROM business";
    let changed: i64 = sqlx::query_scalar(changed)
        .fetch_one(&base.pool)
        .await
        .unwrap();
    assert_eq!(
        (changed, streamed(&base).await, in_table(&base).await),
        (3, 2, 0)
    );
    assert_eq!(relay.run_once().await.unwrap().delivered, 2);
    assert_eq!(heard.of("a"), names(2));
}
