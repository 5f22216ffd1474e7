//! Starting, dying, draining and stopping: the only part that knows the processes behind the addresses.

use std::{
    ffi::OsStr,
    time::{Duration, Instant},
};

use buttress_testkit::redis;
use futures_util::future::join_all;
use nix::sys::signal::Signal;
use serde_json::Value;

use super::client::{Client, two_of};
use crate::shop::{Database, Shop, Starting};

/// The longest drain that is asked for here, and what a loaded machine takes beside.
const DRAIN_MS: &str = "4000";
const STOPPED_WITHIN: Duration = Duration::from_secs(30);

/// A shop that is not started yet: where its data is, and how many instances it has.
pub(super) struct Constellation {
    name: &'static str,
    place: Place,
    instances: usize,
    redis: Option<redis::Server>,
}

enum Place {
    /// The default: a file in the folder in which it is started.
    Folder(tempfile::TempDir),
    Database(Database),
}

/// One that runs.
pub(super) struct Running {
    of: Constellation,
    shops: Vec<Shop>,
}

impl Constellation {
    /// One instance that is told of no database at all.
    pub(super) fn in_a_folder(name: &'static str) -> Self {
        let place = Place::Folder(tempfile::tempdir().unwrap());
        Self {
            name,
            place,
            instances: 1,
            redis: None,
        }
    }

    pub(super) fn on(
        name: &'static str,
        database: Database,
        instances: usize,
        redis: Option<redis::Server>,
    ) -> Self {
        Self {
            name,
            place: Place::Database(database),
            instances,
            redis,
        }
    }

    /// All of them at once, for the first time: they migrate and seed once.
    pub(super) async fn start(self) -> (Running, Client) {
        let starting = (0..self.instances).map(|number| {
            let options = ["--faults", "--order-rate", "10"];
            // An option and its variable are the same.
            let variables = [
                ("STOREFRONT_FAULTS", "true"),
                ("STOREFRONT_ORDER_RATE", "10"),
            ];
            if number % 2 == 0 {
                self.spawn(&options, &[])
            } else {
                self.spawn(&[], &variables)
            }
        });
        let shops = join_all(starting.collect::<Vec<_>>().into_iter().map(ready)).await;
        if let Place::Folder(folder) = &self.place {
            assert!(folder.path().join("storefront.db").is_file());
        }
        let client = Client::new(self.name, urls(&shops));
        (Running { of: self, shops }, client)
    }

    fn spawn(&self, options: &[&str], variables: &[(&str, &str)]) -> Starting {
        let redis = self.redis.as_ref().map(redis::Server::url);
        Shop::spawn_as(|command| {
            match &self.place {
                Place::Folder(folder) => command.current_dir(folder.path()),
                Place::Database(database) => command.env("STOREFRONT_DATABASE_URL", database.url()),
            };
            // The default.
            command.env_remove("STOREFRONT_ORDER_RATE");
            command.envs(redis.map(|url| ("STOREFRONT_REDIS_URL", url)));
            command
                .args(options.iter().map(OsStr::new))
                .envs(variables.iter().copied());
        })
    }
}

/// Ready within thirty seconds.
async fn ready(starting: Starting) -> Shop {
    let begun = Instant::now();
    let ready = tokio::task::spawn_blocking(|| starting.ready());
    let shop = ready.await.unwrap();
    assert!(
        begun.elapsed() < Duration::from_secs(30),
        "{:?}",
        begun.elapsed()
    );
    shop
}

fn urls(shops: &[Shop]) -> Vec<String> {
    let addresses = shops
        .iter()
        .map(|shop| format!("http://{}", shop.address()));
    addresses.collect()
}

impl Running {
    pub(super) const fn shares_redis(&self) -> bool {
        self.of.redis.is_some()
    }

