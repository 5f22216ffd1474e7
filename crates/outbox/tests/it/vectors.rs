//! Cases of other systems' specifications and tests, by their ids. OB-39 and the crash of whoever
//! publishes are in the suite that every store passes; what ends otherwise here is written down
//! with its reason beside the decisions.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use buttress_outbox::{
    Inbox, Message, Outbox, PublishError, Relay, Taken, Topic, TopicPolicy, publisher::in_process,
};
use buttress_retry_backoff::Backoff;
use buttress_store::SqlDatabase;
use sqlx::{Executor as _, Pool, postgres::PgListener};
use tokio::time::timeout;

use crate::{
    base::{self, Base},
    lab::{self, TOPIC},
};

fn message(key: &str, subject: &str) -> Message {
    let message = Message::builder(TOPIC, "/vectors", "note").key(key);
    message.subject(subject).build().unwrap()
}

/// Which subject is refused, and how.
type Refusal = (&'static str, fn() -> PublishError);

/// What was published, `subject id`, and what is answered to which subject.
#[derive(Clone, Default)]
struct Line {
    heard: Arc<Mutex<Vec<(String, String)>>>,
    refuse: Arc<Mutex<Option<Refusal>>>,
}

impl Line {
    fn relay(&self, outbox: &Outbox) -> Relay {
        let line = self.clone();
        let publisher = in_process(move |delivery| {
            let subject = delivery.message().subject().unwrap_or_default().to_owned();
            let id = delivery.message().id().to_owned();
            line.heard.lock().unwrap().push((subject.clone(), id));
            let refused = *line.refuse.lock().unwrap();
            async move {
                match refused {
                    Some((refused, error)) if refused == subject => Err(error()),
                    _ => Ok(()),
                }
            }
        });
        let policy = TopicPolicy::new()
            .with_backoff(Backoff::constant(Duration::from_millis(50)))
            .with_outage_backoff(Backoff::none());
        let relay = Relay::builder(outbox).topic_with(TOPIC, policy, publisher);
        relay.build().unwrap()
    }

    fn take(&self) -> Vec<String> {
        self.with_ids().into_iter().map(|it| it.0).collect()
    }

    fn with_ids(&self) -> Vec<(String, String)> {
        std::mem::take(&mut *self.heard.lock().unwrap())
    }
}

async fn append<DB: SqlDatabase>(pool: &Pool<DB>, outbox: &Outbox, messages: &[Message]) {
    let deadline = buttress_store::Deadline::after(buttress_store::Deadline::SQL);
    let mut transaction = buttress_store::Guarded::begin(pool, deadline)
        .await
        .unwrap();
    let wake = outbox.append_all_in(&mut *transaction, messages).await;
    transaction.commit().await.unwrap();
    drop(wake.unwrap());
}

/// OB-01: the earlier id is committed after the later one was read, and nothing is lost.
/// OB-02, OB-03, OB-05 end otherwise: there is no gate, so what has committed is not held back.
#[tokio::test]
async fn ob_01_a_late_commit_is_delivered_and_holds_nothing_back() {
    let Some(base) = base::on_postgres().await else {
        return;
    };
    let outbox = Outbox::new(base.store.clone());
    let line = Line::default();
    let relay = line.relay(&outbox);
    let mut late = lab::begin(&base.pool).await.unwrap();
    let first = outbox.append_in(&mut *late, &message("a", "1")).await;
    drop(first.unwrap());
    append(&base.pool, &outbox, &[message("b", "2")]).await;
    relay.run_once().await.unwrap();
    assert_eq!(line.take(), ["2"], "no gate");
    late.commit().await.unwrap();
    relay.run_once().await.unwrap();
    assert_eq!(line.take(), ["1"]);
}

/// OB-06: the older transaction is the later one to have the key's row.
#[tokio::test]
async fn ob_06_a_keys_order_is_that_of_its_rows_lock_not_of_transaction_ids() {
    let Some(base) = base::on_postgres().await else {
        return;
    };
    lab::furnish(&base.pool, 2).await;
    let outbox = Outbox::new(base.store.clone());
    let line = Line::default();
    let update =
        |key: i64| sqlx::query("UPDATE business SET version = version + 1 WHERE k = $1").bind(key);
    let mut older = lab::begin(&base.pool).await.unwrap();
    (*older).execute(update(1)).await.unwrap();
    let mut younger = lab::begin(&base.pool).await.unwrap();
    (*younger).execute(update(0)).await.unwrap();
    drop(
        outbox
            .append_in(&mut *younger, &message("0", "v1"))
            .await
            .unwrap(),
    );
    younger.commit().await.unwrap();
    (*older).execute(update(0)).await.unwrap();
    drop(
        outbox
            .append_in(&mut *older, &message("0", "v2"))
            .await
            .unwrap(),
    );
    older.commit().await.unwrap();
    line.relay(&outbox).run_once().await.unwrap();
    assert_eq!(line.take(), ["v1", "v2"]);
}

/// OB-27, for each end of the first one.
async fn second_waits<DB: SqlDatabase>(base: &Base<DB>) {
    let inbox = Inbox::new(base.store.clone(), "vectors").unwrap();
    for (id, commits, expected) in [("m1", true, Taken::Before), ("m2", false, Taken::First)] {
        let deadline = || buttress_store::Deadline::after(buttress_store::Deadline::SQL);
        let begin = async || {
            let begun = buttress_store::Guarded::begin(&base.pool, deadline());
            begun.await.unwrap()
        };
        let mut first = begin().await;
        assert_eq!(inbox.take_in(&mut *first, id).await.unwrap(), Taken::First);
        let mut second = begin().await;
        let taking = inbox.take_in(&mut *second, id);
        let mut taking = Box::pin(taking);
        let waits = timeout(Duration::from_millis(200), &mut taking).await;
        assert!(waits.is_err(), "OB-27 {id}: it did not wait: {waits:?}");
        if commits {
            first.commit().await.unwrap();
        } else {
            first.rollback().await.unwrap();
        }
        assert_eq!(taking.as_mut().await.unwrap(), expected, "OB-27 {id}");
        drop(taking);
        second.commit().await.unwrap();
    }
}

#[tokio::test]
async fn ob_27_a_second_taker_waits_for_the_firsts_end() {
    if let Some(base) = base::on_postgres().await {
        second_waits(&base).await;
    }
    if let Some(base) = base::on_mariadb().await {
        second_waits(&base).await;
    }
}

/// OB-29, OB-30: what was sent and not marked as sent comes again with the same id, and the
/// consumer acts on it once. OB-33: another consumer acts on the same id as well.
#[tokio::test]
async fn ob_29_ob_30_ob_33_a_repetition_has_the_same_id_and_each_consumer_takes_it_once() {
    let base = base::on_sqlite().await.unwrap();
    let outbox = Outbox::new(base.store.clone());
    let line = Line::default();
    *line.refuse.lock().unwrap() = Some(("1", || PublishError::unknown("no confirm came")));
    append(&base.pool, &outbox, &[message("a", "1")]).await;
    let relay = line.relay(&outbox);
    relay.run_once().await.unwrap();
    *line.refuse.lock().unwrap() = None;
    tokio::time::sleep(Duration::from_millis(60)).await;
    relay.run_once().await.unwrap();
    let heard = line.with_ids();
    assert!(heard.len() >= 2, "{heard:?}");
    for consumer in ["one", "other"] {
        let inbox = Inbox::new(base.store.clone(), consumer).unwrap();
        let mut taken = Vec::new();
        for (_, id) in &heard {
            let mut transaction = lab::begin(&base.pool).await.unwrap();
            taken.push(inbox.take_in(&mut *transaction, id).await.unwrap());
            transaction.commit().await.unwrap();
        }
        assert_eq!(taken[0], Taken::First, "OB-33: {consumer}");
        assert!(taken[1..].iter().all(|it| *it == Taken::Before), "OB-30");
    }
}

/// OB-34, of a key: what failed waits, and what is behind it waits for it.
#[tokio::test]
async fn ob_34_of_a_key_nothing_is_sent_before_what_failed() {
    let base = base::on_sqlite().await.unwrap();
    let outbox = Outbox::new(base.store.clone());
    let line = Line::default();
    *line.refuse.lock().unwrap() = Some(("2", || PublishError::refused("not now")));
    let three = ["1", "2", "3"].map(|subject| message("a", subject));
    append(&base.pool, &outbox, &three).await;
    let relay = line.relay(&outbox);
    relay.run_once().await.unwrap();
    let heard = line.take();
    assert_eq!(heard[..2], ["1", "2"]);
    assert!(!heard.contains(&"3".to_owned()), "{heard:?}");
    let counts = outbox.counts(&Topic::new(TOPIC).unwrap()).await.unwrap();
    assert_eq!((counts.depth, counts.waiting_keys), (2, 1), "1 is removed");
    *line.refuse.lock().unwrap() = None;
    tokio::time::sleep(Duration::from_millis(60)).await;
    relay.run_once().await.unwrap();
    assert_eq!(line.take(), ["2", "3"]);
}

/// OB-35, OB-41: after a rollback neither row nor notification; a notification is far from the
/// server's limit of 7999 bytes, and those that come close together are one.
#[tokio::test]
async fn ob_35_ob_41_a_rollback_leaves_no_row_and_notifies_nobody() {
    let Some(base) = base::on_postgres().await else {
        return;
    };
    let outbox = Outbox::new(base.store.clone().with_notify());
    let mut ear = PgListener::connect(&base.url).await.unwrap();
    ear.listen("buttress_outbox").await.unwrap();
    let mut transaction = lab::begin(&base.pool).await.unwrap();
    let never = message("a", "never");
    let wake = outbox.append_in(&mut *transaction, &never).await;
    drop(wake.unwrap());
    transaction.rollback().await.unwrap();
    let silence = timeout(Duration::from_millis(200), ear.recv()).await;
    assert!(silence.is_err(), "OB-35: {silence:?}");
    let counts = outbox.counts(&Topic::new(TOPIC).unwrap()).await.unwrap();
    assert_eq!(counts.depth, 0, "OB-35");

    let mut transaction = lab::begin(&base.pool).await.unwrap();
    let big = Message::builder(TOPIC, "/vectors", "note").payload(vec![7; 8000]);
    let big = [big.build().unwrap(), message("a", "small")];
    let wake = outbox.append_all_in(&mut *transaction, &big).await.unwrap();
    transaction.commit().await.unwrap();
    wake.fire();
    let hint = ear.recv().await.unwrap();
    assert_eq!(
        hint.payload().len(),
        16,
        "OB-41: who sent it, and nothing else"
    );
    let more = timeout(Duration::from_millis(300), ear.recv()).await;
    assert!(more.is_err(), "OB-41: {more:?}");
}
