//! The keys of orders: in use, after a crash, and where they are kept.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use sqlx::{ConnectOptions, Connection, Executor, PgConnection, postgres::PgConnectOptions};

use crate::shop::{Database, Shop, error, two_of};

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
    for database in Database::servers().await {
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
    for database in Database::servers().await {
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

#[tokio::test]
async fn a_refused_order_leaves_its_key_free() {
    for database in Database::each().await {
        let shop = Shop::start(&database);
        for body in [
            two_of("none"),
            serde_json::json!({ "customer": "" }),
            serde_json::json!([]),
        ] {
            error(shop.order("k", &body).await, 422, "VALIDATION_FAILED").await;
        }
        let first = shop.order("k", &two_of("p1")).await;
        assert_eq!(first.status(), 202);
        assert!(!first.headers().contains_key("idempotency-replayed"));
        // What is wrong with the order is said before what is wrong with its key.
        error(
            shop.order("k", &two_of("none")).await,
            422,
            "VALIDATION_FAILED",
        )
        .await;
        error(
            shop.order("k", &two_of("p2")).await,
            422,
            "IDEMPOTENCY_KEY_REUSED",
        )
        .await;
        drop(shop);
        database.close().await;
    }
}
