//! What is refused when it is built, what is told, and what can be written down.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use buttress_core::{CallError, Clock, Registry};
use buttress_rate_limiter::{
    AdaptiveLimit, Aimd, Bandwidth, Carry, ConcurrencyLimiter, Event, EventKind, Gradient2,
    KeyedRateLimiter, MetricsObserver, Quota, RateLimiter, Vegas,
};

#[test]
fn quotas_that_cannot_work_are_refused_by_field_and_range() {
    let second = Duration::from_secs(1);
    for (bandwidth, field) in [
        (Bandwidth::per_second(0), "permits"),
        (Bandwidth::per_second(1_000_000_001), "permits"),
        (Bandwidth::per(2, Duration::from_nanos(1)), "permits"),
        (Bandwidth::per(1, Duration::ZERO), "period"),
        (Bandwidth::per(1, Duration::MAX), "period"),
        (Bandwidth::per_second(1).burst(0), "burst"),
        // governor admits everything with this one: its sum wraps.
        (Bandwidth::per_day(1).burst(1 << 40), "burst"),
        (Bandwidth::per_day(1).burst(u64::MAX), "burst"),
        (Bandwidth::per_day(1).burst(1 << 40).by_interval(), "burst"),
        (Bandwidth::per_second(1).burst(2).fixed_window(), "burst"),
        (Bandwidth::per_second(10_001).sliding_log(), "permits"),
    ] {
        assert_eq!(
            Quota::new(bandwidth).unwrap_err().field(),
            field,
            "{bandwidth:?}"
        );
    }
    let mut quota = Quota::per(1, second).unwrap();
    for _ in 1..8 {
        quota = quota.and(Bandwidth::per_second(1)).unwrap();
    }
    assert_eq!(
        quota.and(Bandwidth::per_second(1)).unwrap_err().field(),
        "bandwidths"
    );
    let keys = KeyedRateLimiter::<u8>::builder("x", Quota::per(1, second).unwrap()).max_keys(0);
    assert_eq!(keys.build().unwrap_err().field(), "max_keys");
    assert_eq!(
        ConcurrencyLimiter::new("x", 0).unwrap_err().field(),
        "places"
    );
    let adaptive = |rule: AdaptiveLimit| {
        let limiter = ConcurrencyLimiter::builder("x", 5).adaptive(rule);
        limiter.build().unwrap_err().field()
    };
    let (gradient, vegas, aimd) = (Gradient2::new(), Vegas::new(), Aimd::new());
    let never = Duration::ZERO;
    for (rule, field) in [
        (
            AdaptiveLimit::from(gradient.places(0, 5)),
            "adaptive.places",
        ),
        (gradient.queue(0).into(), "adaptive.queue"),
        (vegas.places(6, 5).into(), "adaptive.places"),
        (vegas.queue(7, 6).into(), "adaptive.queue"),
        (vegas.smoothing_percent(0).into(), "adaptive.smoothing"),
        (vegas.shrink_percent(100).into(), "adaptive.shrink"),
        (vegas.look_after(9).into(), "adaptive.look"),
        (vegas.sample(never, 1).into(), "adaptive.sample"),
        (aimd.places(1, 1_000_001).into(), "adaptive.places"),
        (aimd.slow(never).into(), "adaptive.slow"),
        (aimd.shrink_percent(0).into(), "adaptive.shrink"),
        (aimd.sample(never, 1).into(), "adaptive.sample"),
    ] {
        assert_eq!(adaptive(rule), field);
    }
    let refused = Quota::per_second(0).unwrap_err();
    assert_eq!(refused.to_string(), "permits must be 1 to 1000000000");
}

