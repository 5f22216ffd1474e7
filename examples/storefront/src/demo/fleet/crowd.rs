//! The customers of a shop of several instances: each goes to any of them, and asks again until he
//! has his answer.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use buttress_core::Clock;
use futures_util::future::join_all;
use http::StatusCode;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};
use tokio::time::sleep;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    super::customers::{Customers, EventSeen},
    freshness::{Changed, Freshness},
    stores::Stores,
};

/// Those who order, those who change prices (each one product), and those who read.
const BUYERS: u64 = 5;
const CHANGED: u64 = 3;
const READERS: u64 = 3;
/// The statuses that the page has for an order that is in order. Before the time is over, and when
/// the database answers at all, 202.
const ALLOWED: [u16; 4] = [202, 409, 429, 503];
/// How long a key is tried in vain, once all is healed, before it is given up as broken.
const ACCEPTED_WITHIN: Duration = Duration::from_secs(60);

/// What they saw in one scene.
#[derive(Clone, Debug, Default)]
pub(super) struct Saw {
    /// How often each status came for an order.
    pub(super) orders: BTreeMap<u16, usize>,
    /// How often no answer came: a connection was cut, or nobody was there.
    pub(super) unanswered: usize,
    pub(super) replayed: usize,
    pub(super) changes: usize,
    pub(super) reads: usize,
}

