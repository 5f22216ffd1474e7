//! What must hold of a shop of several instances, however they were broken.

use std::time::Duration;

use super::{
    super::{
        customers::OrderSeen,
        invariants::{
            Check, all_settled, each_event_comes_once, money_adds_up, one_order_a_key,
            stock_adds_up,
        },
    },
    ORDER_RATE,
    crowd::Crowd,
    instances::{Instances, READY_WITHIN},
    scenes::Rated,
};

/// Checks everything, once nothing is pending.
pub(super) async fn check(
    crowd: &Crowd,
    instances: &Instances,
    rated: Rated,
    (settled, told_of): (Option<Duration>, Option<Duration>),
) -> anyhow::Result<Vec<Check>> {
    let customers = &crowd.customers;
    let orders = customers.orders().await?;
    Ok(vec![
        one_order_a_key(customers, &orders),
        every_key_has_its_order(crowd),
        all_settled(&orders, settled),
        nothing_else_cancels(&orders),
        stock_adds_up(customers, &orders).await?,
        money_adds_up(customers, &orders).await?,
        each_event_comes_once(customers, &orders, told_of).await?,
        nothing_appears_below(crowd).await?,
        the_rate_is_one(rated),
        nothing_is_too_old(crowd),
        no_strange_answer(crowd),
        instances_start_and_end(instances)?,
    ])
}

fn every_key_has_its_order(crowd: &Crowd) -> Check {
    let never = crowd.never_accepted();
    Check {
        claim: "who asks again until he is answered gets his order",
        held: never == 0,
        found: format!("{never} keys without one"),
    }
}

/// The page: a declined card, an empty shelf, or a charge that was tried without an answer.
fn nothing_else_cancels(orders: &[OrderSeen]) -> Check {
    let wrong = orders.iter().filter(|order| {
        let declined = order.customer.starts_with("declined");
        let scarce = order.items.iter().any(|item| item.product_id == "p40");
        !match (order.status.as_str(), order.reason.as_deref()) {
            ("confirmed", None) => !declined,
            ("cancelled", Some("PAYMENT_DECLINED")) => declined,
            ("cancelled", Some("PAYMENT_UNAVAILABLE")) => true,
            ("cancelled", Some("OUT_OF_STOCK")) => scarce,
            _ => false,
        }
    });
    let wrong = wrong.count();
    Check {
        claim: "only a card, an empty shelf or silent payments cancel an order; a crash never does",
        held: wrong == 0 && !orders.is_empty(),
        found: format!("{wrong} of {} orders wrong", orders.len()),
    }
}

async fn nothing_appears_below(crowd: &Crowd) -> anyhow::Result<Check> {
    let (heard, all) = (crowd.heard().await?, crowd.customers.events().await?);
    let missed = all.iter().filter(|event| !heard.contains(event)).count();
    Ok(Check {
        claim: "who follows the events and never looks back misses none",
        held: heard == all,
        found: format!("{} heard, {missed} missed", heard.len()),
    })
}

fn the_rate_is_one(rated: Rated) -> Check {
    Check {
        claim: "a customer who is too fast everywhere gets one rate",
        // On a machine that cannot send more than the rate even so nobody is refused, and nothing was broken.
        held: (1..=rated.most).contains(&rated.taken),
        found: format!(
            "{} taken of {} at {ORDER_RATE}/s, {} refused",
            rated.taken, rated.most, rated.refused
        ),
    }
}

fn nothing_is_too_old(crowd: &Crowd) -> Check {
    let (changes, judged) = (crowd.freshness.changes(), crowd.freshness.judged());
    let first = judged.too_old.first().map(|it| format!("; {it}"));
    Check {
        claim: "a change is seen at once by who made it, and by all within 1 s (10 s without Redis)",
        held: judged.too_old.is_empty() && judged.from_cache > 0 && changes > 0,
        found: format!(
            "{changes} changes, {} reads, {} from the cache, {} too old{}",
            judged.reads,
            judged.from_cache,
            judged.too_old.len(),
            first.unwrap_or_default()
        ),
    }
}

fn no_strange_answer(crowd: &Crowd) -> Check {
    let strange = crowd.strange();
    Check {
        claim: "an order is answered by 202, 409, 429 or 503, or by nobody",
        held: strange.is_empty(),
        found: strange.first().map_or_else(
            || "no other".to_owned(),
            |it| format!("{it}, {} in all", strange.len()),
        ),
    }
}

fn instances_start_and_end(instances: &Instances) -> anyhow::Result<Check> {
    let (seen, panics) = (instances.seen(), instances.panics()?);
    let first = seen.ended_badly.first().map(|it| format!("; {it}"));
    Ok(Check {
        claim: "an instance is ready within 30 s, ends with 0 when it is stopped, and never panics",
        held: seen.slowest_start < READY_WITHIN && seen.ended_badly.is_empty() && panics == 0,
        found: format!(
            "{:.1} s, {} of {} ended badly, {panics} panics{}",
            seen.slowest_start.as_secs_f64(),
            seen.ended_badly.len(),
            seen.stopped,
            first.unwrap_or_default()
        ),
    })
}
