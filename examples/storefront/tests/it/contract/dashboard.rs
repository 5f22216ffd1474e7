//! What the dashboard asks for is what the shop shows, once it has been through all of this.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{
    Checks, checks,
    client::{Client, keys},
};

const DASHBOARD: &str = include_str!("../../../grafana/storefront.json");

/// Counted only when something goes wrong that no client can ask for; the page of metrics has them.
const RARE: [&str; 7] = [
    "buttress_cache_aside_stale_served_total",
    "buttress_idempotency_abandoned_total",
    "buttress_idempotency_leases_lost_total",
    "buttress_idempotency_store_failures_total",
    "buttress_outbox_died_total",
    "buttress_outbox_store_failures_total",
    "buttress_saga_lost_total",
];

/// Given by Prometheus, or by the text format.
const GIVEN: [&str; 3] = ["instance", "job", "le"];

pub(super) fn all(shop: &Client) -> Checks<'_> {
    checks![shop; what_the_dashboard_asks_for_is_shown]
}

async fn what_the_dashboard_asks_for_is_shown(shop: &Client) {
    // Each series that any instance shows, with the names of its labels.
    let mut shown: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for instance in shop.each() {
        let page = instance.get("/metrics").await;
        let text = String::from_utf8(page.bytes).unwrap();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let series = line.rsplit_once(' ').map_or("", |(series, _)| series);
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let labels = labels
                .split("=\"")
                .filter_map(|it| it.rsplit(['"', ',']).next());
            let known = shown.entry(name.to_owned()).or_default();
            known.extend(labels.map(str::to_owned));
        }
    }
    let mut missing = BTreeSet::new();
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let queries = queries(&dashboard);
    assert!(queries.len() > 30);
    for query in &queries {
        for (metric, labels) in asked(query) {
            match shown.get(metric) {
                _ if RARE.contains(&metric) => {}
                None => drop(missing.insert(metric.to_owned())),
                Some(known) => {
                    let unknown = labels.into_iter().filter(|label| !known.contains(*label));
                    missing.extend(unknown.map(|label| format!("{metric}{{{label}}}")));
                }
            }
        }
    }
    assert!(missing.is_empty(), "{}: {missing:#?}", shop.name);
}

/// Every query of the dashboard.
fn queries(value: &Value) -> Vec<&str> {
    let below: Vec<_> = match value {
        Value::Array(all) => all.iter().flat_map(queries).collect(),
        Value::Object(all) => all.values().flat_map(queries).collect(),
        _ => Vec::new(),
    };
    let own = keys(value)
        .contains(&"expr".to_owned())
        .then(|| value["expr"].as_str())
        .flatten();
    below.into_iter().chain(own).collect()
}

/// The metrics of a query, each with the labels that it is chosen or summed by.
fn asked(query: &str) -> Vec<(&str, BTreeSet<&str>)> {
    let is_name = |it: char| it.is_ascii_lowercase() || it.is_ascii_digit() || it == '_';
    let by = query
        .split("by (")
        .skip(1)
        .filter_map(|rest| rest.split(')').next());
    let by: BTreeSet<_> = by.flat_map(|labels| labels.split(", ")).collect();
    let starts = query
        .match_indices("buttress_")
        .map(|(start, _)| &query[start..]);
    let metrics = starts.map(|rest| {
        let end = rest.find(|it| !is_name(it)).unwrap_or(rest.len());
        let (metric, rest) = rest.split_at(end);
        let chosen = rest
            .strip_prefix('{')
            .and_then(|rest| rest.split('}').next());
        let chosen = chosen.into_iter().flat_map(|all| all.split(','));
        let chosen = chosen.filter_map(|one| one.split(['=', '!']).next());
        let labels = by.iter().copied().chain(chosen);
        (
            metric,
            labels.filter(|label| !GIVEN.contains(label)).collect(),
        )
    });
    metrics.collect()
}
