//! The invariants of the contract, checked from outside: by what any client can read.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use super::{
    customers::{Customers, OrderSeen},
    scenes::{
        CARRIER_FAILS_A_FIFTH, CARRIER_HANGS, CARRIER_IS_BACK, ONE_IS_TOO_FAST, ORDER_RATE, Told,
        starting_stock,
    },
};

/// One invariant, and whether it held.
pub(super) struct Check {
    pub(super) claim: &'static str,
    pub(super) held: bool,
    pub(super) found: String,
}

/// Checks what can be checked once nothing is pending.
pub(super) async fn check(
    customers: &Customers,
    told: &[Told],
    settled: Option<Duration>,
    told_of: Option<Duration>,
) -> anyhow::Result<Vec<Check>> {
    let orders = customers.orders().await?;
    Ok(vec![
        one_order_a_key(customers, &orders),
        all_settled(&orders, settled),
        stock_adds_up(customers, &orders).await?,
        money_adds_up(customers, &orders).await?,
        each_event_comes_once(customers, &orders, told_of).await?,
        a_rate_is_kept(told),
        quotes_come_in_time(told),
        quotes_survive_a_fifth(told),
        the_breaker_opens_and_closes(told),
    ])
}

fn a_rate_is_kept(told: &[Told]) -> Check {
    let (fast, others): (Vec<_>, Vec<_>) = told
        .iter()
        .partition(|scene| scene.title == ONE_IS_TOO_FAST);
    let taken = |scenes: &[&Told], status| -> usize {
        let orders = scenes.iter().map(|scene| &scene.orders);
        orders.map(|orders| orders.with_status(status)).sum()
    };
    let (took, refused) = (taken(&fast, 202), taken(&fast, 429));
    let time: Duration = fast.iter().map(|scene| scene.ordered_within).sum();
    let rate = f64::from(ORDER_RATE);
    let most = rate * (2.0 + time.as_secs_f64());
    let within = u32::try_from(took).is_ok_and(|took| f64::from(took) <= most.ceil());
    Check {
        claim: "a customer who is too fast gets his rate and no more; nobody else is refused",
        held: within && took > 0 && refused > 0 && taken(&others, 429) == 0,
        found: format!("{took} taken, {refused} refused"),
    }
}

fn quotes_come_in_time(told: &[Told]) -> Check {
    let times = told.iter().filter_map(|scene| scene.quotes.times());
    let longest = times.map(|(_, longest)| longest).max();
    Check {
        claim: "every quote is answered within 3 s, whatever the carrier does",
        held: longest.is_some_and(|longest| longest < Duration::from_secs(3)),
        found: format!("{:.1} s", longest.unwrap_or_default().as_secs_f64()),
    }
}

fn quotes_survive_a_fifth(told: &[Told]) -> Check {
    let scene = told.iter().find(|it| it.title == CARRIER_FAILS_A_FIFTH);
    let (good, all) = scene.map_or((0, 0), |it| (it.quotes.with_status(200), it.quotes.all()));
    let closed = scene.is_some_and(|it| it.open.is_empty());
    Check {
        claim: "with a fifth of its calls failing, nine quotes in ten succeed, and no breaker opens",
        held: all > 0 && good * 10 >= all * 9 && closed,
        found: format!("{good} of {all}"),
    }
}

fn the_breaker_opens_and_closes(told: &[Told]) -> Check {
    let scene = |title| told.iter().find(|it| it.title == title);
    let (hangs, back) = (scene(CARRIER_HANGS), scene(CARRIER_IS_BACK));
    let opened = hangs.is_some_and(|it| it.open == ["carrier"]);
    let closed = back.is_some_and(|it| it.open.is_empty() && it.quotes.with_status(200) > 0);
    let in_vain = hangs.map_or(0, |it| it.quotes.longer_than(Duration::from_millis(500)));
    Check {
        claim: "a carrier that hangs opens its breaker, and one that is back closes it",
        held: opened && closed && in_vain <= 10,
        found: format!("{in_vain} quotes waited in vain before it was open"),
    }
}

pub(super) fn one_order_a_key(customers: &Customers, orders: &[OrderSeen]) -> Check {
    let (keys, contradicted) = customers.remembered();
    Check {
        claim: "one accepted key is one order, and every replay is the same to the byte",
        held: keys == orders.len() && contradicted.is_empty(),
        found: format!(
            "{keys} keys, {} orders, {} answers that differ",
            orders.len(),
            contradicted.len()
        ),
    }
}

