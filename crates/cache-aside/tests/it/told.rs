//! What observers, recorders and the registry are told, and how policies are written.

use std::{
    io,
    sync::{Arc, Mutex},
};

use buttress_cache_aside::{
    Cache, CachePolicy, EarlyRefresh, Event, EventKind, Loaded, MetricsObserver,
};
use buttress_core::{Fault as _, Registry};
use serde_json::json;

use crate::stand::{SECOND, failed, policy};

#[tokio::test]
async fn what_happens_is_told_in_order_and_without_keys() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let note = Arc::clone(&heard);
    let cache = Cache::<u32>::builder("told", policy().build().unwrap())
        .observer(move |event: &Event| note.lock().unwrap().push(event.clone()))
        .build();
    let load = || async { Ok::<_, io::Error>(1) };
    cache.get_or_load("secret", load).await.unwrap();
    cache.get_or_load("secret", load).await.unwrap();
    cache.invalidate("secret").await;
    let fails = || async { Err::<u32, _>(failed()) };
    cache.get_or_load("secret", fails).await.unwrap_err();
    cache.put("secret", Loaded::new(1).tags(["secret"])).await;
    cache.invalidate_tag("secret").await;
    cache.clear().await;
    let heard = heard.lock().unwrap();
    let words: Vec<_> = heard
        .iter()
        .map(|event| match event.kind {
            EventKind::Miss { .. } => "miss",
            EventKind::Loaded { .. } => "loaded",
            EventKind::Hit { .. } => "hit",
            EventKind::Invalidated => "invalidated",
            EventKind::LoadFailed { .. } => "failed",
            EventKind::Put => "put",
            EventKind::TagInvalidated => "tag",
            EventKind::Cleared => "cleared",
            _ => "other",
        })
        .collect();
    let expected = [
        "miss",
        "loaded",
        "hit",
        "invalidated",
        "miss",
        "failed",
        "put",
        "tag",
        "cleared",
    ];
    assert_eq!(words, expected);
    assert!(heard.iter().all(|event| event.name == "told"));
    assert!(!format!("{heard:?} {cache:?}").contains("secret"));
}

#[tokio::test]
async fn the_registry_shows_what_is_true_now() {
    let registry = Registry::new();
    let cache = Cache::<u32>::builder("listed", policy().build().unwrap())
        .observer(MetricsObserver::new())
        .registry(&registry)
        .build();
    cache.put("a", Loaded::new(1).tags(["t"]).weight(3)).await;
    let entries = registry.entries();
    let mut gauges = Vec::new();
    entries[0].gauges(&mut |name, value| gauges.push((name, value)));
    let expected = [
        ("buttress_cache_aside_entries", 1),
        ("buttress_cache_aside_weight", 3),
        ("buttress_cache_aside_flights", 0),
        ("buttress_cache_aside_tags", 1),
    ];
    assert_eq!(gauges, expected);
    assert_eq!(
        (entries[0].pattern(), entries[0].name()),
        ("cache_aside", "listed")
    );
    drop((entries, cache));
    assert!(registry.entries().is_empty());
}

#[tokio::test]
async fn an_observer_that_panics_breaks_nobody() {
    let cache = Cache::<u32>::builder("told", policy().build().unwrap())
        .observer(|_: &Event| panic!("planted"))
        .build();
    let load = || async { Ok::<_, io::Error>(1) };
    assert_eq!(cache.get_or_load("key", load).await.unwrap(), 1);
    assert_eq!(cache.get_or_load("key", load).await.unwrap(), 1);
}

#[test]
fn a_policy_that_cannot_work_is_refused_with_its_field() {
    let zero = std::time::Duration::ZERO;
    let year = 367 * 24 * 3600 * SECOND;
    let rows = [
        (policy().ttl(zero), "ttl"),
        (policy().ttl(year), "ttl"),
        (policy().jitter_percent(51), "jitter_percent"),
        (
            policy().stale_while_revalidate(year),
            "stale_while_revalidate",
        ),
        (policy().stale_if_error(year), "stale_if_error"),
        (policy().negative_ttl(year), "negative_ttl"),
        (policy().throttle(3601 * SECOND), "throttle"),
        (
            policy().early_refresh(EarlyRefresh::at(1.0)),
            "early_refresh",
        ),
        (policy().hard_timeout(zero), "hard_timeout"),
        (policy().soft_timeout(SECOND), "soft_timeout"),
        (
            policy().stale_if_error(SECOND).soft_timeout(31 * SECOND),
            "soft_timeout",
        ),
        (
            policy().stale_if_error(SECOND).soft_timeout(zero),
            "soft_timeout",
        ),
        (policy().capacity(0), "capacity"),
        (policy().capacity((1 << 40) + 1), "capacity"),
        (policy().expected_entries(0), "expected_entries"),
        (policy().max_entry_weight(0), "max_entry_weight"),
        (policy().max_key_bytes(0), "max_key_bytes"),
        (policy().max_key_bytes(65_536), "max_key_bytes"),
    ];
    for (policy, field) in rows {
        let error = policy.build().unwrap_err();
        assert_eq!(error.field(), field);
        assert!(error.to_string().starts_with(field), "{error}");
    }
    assert_eq!(
        CachePolicy::builder().build().unwrap(),
        CachePolicy::default()
    );
}

#[test]
fn a_written_policy_passes_the_same_checks_and_comes_back_as_it_was() {
    let read = |value| serde_json::from_value::<CachePolicy>(value);
    assert_eq!(read(json!({})).unwrap(), CachePolicy::default());
    let written = json!({
        "ttl_ms": 5000, "jitter_percent": 0, "stale_if_error_ms": 60_000, "soft_timeout_ms": 100,
        "early_refresh": {"at": 0.8}, "hard_timeout_ms": null, "negative_ttl_ms": 1000,
    });
    let policy = read(written).unwrap();
    assert_eq!((policy.ttl(), policy.hard_timeout()), (5 * SECOND, None));
    assert_eq!(policy.early_refresh(), Some(EarlyRefresh::at(0.8)));
    let again = read(serde_json::to_value(&policy).unwrap()).unwrap();
    assert_eq!(again, policy);
    for wrong in [
        json!({"ttl_ms": 0}),
        json!({"tll_ms": 5000}),
        json!({"early_refresh": {"at": 1.0}}),
        json!({"soft_timeout_ms": 100}),
    ] {
        read(wrong).unwrap_err();
    }
}

#[tokio::test]
async fn errors_leave_the_service_with_their_own_code() {
    let chosen = policy().hard_timeout(SECOND / 1000).build().unwrap();
    let cache = Cache::<u32>::new("faults", chosen);
    let none = || async { Ok::<_, io::Error>(None) };
    let error = cache.get_or_load("none", none).await.unwrap_err();
    assert_eq!((error.code(), error.status()), ("NOT_FOUND", 404));
    let fails = || async { Err::<u32, _>(failed()) };
    let error = cache.get_or_load("fails", fails).await.unwrap_err();
    assert_eq!((error.code(), error.status()), ("SOURCE_FAILED", 503));
    assert_eq!(
        buttress_core::Chain(&error).to_string(),
        "the value could not be loaded: the source is down"
    );
    let hangs = || std::future::pending::<io::Result<u32>>();
    let error = cache.get_or_load("hangs", hangs).await.unwrap_err();
    assert_eq!((error.code(), error.status()), ("SOURCE_TIMED_OUT", 504));
}
