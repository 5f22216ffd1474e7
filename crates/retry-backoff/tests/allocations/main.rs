//! What a call allocates. A binary of its own, with one test: the counter is the process's.

use std::{alloc::System, future::ready, time::Duration};

use buttress_core::ByResult;
use buttress_retry_backoff::{Backoff, Budget, BudgetRule, Retry, RetryPolicy, tower::RetryLayer};
use futures_util::FutureExt as _;
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

#[test]
fn a_first_attempt_that_succeeds_allocates_nothing_whatever_the_limits() {
    let policy = RetryPolicy::builder()
        .backoff(Backoff::none())
        .total_time(Duration::from_secs(9))
        .attempt_timeout(Duration::from_secs(1))
        .build()
        .unwrap();
    let limited = Retry::new("limited", policy);
    let plain = Retry::new("plain", RetryPolicy::default());
    let paying = limited
        .clone()
        .with_budget(Budget::new(BudgetRule::tokens()).unwrap());
    for retry in [&plain, &limited, &paying] {
        let made = allocations(|| {
            let call = retry.call(|| ready(Ok::<_, u32>(7))).into_future();
            assert_eq!(call.now_or_never().unwrap().unwrap(), 7);
        });
        assert_eq!(made, 0, "{retry:?}");
        let mut service = RetryLayer::new(retry.clone(), ByResult)
            .layer(tower::service_fn(|_: u32| ready(Ok::<_, u32>(7))));
        let made = allocations(|| {
            assert_eq!(service.call(1).now_or_never().unwrap().unwrap(), 7);
        });
        assert_eq!(made, 0, "{retry:?}");
        let made = allocations(|| {
            retry.call_blocking(|| Ok::<_, u32>(7)).run().unwrap();
        });
        assert_eq!(made, 0, "{retry:?}");
    }
    // And the count can fail: a call that has to try again needs one.
    let mut left = 3_u32;
    let made = allocations(|| {
        let call = limited.call(|| {
            left -= 1;
            ready(if left == 0 { Ok(7) } else { Err(left) })
        });
        assert_eq!(call.into_future().now_or_never().unwrap().unwrap(), 7);
    });
    assert_eq!(made, 1);
}
