//! What a retry costs when nothing fails, and when three attempts do without a delay; beside other
//! crates and a bare await, which is the limit.

#![allow(
    missing_docs,
    reason = "criterion's macros make public functions without any"
)]

use std::{
    future::{Ready, ready},
    hint::black_box,
    time::Duration,
};

use backon::Retryable;
use buttress_core::ByResult;
use buttress_retry_backoff::{
    Backoff, Budget, BudgetRule, Event, Retry, RetryPolicy, tower::RetryLayer,
};
use criterion::{Criterion, criterion_group, criterion_main};
use tower::{Layer, Service, ServiceExt, retry::Policy};

type Answer = Result<u32, u32>;

fn handle(policy: RetryPolicy) -> Retry {
    Retry::new("bench", policy)
}

/// So many attempts fail, then one succeeds.
fn failing(times: u32) -> impl FnMut() -> Ready<Answer> {
    let mut left = times;
    move || match left {
        0 => ready(Ok(black_box(7))),
        _ => {
            left -= 1;
            ready(Err(left))
        }
    }
}

/// The rules of tower's own retry: as small as they can be.
#[derive(Clone)]
struct Attempts(u32);

impl Policy<u32, u32, u32> for Attempts {
    type Future = Ready<()>;

    fn retry(&mut self, _: &mut u32, result: &mut Answer) -> Option<Ready<()>> {
        if result.is_ok() || self.0 == 0 {
            return None;
        }
        self.0 -= 1;
        Some(ready(()))
    }

    fn clone_request(&mut self, request: &u32) -> Option<u32> {
        Some(*request)
    }
}

/// None fails in the end.
#[cold]
#[inline(never)]
fn fail<E>(error: E) {
    drop(black_box(error));
}

/// Polls on this thread, with tokio's timers there for those who use them.
macro_rules! run {
    ($group:expr, $name:expr, $runtime:expr, $call:expr) => {
        $group.bench_function($name, |b| {
            b.iter_custom(|rounds| {
                $runtime.block_on(async {
                    let clock = buttress_core::Clock::quanta();
                    let begin = clock.now();
                    for _ in 0..rounds {
                        // What comes out is used as `?` would use it: the value, if there is one.
                        match $call.await {
                            Ok(answer) => _ = black_box(answer),
                            Err(error) => fail(error),
                        }
                    }
                    clock.now().saturating_since(begin)
                })
            });
        });
    };
}

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().build().expect("a runtime")
}

fn happy(c: &mut Criterion) {
    let runtime = runtime();
    let mut group = c.benchmark_group("first attempt succeeds");
    run!(group, "bare await", runtime, failing(0)());
    let retry = handle(RetryPolicy::default());
    run!(
        group,
        "ours, borrowed handle",
        runtime,
        retry.call(failing(0))
    );
    let clocked = RetryPolicy::builder().total_time(Duration::from_secs(1));
    let clocked = handle(clocked.build().expect("a policy"));
    run!(
        group,
        "ours, with a total time",
        runtime,
        clocked.call(failing(0))
    );
    let paying = Budget::new(BudgetRule::quota()).expect("a budget");
    let paying = handle(RetryPolicy::default()).with_budget(paying);
    run!(
        group,
        "ours, with a budget",
        runtime,
        paying.call(failing(0))
    );
    let service = tower::service_fn(|_: u32| failing(0)());
    let mut ours = RetryLayer::new(retry.clone(), ByResult)
        .idempotent()
        .layer(service);
    run!(group, "ours, tower service", runtime, async {
        ours.ready().await?.call(1).await
    });
    let service = tower::service_fn(|_: u32| failing(0)());
    let heard = retry.clone().with_observer(|_: &Event| {});
    let mut heard = RetryLayer::new(heard, ByResult).idempotent().layer(service);
    run!(
        group,
        "ours, tower service, with a listener",
        runtime,
        async { heard.ready().await?.call(1).await }
    );
    let service = tower::service_fn(|_: u32| failing(0)());
    let mut theirs = tower::retry::Retry::new(Attempts(3), service);
    run!(group, "peer tower::retry", runtime, async {
        theirs.ready().await?.call(1).await
    });
    let builder = backon::ExponentialBuilder::default();
    run!(
        group,
        "peer backon",
        runtime,
        Retryable::retry(failing(0), builder)
    );
    run!(group, "peer tokio-retry2", runtime, {
        let mut operation = failing(0);
        let delays = tokio_retry2::strategy::ExponentialBackoff::from_millis(10).take(3);
        tokio_retry2::Retry::spawn(delays, move || {
            let answer = operation().into_inner();
            ready(answer.map_err(tokio_retry2::RetryError::transient))
        })
    });
    group.finish();
}

fn three_failures(c: &mut Criterion) {
    let runtime = runtime();
    let mut group = c.benchmark_group("three failures without a delay");
    let policy = RetryPolicy::builder().attempts(4).backoff(Backoff::none());
    let retry = handle(policy.build().expect("a policy"));
    run!(group, "ours", runtime, retry.call(failing(3)));
    let made = std::cell::Cell::new(0_u32);
    let service = tower::service_fn(|_: u32| {
        made.set(made.get() + 1);
        ready(if made.get().is_multiple_of(4) {
            Ok(7)
        } else {
            Err(7)
        })
    });
    let mut theirs = tower::retry::Retry::new(Attempts(3), service);
    run!(group, "peer tower::retry", runtime, async {
        theirs.ready().await?.call(1).await
    });
    group.sample_size(10);
    let builder = backon::ConstantBuilder::default().with_delay(Duration::ZERO);
    run!(
        group,
        "peer backon",
        runtime,
        Retryable::retry(failing(3), builder)
    );
    group.finish();
}

criterion_group!(benches, happy, three_failures);
criterion_main!(benches);
