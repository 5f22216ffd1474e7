//! OB6, OB11 and the sheer number: a broker that is down for long, a backlog that drains, and what
//! was kept is pruned meanwhile.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use buttress_outbox::{
    Delivery, Message, Outbox, PublishError, PublishOrder, Publisher, Relay, RelayPolicy,
    Retention, Topic, TopicPolicy,
};
use buttress_retry_backoff::Backoff;
use buttress_testkit::{eventually, short_or_long};
use sqlx::Pool;

use crate::{
    base::{self, Base},
    lab::{self, Lab},
};

/// A broker that may be down; it counts, and sees whether a key's messages come in order.
#[derive(Clone, Default)]
struct Broker {
    down: Arc<AtomicBool>,
    taken: Arc<AtomicUsize>,
    overtaken: Arc<AtomicUsize>,
    last: Arc<Mutex<HashMap<Vec<u8>, i64>>>,
}

#[async_trait]
impl Publisher for Broker {
    async fn publish(&self, batch: &[Delivery]) -> Vec<Result<(), PublishError>> {
        if self.down.load(Ordering::SeqCst) {
            return batch
                .iter()
                .map(|_| Err(PublishError::down("away")))
                .collect();
        }
        let mut last = self.last.lock().unwrap();
        for delivery in batch {
            let key = delivery.message().key().unwrap().as_bytes().to_vec();
            let last = last.entry(key).or_default();
            if delivery.sequence() <= *last {
                self.overtaken.fetch_add(1, Ordering::SeqCst);
            }
            *last = delivery.sequence();
        }
        self.taken.fetch_add(batch.len(), Ordering::SeqCst);
        batch.iter().map(|_| Ok(())).collect()
    }

    fn order(&self) -> PublishOrder {
        PublishOrder::WholeRuns
    }
}

async fn fill<DB: Lab>(pool: &Pool<DB>, outbox: &Outbox, messages: usize, keys: usize) {
    let make = |n: usize| {
        let message = Message::builder("many", "/backlog", "note").key((n % keys).to_string());
        message.payload(vec![b'x'; 200]).build().unwrap()
    };
    for first in (0..messages).step_by(1000) {
        let some: Vec<Message> = (first..messages.min(first + 1000)).map(make).collect();
        let mut transaction = lab::begin(pool).await.unwrap();
        let wake = outbox
            .append_all_in(&mut *transaction, &some)
            .await
            .unwrap();
        transaction.commit().await.unwrap();
        drop(wake);
    }
}

