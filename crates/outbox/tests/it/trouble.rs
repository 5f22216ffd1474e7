//! OB8, OB9, OB10, dropped futures, hanging and panicking publishers.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use buttress_core::Class;
use buttress_outbox::{
    AfterDeath, Delivery, Event, EventKind, Message, Outbox, PublishError, Publisher, Relay,
    RelayPolicy, Topic, TopicPolicy, publisher::in_process,
};
use buttress_retry_backoff::Backoff;
use buttress_testkit::{
    cancel_sweep, clean_pool, eventually, eventually::eventually_as, proxy::Proxy,
};

use crate::{
    base,
    lab::{self, Destination, TOPIC},
};

fn topic() -> Topic {
    Topic::new(TOPIC).unwrap()
}

fn note(key: &str) -> Message {
    let message = Message::builder(TOPIC, "/trouble", "note").key(key);
    message.subject(key).build().unwrap()
}

/// OB8: the server ends all connections again and again while it is relayed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ob8_connections_that_are_ended_all_the_time_lose_nothing() {
    let tally = buttress_testkit::tally::suite("OB8 X8");
    let Some(base) = base::on_postgres().await else {
        return;
    };
    lab::furnish(&base.pool, 10).await;
    let outbox = Outbox::new(base.store.clone());
    let (admin, _) = base::postgres_at(&base.url).await;
    let inbox = buttress_outbox::Inbox::new(base.store.clone(), "x").unwrap();
    let pool = base.pool.clone();
    let relay = Relay::builder(&outbox)
        .policy(RelayPolicy::new().with_lease(Duration::from_secs(1)))
        .topic_with(
            TOPIC,
            TopicPolicy::new().with_outage_backoff(Backoff::constant(Duration::from_millis(20))),
            Destination { pool, inbox },
        )
        .build()
        .unwrap();
    let stop = tokio::sync::watch::Sender::new(false);
    let mut stopped = stop.subscribe();
    let relaying = tokio::spawn(async move {
        let stopped = async move {
            let _ = stopped.wait_for(|stop| *stop).await;
        };
        relay.run_until(stopped).await;
    });
    let rounds = buttress_testkit::short_or_long(10, 200);
    for round in 0..rounds * 20_i64 {
        // What is refused was not committed, or it was: the business row knows.
        let _ = lab::change(&base.pool, &outbox, round % 10, async { true }).await;
        if round % 20 == 10 {
            let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                       WHERE datname = current_database() AND pid <> pg_backend_pid()";
            let _ = sqlx::query(end).execute(&admin).await;
        }
    }
    let seen = eventually_as("all is heard", Duration::from_secs(60), async || {
        lab::check(&base.pool, true).await
    });
    let seen = seen.await;
    assert!(seen.committed > 100, "{seen:?}");
    stop.send_replace(true);
    relaying.await.unwrap();
    tally.operations(seen.committed);
}

