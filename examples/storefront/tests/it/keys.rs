//! The keys of orders: in use, after a crash, and where they are kept.

use std::time::{Duration, Instant};

use buttress_testkit::{seed::Seed, tier::short_or_long};
use nix::sys::signal::Signal;
use rand::RngExt;
use sqlx::{ConnectOptions, Connection, Executor, PgConnection, postgres::PgConnectOptions};

use crate::shop::{Database, Shop, error, on_each, two_of};

/// Keeps every order that has a `p1` in the middle of its transaction: the order's items refer to
/// the product.
async fn hold_p1(database: &Database) -> PgConnection {
    let options: PgConnectOptions = database.url().parse().unwrap();
    let mut holder = options.connect().await.unwrap();
    holder.execute("BEGIN").await.unwrap();
    let hold = "SELECT 1 FROM products WHERE id = 'p1' FOR UPDATE";
    holder.execute(hold).await.unwrap();
    holder
}

/// Waits until an order waits for the holder.
async fn somebody_waits(holder: &mut PgConnection) {
    let waiting = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        // Within a transaction the view goes on showing the sessions that it showed first.
        let look_again = "SELECT pg_stat_clear_snapshot()";
        holder.execute(look_again).await.unwrap();
        let count: i64 = sqlx::query_scalar(waiting)
            .fetch_one(&mut *holder)
            .await
            .unwrap();
        if count > 0 {
            return;
        }
        assert!(Instant::now() < deadline, "nobody waits");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn while_the_first_is_placed_its_key_is_in_use_and_no_connection_waits_for_it() {
    if let Some(database) = Database::postgres().await {
        let shop = Shop::start(&database);
        let mut holder = hold_p1(&database).await;
        let order = two_of("p1");
        let first = shop.order("k", &order);
        let others = async {
            somebody_waits(&mut holder).await;
            // More of them than the pool has connections, and the shop still answers.
            let duplicates = (0..40).map(|_| shop.order("k", &order));
            let duplicates = futures_util::future::join_all(duplicates);
            let began = Instant::now();
            let products = async {
                tokio::time::sleep(Duration::from_millis(300)).await;
                let asked = Instant::now();
                assert_eq!(shop.get("/products").send().await.unwrap().status(), 200);
                assert!(
                    asked.elapsed() < Duration::from_secs(1),
                    "{:?}",
                    asked.elapsed()
                );
            };
            let (duplicates, ()) = tokio::join!(duplicates, products);
            for duplicate in duplicates {
                assert_eq!(duplicate.headers()["retry-after"], "1");
                error(duplicate, 409, "IDEMPOTENCY_KEY_IN_USE").await;
            }
            let waited = began.elapsed();
            assert!(
                waited > Duration::from_millis(1900),
                "{waited:?}: they waited for it"
            );
            holder.execute("ROLLBACK").await.unwrap();
        };
        let (first, ()) = tokio::join!(first, others);
        assert_eq!(first.status(), 202);
        assert!(!first.headers().contains_key("idempotency-replayed"));
        let again = shop.order("k", &order).await;
        assert_eq!(again.headers()["idempotency-replayed"], "true");
        error(
            shop.order("k", &two_of("p2")).await,
            422,
            "IDEMPOTENCY_KEY_REUSED",
        )
        .await;
        assert_eq!(shop.all("orders").await.len(), 1);
        holder.close().await.unwrap();
        drop(shop);
        database.close().await;
    }
}

#[tokio::test]
async fn a_key_whose_first_died_in_the_middle_is_free_at_once() {
    if let Some(database) = Database::postgres().await {
        let shop = Shop::start(&database);
        let mut holder = hold_p1(&database).await;
        let order = two_of("p1");
        let request = shop
            .post("/orders")
            .header("idempotency-key", "k")
            .json(&order);
        let first = tokio::spawn(request.send());
        somebody_waits(&mut holder).await;
        shop.signal(Signal::SIGKILL);
        assert!(first.await.unwrap().is_err());
        drop(shop);
        holder.execute("ROLLBACK").await.unwrap();
        let shop = Shop::start(&database);
        let placed = Instant::now();
        let id = shop.accepted("k", &order).await;
        assert!(
            placed.elapsed() < Duration::from_secs(5),
            "no lease was waited for"
        );
        assert_eq!(shop.settled(&id).await["status"], "confirmed");
        assert_eq!(shop.all("orders").await.len(), 1);
        holder.close().await.unwrap();
        drop(shop);
        database.close().await;
    }
}

/// Sends an order until it is answered, or until nobody listens any more.
async fn placed(shop: &Shop, key: &str, product: &str) -> Option<(String, bytes::Bytes)> {
    loop {
        let request = shop.post("/orders").header("idempotency-key", key);
        let response = request.json(&two_of(product)).send().await.ok()?;
        match response.status().as_u16() {
            202 => {
                let location = response.headers()["location"].to_str().unwrap().to_owned();
                return Some((location, response.bytes().await.ok()?));
            }
            409 | 503 => tokio::time::sleep(Duration::from_millis(20)).await,
            status => panic!("{status}: {}", response.text().await.unwrap()),
        }
    }
}

/// ID1: each key is sent five times, by several clients at once, while the shop is killed.
#[tokio::test]
async fn through_kills_each_key_is_one_order_with_one_answer_to_the_byte() {
    let tally = buttress_testkit::tally::suite("ID1 X5");
    let kills = short_or_long(4, 100);
    let seed = Seed::new();
    on_each(async |database| {
        let mut answers: Vec<Option<(String, bytes::Bytes)>> = vec![None; 12 * (kills + 1)];
        let (mut cut, mut random) = (0, seed.rng());
        for round in 0..=kills {
            let shop = Shop::start(&database);
            let keys = 12 * round..12 * (round + 1);
            let sent = keys.clone().flat_map(|key| [key; 5]).map(|key| {
                let (shop, product) = (&shop, format!("p{}", 1 + key % 40));
                async move { (key, placed(shop, &format!("k{key}"), &product).await) }
            });
            let sent = futures_util::future::join_all(sent);
            let after = Duration::from_micros(random.random_range(0..40_000));
            let killed = async {
                if round < kills {
                    tokio::time::sleep(after).await;
                    shop.signal(Signal::SIGKILL);
                }
            };
            let (sent, ()) = tokio::join!(sent, killed);
            cut += sent.iter().filter(|(_, answer)| answer.is_none()).count();
            // What anybody was told before the kill holds after it.
            for (key, answer) in sent.into_iter().filter_map(|(key, it)| Some((key, it?))) {
                assert_eq!(
                    *answers[key].get_or_insert(answer.clone()),
                    answer,
                    "k{key}"
                );
            }
        }
        assert!(cut > 0, "no kill came in the middle of anything");
        let shop = Shop::start(&database);
        for (key, answer) in answers.iter_mut().enumerate() {
            let product = format!("p{}", 1 + key % 40);
            let again = placed(&shop, &format!("k{key}"), &product).await.unwrap();
            assert_eq!(*answer.get_or_insert(again.clone()), again, "k{key}");
        }
        let orders = shop.all("orders").await;
        assert_eq!(orders.len(), answers.len(), "one order a key");
        for (location, _) in answers.iter().flatten() {
            let id = location.strip_prefix("/orders/").unwrap();
            assert_eq!(shop.settled(id).await["status"], "confirmed");
        }
        shop.assert_invariants(1000).await;
        tally.operations(answers.len());
        tally.kills(kills);
        drop(shop);
        database.close().await;
    })
    .await;
}
