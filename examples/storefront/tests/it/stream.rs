//! Events through NATS: each once and in order, although the broker is killed in between.

use std::time::Duration;

use buttress_testkit::nats::{self, Server};

use crate::{
    events::{assert_told, by_order, place},
    shop::{Database, Shop, on_each},
};

/// A server, where NATS is there. Where it is not, the gap is registered.
fn server() -> Option<Server> {
    nats::fresh_name()?;
    Some(Server::start().unwrap())
}

fn start(database: &Database, server: &Server) -> Shop {
    Shop::start_with(database, &["--faults", "--nats-url", &server.url()])
}

#[tokio::test]
async fn events_go_through_the_stream_once_and_in_order_although_the_broker_is_killed() {
    on_each(|database| async move {
        // One for each: a shop's stream is its database's.
        let Some(server) = server() else { return };
        let shops = [start(&database, &server), start(&database, &server)];
        let mut ids = place(&shops[0], "before", 5).await;
        assert_told(&shops[0], &ids).await;
        for round in 0..2 {
            server.kill();
            // Orders need no broker: their events wait in the outbox.
            let name = round.to_string();
            ids.extend(place(&shops[round % 2], &name, 5).await);
            for id in &ids {
                shops[0].settled(id).await;
            }
            assert_eq!(shops[0].events().await.len(), (ids.len() - 5) * 2);
            server.restart().unwrap();
            if round == 0 {
                assert_told(&shops[1], &ids).await;
            }
        }
        // Killed again with the backlog on its way.
        tokio::time::sleep(Duration::from_millis(100)).await;
        server.kill();
        server.restart().unwrap();
        assert_told(&shops[0], &ids).await;
        shops[0].assert_invariants(1000).await;
        drop(shops);
        database.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_shop_starts_without_its_broker_and_tells_when_it_is_there() {
    let Some(server) = server() else { return };
    server.kill();
    let database = Database::sqlite();
    let shop = start(&database, &server);
    let ids = place(&shop, "k", 5).await;
    for id in &ids {
        shop.settled(id).await;
    }
    assert!(shop.events().await.is_empty());
    assert_eq!(degraded(&shop).await, ["nats"]);
    server.restart().unwrap();
    assert_told(&shop, &ids).await;
    assert!(degraded(&shop).await.is_empty());
}

/// What the shop says that it does without.
async fn degraded(shop: &Shop) -> Vec<String> {
    let answer = shop.get("/readyz").send().await.unwrap();
    assert_eq!(answer.status(), 200, "it can serve");
    let body: serde_json::Value = answer.json().await.unwrap();
    serde_json::from_value(body["data"]["degraded"].clone()).unwrap()
}

#[tokio::test]
async fn an_instance_that_is_killed_or_whose_subscriber_fails_loses_nothing_behind_the_stream() {
    let Some(server) = server() else { return };
    let database = Database::sqlite();
    let mut ids = Vec::new();
    for round in 0..3 {
        let shop = start(&database, &server);
        shop.fault("subscriber", ["lost", "error", "hang"][round], 0.5, 0)
            .await;
        ids.extend(place(&shop, &round.to_string(), 5).await);
        by_order(&shop.events().await);
        shop.kill9();
    }
    let shop = start(&database, &server);
    assert_told(&shop, &ids).await;
    shop.assert_invariants(1000).await;
}

#[tokio::test]
async fn a_url_that_cannot_be_read_is_refused_and_in_no_log() {
    let refused = std::process::Command::new(env!("CARGO_BIN_EXE_storefront"))
        .args(["serve", "--listen", "127.0.0.1:0"])
        .env("STOREFRONT_DATABASE_URL", Database::sqlite().url())
        .env("STOREFRONT_NATS_URL", "nats://me:sesame@[")
        .output()
        .unwrap();
    assert!(!refused.status.success());
    let log = String::from_utf8(refused.stderr).unwrap();
    assert!(log.contains("NATS"), "{log}");
    assert!(!log.contains("sesame"), "{log}");
}