/// OB9: an append that finds no room takes the business row with it, and all is well once there is.
#[tokio::test]
async fn ob9_a_full_database_takes_neither_row_and_resumes() {
    let tally = buttress_testkit::tally::suite("OB9");
    let base = base::on_sqlite().await.unwrap();
    lab::furnish(&base.pool, 1).await;
    let outbox = Outbox::new(base.store.clone());
    let (pages,): (i64,) = sqlx::query_as("PRAGMA page_count")
        .fetch_one(&base.pool)
        .await
        .unwrap();
    let full = async |room: i64| {
        // The limit is each connection's own.
        let mut connections = Vec::new();
        for _ in 0..4 {
            connections.push(base.pool.acquire().await.unwrap());
        }
        for connection in &mut connections {
            let limit = format!("PRAGMA max_page_count = {}", pages + room);
            let mut limit = sqlx::QueryBuilder::<sqlx::Sqlite>::new(limit);
            limit.build().execute(&mut **connection).await.unwrap();
        }
    };
    full(4).await;
    let big = Message::builder(TOPIC, "/trouble", "big").key("0");
    let big = big.payload(vec![7; 200_000]).build().unwrap();
    let mut transaction = lab::begin(&base.pool).await.unwrap();
    sqlx::query("UPDATE business SET version = version + 1")
        .execute(&mut *transaction)
        .await
        .unwrap();
    let error = outbox.append_in(&mut *transaction, &big).await.unwrap_err();
    assert_eq!(error.class(), Class::NotDone);
    drop(transaction);
    let version = sqlx::query_scalar("SELECT version FROM business");
    assert_eq!(version.fetch_one(&base.pool).await.ok(), Some(0_i64));
    full(10_000).await;
    let mut transaction = lab::begin(&base.pool).await.unwrap();
    let wake = match outbox.append_in(&mut *transaction, &big).await {
        Ok(w) => w,
        Err(buttress_outbox::OutboxError::Store(e)) => panic!("{:?}", e.driver()),
        Err(e) => panic!("{e}"),
    };
    transaction.commit().await.unwrap();
    wake.fire();
    let relay = Relay::builder(&outbox).topic(TOPIC, in_process(|_| async { Ok(()) }));
    let pass = relay.build().unwrap().run_once().await.unwrap();
    assert_eq!(pass.delivered, 1);
    tally.faults(1);
}

/// OB10: many relays and writers on MariaDB get into each other's way, and all is delivered once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ob10_eight_relays_on_mariadb_survive_deadlocks() {
    let tally = buttress_testkit::tally::suite("OB10 X10");
    let Some(base) = base::on_mariadb().await else {
        return;
    };
    lab::furnish(&base.pool, 10).await;
    let outbox = Outbox::new(base.store.clone());
    let stop = tokio::sync::watch::Sender::new(false);
    let mut relays = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let inbox = buttress_outbox::Inbox::new(base.store.clone(), "x").unwrap();
        let pool = base.pool.clone();
        let policy = RelayPolicy::new().with_lease(Duration::from_secs(2));
        let policy = policy.with_poll(Duration::from_millis(50)).with_batch(20);
        let relay = Relay::builder(&outbox)
            .policy(policy)
            .topic_with(
                TOPIC,
                TopicPolicy::new().with_outage_backoff(Backoff::constant(Duration::from_millis(9))),
                Destination { pool, inbox },
            )
            .build()
            .unwrap();
        let mut stop = stop.subscribe();
        relays.spawn(async move {
            let stopped = async move {
                let _ = stop.wait_for(|stop| *stop).await;
            };
            relay.run_until(stopped).await;
        });
    }
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..4 {
        let (pool, outbox) = (base.pool.clone(), outbox.clone());
        let each = buttress_testkit::short_or_long(150, 100_000);
        writers.spawn(async move {
            for round in 0..each {
                let _ = lab::change(&pool, &outbox, (round + writer) % 10, async { true }).await;
            }
        });
    }
    writers.join_all().await;
    let seen = eventually("all is heard", Duration::from_secs(90), async || {
        lab::check(&base.pool, true).await.ok()
    });
    let seen = seen.await;
    stop.send_replace(true);
    relays.join_all().await;
    assert!(seen.committed > 300, "{seen:?}");
    tally.operations(seen.committed);
}

/// Many messages are one statement on MySQL, which has a longest one: long messages are several.
#[tokio::test]
async fn messages_of_any_length_are_appended_at_once_and_in_order_on_mariadb() {
    let Some(base) = base::on_mariadb().await else {
        return;
    };
    let outbox = Outbox::new(base.store.clone());
    let messages: Vec<Message> = (0..60)
        .map(|n: usize| {
            let length = if n < 40 { 10 } else { 1024 * 1024 };
            let message = Message::builder(TOPIC, "/trouble", "note").key("one");
            let message = message.subject(n.to_string()).payload(vec![7; length]);
            message.build().unwrap()
        })
        .collect();
    let mut transaction = lab::begin(&base.pool).await.unwrap();
    let wake = outbox.append_all_in(&mut *transaction, &messages).await;
    transaction.commit().await.unwrap();
    drop(wake.unwrap());
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hear = Arc::clone(&heard);
    let publisher = in_process(move |delivery| {
        let subject = delivery.message().subject().unwrap_or_default().to_owned();
        hear.lock().unwrap().push(subject);
        async { Ok(()) }
    });
    let relay = Relay::builder(&outbox).topic(TOPIC, publisher);
    let pass = relay.build().unwrap().run_once().await.unwrap();
    assert_eq!(pass.delivered, 60);
    let expected: Vec<String> = (0..60).map(|n| n.to_string()).collect();
    assert_eq!(*heard.lock().unwrap(), expected);
}

