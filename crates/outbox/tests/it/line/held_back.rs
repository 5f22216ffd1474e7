//! What holds a line up: transactions that do not end, messages that cannot be delivered. All of it
//! is shown.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use buttress_outbox::{
    AfterDeath, Delivery, Event, EventKind, Message, Outbox, PublishError, Relay, Retention, Topic,
    publisher::in_process,
};
use buttress_testkit::eventually;
use sqlx::Postgres;

use super::{Heard, PATIENCE, append, furnish, in_one_line, message, quick};
use crate::base::{self, Base};

/// A relay that runs, and what it says of what it holds back.
struct Running {
    outbox: Outbox,
    heard: Heard,
    told: Arc<Mutex<Vec<(usize, Duration)>>>,
    relaying: tokio::task::JoinHandle<()>,
}

impl Running {
    fn on(base: &Base<Postgres>) -> Self {
        let outbox = Outbox::new(base.store.clone());
        let (heard, told) = (Heard::default(), Arc::new(Mutex::new(Vec::new())));
        let (hears, tell) = (heard.clone(), Arc::clone(&told));
        let publisher = in_process(move |delivery: Delivery| {
            let name = delivery.message().event_type().to_owned();
            hears.0.lock().unwrap().push((delivery.sequence(), name));
            std::future::ready(Ok(()))
        });
        let relay = Relay::builder(&outbox)
            .policy(quick())
            .topic_with("t", in_one_line(), publisher)
            .observe(move |event: &Event| {
                if let EventKind::HeldBack { messages, time, .. } = event.kind {
                    tell.lock().unwrap().push((messages, time));
                }
            })
            .build()
            .unwrap();
        let relaying = tokio::spawn(async move { relay.run_until(std::future::pending()).await });
        Self {
            outbox,
            heard,
            told,
            relaying,
        }
    }

    /// Waits until it has said that so many are held back, for more than a second.
    async fn holds_back(&self, messages: usize) {
        eventually("it is told what is held back", PATIENCE, async || {
            let last = self.told.lock().unwrap().last().copied();
            last.filter(|last| last.0 == messages && last.1 > Duration::from_secs(1))
        })
        .await;
        let topic = Topic::new("t").unwrap();
        let counts = self.outbox.counts(&topic).await.unwrap();
        assert_eq!(counts.depth, u64::try_from(messages).unwrap());
    }

    /// The transactions that it waits for are shown, and since when.
    async fn shows_who(&self) {
        let topic = Topic::new("t").unwrap();
        let counts = self.outbox.counts(&topic).await.unwrap();
        assert_eq!(counts.writers, 1);
        assert!(counts.oldest_writer > Duration::from_secs(1), "{counts:?}");
        assert!(counts.oldest_writer >= counts.oldest_age, "{counts:?}");
    }

