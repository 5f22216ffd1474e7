//! What a call through a breaker costs, beside recloser, failsafe and tower-resilience, on one
//! thread and on two that contend. Two threads are measured by a loop of our own: each does as
//! many calls, and the time of the slower one counts.

#![allow(
    missing_docs,
    reason = "criterion's macros make public functions without any"
)]
#![allow(clippy::disallowed_methods, reason = "two threads are timed by hand")]
#![allow(
    clippy::unwrap_used,
    reason = "what cannot be set up cannot be measured"
)]

use std::{
    convert::Infallible,
    future::{Future, Ready, ready},
    hint::black_box,
    pin::pin,
    sync::Barrier,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use buttress_circuit_breaker::{CircuitBreaker, Policy, PolicyBuilder, tower::CircuitBreakerLayer};
use buttress_core::Clock;
use criterion::{
    BenchmarkGroup, Criterion, criterion_group, criterion_main, measurement::WallTime,
};
use failsafe::CircuitBreaker as _;
use tower::{Layer, Service};

type Called = Result<u64, u64>;

fn ours(policy: PolicyBuilder) -> CircuitBreaker {
    CircuitBreaker::builder("bench")
        .policy(policy.build().unwrap())
        .clock(Clock::quanta())
        .build()
}

fn count() -> CircuitBreaker {
    ours(Policy::builder().count_window(100))
}

fn recloser() -> recloser::Recloser {
    recloser::Recloser::custom()
        .error_rate(0.5)
        .closed_len(100)
        .open_wait(Duration::from_secs(3600))
        .build()
}

/// One thread by criterion, two by hand.
fn both(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, call: impl Fn(u64) + Sync) {
    // The window fills before anything is measured.
    (0..1000).for_each(&call);
    let mut at = 0_u64;
    group.bench_function(format!("{name}, 1 thread"), |b| {
        b.iter(|| {
            at += 1;
            call(at);
        });
    });
    group.bench_function(format!("{name}, 2 threads"), |b| {
        b.iter_custom(|iterations| {
            let start = Barrier::new(2);
            let run = || {
                start.wait();
                let begun = Instant::now();
                (0..iterations).for_each(&call);
                begun.elapsed()
            };
            std::thread::scope(|scope| {
                let other = scope.spawn(run);
                run().max(other.join().unwrap())
            })
        });
    });
}

/// Fails once in 64.
fn sometimes(at: u64) -> Called {
    if at.is_multiple_of(64) {
        Err(at)
    } else {
        Ok(at)
    }
}

fn closed(c: &mut Criterion) {
    for (kind, result) in [
        ("closed, clean", Ok as fn(u64) -> Called),
        ("closed, one of 64 fails", sometimes),
    ] {
        let mut group = c.benchmark_group(kind);
        both(&mut group, "bare closure", |at| {
            let _ = black_box(result(black_box(at)).is_ok());
        });
        let breaker = recloser();
        both(&mut group, "recloser", |at| {
            let _ = black_box(breaker.call(|| result(black_box(at))).is_ok());
        });
        let backoff = failsafe::backoff::constant(Duration::from_secs(3600));
        let policy = failsafe::failure_policy::consecutive_failures(5, backoff);
        let breaker = failsafe::Config::new().failure_policy(policy).build();
        both(&mut group, "failsafe, consecutive", |at| {
            let _ = black_box(breaker.call(|| result(black_box(at))).is_ok());
        });
        for (name, policy) in [
            (
                "ours, consecutive",
                Policy::builder().no_window().consecutive_failures(5),
            ),
            ("ours, last 100", Policy::builder().count_window(100)),
            (
                "ours, last 10 s",
                Policy::builder().time_window(Duration::from_secs(10)),
            ),
        ] {
            let breaker = ours(policy);
            both(&mut group, name, |at| {
                let _ = black_box(breaker.call_blocking(|| result(black_box(at))).is_ok());
            });
        }
        group.finish();
    }
}

fn open(c: &mut Criterion) {
    let mut group = c.benchmark_group("open");
    let breaker = recloser();
    let fails = |at| {
        let _ = black_box(breaker.call(|| Err::<u64, u64>(black_box(at))).is_ok());
    };
    both(&mut group, "recloser", fails);
    let breaker = ours(Policy::builder());
    breaker.open_for(Duration::from_secs(100_000));
    both(&mut group, "ours", |at| {
        let _ = black_box(
            breaker
                .call_blocking(|| Ok::<u64, u64>(black_box(at)))
                .is_ok(),
        );
    });
    group.finish();
}

fn poll_once<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it does not wait"),
    }
}

#[derive(Clone)]
struct Answers;

impl Service<u64> for Answers {
    type Response = u64;
    type Error = Infallible;
    type Future = Ready<Result<u64, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: u64) -> Self::Future {
        ready(Ok(black_box(request)))
    }
}

fn futures(c: &mut Criterion) {
    let mut group = c.benchmark_group("async, closed, clean");
    let breaker = count();
    both(&mut group, "ours, call", |at| {
        let _ = black_box(poll_once(
            breaker.call(ready(Ok::<u64, u64>(black_box(at)))),
        ));
    });
    both(&mut group, "bare service", |at| {
        let mut service = Answers;
        let _ = service.poll_ready(&mut Context::from_waker(Waker::noop()));
        let _ = black_box(poll_once(service.call(at)).is_ok());
    });
    let layer = CircuitBreakerLayer::new(&count());
    let service = layer.layer(Answers);
    both(
        &mut group,
        "ours, layer (and a clone of the service)",
        |at| {
            let mut service = service.clone();
            let _ = service.poll_ready(&mut Context::from_waker(Waker::noop()));
            let _ = black_box(poll_once(service.call(at)).is_ok());
        },
    );
    let mut service = layer.layer(Answers);
    (0..1000).for_each(|at| {
        let _ = poll_once(service.call(at));
    });
    group.bench_function("ours, layer", |b| {
        b.iter(|| {
            let _ = service.poll_ready(&mut Context::from_waker(Waker::noop()));
            poll_once(service.call(black_box(7))).is_ok()
        });
    });
    let layer = tower_resilience_circuitbreaker::CircuitBreakerLayer::builder()
        .sliding_window_size(100)
        .build()
        .unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let mut service = layer.layer(Answers);
    let _guard = runtime.enter();
    group.bench_function("tower-resilience, layer", |b| {
        b.iter(|| {
            let _ =
                Service::<u64>::poll_ready(&mut service, &mut Context::from_waker(Waker::noop()));
            poll_once(service.call(black_box(7))).is_ok()
        });
    });
    group.finish();
}

fn quick() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(700))
        .sample_size(30)
}

criterion_group!(name = benches; config = quick(); targets = closed, open, futures);
criterion_main!(benches);
