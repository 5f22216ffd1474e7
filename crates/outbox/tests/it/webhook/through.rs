//! From one transaction to another: outbox, relay, HTTP, layer, inbox.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Extension, Router, body::Bytes, extract::State, http::StatusCode, routing::post};
use buttress_outbox::{
    Inbox, Message, Outbox, OutboxStore, Relay, RelayPolicy, Taken, Topic, TopicPolicy,
    publisher::http::HttpPublisher,
    tower::{Webhook, WebhookLayer},
    webhook::{ATTEMPTS, retry_schedule},
};
use buttress_retry_backoff::Backoff;
use buttress_store::{Deadline, Guarded, SqlDatabase};
use buttress_testkit::{eventually, short_or_long};
use sqlx::Pool;
use tokio::net::TcpListener;

use super::stand::{client, endpoint, only, verifier};
use crate::base;

const KEYS: u64 = 5;

/// Messages of each key.
fn each() -> u64 {
    short_or_long(4, 100)
}

/// A subscriber: what a webhook makes him do is to append one message of its own, which can be
/// counted on every database.
struct Subscriber<DB: SqlDatabase> {
    pool: Pool<DB>,
    inbox: Inbox,
    effects: Outbox,
    /// What each key's webhooks said, in the order in which they were taken.
    taken: Arc<Mutex<BTreeMap<u64, Vec<u64>>>>,
    handled: Arc<AtomicUsize>,
}

impl<DB: SqlDatabase> Clone for Subscriber<DB> {
    fn clone(&self) -> Self {
        Self {
            pool: self.pool.clone(),
            inbox: self.inbox.clone(),
            effects: self.effects.clone(),
            taken: Arc::clone(&self.taken),
            handled: Arc::clone(&self.handled),
        }
    }
}

impl<DB: SqlDatabase> Subscriber<DB> {
    fn new(pool: &Pool<DB>, store: &OutboxStore) -> Self {
        Self {
            pool: pool.clone(),
            inbox: Inbox::new(store.clone(), "subscriber").unwrap(),
            effects: Outbox::new(store.clone()),
            taken: Arc::default(),
            handled: Arc::default(),
        }
    }

    async fn begin(&self) -> Guarded<DB> {
        let deadline = Deadline::after(Deadline::SQL);
        Guarded::begin(&self.pool, deadline).await.unwrap()
    }

    /// Every third fails before its commit, and every fifth after it.
    async fn handle(&self, webhook: &Webhook, body: &[u8]) -> StatusCode {
        let nth = self.handled.fetch_add(1, Ordering::SeqCst) + 1;
        let event: serde_json::Value = serde_json::from_slice(body).unwrap();
        let [key, n] = ["key", "n"].map(|name| event["data"][name].as_u64().unwrap());
        let mut transaction = self.begin().await;
        let taken = self.inbox.take_in(&mut *transaction, webhook.id()).await;
        if taken.unwrap() == Taken::Before {
            return StatusCode::OK;
        }
        let effect = Message::builder("effects", "/subscriber", "taken").build();
        let effect = effect.unwrap();
        let appended = self.effects.append_in(&mut *transaction, &effect).await;
        let _ = appended.unwrap();
        if nth.is_multiple_of(3) {
            transaction.rollback().await.unwrap();
            return StatusCode::SERVICE_UNAVAILABLE;
        }
        transaction.commit().await.unwrap();
        self.taken.lock().unwrap().entry(key).or_default().push(n);
        if nth.is_multiple_of(5) {
            return StatusCode::SERVICE_UNAVAILABLE;
        }
        StatusCode::OK
    }

    async fn serve(self) -> String {
        let verifier = verifier(&[1]);
        let layer = WebhookLayer::new(verifier).with_seen(self.inbox.clone());
        let handler = async |State(this): State<Self>,
                             Extension(it): Extension<Webhook>,
                             body: Bytes| { this.handle(&it, &body).await };
        let app = Router::new()
            .route("/hooks", post(handler))
            .layer(layer)
            .with_state(self);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hooks", listener.local_addr().unwrap());
        tokio::spawn(async { axum::serve(listener, app).await.unwrap() });
        url
    }
}

