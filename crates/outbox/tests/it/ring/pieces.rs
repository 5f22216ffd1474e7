//! Emptying pieces: what goes, what stays, and whom it keeps waiting.

use std::{future::pending, time::Duration};

use buttress_outbox::{
    AfterDeath, Event, EventKind, Outbox, PublishError, Relay, Topic, TopicPolicy,
};
use buttress_testkit::eventually;
use sqlx::PgPool;

use super::{Heard, append, message, open, streamed};
use crate::{base, lab};

const PATIENCE: Duration = Duration::from_secs(60);

/// So many messages of ten keys, in commits of ten.
async fn fill(pool: &PgPool, outbox: &Outbox, tens: usize) {
    for _ in 0..tens {
        let some: Vec<_> = (0..10).map(|n| message(&format!("k{n}"), "fill")).collect();
        append(pool, outbox, &some).await;
    }
}

/// The pieces on which this transaction holds locks.
async fn locked(connection: &mut sqlx::PgConnection) -> Vec<String> {
    let locks = "SELECT DISTINCT c.relname::text FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
         WHERE l.pid = pg_backend_pid() AND c.relkind = 'r' AND c.relname LIKE '%outbox\\_stream\\__'
         ORDER BY 1";
    sqlx::query_scalar(locks)
        .fetch_all(connection)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_locks_its_own_piece_and_waits_for_no_other() {
    let Some((base, outbox)) = open(10).await else {
        return;
    };
    fill(&base.pool, &outbox, 1).await;
    for turn in 0..12 {
        let last = "SELECT last_value FROM buttress_outbox_id_seq";
        let last: i64 = sqlx::query_scalar(last)
            .fetch_one(&base.pool)
            .await
            .unwrap();
        let own = format!("buttress_outbox_stream_{}", (last + 1) / 10 % 4);
        // Whoever empties the others has them to himself.
        let mut emptying = base.pool.begin().await.unwrap();
        for other in 0..4 {
            let other = format!("buttress_outbox_stream_{other}");
            if other != own {
                let lock = format!("LOCK TABLE {other} IN ACCESS EXCLUSIVE MODE");
                let lock: &'static str = lock.leak();
                sqlx::raw_sql(lock).execute(&mut *emptying).await.unwrap();
            }
        }
        let mut transaction = base.pool.begin().await.unwrap();
        let one = [message("a", "one")];
        let appended = outbox.append_all_in(&mut *transaction, &one);
        let appended = tokio::time::timeout(PATIENCE, appended).await;
        drop(appended.expect("it waits for nobody").unwrap());
        assert_eq!(locked(&mut transaction).await, [own], "turn {turn}");
        emptying.rollback().await.unwrap();
        transaction.commit().await.unwrap();
        fill(&base.pool, &outbox, 1).await;
    }
}

/// A snapshot that is older than all of it: behind it no row that is deleted may be cleared away,
/// and a piece is emptied all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_snapshot_keeps_no_piece_and_sees_it_empty() {
    let Some((base, outbox)) = open(50).await else {
        return;
    };
    fill(&base.pool, &outbox, 12).await;
    let mut pin = base.pool.begin().await.unwrap();
    let pinned = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM pg_class LIMIT 1";
    sqlx::raw_sql(pinned).execute(&mut *pin).await.unwrap();
    let heard = Heard::default();
    let relay = heard.relay(&outbox, |_| Ok(())).build().unwrap();
    assert_eq!(relay.run_once().await.unwrap().delivered, 120);
    for _ in 0..10 {
        fill(&base.pool, &outbox, 4).await;
        relay.run_once().await.unwrap();
        outbox.truncate().await.unwrap();
    }
    assert_eq!(heard.count(), 520);
    let left = streamed(&base).await;
    assert!(left <= 150, "{left} of 520: no more than the pieces in use");
    let dead = "SELECT coalesce(sum(n_dead_tup), 0)::bigint FROM pg_stat_all_tables
         WHERE relname LIKE 'buttress_outbox_stream%'";
    let dead: i64 = sqlx::query_scalar(dead)
        .fetch_one(&base.pool)
        .await
        .unwrap();
    assert_eq!(dead, 0);
    // To him the 120 were there. What was emptied is gone for him, too.
    let seen = "SELECT count(*) FROM buttress_outbox_stream";
    let seen: i64 = sqlx::query_scalar(seen).fetch_one(&mut *pin).await.unwrap();
    assert_eq!(seen, 0);
    // From now on he reads in the pieces, and that does keep them; nobody waits for him.
    let before = streamed(&base).await;
    fill(&base.pool, &outbox, 30).await;
    relay.run_once().await.unwrap();
    assert_eq!(outbox.truncate().await.unwrap(), 0);
    assert_eq!(streamed(&base).await, before + 300);
    pin.rollback().await.unwrap();
    assert_eq!(outbox.truncate().await.unwrap(), 2);
}

