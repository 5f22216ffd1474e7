//! A breaker for each key, and the throttle beside them.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use buttress_circuit_breaker::{AdaptiveThrottle, CircuitBreaker, CircuitBreakers, State};
use buttress_core::{CallError, Clock, Registry, Verdict};

use crate::stand::{SECOND, ten_seconds};

fn hosts(capacity: usize) -> CircuitBreakers {
    let policy = ten_seconds().count_window(2).build().unwrap();
    CircuitBreakers::new(CircuitBreaker::builder("hosts").policy(policy), capacity).unwrap()
}

fn fail_twice(breaker: &CircuitBreaker) {
    (0..2).for_each(|_| breaker.try_acquire().unwrap().failure());
    assert_eq!(breaker.state(), State::Open);
}

#[test]
fn a_key_has_one_breaker_and_others_have_their_own() {
    let hosts = hosts(100);
    fail_twice(&hosts.get("a").unwrap());
    assert_eq!(hosts.get("a").unwrap().state(), State::Open);
    assert_eq!(hosts.get("b").unwrap().state(), State::Closed);
    let rejection = hosts.get("a").unwrap().try_acquire().unwrap_err();
    assert_eq!(
        rejection.name(),
        "hosts",
        "the key is data, and stays out of it"
    );
    assert_eq!(hosts.keys_in(State::Open), [std::sync::Arc::from("a")]);
    assert_eq!(hosts.get(&"k".repeat(256)).unwrap_err().field(), "key");
}

#[test]
fn cb7_a_million_keys_stay_within_the_bound_and_the_open_ones_are_kept() {
    let tally = buttress_testkit::tally::suite("CB7");
    let hosts = hosts(1000);
    for key in 0..20 {
        fail_twice(&hosts.get(&format!("open {key}")).unwrap());
    }
    let held = hosts.get("held").unwrap();
    held.try_acquire().unwrap().failure();
    for key in 0..1_000_000 {
        hosts
            .get(&format!("key {key}"))
            .unwrap()
            .try_acquire()
            .unwrap()
            .success();
    }
    assert!(hosts.len() <= 1008, "{}", hosts.len());
    assert_eq!(hosts.keys_in(State::Open).len(), 20);
    assert_eq!(hosts.overflowed(), 0);
    let again = hosts.get("held").unwrap();
    assert_eq!(
        again.counts().failed,
        1,
        "what somebody holds is not doubled"
    );
    tally.operations(1_000_000);
}

#[test]
fn cb7_where_all_are_open_a_new_key_is_served_and_not_kept() {
    let tally = buttress_testkit::tally::suite("CB7");
    let hosts = hosts(16);
    for key in 0..1000 {
        fail_twice(&hosts.get(&key.to_string()).unwrap());
    }
    assert!(hosts.len() <= 16);
    assert!(hosts.overflowed() > 0);
    let new = hosts.get("new").unwrap();
    assert!(new.try_acquire().is_ok());
    tally.operations(1000);
}

#[test]
fn what_was_used_lately_is_kept_longest() {
    let hosts = hosts(16 * 8);
    hosts.get("often").unwrap().try_acquire().unwrap().failure();
    for key in 0..10_000 {
        hosts.get(&key.to_string()).unwrap();
        hosts.get("often").unwrap();
    }
    assert_eq!(hosts.get("often").unwrap().counts().failed, 1);
}

#[test]
fn the_family_is_one_entry_of_the_registry() {
    let registry = Registry::new();
    let builder = CircuitBreaker::builder("hosts").registry(&registry);
    let hosts = CircuitBreakers::new(builder, 16).unwrap();
    hosts.get("a").unwrap().force_open();
    assert_eq!(registry.entries().len(), 1);
    assert_eq!(registry.entries()[0].state(), "some_not_closed");
    for capacity in [0, 10_000_001] {
        assert!(CircuitBreakers::new(CircuitBreaker::builder("x"), capacity).is_err());
    }
}

/// Chances that are spread evenly: the golden ratio's multiples.
fn spread() -> impl Fn() -> u64 + Send + Sync {
    let next = AtomicU64::new(0);
    move || next.fetch_add(0x9e37_79b9_7f4a_7c15, Relaxed)
}

#[test]
fn a_throttle_lets_about_k_times_through_of_what_is_accepted() {
    let (clock, hand) = Clock::manual();
    let throttle = AdaptiveThrottle::with("search", 200, 120 * SECOND, clock)
        .unwrap()
        .with_random(spread());
    let run = |calls: u32, accepted: &dyn Fn(u32) -> bool| {
        let mut sent = 0;
        for at in 0..calls {
            hand.advance(SECOND / 100);
            if throttle.check().is_ok() {
                throttle.record(if accepted(sent) {
                    Verdict::success()
                } else {
                    Verdict::unknown()
                });
                sent += 1;
            }
            let _ = at;
        }
        sent
    };
    assert_eq!(
        run(1000, &|_| true),
        1000,
        "nothing is rejected of a healthy target"
    );
    // A quarter of what reaches it is accepted. With r requests and a accepts, s = r - (r - 2a) are
    // sent, and a = s / 4: it sinks towards the few that always get through.
    let _ = run(24_000, &|sent| sent % 4 == 0);
    let sent = run(10_000, &|sent| sent % 4 == 0);
    assert!((1..2000).contains(&sent), "{sent}");
    // It heals by itself, for some calls always get through.
    let _ = run(60_000, &|_| true);
    let sent = run(1000, &|_| true);
    assert_eq!(sent, 1000, "{:?}", throttle.requests_and_accepts());
}

#[tokio::test]
async fn a_throttle_wraps_a_call_and_ignores_what_is_ignored() {
    let throttle = AdaptiveThrottle::new("search").with_random(|| u64::MAX / 2);
    for _ in 0..10 {
        let _ = throttle.call(async { Err::<(), _>("down") }).await;
    }
    let rejected = throttle.call(async { Ok::<(), &str>(()) }).await;
    assert!(matches!(rejected, Err(CallError::Rejected(_))));
    let before = throttle.requests_and_accepts();
    throttle.record(Verdict::ignored());
    assert_eq!(throttle.requests_and_accepts(), before);
    for (percent, window) in [(100, 60), (10_001, 60), (200, 0), (200, 3601)] {
        assert!(AdaptiveThrottle::with("x", percent, window * SECOND, Clock::default()).is_err());
    }
}