async fn append<DB: SqlDatabase>(subscriber: &Subscriber<DB>, outbox: &Outbox) {
    for n in 0..each() {
        for key in 0..KEYS {
            let message = Message::builder("orders", "/shop", "order.placed")
                .key(key.to_be_bytes())
                .json(&serde_json::json!({"key": key, "n": n}))
                .build();
            let mut transaction = subscriber.begin().await;
            let appended = outbox.append_in(&mut *transaction, &message.unwrap()).await;
            let after = appended.unwrap();
            transaction.commit().await.unwrap();
            after.fire();
        }
    }
}

async fn through<DB: SqlDatabase>(pool: &Pool<DB>, store: &OutboxStore) {
    let outbox = Outbox::new(store.clone());
    let subscriber = Subscriber::new(pool, store);
    let url = subscriber.clone().serve().await;
    let endpoint = endpoint(&url).build().unwrap();
    let publisher = HttpPublisher::new(&client(only(&["127.0.0.1"])), endpoint).unwrap();
    let again = Backoff::constant(Duration::from_millis(5));
    let topic = TopicPolicy::new()
        .with_backoff(again.clone())
        .with_outage_backoff(again);
    let policy = RelayPolicy::new()
        .with_poll(Duration::from_millis(20))
        .with_publish_deadline(publisher.longest_publish());
    let relay = Relay::builder(&outbox)
        .policy(policy)
        .topic_with("orders", topic, publisher)
        .build()
        .unwrap();
    append(&subscriber, &outbox).await;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(async move {
        relay.run_until(async { drop(stopped.await) }).await;
    });
    let orders = Topic::new("orders").unwrap();
    eventually(
        "all orders are delivered",
        Duration::from_secs(60),
        async || {
            let counts = outbox.counts(&orders).await.unwrap();
            (counts.depth == 0).then_some(())
        },
    )
    .await;
    drop(stop);
    running.await.unwrap();
    // Each once, of each key in order, with exactly one effect each: though a third was refused,
    // and of a fifth the answer was lost.
    let taken = subscriber.taken.lock().unwrap().clone();
    let expected: BTreeMap<_, _> = (0..KEYS).map(|key| (key, (0..each()).collect())).collect();
    assert_eq!(taken, expected);
    let effects = outbox.counts(&Topic::new("effects").unwrap()).await;
    assert_eq!(effects.unwrap().depth, KEYS * each());
    assert!(subscriber.handled.load(Ordering::SeqCst) as u64 > KEYS * each());
}

#[tokio::test]
async fn each_event_has_one_effect_on_sqlite() {
    let base = base::on_sqlite().await.unwrap();
    through(&base.pool, &base.store).await;
}

#[tokio::test]
async fn each_event_has_one_effect_on_postgres() {
    let Some(base) = base::on_postgres().await else {
        return;
    };
    through(&base.pool, &base.store).await;
}

#[tokio::test]
async fn each_event_has_one_effect_on_mariadb() {
    let Some(base) = base::on_mariadb().await else {
        return;
    };
    through(&base.pool, &base.store).await;
}

#[tokio::test]
async fn the_specifications_schedule_is_a_policy_that_a_relay_takes() {
    let base = base::on_sqlite().await.unwrap();
    let publisher = super::stand::publisher("http://127.0.0.1:9/");
    let topic = TopicPolicy::new()
        .with_attempts(ATTEMPTS)
        .with_backoff(retry_schedule())
        .with_longest_wait(Duration::from_secs(24 * 3600));
    let relay = Relay::builder(&Outbox::new(base.store.clone()))
        .policy(RelayPolicy::new().with_publish_deadline(publisher.longest_publish()))
        .topic_with("orders", topic, publisher)
        .build();
    assert!(relay.is_ok());
}
