//! The consuming side: taken once, in order, acknowledged after the commit.

use std::{
    future::pending,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use buttress_outbox::{
    Delivery, Inbox, Message, OutboxStore, PublishError, Publisher, Taken,
    consumer::{hand_to, nats::read},
    publisher::in_process,
};
use buttress_testkit::{
    child::{Child, Role, role},
    eventually, tally,
};
use sqlx::SqlitePool;
use tokio::sync::watch;

use super::stand::{PATIENCE, Stand, base, publish, server};
use crate::base as databases;

const URL: &str = "BUTTRESS_OUTBOX_TEST_NATS_URL";
const DATABASE: &str = "BUTTRESS_OUTBOX_TEST_URL";
const STREAM: &str = "SHOP";
const DURABLE: &str = "taker";

/// Long enough for a loaded machine to take one, short enough to wait for.
const ACK_WAIT: Duration = Duration::from_secs(2);

fn numbered(numbers: std::ops::Range<u64>) -> impl Iterator<Item = Message> {
    numbers.map(|number| base().json(&number).build().unwrap())
}

fn number(delivery: &Delivery) -> u64 {
    serde_json::from_slice(delivery.message().payload()).unwrap()
}

/// Takes each message once, and then says a word, at which it may be killed.
struct Taker {
    pool: SqlitePool,
    inbox: Inbox,
    role: Option<Role>,
}

impl Taker {
    fn new((pool, store): (SqlitePool, OutboxStore), role: Option<Role>) -> Self {
        let inbox = Inbox::new(store, "taker").unwrap();
        Self { pool, inbox, role }
    }
}

#[async_trait]
impl Publisher for Taker {
    async fn publish(&self, batch: &[Delivery]) -> Vec<Result<(), PublishError>> {
        let mut answers = Vec::new();
        for delivery in batch {
            let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
            let id = delivery.message().id().to_owned();
            let first = self.inbox.take_in(&mut *transaction, id).await.unwrap();
            if first == Taken::First {
                let effect = sqlx::query("INSERT INTO taken (number) VALUES (?)");
                let number = i64::try_from(number(delivery)).unwrap();
                effect
                    .bind(number)
                    .execute(&mut *transaction)
                    .await
                    .unwrap();
            }
            transaction.commit().await.unwrap();
            if let Some(role) = &self.role {
                role.wait_at("committed");
            }
            answers.push(Ok(()));
        }
        answers
    }
}

async fn taken(pool: &SqlitePool) -> Vec<i64> {
    let taken = sqlx::query_scalar("SELECT number FROM taken ORDER BY rowid");
    taken.fetch_all(pool).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn taker_role() {
    let Some(role) = role("taker") else { return };
    let stand = Stand::at(&std::env::var(URL).unwrap(), STREAM, |_| {}).await;
    let database = databases::sqlite_at(&std::env::var(DATABASE).unwrap()).await;
    let taker = Taker::new(database, Some(role));
    stand
        .consumer(DURABLE)
        .await
        .run_until(pending(), hand_to(taker))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_is_killed_between_commit_and_acknowledgement_has_its_effect_once() {
    let tally = tally::suite("OB1");
    let Some(server) = server() else { return };
    let stand = Stand::at(&server.url(), STREAM, |_| {}).await;
    let database = databases::on_sqlite().await.unwrap();
    let make = sqlx::query("CREATE TABLE taken (number INTEGER NOT NULL)");
    make.execute(&database.pool).await.unwrap();
    stand.pull(DURABLE, ACK_WAIT).await;
    let publisher = stand.publisher("{topic}");
    let answers = publish(&publisher, numbered(0..3)).await;
    assert!(answers.iter().all(Result::is_ok));
    for round in 1..=2 {
        let child = Child::role("taker", "nats::consume::taker_role");
        let child = child.environment(URL, server.url());
        let mut child = child.environment(DATABASE, &database.url).spawn();
        // Another one each time: the first was never acknowledged.
        let _ = child.until("committed").await;
        if round == 2 {
            child.go_on();
            let _ = child.until("committed").await;
        }
        child.kill();
    }
    let taker = Taker::new((database.pool.clone(), database.store.clone()), None);
    let consumer = stand.consumer(DURABLE).await;
    let counted = async {
        eventually("all is acknowledged", PATIENCE, async || {
            let stream = stand.context.get_stream(STREAM).await.unwrap();
            let info = stream.consumer_info(DURABLE).await.unwrap();
            (info.num_pending == 0 && info.num_ack_pending == 0).then_some(info)
        })
        .await
    };
    let info = tokio::select! {
        () = consumer.run_until(pending(), hand_to(taker)) => unreachable!(),
        info = counted => info,
    };
    assert_eq!(taken(&database.pool).await, [0, 1, 2]);
    assert!(
        info.delivered.consumer_sequence > 3,
        "some came again: {info:?}"
    );
    tally.operations(3);
}

#[tokio::test]
async fn what_fails_comes_again_before_anything_behind_it_and_what_is_refused_for_good_does_not() {
    let Some(stand) = Stand::shared().await else {
        return;
    };
    let publisher = stand.publisher("{topic}");
    stand.pull(DURABLE, Duration::from_secs(60)).await;
    let _ = publish(&publisher, numbered(0..2)).await;
    // Not an event at all.
    let subject = format!("{}.orders", stand.name);
    let confirm = stand.context.publish(subject, "no event".into()).await;
    confirm.unwrap().await.unwrap();
    let _ = publish(&publisher, numbered(2..5)).await;

    let heard = Arc::new(Mutex::new(Vec::new()));
    let (say, mut said) = watch::channel(false);
    let log = Arc::clone(&heard);
    let take = in_process(move |delivery| {
        let (number, attempt) = (number(&delivery), delivery.attempt());
        log.lock().unwrap().push((number, attempt));
        let answer = match (number, attempt) {
            (1, ..3) => Err(PublishError::refused("not yet")),
            (2, _) => Err(PublishError::refused_for_good("never")),
            (3, 1) => Err(PublishError::down("away")),
            _ => Ok(()),
        };
        if number == 4 {
            say.send_replace(true);
        }
        std::future::ready(answer)
    });
    let consumer = stand.consumer(DURABLE).await;
    let done = async { drop(said.wait_for(|it| *it).await.unwrap()) };
    consumer.run_until(done, hand_to(take)).await;
    let heard = heard.lock().unwrap().clone();
    let expected = [
        (0, 1),
        (1, 1),
        (1, 2),
        (1, 3),
        (2, 1),
        (3, 1),
        (3, 2),
        (4, 1),
    ];
    assert_eq!(heard, expected);
    let stream = stand.context.get_stream(&stand.name).await.unwrap();
    let info = stream.consumer_info(DURABLE).await.unwrap();
    assert_eq!((info.num_pending, info.num_ack_pending), (0, 0));
}

#[tokio::test]
async fn what_was_pulled_and_not_begun_is_given_back_at_a_stop() {
    let Some(stand) = Stand::shared().await else {
        return;
    };
    let publisher = stand.publisher("{topic}");
    let mut config = stand.pull(DURABLE, Duration::from_secs(600)).await;
    config.max_ack_pending = 100;
    let stream = stand.context.get_stream(&stand.name).await.unwrap();
    stream.create_consumer(config).await.unwrap();
    let _ = publish(&publisher, numbered(0..10)).await;

    // The stop comes while the first is taken: it is taken to its end, and no other is begun.
    let (stop, mut stopped) = watch::channel(false);
    let begun = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&begun);
    let take = in_process(move |delivery| {
        log.lock().unwrap().push(number(&delivery));
        stop.send_replace(true);
        std::future::ready(Ok(()))
    });
    let consumer = stand.consumer(DURABLE).await;
    let until = async { drop(stopped.wait_for(|it| *it).await.unwrap()) };
    consumer.run_until(until, hand_to(take)).await;
    assert_eq!(*begun.lock().unwrap(), [0]);

    // Long before `ack_wait`, another consumer has them, in a loop of the test's own.
    let mine = stream
        .get_consumer::<async_nats::jetstream::consumer::pull::Config>(DURABLE)
        .await
        .unwrap();
    let mut left: Vec<u64> = (1..10).collect();
    eventually("the others come", PATIENCE, async || {
        use futures_util::StreamExt as _;
        let mut messages = mine.fetch().max_messages(10).messages().await.unwrap();
        while let Some(Ok(message)) = messages.next().await {
            let received = read(&message).unwrap();
            left.retain(|it| *it != number(&received.delivery().unwrap()));
            message.double_ack().await.unwrap();
        }
        left.is_empty().then_some(())
    })
    .await;
}