/// An append may be dropped at every point: after the rollback there is no message, and the pool
/// is clean.
#[tokio::test]
async fn an_append_may_be_dropped_at_every_point() {
    let _tally = buttress_testkit::tally::suite("X1");
    let Some(base) = base::on_postgres().await else {
        return;
    };
    let (_proxy, through) = Proxy::before(&base.url).await.unwrap();
    let options = sqlx::postgres::PgPoolOptions::new().max_connections(2);
    let pool = options.connect(&through).await.unwrap();
    let store = buttress_outbox::OutboxStore::postgres(pool.clone()).unwrap();
    let outbox = Outbox::new(store);
    let watcher = Outbox::new(base.store.clone());
    let swept = cancel_sweep(
        async || {
            let mut transaction = lab::begin(&pool).await?;
            let wake = outbox.append_in(&mut *transaction, &note("a")).await;
            drop(wake);
            transaction.rollback().await
        },
        async |point| {
            assert_eq!(clean_pool::probe(&pool).await.unwrap(), 2, "{point}");
            let counts = watcher.counts(&topic()).await.unwrap();
            assert_eq!(counts.depth, 0, "{point}");
        },
    );
    swept.await;
}

/// A pass may be dropped at every point: what was appended is delivered by the next ones.
#[tokio::test]
async fn a_pass_may_be_dropped_at_every_point() {
    let _tally = buttress_testkit::tally::suite("X1");
    let Some(base) = base::on_postgres().await else {
        return;
    };
    let (_proxy, through) = Proxy::before(&base.url).await.unwrap();
    let options = sqlx::postgres::PgPoolOptions::new().max_connections(2);
    let pool = options.connect(&through).await.unwrap();
    let store = buttress_outbox::OutboxStore::postgres(pool.clone()).unwrap();
    let outbox = Outbox::new(store);
    let heard = Arc::new(AtomicUsize::new(0));
    let hear = Arc::clone(&heard);
    let publisher = in_process(move |_| {
        hear.fetch_add(1, Ordering::SeqCst);
        async { Ok(()) }
    });
    let lease = Duration::from_millis(300);
    let relay = Relay::builder(&outbox)
        .policy(RelayPolicy::new().with_lease(lease))
        .topic(TOPIC, publisher)
        .build()
        .unwrap();
    let append = async || {
        let mut transaction = lab::begin(&base.pool).await.unwrap();
        for key in ["a", "b", "c"] {
            drop(
                outbox
                    .append_in(&mut *transaction, &note(key))
                    .await
                    .unwrap(),
            );
        }
        transaction.commit().await.unwrap();
    };
    append().await;
    let swept = cancel_sweep(
        async || relay.run_once().await,
        async |point| {
            assert_eq!(clean_pool::probe(&pool).await.unwrap(), 2, "{point}");
            // Lanes of a pass that was dropped lapse; what it asked for last may be done later still.
            let what = format!("all is delivered, {point}");
            eventually(&what, Duration::from_secs(60), async || {
                relay.run_once().await.unwrap();
                let counts = outbox.counts(&topic()).await.unwrap();
                assert_eq!(counts.dead, 0, "{point}");
                (counts.depth == 0).then_some(())
            })
            .await;
            append().await;
        },
    );
    swept.await;
    assert!(heard.load(Ordering::SeqCst) > 3);
}

