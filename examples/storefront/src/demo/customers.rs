//! Customers: they order, repeat themselves, ask for quotes, and read what the shop shows.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, bail};
use buttress_core::{Clock, Moment};
use rand::seq::IndexedRandom as _;
use serde::Deserialize;
use serde_json::{Value, json};

/// How often a read is asked again, and how long after: an instance may be gone in the middle of it.
const READ_AGAIN: u32 = 20;
const READ_AGAIN_AFTER: Duration = Duration::from_millis(250);

/// Where the shop's instances listen now. Clones are one list.
#[derive(Clone, Debug)]
pub(super) struct Addresses(Arc<Mutex<Vec<Option<SocketAddr>>>>);

/// What a client of the shop's HTTP sees, and remembers. Each request goes to any of its instances.
pub(super) struct Customers {
    http: reqwest::Client,
    shop: Addresses,
    clock: Clock,
    /// The body of the first 202 of each key. Every other one must be the same.
    accepted: Mutex<BTreeMap<String, Vec<u8>>>,
    /// Keys of which two answers differed.
    contradicted: Mutex<Vec<String>>,
}

/// What one answer was.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) replayed: bool,
    pub(super) took: Duration,
}

/// An order, as the shop shows it.
#[derive(Debug, Deserialize)]
pub(super) struct OrderSeen {
    pub(super) id: String,
    pub(super) customer: String,
    pub(super) status: String,
    pub(super) reason: Option<String>,
    pub(super) total: i64,
    pub(super) items: Vec<ItemSeen>,
}

#[derive(Debug, Deserialize)]
pub(super) struct ItemSeen {
    pub(super) product_id: String,
    pub(super) quantity: i64,
}

#[derive(Debug, Deserialize)]
pub(super) struct ProductSeen {
    pub(super) id: String,
    pub(super) stock: i64,
}

#[derive(Debug, Deserialize)]
pub(super) struct ChargeSeen {
    pub(super) order_id: String,
    pub(super) amount: i64,
    pub(super) refunded: i64,
}

/// An event, as the subscriber has applied it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct EventSeen {
    pub(super) seq: i64,
    pub(super) id: String,
    #[serde(rename = "type")]
    pub(super) event_type: String,
    pub(super) subject: String,
}

#[derive(Deserialize)]
struct Page<T> {
    data: T,
    meta: Option<Meta>,
}

#[derive(Deserialize)]
struct Meta {
    next_cursor: Option<String>,
}

#[derive(Deserialize)]
struct Ledger {
    charges: Vec<ChargeSeen>,
}

impl Addresses {
    /// Of so many instances, none of which is up.
    pub(super) fn of(count: usize) -> Self {
        Self(Arc::new(Mutex::new(vec![None; count])))
    }

    /// The instance of that number listens there, or nowhere.
    pub(super) fn set(&self, number: usize, address: Option<SocketAddr>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = all.get_mut(number) {
            *place = address;
        }
    }

    /// Those that are up, with their numbers.
    pub(super) fn up(&self) -> Vec<(usize, SocketAddr)> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let numbered = all.iter().enumerate();
        numbered
            .filter_map(|(number, address)| address.map(|address| (number, address)))
            .collect()
    }

    /// Any of them.
    pub(super) fn any(&self) -> anyhow::Result<(usize, SocketAddr)> {
        let up = self.up();
        up.choose(&mut rand::rng())
            .copied()
            .context("no instance is up")
    }
}

impl From<SocketAddr> for Addresses {
    fn from(only: SocketAddr) -> Self {
        Self(Arc::new(Mutex::new(vec![Some(only)])))
    }
}

