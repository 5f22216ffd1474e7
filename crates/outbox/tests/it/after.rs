//! An append that rides in a statement of the user's own, on PostgreSQL.

use std::time::Duration;

use buttress_outbox::{AppendAfter, Message, Outbox, OutboxError, Relay, publisher::in_process};
use buttress_testkit::eventually;
use sqlx::PgPool;

use crate::base;

const BUMP: &str = "WITH bumped AS (UPDATE business SET n = n + 1 WHERE k = $1 RETURNING n)";

fn message(name: &str) -> Message {
    let message = Message::builder("t", "/after", name).key("k");
    message.payload(&b"carried"[..]).build().unwrap()
}

async fn furnish(pool: &PgPool) {
    let sql = "CREATE TABLE business (k BIGINT NOT NULL, n BIGINT NOT NULL);
         INSERT INTO business VALUES (1, 0), (2, 0), (2, 0)";
    sqlx::raw_sql(sql).execute(pool).await.unwrap();
}

async fn bump(pool: &PgPool, append: &AppendAfter, key: i64, name: &str) -> u64 {
    let sql: &'static str = format!("{BUMP} {}", append.sql()).leak();
    let message = message(name);
    let query = sqlx::query(sql).bind(key);
    let done = append.bind(query, &message).execute(pool).await;
    done.unwrap().rows_affected()
}

#[tokio::test]
async fn one_statement_changes_and_appends_one_message_if_it_changes_anything() {
    let Some(base) = base::on_postgres().await else {
        return;
    };
    furnish(&base.pool).await;
    let outbox = Outbox::new(base.store.clone());
    let append = outbox.append_after("bumped", 2).unwrap();
    assert_eq!(bump(&base.pool, &append, 1, "one row").await, 1);
    assert_eq!(bump(&base.pool, &append, 2, "two rows").await, 1);
    assert_eq!(bump(&base.pool, &append, 3, "no row").await, 0);
    let changed = "SELECT sum(n)::bigint FROM business";
    let changed: i64 = sqlx::query_scalar(changed)
        .fetch_one(&base.pool)
        .await
        .unwrap();
    assert_eq!(changed, 3, "each row that was meant, once");
    let (said, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let publisher = in_process(move |delivery| {
        said.send(delivery.message().clone()).unwrap();
        std::future::ready(Ok(()))
    });
    let relay = Relay::builder(&outbox)
        .topic("t", publisher)
        .build()
        .unwrap();
    assert_eq!(relay.run_once().await.unwrap().delivered, 2);
    for name in ["one row", "two rows"] {
        let message = heard.recv().await.unwrap();
        assert_eq!(message.event_type(), name);
        assert_eq!(message.key().unwrap().as_bytes(), b"k");
        assert_eq!(&message.payload()[..], b"carried");
    }
}

/// Whose change waits for another's has no place yet, so it cannot be before that one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_is_given_its_place_after_the_row_is_locked() {
    let Some(base) = base::on_postgres().await else {
        return;
    };
    furnish(&base.pool).await;
    let outbox = Outbox::new(base.store.clone());
    let append = outbox.append_after("bumped", 2).unwrap();
    // What a place would be given by without a look at the user's part: the check can tell.
    let head = append.sql().split(" SELECT").next().unwrap();
    let blind: &'static str = format!("{BUMP} {head} VALUES ('t', 1, 'k', 0, 0, '', '')").leak();
    for (planted, taken) in [(false, 0), (true, 1)] {
        let given = "SELECT coalesce(pg_sequence_last_value('buttress_outbox_id_seq'), 0)";
        let before: i64 = sqlx::query_scalar(given)
            .fetch_one(&base.pool)
            .await
            .unwrap();
        let mut holder = base.pool.begin().await.unwrap();
        let lock = sqlx::raw_sql("SELECT n FROM business WHERE k = 1 FOR UPDATE");
        lock.execute(&mut *holder).await.unwrap();
        let (pool, append) = (base.pool.clone(), append.clone());
        let waiting = tokio::spawn(async move {
            if planted {
                let blind = sqlx::query(blind).bind(1_i64);
                return blind.execute(&pool).await.unwrap().rows_affected();
            }
            bump(&pool, &append, 1, "waits").await
        });
        let waits = "SELECT count(*) FROM pg_stat_activity
             WHERE datname = current_database() AND wait_event_type = 'Lock'";
        eventually("it waits", Duration::from_secs(10), async || {
            let waits = sqlx::query_scalar(waits).fetch_one(&base.pool).await;
            (waits.unwrap_or(0_i64) == 1).then_some(())
        })
        .await;
        let now: i64 = sqlx::query_scalar(given)
            .fetch_one(&base.pool)
            .await
            .unwrap();
        assert_eq!(now - before, taken, "planted: {planted}");
        holder.rollback().await.unwrap();
        assert_eq!(waiting.await.unwrap(), 1);
    }
}

#[tokio::test]
async fn what_cannot_stand_in_a_statement_is_refused() {
    let Some(base) = base::on_postgres().await else {
        return;
    };
    let outbox = Outbox::new(base.store.clone());
    for (cte, first) in [
        ("", 1),
        ("a b", 1),
        ("x; DROP TABLE y", 1),
        ("ok", 0),
        ("ok", 1001),
    ] {
        let refused = outbox.append_after(cte, first).unwrap_err();
        assert!(matches!(refused, OutboxError::Message(_)), "{cte} {first}");
    }
    let other = base::on_sqlite().await.unwrap();
    let outbox = Outbox::new(other.store.clone());
    assert!(outbox.append_after("ok", 1).is_err());
}
