//! `/orders`: keys, replays, shapes, pages, and how orders end.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{
    Checks, checks,
    client::{Client, keys, two_of, with},
};

pub(super) fn all(shop: &Client) -> Checks<'_> {
    checks![shop;
        an_order_is_accepted_as_pending_and_then_confirmed,
        a_replay_is_the_same_to_the_byte,
        at_once_and_anywhere_one_key_is_one_order,
        quoted_and_bare_are_one_key_and_bodies_are_compared_as_json,
        keys_belong_to_a_client_and_everybody_sees_all_orders,
        the_total_is_fixed_when_the_order_is_accepted,
        a_declined_payment_cancels,
        what_is_out_of_stock_cancels_and_the_last_pieces_go_to_one,
        orders_come_in_pages_newest_first,
    ]
}

async fn an_order_is_accepted_as_pending_and_then_confirmed(shop: &Client) {
    let customer = shop.customer();
    let order = json!({
        "customer": "Gr\u{e5}ce",
        "items": [
            { "product_id": "p5", "quantity": 2 }, { "product_id": "p6", "quantity": 1 },
            { "product_id": "p5", "quantity": 3 },
        ],
        "payment_method": "pm_ok",
    });
    let accepted = customer.place("k", &order).await;
    accepted.is(202);
    let shown = accepted.data();
    let members = [
        "created_at",
        "customer",
        "id",
        "items",
        "reason",
        "status",
        "steps",
        "total",
    ];
    assert_eq!(keys(shown), members, "{accepted}");
    let id = shown["id"].as_str().unwrap();
    assert_eq!(accepted.header("location"), format!("/orders/{id}"));
    assert_eq!(
        (&shown["status"], &shown["reason"]),
        (&json!("pending"), &Value::Null),
        "{accepted}"
    );
    assert_eq!(shown["customer"], order["customer"], "{accepted}");
    let mut total = 0;
    for (ours, theirs) in order["items"]
        .as_array()
        .unwrap()
        .iter()
        .zip(shown["items"].as_array().unwrap())
    {
        assert_eq!(
            keys(theirs),
            ["price", "product_id", "quantity"],
            "{accepted}"
        );
        assert_eq!(
            (&ours["product_id"], &ours["quantity"]),
            (&theirs["product_id"], &theirs["quantity"]),
            "{accepted}"
        );
        total += theirs["price"].as_i64().unwrap() * theirs["quantity"].as_i64().unwrap();
    }
    assert_eq!(shown["total"], total, "{accepted}");
    is_utc(&shown["created_at"]);
    assert!(!steps(shown).is_empty());

    let settled = shop.settled(id).await;
    assert_eq!(
        (&settled["status"], &settled["reason"]),
        (&json!("confirmed"), &Value::Null),
        "{settled}"
    );
    for name in ["id", "customer", "items", "total", "created_at"] {
        assert_eq!(settled[name], shown[name], "{settled}");
    }
    assert!(
        steps(&settled)
            .iter()
            .all(|(state, attempts)| state == "done" && *attempts >= 1),
        "{settled}"
    );
}

/// The state and the attempts of each step.
fn steps(order: &Value) -> Vec<(String, i64)> {
    let steps = order["steps"].as_array().unwrap().iter();
    let step = |step: &Value| {
        assert_eq!(keys(step), ["attempts", "name", "state"], "{order}");
        assert!(step["name"].is_string(), "{order}");
        let state = step["state"].as_str().unwrap();
        let known = ["pending", "running", "done", "failed", "undone", "unknown"];
        assert!(known.contains(&state), "{order}");
        (state.to_owned(), step["attempts"].as_i64().unwrap())
    };
    steps.map(step).collect()
}

/// RFC 3339, in UTC.
pub(super) fn is_utc(time: &Value) {
    let text = time.as_str().unwrap();
    let read: jiff::Timestamp = text.parse().unwrap();
    assert!(text.ends_with('Z') && text.contains('T'), "{text}");
    let age = jiff::Timestamp::now().duration_since(read).as_secs();
    assert!((-60..3600).contains(&age), "{text}");
}