impl Customers {
    pub(super) fn new(shop: Addresses) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(30))
            .build()?;
        Ok(Self {
            http,
            shop,
            clock: Clock::tokio(),
            accepted: Mutex::default(),
            contradicted: Mutex::default(),
        })
    }

    /// The time, as the customers have it.
    pub(super) fn now(&self) -> Moment {
        self.clock.now()
    }

    /// Sends an order of `customer` under `key`.
    pub(super) async fn order(
        &self,
        customer: &str,
        key: &str,
        order: &Value,
    ) -> anyhow::Result<Answer> {
        let begun = self.clock.now();
        let request = self.http.post(self.url("/orders")?);
        let response = request
            .header("x-api-key", customer)
            .header("idempotency-key", key)
            .json(order)
            .send()
            .await?;
        let status = response.status().as_u16();
        let replayed = response.headers().contains_key("idempotency-replayed");
        let body = response.bytes().await?;
        if status == 202 {
            let mut accepted = self.accepted.lock().unwrap_or_else(PoisonError::into_inner);
            let first = accepted
                .entry(key.to_owned())
                .or_insert_with(|| body.to_vec());
            if *first != body {
                let mut contradicted = self
                    .contradicted
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                contradicted.push(key.to_owned());
            }
        }
        Ok(Answer {
            status,
            replayed,
            took: self.clock.now().saturating_since(begun),
        })
    }

    pub(super) async fn quote(&self) -> anyhow::Result<Answer> {
        let begun = self.clock.now();
        let quote = self.url("/shipping-quotes?country=SE&quantity=3")?;
        let response = self.http.get(quote).send().await?;
        let status = response.status().as_u16();
        response.bytes().await?;
        Ok(Answer {
            status,
            replayed: false,
            took: self.clock.now().saturating_since(begun),
        })
    }

    pub(super) async fn set_stock(&self, product: &str, stock: i64) -> anyhow::Result<()> {
        let change = self.http.patch(self.url(&format!("/products/{product}"))?);
        let response = change.json(&json!({ "stock": stock })).send().await?;
        response
            .error_for_status()
            .context("the stock was not changed")?;
        Ok(())
    }

    /// Breaks one of the services behind the shop, for each instance that is up.
    pub(super) async fn break_service(&self, fault: &Value) -> anyhow::Result<()> {
        for (_, address) in self.shop.up() {
            let request = self.http.post(format!("http://{address}/faults"));
            let response = request.json(fault).send().await?;
            response
                .error_for_status()
                .context("the fault was not taken")?;
        }
        Ok(())
    }

    /// Where its instances are.
    pub(super) const fn shop(&self) -> &Addresses {
        &self.shop
    }

    pub(super) const fn http(&self) -> &reqwest::Client {
        &self.http
    }

    fn url(&self, path: &str) -> anyhow::Result<String> {
        let (_, address) = self.shop.any()?;
        Ok(format!("http://{address}{path}"))
    }

    /// Lets all services work again.
    pub(super) async fn heal(&self) -> anyhow::Result<()> {
        for target in ["payments", "carrier", "shipments", "subscriber"] {
            self.break_service(&json!({ "target": target, "mode": "ok" }))
                .await?;
        }
        Ok(())
    }

    /// Waits until no order is pending; `None` when one still is after `limit`.
    pub(super) async fn wait_until_settled(
        &self,
        limit: Duration,
    ) -> anyhow::Result<Option<Duration>> {
        let begun = self.clock.now();
        loop {
            let waited = self.clock.now().saturating_since(begun);
            if self
                .orders()
                .await?
                .iter()
                .all(|order| order.status != "pending")
            {
                return Ok(Some(waited));
            }
            if waited > limit {
                return Ok(None);
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    pub(super) async fn orders(&self) -> anyhow::Result<Vec<OrderSeen>> {
        self.pages("orders").await
    }

    pub(super) async fn products(&self) -> anyhow::Result<Vec<ProductSeen>> {
        self.pages("products").await
    }

    pub(super) async fn charges(&self) -> anyhow::Result<Vec<ChargeSeen>> {
        let page: Page<Ledger> = self.read("/ledger").await?;
        Ok(page.data.charges)
    }

    /// All that the subscriber has applied so far.
    pub(super) async fn events(&self) -> anyhow::Result<Vec<EventSeen>> {
        let (mut all, mut after): (Vec<EventSeen>, _) = (Vec::new(), 0);
        loop {
            let mut page = self.events_after(after).await?;
            let Some(last) = page.last() else {
                return Ok(all);
            };
            after = last.seq;
            all.append(&mut page);
        }
    }

    /// The next page of them.
    pub(super) async fn events_after(&self, after: i64) -> anyhow::Result<Vec<EventSeen>> {
        let page: Page<Vec<EventSeen>> = self
            .read(&format!("/events?after={after}&limit=1000"))
            .await?;
        Ok(page.data)
    }

    /// Waits until each order's events are there, two of each; `None` when not after `limit`.
    pub(super) async fn wait_until_told(
        &self,
        limit: Duration,
    ) -> anyhow::Result<Option<Duration>> {
        let begun = self.clock.now();
        let expected = self.orders().await?.len() * 2;
        loop {
            let waited = self.clock.now().saturating_since(begun);
            if self.events().await?.len() >= expected {
                return Ok(Some(waited));
            }
            if waited > limit {
                return Ok(None);
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// How many keys were accepted, and which of them gave two different answers.
    pub(super) fn remembered(&self) -> (usize, Vec<String>) {
        let accepted = self
            .accepted
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len();
        let contradicted = self
            .contradicted
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        (accepted, contradicted.clone())
    }

    async fn pages<T: for<'de> Deserialize<'de>>(&self, list: &str) -> anyhow::Result<Vec<T>> {
        let mut all = Vec::new();
        let mut path = format!("/{list}?limit=100");
        loop {
            let mut page: Page<Vec<T>> = self.read(&path).await?;
            all.append(&mut page.data);
            let Some(cursor) = page.meta.and_then(|meta| meta.next_cursor) else {
                return Ok(all);
            };
            path = format!("/{list}?limit=100&cursor={cursor}");
        }
    }

    async fn read<T: for<'de> Deserialize<'de>>(&self, path: &str) -> anyhow::Result<T> {
        let mut left = READ_AGAIN;
        loop {
            let read = self.try_read(path).await;
            if read.is_ok() || left == 0 {
                return read;
            }
            left -= 1;
            tokio::time::sleep(READ_AGAIN_AFTER).await;
        }
    }

    async fn try_read<T: for<'de> Deserialize<'de>>(&self, path: &str) -> anyhow::Result<T> {
        let response = self.http.get(self.url(path)?).send().await?;
        if !response.status().is_success() {
            bail!("{path} answered {}", response.status());
        }
        Ok(response.json().await?)
    }
}
