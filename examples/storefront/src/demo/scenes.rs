//! The scenes of the demonstration: what breaks, and what the customers do meanwhile.

use std::{collections::BTreeMap, time::Duration};

use buttress_core::Registry;
use futures_util::{StreamExt, TryStreamExt, stream};
use indicatif::ProgressBar;
use serde_json::{Value, json};

use super::customers::{Answer, Customers};

/// How many requests are under way at once.
const AT_ONCE: usize = 8;

/// Every fourth order is sent this often, under one key, all at once.
const REPEATS: usize = 3;

/// How many orders a second the shop takes from one customer; twice as many at once.
pub(super) const ORDER_RATE: u32 = 10;

/// How long a scene lasts at most once its requests are answered.
const LONGEST_SCENE: Duration = Duration::from_secs(8);

/// The scenes that the checks ask about.
pub(super) const CARRIER_FAILS_A_FIFTH: &str = "a fifth of the carrier's calls fail";
pub(super) const CARRIER_HANGS: &str = "the carrier hangs";
pub(super) const CARRIER_IS_BACK: &str = "the carrier is back, one quote after the other";

pub(super) const ONE_IS_TOO_FAST: &str = "one customer orders far too fast";

/// One state of the services behind the shop, and the traffic sent through it.
pub(super) struct Scene {
    pub(super) title: &'static str,
    faults: &'static [(&'static str, &'static str, f64, u64)],
    orders: usize,
    quotes: usize,
    /// How long each quote comes after the one before; zero sends eight at once.
    pace: Duration,
    /// The product that is wanted; `None` takes one after the other.
    product: Option<&'static str>,
    /// Whether all orders are one customer's. Else each is another's.
    one_customer: bool,
}

/// What happened in a scene.
pub(super) struct Told {
    pub(super) title: &'static str,
    pub(super) orders: Answers,
    pub(super) quotes: Answers,
    /// How long its orders took to be answered, all in all.
    pub(super) ordered_within: Duration,
    /// The breakers that were open at its end.
    pub(super) open: Vec<String>,
}

/// Answers of one kind, counted.
#[derive(Default)]
pub(super) struct Answers {
    pub(super) by_status: BTreeMap<u16, usize>,
    pub(super) replayed: usize,
    times: Vec<Duration>,
}

impl Answers {
    /// How many there were.
    pub(super) fn all(&self) -> usize {
        self.times.len()
    }

    /// How many there were with this status.
    pub(super) fn with_status(&self, status: u16) -> usize {
        self.by_status.get(&status).copied().unwrap_or_default()
    }

    fn count(&mut self, answer: &Answer) {
        *self.by_status.entry(answer.status).or_default() += 1;
        self.replayed += usize::from(answer.replayed);
        self.times.push(answer.took);
    }

    /// How many took longer than `time`.
    pub(super) fn longer_than(&self, time: Duration) -> usize {
        self.times.iter().filter(|took| **took > time).count()
    }

    /// The median, and the longest.
    pub(super) fn times(&self) -> Option<(Duration, Duration)> {
        let mut times = self.times.clone();
        times.sort_unstable();
        Some((*times.get(times.len() / 2)?, *times.last()?))
    }
}

impl Scene {
    pub(super) fn all() -> Vec<Self> {
        let scene = |title, faults, orders, quotes| Self {
            title,
            faults,
            orders,
            quotes,
            pace: Duration::ZERO,
            product: None,
            one_customer: false,
        };
        vec![
            scene("all is well", &[], 40, 20),
            Self {
                one_customer: true,
                ..scene(ONE_IS_TOO_FAST, &[], 60, 0)
            },
            scene(
                CARRIER_FAILS_A_FIFTH,
                &[("carrier", "error", 0.2, 0)],
                0,
                60,
            ),
            scene(CARRIER_HANGS, &[("carrier", "hang", 1.0, 0)], 0, 32),
            Self {
                pace: Duration::from_millis(250),
                ..scene(CARRIER_IS_BACK, &[], 0, 24)
            },
            scene(
                "payments lose half their answers",
                &[("payments", "lost", 0.5, 0)],
                40,
                0,
            ),
            scene(
                "payments work, two seconds and a half late",
                &[("payments", "slow", 0.4, 2500)],
                20,
                0,
            ),
            scene(
                "shipments fail and hang",
                &[("shipments", "error", 0.5, 0), ("payments", "hang", 0.2, 0)],
                30,
                0,
            ),
            scene(
                "payments charge, and never say so",
                &[("payments", "lost", 1.0, 0)],
                // One order, so that its tries are not kept from payments by the breaker: it is
                // given up, and what was charged is refunded.
                1,
                0,
            ),
            scene("payments are down", &[("payments", "error", 1.0, 0)], 10, 0),
            scene(
                "the subscriber loses half its answers, and payments a fifth",
                &[("subscriber", "lost", 0.5, 0), ("payments", "lost", 0.2, 0)],
                30,
                0,
            ),
            scene(
                "the subscriber is told, and never answers",
                &[("subscriber", "hang", 1.0, 0)],
                10,
                0,
            ),
            Self {
                product: Some("p40"),
                ..scene(
                    "four customers want the last three of one product",
                    &[],
                    4,
                    0,
                )
            },
        ]
    }

