//! What comes late, twice, or out of turn.

use buttress_outbox::{Delivery, PublishErrorKind, Topic};
use read_model::{projector, queries::Queries};

use crate::place::Place;

async fn deliveries(place: &Place) -> Vec<Delivery> {
    let topic = Topic::new("orders").unwrap();
    let history = place.database.outbox().history(&topic, 0, 10_000).await;
    let delivery = |past: buttress_outbox::PastMessage| {
        Delivery::new(past.message, past.sequence, 1, past.created_at)
    };
    history.unwrap().into_iter().map(delivery).collect()
}

async fn is_right(queries: &Queries) -> bool {
    queries.customers().await.unwrap() == queries.counted().await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_comes_twice_is_applied_once() {
    let place = Place::on_sqlite().await;
    let mut traffic = place.traffic();
    for _ in 0..60 {
        traffic.command().await.unwrap();
    }
    let all = deliveries(&place).await;
    for delivery in &all {
        for _ in 0..2 {
            projector::take(&place.database, delivery).await.unwrap();
        }
    }
    for delivery in all.iter().rev().chain(&all) {
        projector::take(&place.database, delivery).await.unwrap();
    }
    assert!(is_right(&place.queries).await);
    assert_eq!(place.queries.whole().await.unwrap().events, 60);
}

/// The check can fail: an inbox that has forgotten lets an event in again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_what_the_inbox_remembers_an_event_that_comes_twice_is_seen_in_the_figures() {
    let place = Place::on_sqlite().await;
    let shop = place.shop();
    let order = shop.place("Ada").await.unwrap();
    shop.ship(&order).await.unwrap();
    let all = deliveries(&place).await;
    for delivery in &all {
        projector::take(&place.database, delivery).await.unwrap();
    }
    assert!(is_right(&place.queries).await);
    let pool = sqlx::SqlitePool::connect(&place.url).await.unwrap();
    let forget = sqlx::raw_sql("DELETE FROM buttress_inbox");
    forget.execute(&pool).await.unwrap();
    projector::take(&place.database, &all[1]).await.unwrap();
    assert!(!is_right(&place.queries).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_out_of_turn_is_refused_and_changes_nothing() {
    let place = Place::on_sqlite().await;
    let shop = place.shop();
    let order = shop.place("Ada").await.unwrap();
    shop.add(&order, 1, 100).await.unwrap();
    let [first, second] = &deliveries(&place).await[..] else {
        panic!("two events");
    };
    let refused = projector::take(&place.database, second).await.unwrap_err();
    assert_eq!(refused.kind(), PublishErrorKind::Refused);
    assert_eq!(place.queries.whole().await.unwrap().events, 0);
    for delivery in [first, second] {
        projector::take(&place.database, delivery).await.unwrap();
    }
    assert_eq!(place.queries.whole().await.unwrap().events, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lag_is_what_was_not_taken() {
    let place = Place::on_sqlite().await;
    let mut traffic = place.traffic();
    for _ in 0..20 {
        traffic.command().await.unwrap();
    }
    assert_eq!(place.queries.lag().await.unwrap().events, 20);
    assert!(place.queries.customers().await.unwrap().is_empty());
    let _projector = place.program("project").spawn();
    assert_eq!(place.caught_up().await, *traffic.folded());
    let lag = place.queries.lag().await.unwrap();
    assert!(lag.events == 0 && lag.age.is_zero());
}
