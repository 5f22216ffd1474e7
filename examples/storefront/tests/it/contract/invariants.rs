//! What must hold of everything that happened, once nothing is pending.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{
    Checks, checks,
    client::Client,
    told::{all_are_told, by_order},
};

pub(super) fn all(shop: &Client) -> Checks<'_> {
    checks![shop; the_invariants_hold]
}

async fn the_invariants_hold(shop: &Client) {
    let accepted: Vec<_> = shop.accepted().into_iter().collect();
    // The second: each is confirmed or cancelled in time.
    for id in &accepted {
        shop.settled(id).await;
    }
    all_are_told(shop, &accepted).await;
    let orders = shop.all("orders", 20).await;
    let ids: BTreeSet<_> = orders.iter().map(|order| text(&order["id"])).collect();
    // The first: what was accepted is there, once, and nothing else is.
    assert_eq!(ids.len(), orders.len(), "{}", shop.name);
    assert!(
        ids.iter().eq(accepted.iter()),
        "{}: {ids:?} of {accepted:?}",
        shop.name
    );
    the_money_is_right(&orders, &shop.charges().await);
    // The third.
    for product in shop.all("products", 100).await {
        let confirmed = orders.iter().filter(|order| order["status"] == "confirmed");
        let items = confirmed.flat_map(|order| order["items"].as_array().unwrap());
        let sold = items.filter(|item| item["product_id"] == product["id"]);
        let sold: i64 = sold.map(|item| item["quantity"].as_i64().unwrap()).sum();
        let left = product["stock"].as_i64().unwrap();
        let starting = shop.starting_stock(product["id"].as_str().unwrap());
        assert_eq!(left + sold, starting, "{}: {product}", shop.name);
    }
    // The fifth: of each order what its end says, and of nothing else anything.
    let told = by_order(&shop.events().await);
    assert_eq!(told.len(), orders.len(), "{}", shop.name);
    for order in &orders {
        let end = format!("order.{}", text(&order["status"]));
        assert_eq!(
            told[&text(&order["id"])],
            ["order.placed".to_owned(), end],
            "{order}"
        );
    }
}

/// The fourth.
fn the_money_is_right(orders: &[Value], charges: &[Value]) {
    for order in orders {
        let own = charges
            .iter()
            .filter(|charge| charge["order_id"] == order["id"]);
        let own: Vec<_> = own.collect();
        match order["status"].as_str().unwrap() {
            "confirmed" => {
                assert_eq!(order["reason"], Value::Null, "{order}");
                assert_eq!(own.len(), 1, "{order}: {own:?}");
                assert_eq!(
                    (&own[0]["amount"], &own[0]["refunded"]),
                    (&order["total"], &json!(0)),
                    "{order}"
                );
            }
            "cancelled" => {
                let reasons = ["OUT_OF_STOCK", "PAYMENT_DECLINED", "PAYMENT_UNAVAILABLE"];
                assert!(
                    reasons.contains(&order["reason"].as_str().unwrap()),
                    "{order}"
                );
                assert!(own.len() <= 1, "{order}: {own:?}");
                assert!(
                    own.iter()
                        .all(|charge| charge["amount"] == charge["refunded"]),
                    "{order}: {own:?}"
                );
            }
            other => panic!("{other}: {order}"),
        }
    }
    assert!(
        charges
            .iter()
            .all(|charge| orders.iter().any(|order| order["id"] == charge["order_id"]))
    );
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}