/// A backlog of so many messages, a broker that is down at first, two relays.
async fn drains<DB: Lab>(base: Base<DB>, kind: &str, messages: usize, keys: usize) {
    let tally = buttress_testkit::tally::suite("OB6");
    tally.operations(messages);
    let outbox = Outbox::new(base.store.clone());
    let begun = Instant::now();
    fill(&base.pool, &outbox, messages, keys).await;
    let filled = begun.elapsed();
    let broker = Broker::default();
    broker.down.store(true, Ordering::SeqCst);
    let stop = tokio::sync::watch::Sender::new(false);
    let mut relays = tokio::task::JoinSet::new();
    for _ in 0..2 {
        let outage = Backoff::constant(Duration::from_millis(20));
        let policy = TopicPolicy::new()
            .with_outage_backoff(outage)
            .with_attempts(1);
        let relay = Relay::builder(&outbox)
            .policy(RelayPolicy::new().with_poll(Duration::from_millis(50)))
            .topic_with("many", policy, broker.clone())
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
    tokio::time::sleep(Duration::from_millis(500)).await;
    let topic = Topic::new("many").unwrap();
    let counts = outbox.counts(&topic).await.unwrap();
    let depth = usize::try_from(counts.depth).unwrap();
    assert_eq!((depth, counts.dead, counts.waiting_keys), (messages, 0, 0));
    broker.down.store(false, Ordering::SeqCst);
    let begun = Instant::now();
    eventually(
        "the backlog drains",
        Duration::from_secs(short_or_long(120, 3600)),
        async || (broker.taken.load(Ordering::SeqCst) >= messages).then_some(()),
    )
    .await;
    let drained = begun.elapsed();
    stop.send_replace(true);
    relays.join_all().await;
    assert_eq!(
        broker.taken.load(Ordering::SeqCst),
        messages,
        "and nothing twice"
    );
    assert_eq!(broker.overtaken.load(Ordering::SeqCst), 0);
    let counts = outbox.counts(&topic).await.unwrap();
    assert_eq!((counts.depth, counts.dead, counts.held_lanes), (0, 0, 0));
    println!("{kind}: {messages} messages appended in {filled:?}, delivered in {drained:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ob6_a_backlog_behind_a_broker_that_was_down_drains_in_order_on_postgres() {
    let Some(base) = base::on_postgres().await else {
        return;
    };
    drains(base, "postgres", short_or_long(100_000, 3_000_000), 1000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ob6_a_backlog_behind_a_broker_that_was_down_drains_in_order_in_a_ring() {
    let Some(base) = base::on_ring(&["many"], 10_000).await else {
        return;
    };
    let nobody = Broker::default();
    let relay = Relay::builder(&Outbox::new(base.store.clone())).topic("many", nobody);
    relay.build().unwrap().run_once().await.unwrap();
    let pool = base.pool.clone();
    drains(base, "a ring", short_or_long(100_000, 3_000_000), 1000).await;
    assert_eq!(base::rows(&pool, "buttress_outbox").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ob6_a_backlog_behind_a_broker_that_was_down_drains_in_order_on_mariadb() {
    let Some(base) = base::on_mariadb().await else {
        return;
    };
    drains(base, "mariadb", short_or_long(100_000, 1_000_000), 10).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ob6_a_backlog_behind_a_broker_that_was_down_drains_in_order_on_sqlite() {
    let base = base::on_sqlite().await.unwrap();
    drains(base, "sqlite", short_or_long(100_000, 1_000_000), 1000).await;
}

/// While messages are published nothing of ours is open in the database.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ob6_no_transaction_is_held_across_a_publish() {
    let tally = buttress_testkit::tally::suite("OB6");
    /// What was open for as long as it published. The server's own workers have transactions too, and one
    /// whose rows have come ends a moment later.
    struct Looks(sqlx::PgPool, Arc<Mutex<Vec<String>>>);

    #[async_trait]
    impl Publisher for Looks {
        async fn publish(&self, batch: &[Delivery]) -> Vec<Result<(), PublishError>> {
            let sql = "SELECT query FROM pg_stat_activity WHERE datname = current_database() \
                       AND xact_start IS NOT NULL AND pid <> pg_backend_pid() \
                       AND backend_type = 'client backend'";
            let mut open: Vec<String> = Vec::new();
            for _ in 0..20 {
                open = sqlx::query_scalar(sql).fetch_all(&self.0).await.unwrap();
                if open.is_empty() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            self.1.lock().unwrap().extend(open);
            batch.iter().map(|_| Ok(())).collect()
        }
    }

    let Some(base) = base::on_postgres().await else {
        return;
    };
    let outbox = Outbox::new(base.store.clone());
    fill(&base.pool, &outbox, 500, 7).await;
    let open = Arc::new(Mutex::new(Vec::new()));
    let looks = Looks(base.pool.clone(), Arc::clone(&open));
    let relay = Relay::builder(&outbox)
        .topic("many", looks)
        .build()
        .unwrap();
    // One pass has one worker: what is open while it publishes is its own.
    assert_eq!(relay.run_once().await.unwrap().delivered, 500);
    let open = open.lock().unwrap();
    assert!(open.is_empty(), "{open:?}");
    tally.operations(500);
}

/// Only what was delivered is ever pruned.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ob11_pruning_beside_a_relay_removes_only_what_was_delivered() {
    let tally = buttress_testkit::tally::suite("OB11");
    let Some(base) = base::on_postgres().await else {
        return;
    };
    let outbox = Outbox::new(base.store.clone());
    let messages = short_or_long(5_000, 100_000);
    tally.operations(messages);
    fill(&base.pool, &outbox, messages, 50).await;
    let broker = Broker::default();
    let kept = Retention::Keep(Duration::from_secs(1));
    let relay = Relay::builder(&outbox)
        .policy(RelayPolicy::new().with_batch(100))
        .topic_with(
            "many",
            TopicPolicy::new().with_retention(kept),
            broker.clone(),
        )
        .build()
        .unwrap();
    let topic = Topic::new("many").unwrap();
    let done = AtomicBool::new(false);
    let relaying = async {
        let pass = relay.run_once().await.unwrap();
        done.store(true, Ordering::SeqCst);
        pass.delivered
    };
    let pruning = async {
        let mut pruned = 0;
        loop {
            let last = done.load(Ordering::SeqCst);
            let some = outbox.prune(&topic, Duration::ZERO, 100).await.unwrap();
            pruned += usize::try_from(some).unwrap();
            if last && some == 0 {
                return pruned;
            }
        }
    };
    let (delivered, pruned) = tokio::join!(relaying, pruning);
    assert_eq!((delivered, pruned), (messages, messages));
    assert_eq!(broker.taken.load(Ordering::SeqCst), messages);
}