/// A message that panics or hangs its publisher takes no neighbour with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ob7_a_message_that_panics_its_publisher_dies_alone() {
    let tally = buttress_testkit::tally::suite("OB7");
    let base = base::on_sqlite().await.unwrap();
    let outbox = Outbox::new(base.store.clone());
    let mut transaction = lab::begin(&base.pool).await.unwrap();
    for key in 0..50 {
        let message = note(&format!("key {key}"));
        drop(outbox.append_in(&mut *transaction, &message).await.unwrap());
    }
    transaction.commit().await.unwrap();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hear = Arc::clone(&heard);
    let publisher = in_process(move |delivery| {
        let hear = Arc::clone(&hear);
        async move {
            let subject = delivery.message().subject().unwrap_or_default().to_owned();
            assert_ne!(subject, "key 7", "planted");
            if subject == "key 9" {
                std::future::pending::<()>().await;
            }
            hear.lock().unwrap().push(subject);
            Ok::<(), PublishError>(())
        }
    });
    let policy = TopicPolicy::new()
        .with_lapses(3)
        .after_death(AfterDeath::Skip);
    let policy = policy.with_backoff(Backoff::constant(Duration::from_millis(30)));
    let lapses = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&lapses);
    let relay = Relay::builder(&outbox)
        .policy(RelayPolicy::new().with_publish_deadline(Duration::from_millis(100)))
        .topic_with(TOPIC, policy, publisher)
        .observe(move |event: &Event| {
            if matches!(event.kind, EventKind::Lapsed { .. }) {
                count.fetch_add(1, Ordering::SeqCst);
            }
        })
        .build()
        .unwrap();
    let done = tokio::sync::Notify::new();
    let watching = async {
        let claim = "its neighbours are delivered, it is dead, and the slow one waits";
        eventually(claim, Duration::from_secs(60), async || {
            let counts = outbox.counts(&topic()).await.unwrap();
            (counts.depth == 1 && counts.dead == 1).then_some(())
        })
        .await;
        done.notify_one();
    };
    tokio::join!(relay.run_until(done.notified()), watching);
    assert_eq!(lapses.load(Ordering::SeqCst), 3);
    let letters = outbox.dead_letters(&topic(), 0, 10).await.unwrap();
    assert_eq!(letters[0].message.subject(), Some("key 7"));
    let mut heard = heard.lock().unwrap().clone();
    heard.sort();
    heard.dedup();
    assert_eq!(heard.len(), 48);
    tally.faults(4);
    tally.operations(heard.len());
}

/// A publisher that tries nothing and does not say that its destination is down. Of one without a
/// pause there would be thousands of calls.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publisher_that_tries_nothing_is_not_asked_again_without_a_pause() {
    #[derive(Default)]
    struct Idle(Arc<AtomicUsize>);

    #[async_trait::async_trait]
    impl Publisher for Idle {
        async fn publish(&self, batch: &[Delivery]) -> Vec<Result<(), PublishError>> {
            self.0.fetch_add(1, Ordering::SeqCst);
            batch.iter().map(|_| Err(PublishError::skipped())).collect()
        }
    }

    let base = base::on_sqlite().await.unwrap();
    let outbox = Outbox::new(base.store.clone());
    let mut transaction = lab::begin(&base.pool).await.unwrap();
    let notes: Vec<_> = (0..500).map(|key| note(&format!("key {key}"))).collect();
    let appended = outbox.append_all_in(&mut *transaction, &notes);
    drop(appended.await.unwrap());
    transaction.commit().await.unwrap();
    let calls = Arc::new(AtomicUsize::new(0));
    let relay = Relay::builder(&outbox).topic(TOPIC, Idle(Arc::clone(&calls)));
    let relay = relay.build().unwrap();
    relay
        .run_until(tokio::time::sleep(Duration::from_secs(3)))
        .await;
    let calls = calls.load(Ordering::SeqCst);
    assert!((1..200).contains(&calls), "{calls}");
    let counts = outbox.counts(&topic()).await.unwrap();
    assert_eq!((counts.depth, counts.waiting_keys), (500, 0));
}