    async fn hears(&self, names: &[&str]) {
        eventually("it goes on", PATIENCE, async || {
            (self.heard.names().len() >= names.len()).then_some(())
        })
        .await;
        assert_eq!(self.heard.names(), names);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.relaying.abort();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ob_02_a_transaction_that_does_not_end_holds_all_back_is_shown_and_ends() {
    let Some(base) = base::on_postgres().await else {
        return;
    };
    let running = Running::on(&base);
    let mut open = base.pool.begin().await.unwrap();
    let first = message("t", "first");
    let append_first = running.outbox.append_in(&mut *open, &first).await;
    drop(append_first.unwrap());
    append(&running.outbox, &base.pool, "t", &["second", "third"]).await;
    running.holds_back(2).await;
    running.shows_who().await;
    assert!(running.heard.names().is_empty());
    open.commit().await.unwrap();
    running.hears(&["first", "second", "third"]).await;
}

/// Here a gate by numbers of transactions would be shut.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ob_03_a_transaction_that_has_appended_nothing_holds_nothing_back_however_long_it_takes() {
    let Some(base) = base::on_postgres().await else {
        return;
    };
    let running = Running::on(&base);
    furnish(&base.pool).await;
    let mut other = base.pool.begin().await.unwrap();
    let write = sqlx::raw_sql("INSERT INTO business (writer) VALUES (1)");
    write.execute(&mut *other).await.unwrap();
    append(&running.outbox, &base.pool, "t", &["one", "two"]).await;
    running.hears(&["one", "two"]).await;
    other.rollback().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ob_05_a_prepared_transaction_holds_all_back_and_is_shown() {
    let Some(base) = base::on_postgres().await else {
        return;
    };
    let running = Running::on(&base);
    let mut own = base.pool.acquire().await.unwrap();
    sqlx::raw_sql("BEGIN").execute(&mut *own).await.unwrap();
    let first = message("t", "first");
    let append_first = running.outbox.append_in(&mut *own, &first).await;
    drop(append_first.unwrap());
    let prepare = sqlx::raw_sql("PREPARE TRANSACTION 'line'");
    prepare.execute(&mut *own).await.unwrap();
    append(&running.outbox, &base.pool, "t", &["second"]).await;
    running.holds_back(1).await;
    running.shows_who().await;
    let commit = sqlx::raw_sql("COMMIT PREPARED 'line'");
    commit.execute(&mut *own).await.unwrap();
    running.hears(&["first", "second"]).await;
}

/// A sequence that gives each connection ids in advance: nothing is ever decided, and that is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_sequence_that_has_a_cache_it_stands_still_and_says_so() {
    let Some(base) = base::on_postgres().await else {
        return;
    };
    let cache = "ALTER SEQUENCE buttress_outbox_id_seq CACHE 500";
    sqlx::raw_sql(cache).execute(&base.pool).await.unwrap();
    let running = Running::on(&base);
    append(&running.outbox, &base.pool, "t", &["one"]).await;
    running.holds_back(1).await;
    assert!(running.heard.names().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_delivered_holds_back_all_behind_it_whatever_its_key() {
    let Some(base) = base::on_postgres().await else {
        return;
    };
    let outbox = Outbox::new(base.store.clone());
    let topic = Topic::new("t").unwrap();
    let heard = Heard::default();
    let bad = Arc::new(Mutex::new(true));
    let refuses = Arc::clone(&bad);
    let policy = in_one_line().with_attempts(2);
    let policy = policy.with_retention(Retention::Keep(Duration::from_secs(60)));
    let relay = heard.saying(&outbox, "t", policy, move |delivery| {
        let bad = *refuses.lock().unwrap() && delivery.message().event_type() == "bad";
        if bad {
            Err(PublishError::refused("bad"))
        } else {
            Ok(())
        }
    });
    append(&outbox, &base.pool, "t", &["one", "bad", "two", "three"]).await;
    let pass = relay.run_once().await.unwrap();
    assert_eq!((pass.delivered, pass.died), (1, 1));
    assert_eq!(heard.names(), ["one"]);
    let counts = outbox.counts(&topic).await.unwrap();
    assert_eq!((counts.depth, counts.blocked_keys, counts.dead), (2, 1, 1));
    assert_eq!(relay.run_once().await.unwrap().delivered, 0);
    *bad.lock().unwrap() = false;
    let letters = outbox.dead_letters(&topic, 0, 10).await.unwrap();
    outbox.requeue(&topic, letters[0].sequence).await.unwrap();
    assert_eq!(relay.run_once().await.unwrap().delivered, 3);
    assert_eq!(heard.names(), ["one", "bad", "two", "three"]);
    let kept = outbox.history(&topic, 0, 10).await.unwrap();
    assert!(kept.iter().all(|past| past.delivered_at.is_some()) && kept.len() == 4);

    // One that is not due yet is waited for too.
    let mut transaction = base.pool.begin().await.unwrap();
    let later = Message::builder("t", "/line", "later").key("later");
    let later = later.delayed(Duration::from_secs(1)).build().unwrap();
    drop(outbox.append_in(&mut *transaction, &later).await.unwrap());
    transaction.commit().await.unwrap();
    append(&outbox, &base.pool, "t", &["after"]).await;
    eventually("both come", PATIENCE, async || {
        relay.run_once().await.unwrap();
        (heard.names().len() == 6).then_some(())
    })
    .await;
    assert_eq!(heard.names()[4..], ["later", "after"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_kills_its_publisher_dies_alone_and_is_passed_over_if_that_is_the_policy() {
    let Some(base) = base::on_postgres().await else {
        return;
    };
    let outbox = Outbox::new(base.store.clone());
    let heard = Heard::default();
    let policy = in_one_line().with_lapses(2).after_death(AfterDeath::Skip);
    let relay = heard.saying(&outbox, "t", policy, |delivery| {
        if delivery.message().event_type() == "poison" {
            // As a panic, but for the hook that writes a backtrace for a second.
            std::panic::resume_unwind(Box::new("poison"));
        }
        Ok(())
    });
    let names: Vec<String> = (0..40).map(|n| format!("n{n:02}")).collect();
    let mut all: Vec<&str> = names.iter().map(String::as_str).collect();
    all.insert(7, "poison");
    append(&outbox, &base.pool, "t", &all).await;
    eventually("all but one are heard", PATIENCE, async || {
        relay.run_once().await.unwrap();
        (heard.names().len() == 40).then_some(())
    })
    .await;
    assert_eq!(heard.names(), names);
    let topic = Topic::new("t").unwrap();
    assert_eq!(outbox.counts(&topic).await.unwrap().dead, 1);
}
