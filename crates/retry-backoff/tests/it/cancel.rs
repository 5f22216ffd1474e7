//! Calls dropped at every point at which they wait.

use std::{
    sync::atomic::{AtomicI32, AtomicU32, Ordering},
    time::Duration,
};

use buttress_retry_backoff::{Backoff, Retry, RetryPolicy};
use buttress_testkit::cancel_sweep::cancel_sweep;

/// Counts how many are alive.
struct Alive<'a>(&'a AtomicI32);

impl<'a> Alive<'a> {
    fn new(count: &'a AtomicI32) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Alive<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn retry() -> Retry {
    let policy = RetryPolicy::builder()
        .backoff(Backoff::constant(Duration::from_millis(1)))
        .attempt_timeout(Duration::from_secs(5))
        .total_time(Duration::from_secs(30))
        .build()
        .unwrap();
    Retry::new("test", policy)
}

#[tokio::test(start_paused = true)]
async fn a_call_dropped_at_any_point_leaves_no_attempt_behind() {
    let _tally = buttress_testkit::tally::suite("X1");
    let retry = retry();
    let alive = AtomicI32::new(0);
    let swept = cancel_sweep(
        async || {
            let made = AtomicU32::new(0);
            let call = retry.call(async || {
                let _alive = Alive::new(&alive);
                tokio::task::yield_now().await;
                match made.fetch_add(1, Ordering::SeqCst) {
                    2 => Ok(()),
                    _ => Err(()),
                }
            });
            call.await.unwrap();
        },
        async |_| assert_eq!(alive.load(Ordering::SeqCst), 0),
    )
    .await;
    // Three attempts that wait once, and two waits between them, each dropped twice.
    assert!(swept.points >= 10, "{}", swept.points);
}

#[tokio::test(start_paused = true)]
async fn a_loop_dropped_in_its_wait_has_counted_the_failure() {
    let retry = retry();
    let swept = cancel_sweep(
        async || {
            let mut attempts = retry.attempts();
            attempts.failed(()).await.unwrap();
            attempts.current().number()
        },
        async |_| {},
    )
    .await;
    assert_eq!((swept.points, swept.output), (2, 2));
}
