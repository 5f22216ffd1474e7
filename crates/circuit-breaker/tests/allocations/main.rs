//! What a call allocates. A program of its own, with one thread: the counter is the process's.

#![expect(
    clippy::unwrap_used,
    reason = "outside of a test function too: what cannot go on fails the test"
)]

use std::{
    alloc::System,
    future::{Future, ready},
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use buttress_circuit_breaker::{CircuitBreaker, Policy, Rate, tower::CircuitBreakerLayer};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tower::{Layer, Service};

#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// How often `act` allocated.
fn allocations(act: impl FnOnce()) -> usize {
    let region = Region::new(COUNTED);
    act();
    region.change().allocations
}

fn now<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it does not wait"),
    }
}

fn main() {
    no_way_to_call_through_a_closed_breaker_allocates_whatever_its_window_and_the_result();
    an_open_breaker_rejects_without_allocating_and_the_layer_with_one_box();
}

fn no_way_to_call_through_a_closed_breaker_allocates_whatever_its_window_and_the_result() {
    let five = || Policy::builder().consecutive_failures(1_000_000);
    let all = Rate::percent(100);
    for policy in [
        five().no_window(),
        five().failure_rate(all),
        five()
            .failure_rate(all)
            .time_window(Duration::from_secs(10)),
        five()
            .failure_rate(all)
            .slow_calls(Duration::from_secs(1), all),
    ] {
        let breaker = CircuitBreaker::builder("counted")
            .policy(policy.build().unwrap())
            .build();
        let mut service =
            CircuitBreakerLayer::new(&breaker).layer(tower::service_fn(|fails: bool| {
                ready(if fails { Err(7) } else { Ok(7) })
            }));
        let mut calls = |fails: bool| {
            let result = || if fails { Err(7) } else { Ok(7) };
            let _ = breaker.call_blocking(result);
            let _ = now(breaker.call(ready(result())));
            let _ = now(breaker.call_with(ready(result()), |_| Ok(8)));
            let _ = now(service.call(fails));
            drop(service.clone());
            let by_hand = breaker.try_acquire().unwrap();
            if fails {
                by_hand.failure();
            } else {
                by_hand.success();
            }
            drop(breaker.try_acquire_owned().unwrap());
        };
        // A thread's first result in a time window makes its counters.
        calls(false);
        for at in 0..300 {
            let made = allocations(|| calls(at % 16 == 0));
            assert_eq!(made, 0, "call {at} of {breaker:?}");
        }
    }
}

/// And so the count can fail.
fn an_open_breaker_rejects_without_allocating_and_the_layer_with_one_box() {
    let breaker = CircuitBreaker::new("open");
    breaker.open_for(Duration::from_secs(1000));
    let made = allocations(|| assert!(breaker.call_blocking(|| Ok::<_, u8>(7)).is_err()));
    assert_eq!(made, 0);
    let layer = CircuitBreakerLayer::new(&breaker);
    let mut service = layer.layer(tower::service_fn(|()| ready(Ok::<_, u8>(7))));
    let made = allocations(|| assert!(now(service.call(())).is_err()));
    assert_eq!(made, 1);
}