    /// The same shop, as it is reached now.
    pub(super) async fn is_killed_replaced_and_told_to_stop(&mut self, shop: &Client) -> Client {
        let killed = self.is_killed(shop).await;
        // Without a word on the rate it is ten, as before.
        let draining = self.of.spawn(&["--faults", "--drain-ms", DRAIN_MS], &[]);
        self.shops.insert(0, ready(draining).await);
        let shop = shop.moved(urls(&self.shops));
        all_is_settled(&shop, killed).await;
        self.drains_and_stops(&shop).await;
        let bare = self.of.spawn(&[], &[]);
        self.shops.insert(0, ready(bare).await);
        let shop = shop.moved(urls(&self.shops));
        // Nobody told it that faults may be set.
        let fault = serde_json::json!({ "target": "carrier", "mode": "ok" });
        shop.at(0)
            .post("/faults", &fault)
            .await
            .refused(404, "ROUTE_NOT_FOUND");
        shop
    }

    /// In the middle of charges. What it said before holds.
    async fn is_killed(&mut self, shop: &Client) -> Vec<(String, Vec<u8>)> {
        shop.fault("payments", "slow", 1.0, 800).await;
        let customer = shop.customer();
        let mut placed = Vec::new();
        for number in 0..6 {
            let key = format!("k{number}");
            let answer = customer.place(&key, &two_of("p24")).await;
            answer.is(202);
            placed.push((answer.header("location").to_owned(), answer.bytes));
        }
        self.shops.remove(0).kill9();
        // A dead one takes its faults with it; the others are told.
        let others = shop.moved(urls(&self.shops));
        others.fault("payments", "ok", 1.0, 0).await;
        if !self.shops.is_empty() {
            // How soon what it held is free again is looked at by `lifecycle`, where nothing else is going on.
            all_is_settled(&others, placed.clone()).await;
        }
        placed
    }

    /// Not ready, still serving, then gone, and what was in flight is answered.
    async fn drains_and_stops(&mut self, shop: &Client) {
        let (leaving, mut process) = (shop.at(0), self.shops.remove(0));
        leaving.fault("carrier", "hang", 1.0, 0).await;
        leaving.get("/readyz").await.is(200);
        let quote = async { leaving.get("/shipping-quotes?country=SE&quantity=3").await };
        let drained = async {
            process.signal(Signal::SIGTERM);
            let not_ready = async || {
                let answer = leaving.get("/readyz").await;
                (answer.status != 200).then_some(answer)
            };
            let answer = leaving
                .until("it drains", Duration::from_secs(2), not_ready)
                .await;
            answer.refused(503, "NOT_READY");
            leaving.get("/healthz").await.is(200);
            leaving.get("/products").await.is(200);
        };
        let (quote, ()) = tokio::join!(quote, drained);
        quote.refused(504, "UPSTREAM_TIMEOUT");
        let ended = process.ended(STOPPED_WITHIN).await;
        assert!(
            ended.is_some_and(|status| status.success()),
            "{}: {ended:?}",
            shop.name
        );
        assert_eq!(
            process.rest_of_its_output(),
            "",
            "{}: one line and nothing else",
            shop.name
        );
        for line in process.log().lines() {
            let entry: Value =
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            assert!(entry.is_object(), "{line}");
        }
    }

    pub(super) async fn close(self) {
        drop(self.shops);
        if let Place::Database(database) = self.of.place {
            database.close().await;
        }
    }
}

/// A crash cancels nothing.
async fn all_is_settled(shop: &Client, placed: Vec<(String, Vec<u8>)>) {
    for (location, accepted) in placed {
        let order = shop
            .settled(location.strip_prefix("/orders/").unwrap())
            .await;
        assert_eq!(order["status"], "confirmed", "{}: {order}", shop.name);
        let accepted: Value = serde_json::from_slice(&accepted).unwrap();
        assert_eq!(
            order["total"], accepted["data"]["total"],
            "{}: {order}",
            shop.name
        );
    }
}