/// All of them, under way.
pub(super) struct Crowd {
    pub(super) customers: Arc<Customers>,
    pub(super) stores: Arc<Stores>,
    pub(super) freshness: Freshness,
    scene: AtomicUsize,
    saw: Mutex<Vec<Saw>>,
    /// Answers that the page has not.
    strange: Mutex<Vec<String>>,
    /// Keys for which no order was to be had.
    never_accepted: AtomicUsize,
    /// The events, as they came in while things were broken.
    events: Mutex<Vec<EventSeen>>,
    clock: Clock,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Crowd {
    pub(super) fn new(customers: Arc<Customers>, stores: Arc<Stores>) -> Arc<Self> {
        Arc::new(Self {
            customers,
            stores,
            freshness: Freshness::default(),
            scene: AtomicUsize::new(0),
            saw: Mutex::default(),
            strange: Mutex::default(),
            never_accepted: AtomicUsize::new(0),
            events: Mutex::default(),
            clock: Clock::tokio(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        })
    }

    /// Lets them come.
    pub(super) fn begin(self: &Arc<Self>, rng: &mut StdRng) {
        for buyer in 0..BUYERS {
            let (crowd, rng) = (Arc::clone(self), StdRng::seed_from_u64(rng.random()));
            self.tasks.spawn(async move { crowd.buy(buyer, rng).await });
        }
        for number in 0..CHANGED {
            let crowd = Arc::clone(self);
            self.tasks
                .spawn(async move { crowd.change(&watched(number)).await });
        }
        for _ in 0..READERS {
            let (crowd, rng) = (Arc::clone(self), StdRng::seed_from_u64(rng.random()));
            self.tasks.spawn(async move { crowd.look(rng).await });
        }
        let crowd = Arc::clone(self);
        self.tasks.spawn(async move { crowd.listen().await });
    }

    /// From now on what they see belongs to that scene.
    pub(super) fn scene(&self, number: usize) {
        self.scene.store(number, Ordering::Relaxed);
    }

    /// Lets no more come, and waits until each has his order.
    pub(super) async fn end(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    pub(super) fn saw(&self, scene: usize) -> Saw {
        let saw = self.saw.lock().unwrap_or_else(PoisonError::into_inner);
        saw.get(scene).cloned().unwrap_or_default()
    }

    pub(super) fn strange(&self) -> Vec<String> {
        let strange = self.strange.lock().unwrap_or_else(PoisonError::into_inner);
        strange.clone()
    }

    pub(super) fn never_accepted(&self) -> usize {
        self.never_accepted.load(Ordering::Relaxed)
    }

    /// The events that it has heard of, in the order in which it did, and all that came after.
    pub(super) async fn heard(&self) -> anyhow::Result<Vec<EventSeen>> {
        let mut heard = {
            let events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
            events.clone()
        };
        loop {
            let after = heard.last().map_or(0, |event| event.seq);
            let page = self.customers.events_after(after).await?;
            if page.is_empty() {
                return Ok(heard);
            }
            heard.extend(page);
        }
    }

    fn note(&self, note: impl FnOnce(&mut Saw)) {
        let scene = self.scene.load(Ordering::Relaxed);
        let mut saw = self.saw.lock().unwrap_or_else(PoisonError::into_inner);
        if saw.len() <= scene {
            saw.resize_with(scene + 1, Saw::default);
        }
        note(&mut saw[scene]);
    }

    fn is_strange(&self, what: String) {
        let mut strange = self.strange.lock().unwrap_or_else(PoisonError::into_inner);
        strange.push(what);
    }

    async fn pause(&self, millis: u64) {
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = sleep(Duration::from_millis(millis)) => {}
        }
    }

    async fn buy(&self, buyer: u64, mut rng: StdRng) {
        let mut number = 0;
        while !self.stop.is_cancelled() {
            // Each order is another client's, so that no rate comes between.
            let name = format!("{buyer}-{number}");
            let (order, times) = (wanted(&name, &mut rng), rng.random_range(1..=3));
            self.until_accepted(&name, &order, times).await;
            number += 1;
            self.pause(rng.random_range(20..150)).await;
        }
    }

    /// Sends an order, at first `times` times at once, until it is accepted.
    async fn until_accepted(&self, name: &str, order: &Value, mut times: usize) {
        let mut healed_at = None;
        loop {
            let sends = (0..times).map(|_| self.order(name, name, order));
            if join_all(sends).await.contains(&Some(202)) {
                return;
            }
            times = 1;
            if self.stop.is_cancelled() {
                let since = *healed_at.get_or_insert_with(|| self.clock.now());
                if self.clock.now().saturating_since(since) > ACCEPTED_WITHIN {
                    self.never_accepted.fetch_add(1, Ordering::Relaxed);
                    return;
                }
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Sends an order once, and gives the status, if there was an answer.
    pub(super) async fn order(&self, client: &str, key: &str, order: &Value) -> Option<u16> {
        let Ok(answer) = self.customers.order(client, key, order).await else {
            self.note(|saw| saw.unanswered += 1);
            return None;
        };
        if !ALLOWED.contains(&answer.status) {
            self.is_strange(format!("an order was answered by {}", answer.status));
        }
        self.note(|saw| {
            *saw.orders.entry(answer.status).or_default() += 1;
            saw.replayed += usize::from(answer.replayed);
        });
        Some(answer.status)
    }

    /// Changes the price of one product, again and again.
    async fn change(&self, product: &str) {
        for price in (100..10_000).cycle() {
            if self.stop.is_cancelled() {
                return;
            }
            if let Ok((number, address)) = self.customers.shop().any() {
                let before = self.stores.redis_in_trouble(number);
                let request = self
                    .customers
                    .http()
                    .patch(format!("http://{address}/products/{product}"));
                let version = version(request.json(&json!({ "price": price })).send().await).await;
                let at = self.clock.now();
                if let Some((version, _)) = version {
                    let in_trouble = before
                        || self.stores.redis_in_trouble(number)
                        || self.is_degraded(address).await;
                    let by = address;
                    self.freshness.changed(
                        product,
                        Changed {
                            version,
                            at,
                            by,
                            in_trouble,
                        },
                    );
                    self.note(|saw| saw.changes += 1);
                }
            }
            self.pause(120).await;
        }
    }

    /// Whether the instance says itself that it is without Redis, or says nothing.
    async fn is_degraded(&self, address: SocketAddr) -> bool {
        let asked = self
            .customers
            .http()
            .get(format!("http://{address}/readyz"));
        let Ok(answer) = asked.send().await else {
            return true;
        };
        let healthy = answer.status() == StatusCode::OK;
        let body: Value = answer.json().await.unwrap_or_default();
        let missing = body["data"]["degraded"].as_array();
        !healthy || missing.is_some_and(|missing| !missing.is_empty())
    }

    /// Reads products that others change.
    async fn look(&self, mut rng: StdRng) {
        while !self.stop.is_cancelled() {
            let product = watched(rng.random_range(0..CHANGED));
            if let Ok((_, address)) = self.customers.shop().any() {
                let sent = self.clock.now();
                let request = self
                    .customers
                    .http()
                    .get(format!("http://{address}/products/{product}"));
                if let Some(read) = version(request.send().await).await {
                    self.freshness.read(&product, sent, address, read);
                    self.note(|saw| saw.reads += 1);
                }
            }
            self.pause(10).await;
        }
    }

    /// Follows the events, and never looks back.
    async fn listen(&self) {
        while !self.stop.is_cancelled() {
            let after = {
                let events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
                events.last().map_or(0, |event| event.seq)
            };
            if let Ok(page) = self.customers.events_after(after).await {
                let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
                events.extend(page);
            }
            self.pause(20).await;
        }
    }
}

/// The version of a product, and whether it came from the cache, if that was answered.
async fn version(answer: reqwest::Result<reqwest::Response>) -> Option<(i64, bool)> {
    let answer = answer.ok().filter(|it| it.status() == StatusCode::OK)?;
    let status = answer.headers().get("cache-status");
    let hit = status.is_some_and(|it| it.as_bytes().starts_with(b"storefront; hit"));
    let body: Value = answer.json().await.ok()?;
    Some((body["data"]["version"].as_i64()?, hit))
}

/// A product whose price is changed all the time, and that nobody orders.
fn watched(number: u64) -> String {
    format!("p{}", 31 + number)
}

/// Any order. The customer's name tells how he pays, for the order does not.
fn wanted(name: &str, rng: &mut StdRng) -> Value {
    let declined = rng.random_range(0..10) == 0;
    let scarce = rng.random_range(0..20) == 0;
    let product = |rng: &mut StdRng| format!("p{}", rng.random_range(1..=30));
    let items = if scarce {
        json!([{ "product_id": "p40", "quantity": 1 }])
    } else {
        json!([
            { "product_id": product(rng), "quantity": rng.random_range(1..=3) },
            { "product_id": product(rng), "quantity": 1 },
        ])
    };
    let (how, payment_method) = if declined {
        ("declined", "pm_declined")
    } else {
        ("pays", "pm_ok")
    };
    json!({ "customer": format!("{how} {name}"), "items": items, "payment_method": payment_method })
}