async fn a_replay_is_the_same_to_the_byte(shop: &Client) {
    let customer = shop.customer();
    let order = two_of("p7");
    let first = customer.place("k", &order).await;
    first.is(202);
    assert!(first.may("idempotency-replayed").is_none(), "{first}");
    let same = async || {
        let again = customer.place("k", &order).await;
        again.is(202);
        assert_eq!(again.header("idempotency-replayed"), "true", "{again}");
        assert_eq!(again.bytes, first.bytes, "{again}");
        for name in ["location", "content-type"] {
            assert_eq!(again.header(name), first.header(name), "{again}");
        }
    };
    same().await;
    shop.settled(first.data()["id"].as_str().unwrap()).await;
    // As it was accepted, not as it is now; at any instance.
    for _ in 0..3 {
        same().await;
    }
}

async fn at_once_and_anywhere_one_key_is_one_order(shop: &Client) {
    let customer = shop.customer();
    let order = two_of("p8");
    let (mut taken, mut first) = (Vec::new(), 0);
    for answer in join_all((0..12).map(|_| customer.place("k", &order))).await {
        if answer.status == 409 {
            answer.refused(409, "IDEMPOTENCY_KEY_IN_USE");
            continue;
        }
        answer.is(202);
        first += usize::from(answer.may("idempotency-replayed").is_none());
        taken.push((answer.header("location").to_owned(), answer.bytes));
    }
    assert_eq!(
        first, 1,
        "{}: the first answer, and only it, is not a replay",
        shop.name
    );
    assert!(
        taken.iter().all(|it| *it == taken[0]),
        "{}: {taken:?}",
        shop.name
    );
}

async fn quoted_and_bare_are_one_key_and_bodies_are_compared_as_json(shop: &Client) {
    let customer = shop.customer();
    customer.placed("one", &two_of("p1")).await;
    let spelled = "{ \"items\":\n [ {\"quantity\": 2, \"product_id\": \"p\\u0031\"} ],\t\"payment_method\": \"pm_ok\", \"customer\": \"\\u0041da\" }";
    for key in ["one", "\"one\"", " \"one\" "] {
        let again = customer.send(customer.order(key).body(spelled)).await;
        again.is(202);
        assert_eq!(again.header("idempotency-replayed"), "true", "{again}");
    }
    for change in [
        json!({ "customer": "ada" }),
        json!({ "payment_method": "pm_declined" }),
        json!({ "more": 1 }),
    ] {
        let other = customer
            .place("\"one\"", &with(&two_of("p1"), &change))
            .await;
        other.refused(422, "IDEMPOTENCY_KEY_REUSED");
    }
    // Keys are compared by their letters.
    let other = customer.place("One", &two_of("p1")).await;
    other.is(202);
    assert!(other.may("idempotency-replayed").is_none(), "{other}");
}

async fn keys_belong_to_a_client_and_everybody_sees_all_orders(shop: &Client) {
    // The last is who sends no `X-Api-Key`: his address.
    let clients = [shop.customer(), shop.customer(), shop.clone()];
    let mut ids = Vec::new();
    for (number, client) in (1..).zip(&clients) {
        ids.push(
            client
                .placed("shared", &two_of(&format!("p{number}")))
                .await,
        );
    }
    for client in &clients[1..] {
        client
            .place("shared", &two_of("p1"))
            .await
            .refused(422, "IDEMPOTENCY_KEY_REUSED");
    }
    for client in &clients {
        for id in &ids {
            client.get(&format!("/orders/{id}")).await.is(200);
        }
    }
}

