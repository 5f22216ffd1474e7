//! What the subscriber is told of orders: each event once, in order, whatever fails in between.

use std::{
    collections::{BTreeMap, HashSet},
    time::{Duration, Instant},
};

use buttress_testkit::short_or_long;
use futures_util::future::join_all;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::shop::{Database, Shop, on_each, two_of};

/// How long events may take once their orders are settled and the subscriber answers.
const TOLD_WITHIN: Duration = Duration::from_secs(60);

/// What each order's events are, in their order; checks what holds for all of them at any time.
pub(crate) fn by_order(events: &[Value]) -> BTreeMap<String, Vec<String>> {
    let mut ids = HashSet::new();
    let mut seen: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (place, event) in (1..).zip(events) {
        assert_eq!(event["seq"], json!(place), "{event}");
        assert!(ids.insert(event["id"].as_str().unwrap()), "twice: {event}");
        let time: jiff::Timestamp = event["time"].as_str().unwrap().parse().unwrap();
        assert!(time.as_second() > 1_700_000_000, "{event}");
        let subject = event["subject"].as_str().unwrap().to_owned();
        let kind = event["type"].as_str().unwrap().to_owned();
        seen.entry(subject).or_default().push(kind);
    }
    seen
}

/// Waits until each order's events are there, checks that they are what its status says, and that
/// nothing comes after.
pub(crate) async fn assert_told(shop: &Shop, ids: &[String]) {
    let mut expected = BTreeMap::new();
    for id in ids {
        let status = shop.settled(id).await["status"]
            .as_str()
            .unwrap()
            .to_owned();
        let told = vec!["order.placed".to_owned(), format!("order.{status}")];
        expected.insert(id.clone(), told);
    }
    let begun = Instant::now();
    loop {
        let events = shop.events().await;
        let seen = by_order(&events);
        if seen == expected {
            break;
        }
        let missing = ids.len() * 2 - events.len().min(ids.len() * 2);
        assert!(begun.elapsed() < TOLD_WITHIN, "{missing} missing: {seen:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Late twins would come now.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(by_order(&shop.events().await), expected);
}

/// Places orders of all ends: confirmed, declined, and short of stock.
pub(crate) async fn place(shop: &Shop, name: &str, orders: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for number in 0..orders {
        let mut order = two_of(&format!("p{}", 1 + number % 30));
        match number % 5 {
            3 => order["payment_method"] = json!("pm_declined"),
            4 => {
                let many = json!({ "product_id": "p40", "quantity": 100 });
                order["items"] = json!(vec![many; 11]);
            }
            _ => {}
        }
        ids.push(shop.accepted(&format!("{name}-{number}"), &order).await);
    }
    ids
}

/// A third of the calls go wrong for good: each of the others still gets through.
#[tokio::test]
async fn events_get_through_while_a_third_of_the_calls_fail() {
    on_each(|database| async move {
        let (shop, mut ids) = (Shop::start(&database), Vec::new());
        for mode in ["error", "lost"] {
            shop.fault("subscriber", mode, 0.3, 0).await;
            ids.extend(place(&shop, mode, 40).await);
            assert_told(&shop, &ids).await;
        }
        drop(shop);
        database.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_backlog_of_a_subscriber_that_was_away_drains_soon() {
    on_each(|database| async move {
        let shop = Shop::start(&database);
        shop.fault("subscriber", "error", 1.0, 0).await;
        let ids = place(&shop, "k", 100).await;
        for id in &ids {
            shop.settled(id).await;
        }
        shop.fault("subscriber", "ok", 1.0, 0).await;
        let healed = Instant::now();
        assert_told(&shop, &ids).await;
        let took = healed.elapsed();
        assert!(took < Duration::from_secs(20), "{took:?}");
        drop(shop);
        database.close().await;
    })
    .await;
}

/// Half of the lanes are a dead process's, which had events of them under way.
#[tokio::test]
async fn what_a_dead_relay_held_is_told_by_another_soon() {
    on_each(|database| async move {
        let (dying, staying) = (Shop::start(&database), Shop::start(&database));
        for shop in [&dying, &staying] {
            shop.fault("subscriber", "hang", 1.0, 0).await;
        }
        let ids = place(&dying, "k", 20).await;
        for id in &ids {
            staying.settled(id).await;
        }
        dying.kill9();
        staying.fault("subscriber", "ok", 1.0, 0).await;
        let died = Instant::now();
        assert_told(&staying, &ids).await;
        // Ten seconds of the contract's, and what a loaded machine takes.
        let took = died.elapsed();
        assert!(took < Duration::from_secs(15), "{took:?}");
        drop(staying);
        database.close().await;
    })
    .await;
}

#[tokio::test]
async fn kill_9_at_any_moment_loses_no_event_and_repeats_none() {
    on_each(|database| async move {
        let mut ids = Vec::new();
        for round in 0..short_or_long(6, 40) {
            let shop = Shop::start(&database);
            shop.fault("subscriber", "lost", 0.3, 0).await;
            ids.extend(place(&shop, &round.to_string(), 5).await);
            // Anywhere between the acceptance of the last and the delivery of all.
            tokio::time::sleep(Duration::from_millis(round % 8 * 70)).await;
            by_order(&shop.events().await);
            shop.kill9();
        }
        let shop = Shop::start(&database);
        assert_told(&shop, &ids).await;
        shop.assert_invariants(1000).await;
        drop(shop);
        database.close().await;
    })
    .await;
}

#[tokio::test]
async fn several_instances_share_what_is_to_be_told_and_a_dead_one_keeps_nothing() {
    on_each(|database| async move {
        let shops: Vec<_> = (0..3).map(|_| Shop::start(&database)).collect();
        let placing = shops.iter().zip(["a", "b", "c"]);
        let placed = join_all(placing.map(|(shop, name)| place(shop, name, 10))).await;
        let ids: Vec<_> = placed.into_iter().flatten().collect();
        let mut shops = shops.into_iter();
        shops.next().unwrap().kill9();
        let (mut leaving, staying) = (shops.next().unwrap(), shops.next().unwrap());
        leaving.signal(Signal::SIGTERM);
        assert_told(&staying, &ids).await;
        let status = leaving.ended(Duration::from_secs(12)).await;
        assert!(status.expect("it ends within its grace").success());
        drop(staying);
        database.close().await;
    })
    .await;
}

/// Readers that follow the last `seq` they were shown miss nothing: on a server transactions
/// overlap, and one that began earlier must not appear behind one that was read.
#[tokio::test]
async fn nothing_appears_below_a_seq_that_was_already_shown() {
    on_each(|database| async move {
        let shops: Vec<_> = (0..2).map(|_| Shop::start(&database)).collect();
        let following = async {
            let (mut followed, mut after, begun) = (Vec::new(), 0, Instant::now());
            while followed.len() < 80 {
                let page = shops[1].read(&format!("/events?after={after}")).await["data"].take();
                let page = page.as_array().unwrap();
                followed.extend(page.iter().cloned());
                after = page.last().map_or(after, |it| it["seq"].as_i64().unwrap());
                assert!(begun.elapsed() < TOLD_WITHIN, "{} of 80", followed.len());
            }
            followed
        };
        let placing = shops.iter().zip(["a", "b"]);
        let placing = join_all(placing.map(|(shop, name)| place(shop, name, 20)));
        let (followed, _) = tokio::join!(following, placing);
        assert_eq!(followed, shops[0].events().await);
        drop(shops);
        database.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_stop_while_the_subscriber_hangs_ends_in_time_and_what_is_left_is_told_later() {
    on_each(|database| async move {
        let mut shop = Shop::start(&database);
        shop.fault("subscriber", "hang", 1.0, 0).await;
        let ids = place(&shop, "k", 10).await;
        shop.signal(Signal::SIGTERM);
        let status = shop.ended(Duration::from_secs(12)).await;
        assert!(status.expect("it ends within its grace").success());
        let shop = Shop::start(&database);
        let begun = Instant::now();
        assert_told(&shop, &ids).await;
        // Its lanes were handed back, so nobody waited for a lease.
        assert!(begun.elapsed() < Duration::from_secs(30));
        drop(shop);
        database.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_secret_comes_from_the_environment_and_is_in_no_log() {
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let database = Database::sqlite();
    let shop = Shop::spawn_with_env(&database, "STOREFRONT_WEBHOOK_SECRET", secret).ready();
    shop.fault("subscriber", "error", 0.5, 0).await;
    let ids = place(&shop, "k", 5).await;
    assert_told(&shop, &ids).await;
    assert!(!shop.log().contains("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"));

    let refused = std::process::Command::new(env!("CARGO_BIN_EXE_storefront"))
        .args(["serve", "--listen", "127.0.0.1:0"])
        .env("STOREFRONT_DATABASE_URL", Database::sqlite().url())
        .env("STOREFRONT_WEBHOOK_SECRET", "whsec_c2hvcnRjYW5hcnk=")
        .output()
        .unwrap();
    assert!(!refused.status.success());
    let log = String::from_utf8(refused.stderr).unwrap();
    assert!(log.contains("STOREFRONT_WEBHOOK_SECRET"), "{log}");
    assert!(!log.contains("c2hvcnRjYW5hcnk"), "{log}");
}