    /// How many requests it sends.
    pub(super) fn requests(&self) -> u64 {
        let repeated = self.orders.div_ceil(4) * (REPEATS - 1);
        (self.orders + repeated + self.quotes) as u64
    }

    pub(super) async fn play(
        &self,
        customers: &Customers,
        registry: &Registry,
        bar: &ProgressBar,
    ) -> anyhow::Result<Told> {
        customers.heal().await?;
        if let Some(product) = self.product {
            // Before its orders come, so that the starting stock is known.
            customers.set_stock(product, 3).await?;
        }
        for (target, mode, rate, latency) in self.faults {
            let fault =
                json!({ "target": target, "mode": mode, "rate": rate, "latency_ms": latency });
            customers.break_service(&fault).await?;
        }

        let mut told = Told {
            title: self.title,
            orders: Answers::default(),
            quotes: Answers::default(),
            ordered_within: Duration::ZERO,
            open: Vec::new(),
        };
        let sends = (0..self.orders).flat_map(|number| {
            let times = if number % 4 == 0 { REPEATS } else { 1 };
            std::iter::repeat_n(number, times)
        });
        let begun = customers.now();
        let mut answers = stream::iter(sends)
            .map(|number| async move {
                let customer = if self.one_customer { 0 } else { number };
                let customer = format!("{}-{customer}", self.title.replace(' ', "-"));
                let key = format!("{}-{number}", self.title.replace(' ', "-"));
                let wanted = self.wanted(number);
                customers.order(&customer, &key, &wanted).await
            })
            .buffer_unordered(AT_ONCE);
        while let Some(answer) = answers.try_next().await? {
            told.orders.count(&answer);
            bar.inc(1);
        }
        told.ordered_within = customers.now().saturating_since(begun);
        let at_once = if self.pace.is_zero() { AT_ONCE } else { 1 };
        let mut answers = stream::iter(0..self.quotes)
            .map(|_| async {
                tokio::time::sleep(self.pace).await;
                customers.quote().await
            })
            .buffer_unordered(at_once);
        while let Some(answer) = answers.try_next().await? {
            told.quotes.count(&answer);
            bar.inc(1);
        }
        // The services stay broken while the orders are settled, or are at least tried to be.
        if self.orders > 0 {
            customers.wait_until_settled(LONGEST_SCENE).await?;
        }
        let breakers = registry.entries().into_iter();
        told.open = breakers
            .filter(|entry| entry.pattern() == "circuit_breaker" && entry.state() == "open")
            .map(|entry| entry.name().to_owned())
            .collect();
        Ok(told)
    }

    /// The same order for the same number, for a repeated one must have the same body.
    fn wanted(&self, number: usize) -> Value {
        let product = |offset: usize| match self.product {
            Some(product) => product.to_owned(),
            None => format!("p{}", 1 + (number * 7 + offset) % 39),
        };
        let items = if self.product.is_some() {
            json!([{ "product_id": product(0), "quantity": 1 }])
        } else {
            json!([
                { "product_id": product(0), "quantity": 1 + number % 3 },
                { "product_id": product(11), "quantity": 1 },
            ])
        };
        let payment_method = if number % 10 == 9 {
            "pm_declined"
        } else {
            "pm_ok"
        };
        json!({ "customer": format!("Customer {number}"), "items": items, "payment_method": payment_method })
    }
}

/// What each product's stock was before any order, given how the scenes set it.
pub(super) fn starting_stock(product: &str) -> i64 {
    if product == "p40" { 3 } else { 1000 }
}