/// OB11 for the ring, and the checker can fail: a truncation that looks at ids alone loses what its
/// lane has not delivered yet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ob11_a_truncation_removes_only_what_was_delivered_and_one_by_ids_alone_is_caught() {
    let tally = buttress_testkit::tally::suite("OB11");
    for planted in [false, true] {
        let Some(base) = base::on_ring(&[lab::TOPIC], 20).await else {
            return;
        };
        lab::furnish(&base.pool, 10).await;
        let outbox = Outbox::new(base.store.clone());
        let destination = lab::Destination {
            pool: base.pool.clone(),
            inbox: buttress_outbox::Inbox::new(base.store.clone(), "x").unwrap(),
        };
        let relay = Relay::builder(&outbox).topic(lab::TOPIC, destination);
        let relay = relay.build().unwrap();
        relay.run_once().await.unwrap();
        for n in 0..150 {
            let committed = std::future::ready(true);
            lab::change(&base.pool, &outbox, n % 10, committed)
                .await
                .unwrap();
            if n == 30 {
                relay.run_once().await.unwrap();
            }
            if n % 5 != 0 {
                continue;
            }
            if planted {
                let last = "SELECT last_value FROM buttress_outbox_id_seq";
                let last: i64 = sqlx::query_scalar(last)
                    .fetch_one(&base.pool)
                    .await
                    .unwrap();
                let oldest = (last / 20 + 2) % 4;
                let truncate = format!("TRUNCATE buttress_outbox_stream_{oldest}");
                let truncate: &'static str = truncate.leak();
                sqlx::raw_sql(truncate).execute(&base.pool).await.unwrap();
            } else {
                outbox.truncate().await.unwrap();
            }
        }
        relay.run_once().await.unwrap();
        let checked = lab::check(&base.pool, true).await;
        if planted {
            assert!(checked.is_err(), "{checked:?}");
            tally.caught(1);
            continue;
        }
        let seen = checked.unwrap();
        assert_eq!((seen.committed, seen.duplicates), (150, 0));
        assert_eq!(outbox.truncate().await.unwrap(), 2, "and then it does");
        tally.operations(seen.committed);
    }
}

/// What a lane that is emptied has settled is known afterwards: nothing comes again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lane_that_was_idle_for_rounds_knows_its_place() {
    let Some((base, outbox)) = open(10).await else {
        return;
    };
    let heard = Heard::default();
    let relay = heard.relay(&outbox, |_| Ok(())).build().unwrap();
    append(&base.pool, &outbox, &[message("idle", "n0")]).await;
    relay.run_once().await.unwrap();
    for _ in 0..8 {
        // Of one key, so that all other lanes are idle.
        let some: Vec<_> = (0..10).map(|_| message("busy", "fill")).collect();
        append(&base.pool, &outbox, &some).await;
        relay.run_once().await.unwrap();
        outbox.truncate().await.unwrap();
    }
    let folded = "SELECT count(*) FROM buttress_outbox_lane WHERE position > 0";
    let folded: i64 = sqlx::query_scalar(folded)
        .fetch_one(&base.pool)
        .await
        .unwrap();
    assert!(folded > 0);
    append(&base.pool, &outbox, &[message("idle", "n1")]).await;
    relay.run_once().await.unwrap();
    assert_eq!(heard.of("idle"), ["n0", "n1"]);
    assert_eq!(heard.count(), 82);
}

/// A blocked key has moved out, so it pins nothing; a lane that cannot be delivered does, and that
/// is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blocked_key_pins_no_piece_and_a_stuck_lane_is_told_of() {
    let Some((base, outbox)) = open(10).await else {
        return;
    };
    let heard = Heard::default();
    let dies = TopicPolicy::new().after_death(AfterDeath::Block);
    let relay = heard.relay_by(&outbox, dies, |delivery| {
        match delivery.message().event_type() {
            "dies" => Err(PublishError::refused_for_good("no")),
            _ => Ok(()),
        }
    });
    let relay = relay.build().unwrap();
    append(
        &base.pool,
        &outbox,
        &[message("a", "dies"), message("a", "behind")],
    )
    .await;
    relay.run_once().await.unwrap();
    let topic = Topic::new("t").unwrap();
    let counts = outbox.counts(&topic).await.unwrap();
    assert_eq!((counts.depth, counts.dead, counts.blocked_keys), (1, 1, 1));
    for _ in 0..6 {
        fill(&base.pool, &outbox, 1).await;
        append(&base.pool, &outbox, &[message("a", "behind")]).await;
        relay.run_once().await.unwrap();
        outbox.truncate().await.unwrap();
    }
    let left = streamed(&base).await;
    assert!(left <= 30, "{left} are left");
    assert_eq!(heard.of("a"), Vec::<String>::new());
    let letters = outbox.dead_letters(&topic, 0, 10).await.unwrap();
    outbox.skip(&topic, letters[0].sequence).await.unwrap();
    relay.run_once().await.unwrap();
    assert_eq!(heard.of("a"), ["behind"; 7]);

    // A destination that takes nothing, and a ring that goes on.
    let (said, mut told) = tokio::sync::mpsc::unbounded_channel();
    let stuck = heard.relay(&outbox, |_| Err(PublishError::down("away")));
    let stuck = stuck.observe(move |event: &Event| {
        if let EventKind::Pinned { pieces, busy, .. } = event.kind {
            said.send((pieces, busy)).unwrap();
        }
    });
    let stuck = stuck.build().unwrap();
    fill(&base.pool, &outbox, 8).await;
    let relaying = tokio::spawn(async move { stuck.run_until(pending::<()>()).await });
    let (pieces, busy) = tokio::time::timeout(PATIENCE, told.recv())
        .await
        .unwrap()
        .unwrap();
    assert!(pieces > 0 && busy < pieces, "{pieces} {busy}");
    relaying.abort();
    assert_eq!(outbox.counts(&topic).await.unwrap().depth, 80);
    assert_eq!(outbox.truncate().await.unwrap(), 0);
}

/// A relay that runs empties them by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_runs_empties_what_it_has_delivered() {
    let Some((base, outbox)) = open(20).await else {
        return;
    };
    fill(&base.pool, &outbox, 20).await;
    let heard = Heard::default();
    let relay = heard.relay(&outbox, |_| Ok(())).build().unwrap();
    let relaying = tokio::spawn(async move { relay.run_until(pending::<()>()).await });
    eventually("two pieces are emptied", PATIENCE, async || {
        (heard.count() >= 200 && streamed(&base).await < 120).then_some(())
    })
    .await;
    relaying.abort();
    assert_eq!(heard.count(), 200);
}