pub(super) fn all_settled(orders: &[OrderSeen], settled: Option<Duration>) -> Check {
    let open = orders
        .iter()
        .filter(|order| !matches!(order.status.as_str(), "confirmed" | "cancelled"));
    let open = open.count();
    Check {
        claim: "every order is confirmed or cancelled within 60 s of healing",
        held: settled.is_some() && open == 0,
        found: settled.map_or_else(
            || format!("{open} still open after the limit"),
            |waited| format!("{open} open after {:.1} s", waited.as_secs_f64()),
        ),
    }
}

pub(super) async fn stock_adds_up(
    customers: &Customers,
    orders: &[OrderSeen],
) -> anyhow::Result<Check> {
    let mut sold: HashMap<&str, i64> = HashMap::new();
    for order in orders.iter().filter(|order| order.status == "confirmed") {
        for item in &order.items {
            *sold.entry(&item.product_id).or_default() += item.quantity;
        }
    }
    let products = customers.products().await?;
    let wrong = products.iter().filter(|product| {
        let sold = sold.get(product.id.as_str()).copied().unwrap_or(0);
        starting_stock(&product.id) != product.stock + sold
    });
    let wrong = wrong.count();
    Ok(Check {
        claim: "starting stock = stock left + quantities in confirmed orders",
        held: wrong == 0 && !products.is_empty(),
        found: format!(
            "{} pieces sold, {wrong} of {} products wrong",
            sold.values().sum::<i64>(),
            products.len()
        ),
    })
}

pub(super) async fn money_adds_up(
    customers: &Customers,
    orders: &[OrderSeen],
) -> anyhow::Result<Check> {
    let charges = customers.charges().await?;
    let mut by_order: HashMap<&str, Vec<(i64, i64)>> = HashMap::new();
    for charge in &charges {
        by_order
            .entry(&charge.order_id)
            .or_default()
            .push((charge.amount, charge.refunded));
    }
    let wrong = orders.iter().filter(|order| {
        let charges = by_order
            .get(order.id.as_str())
            .map_or(&[][..], Vec::as_slice);
        match order.status.as_str() {
            "confirmed" => charges != [(order.total, 0)],
            _ => !(charges.is_empty() || charges == [(order.total, order.total)]),
        }
    });
    let wrong = wrong.count();
    let strange = by_order
        .keys()
        .filter(|id| orders.iter().all(|order| order.id != **id))
        .count();
    let refunds = charges.iter().filter(|charge| charge.refunded > 0).count();
    Ok(Check {
        claim: "a confirmed order is charged once; a cancelled one not at all, or refunded in full",
        held: wrong == 0 && strange == 0,
        found: format!(
            "{} charges, {refunds} refunded, {} wrong",
            charges.len(),
            wrong + strange
        ),
    })
}

pub(super) async fn each_event_comes_once(
    customers: &Customers,
    orders: &[OrderSeen],
    told_of: Option<Duration>,
) -> anyhow::Result<Check> {
    let events = customers.events().await?;
    let ids: HashSet<&str> = events.iter().map(|event| event.id.as_str()).collect();
    let rising = events.is_sorted_by(|one, next| one.seq < next.seq);
    let mut by_order: HashMap<&str, Vec<&str>> = HashMap::new();
    for event in &events {
        let told = by_order.entry(&event.subject).or_default();
        told.push(&event.event_type);
    }
    let wrong = orders.iter().filter(|order| {
        let end = format!("order.{}", order.status);
        let told = by_order.get(order.id.as_str());
        told.is_none_or(|told| *told != ["order.placed", end.as_str()])
    });
    let wrong = wrong.count();
    let waited = told_of.unwrap_or_default().as_secs_f64();
    let all_there = told_of.is_some() && events.len() == orders.len() * 2;
    Ok(Check {
        claim: "the subscriber has each event once: an order placed, then confirmed or cancelled",
        held: wrong == 0 && all_there && rising && ids.len() == events.len(),
        found: format!(
            "{} events, {wrong} orders wrong, waited {waited:.1} s",
            events.len()
        ),
    })
}