async fn the_total_is_fixed_when_the_order_is_accepted(shop: &Client) {
    let answer = shop.customer().place("k", &two_of("p9")).await;
    answer.is(202);
    let before = answer.data().clone();
    let price = json!({ "price": before["items"][0]["price"].as_i64().unwrap() + 77 });
    shop.patch("/products/p9", &price).await.is(200);
    let after = shop.settled(before["id"].as_str().unwrap()).await;
    assert_eq!(
        (&after["total"], &after["items"]),
        (&before["total"], &before["items"]),
        "{after}"
    );
    // A new one costs what it costs now, and not what a cache remembers.
    let new = shop.customer().place("k", &two_of("p9")).await;
    assert_eq!(new.data()["items"][0]["price"], price["price"], "{new}");
}

async fn a_declined_payment_cancels(shop: &Client) {
    let order = with(&two_of("p10"), &json!({ "payment_method": "pm_declined" }));
    let id = shop.customer().placed("k", &order).await;
    let settled = shop.settled(&id).await;
    assert_eq!(
        (&settled["status"], &settled["reason"]),
        (&json!("cancelled"), &json!("PAYMENT_DECLINED")),
        "{settled}"
    );
    let states = steps(&settled);
    // Undone rather than failed where an answer was late before the one that declined.
    assert!(
        states.iter().all(|(state, _)| state != "done"),
        "{settled}: all is undone"
    );
}

async fn what_is_out_of_stock_cancels_and_the_last_pieces_go_to_one(shop: &Client) {
    shop.stocked("p31", 5).await;
    shop.stocked("p32", 3).await;
    let customer = shop.customer();
    // More than there is of it, in two lines.
    let lines =
        json!([{ "product_id": "p32", "quantity": 2 }, { "product_id": "p32", "quantity": 2 }]);
    let too_many = customer
        .placed("many", &with(&two_of("p32"), &json!({ "items": lines })))
        .await;
    let both =
        json!([{ "product_id": "p31", "quantity": 4 }, { "product_id": "p32", "quantity": 1 }]);
    let both = with(&two_of("p31"), &json!({ "items": both }));
    let keys: Vec<_> = (0..4).map(|number| format!("k{number}")).collect();
    let ids = join_all(keys.iter().map(|key| customer.placed(key, &both))).await;
    let mut confirmed = 0;
    for id in &ids {
        let order = shop.settled(id).await;
        if order["status"] == "confirmed" {
            confirmed += 1;
        } else {
            assert_eq!(
                (&order["status"], &order["reason"]),
                (&json!("cancelled"), &json!("OUT_OF_STOCK")),
                "{order}"
            );
        }
    }
    assert_eq!(confirmed, 1, "{}", shop.name);
    assert_eq!(shop.settled(&too_many).await["reason"], "OUT_OF_STOCK");
}

async fn orders_come_in_pages_newest_first(shop: &Client) {
    let customer = shop.customer();
    let mut mine = Vec::new();
    for number in 0..7 {
        mine.push(customer.placed(&format!("k{number}"), &two_of("p11")).await);
        // Newer by a millisecond at least, which is what other instances' clocks are compared by.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    mine.reverse();
    for limit in [7, 20] {
        let all = shop.all("orders", limit).await;
        let ids = all.iter().map(|order| order["id"].as_str().unwrap());
        let seen: Vec<_> = ids.filter(|id| mine.iter().any(|own| own == id)).collect();
        assert_eq!(seen, mine, "{}", shop.name);
        for order in &all {
            steps(order);
        }
    }
    shop.get("/orders?limit=100").await.is(200);
    let page = shop.get("/orders").await;
    assert!(page.data().as_array().unwrap().len() <= 20, "{page}");
    let created: Vec<jiff::Timestamp> = shop
        .all("orders", 20)
        .await
        .iter()
        .map(|order| order["created_at"].as_str().unwrap().parse().unwrap())
        .collect();
    assert!(
        created.is_sorted_by(|newer, older| newer >= older),
        "{}: {created:?}",
        shop.name
    );
}