#[test]
fn numbers_at_their_ends_neither_panic_nor_admit() {
    for bandwidth in [
        Bandwidth::per_day(1).burst(30_000),
        Bandwidth::per_second(1_000_000_000),
        Bandwidth::per_second(10).by_interval(),
        Bandwidth::per_second(10).sliding_window(),
        Bandwidth::per_second(10).sliding_log(),
    ] {
        let (clock, hand) = Clock::manual();
        let quota = Quota::new(bandwidth).unwrap();
        let limiter = RateLimiter::builder("ends", quota)
            .clock(clock)
            .build()
            .unwrap();
        assert!(limiter.check_n(u64::MAX).can_never());
        for _ in 0..5 {
            let _debt = limiter.force(u64::MAX);
        }
        assert!(!limiter.check().is_allowed(), "{bandwidth:?}");
        limiter.give_back(u64::MAX);
        assert!(limiter.check().is_allowed(), "{bandwidth:?}");
        hand.advance(Duration::MAX);
        let _last = limiter.check();
        let _last = limiter.peek_n(u64::MAX);
        let _last = limiter.force(u64::MAX);
        limiter
            .set_quota(Quota::per_second(1).unwrap(), Carry::Proportional)
            .unwrap();
        let _last = limiter.check();
    }
}

#[test]
fn a_quota_is_written_and_read_through_the_same_checks() {
    let quota: Quota = serde_json::from_str(r#"{"permits": 100, "per_ms": 1000}"#).unwrap();
    assert_eq!(quota, Quota::per_second(100).unwrap());
    let both = r#"[{"permits": 10, "per_ms": 1000, "burst": 20},
        {"permits": 1000, "per_ms": 86400000, "algorithm": "fixed_window"}]"#;
    let both: Quota = serde_json::from_str(both).unwrap();
    assert_eq!(both.bandwidths()[0].most(), 20);
    let again: Quota = serde_json::from_str(&serde_json::to_string(&both).unwrap()).unwrap();
    assert_eq!(again, both);
    for wrong in [
        r#"{"permits": 0, "per_ms": 1000}"#,
        r#"{"permits": 1, "per_ms": 1000, "algorithm": "fixed_window", "burst": 5}"#,
        r#"{"permits": 1, "per_ms": 1000, "brust": 5}"#,
        "[]",
    ] {
        assert!(serde_json::from_str::<Quota>(wrong).is_err(), "{wrong}");
    }
    let fine = Quota::per(1, Duration::from_micros(1)).unwrap();
    assert!(
        serde_json::to_string(&fine).is_err(),
        "it is not written as another"
    );
}

#[tokio::test]
async fn observers_hear_and_cannot_break_the_caller_and_registries_list() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hears = Arc::clone(&heard);
    let registry = Registry::new();
    let limiter = RateLimiter::builder("mails", Quota::per_minute(1).unwrap())
        .observer(|_: &Event| panic!("an observer's own bug"))
        .observer(move |event: &Event| hears.lock().unwrap().push(event.kind))
        .observer(MetricsObserver::new())
        .registry(&registry)
        .build()
        .unwrap();
    let sent = limiter.call(async { Ok::<_, std::io::Error>(1) }).await;
    assert!(sent.is_ok());
    let refused = limiter
        .call(async { Ok::<_, std::io::Error>(1) })
        .await
        .unwrap_err();
    let CallError::Rejected(refused) = refused else {
        panic!("it was not made");
    };
    assert!(refused.retry_after().unwrap() <= Duration::from_secs(60));
    limiter.set_shadow(true);
    assert!(limiter.check().is_allowed());
    let kinds = heard.lock().unwrap().clone();
    assert!(matches!(kinds[0], EventKind::Allowed { permits: 1, .. }));
    assert!(matches!(kinds[1], EventKind::Refused { shadow: false, .. }));
    assert!(matches!(kinds[2], EventKind::Refused { shadow: true, .. }));
    let entry = &registry.entries()[0];
    assert_eq!((entry.name(), entry.state()), ("mails", "used_up"));
    let mut gauges = Vec::new();
    entry.gauges(&mut |name, value| gauges.push((name, value)));
    assert!(gauges.contains(&("buttress_rate_limiter_remaining", 0)));
    let debug = format!("{limiter:?}");
    assert!(
        debug.contains("mails") && debug.contains("remaining: 0"),
        "{debug}"
    );
}
