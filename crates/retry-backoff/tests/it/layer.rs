//! The layer around services: readiness, clones, classes, rejections, cancellation.

use std::{
    collections::VecDeque,
    future::{Ready, ready},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use buttress_core::{ByResult, CallError, Rejection, RejectionKind};
use buttress_retry_backoff::{
    Backoff, Budget, BudgetRule, Failure, Retry, RetryPolicy, Stopped, tower::RetryLayer,
};
use buttress_testkit::cancel_sweep::cancel_sweep;
use tower::{Layer, Service, ServiceExt};

use crate::waits::Stopwatch;

fn retry() -> Retry {
    let policy = RetryPolicy::builder().backoff(Backoff::none());
    Retry::new("test", policy.build().unwrap())
}

/// Answers what it is told, and panics when it is called without having been polled ready.
struct Strict<E> {
    answers: Arc<Mutex<VecDeque<Result<u32, E>>>>,
    ready: bool,
}

impl<E> Strict<E> {
    fn new(answers: impl IntoIterator<Item = Result<u32, E>>) -> Self {
        Self {
            answers: Arc::new(Mutex::new(answers.into_iter().collect())),
            ready: false,
        }
    }
}

impl<E> Clone for Strict<E> {
    fn clone(&self) -> Self {
        Self {
            answers: Arc::clone(&self.answers),
            ready: false,
        }
    }
}

impl<E> Service<u32> for Strict<E> {
    type Response = u32;
    type Error = E;
    type Future = Ready<Result<u32, E>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), E>> {
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: u32) -> Self::Future {
        assert!(
            std::mem::take(&mut self.ready),
            "called without being ready"
        );
        ready(self.answers.lock().unwrap().pop_front().unwrap())
    }
}

#[tokio::test]
async fn the_service_is_ready_before_every_attempt() {
    let layer = RetryLayer::new(retry(), ByResult).idempotent();
    let service = layer.layer(Strict::new([Err("a"), Err("b"), Ok(7)]));
    assert_eq!(service.oneshot(1).await.unwrap(), 7);
}

#[tokio::test]
async fn what_may_not_be_sent_twice_is_not() {
    let layer = RetryLayer::new(retry(), ByResult);
    let error = layer
        .layer(Strict::new([Err("a"), Ok(7)]))
        .oneshot(1)
        .await
        .unwrap_err();
    assert_eq!((error.attempts(), error.stopped()), (1, Stopped::Unknown));
    assert!(matches!(error.into_failure(), Failure::Failed("a")));
}

#[tokio::test]
async fn a_rejection_inside_is_understood_and_comes_out_bare() {
    let open = || CallError::<&str>::from(Rejection::new(RejectionKind::CircuitOpen, "a"));
    let layer = RetryLayer::new(retry(), ByResult).idempotent().unwrapped();
    let error = layer
        .layer(Strict::new([Err(open()), Ok(7)]))
        .oneshot(1)
        .await
        .unwrap_err();
    assert_eq!((error.attempts(), error.stopped()), (1, Stopped::Rejected));
    let failed = CallError::Failed("mine");
    let answers = [Err(failed), Err(open())];
    let error = layer
        .layer(Strict::new(answers))
        .oneshot(1)
        .await
        .unwrap_err();
    assert_eq!((error.attempts(), error.stopped()), (2, Stopped::Rejected));
    assert!(matches!(error.into_failure(), Failure::Rejected(_)));
}

#[tokio::test]
async fn applied_twice_the_layer_has_one_budget() {
    let rule = BudgetRule::Quota {
        capacity: 3,
        error: 1,
        timeout: 1,
        throttled: 1,
    };
    let retry = retry().with_budget(Budget::new(rule).unwrap());
    let layer = RetryLayer::new(retry, ByResult).idempotent();
    let failing = || Strict::new([Err("a"), Err("b"), Err("c")]);
    let error = layer.layer(failing()).oneshot(1).await.unwrap_err();
    assert_eq!((error.attempts(), error.stopped()), (3, Stopped::Attempts));
    let error = layer.layer(failing()).oneshot(1).await.unwrap_err();
    assert_eq!((error.attempts(), error.stopped()), (2, Stopped::Budget));
}

#[tokio::test(start_paused = true)]
async fn a_service_that_does_not_become_ready_again_is_waited_for_until_the_deadline() {
    let policy = RetryPolicy::builder()
        .backoff(Backoff::none())
        .total_time(Duration::from_secs(2))
        .build()
        .unwrap();
    let mut first = tower::ServiceBuilder::new()
        .layer(RetryLayer::new(Retry::new("test", policy), ByResult).idempotent())
        .concurrency_limit(1)
        .service_fn(async |()| {
            tokio::time::sleep(Duration::from_millis(100)).await;
            Err::<(), _>("no")
        });
    let mut other = first.clone();
    let clock = Stopwatch::start();
    let call = first.ready().await.unwrap().call(());
    // Next in line for the only place, and it keeps it.
    let keeps = async {
        let _ready = other.ready().await;
        std::future::pending::<()>().await;
    };
    let error = tokio::select! {
        biased;
        () = keeps => unreachable!(),
        result = call => result.unwrap_err(),
    };
    // The second was never sent, and what failed is the first.
    assert_eq!((error.attempts(), error.stopped()), (1, Stopped::Time));
    assert!(matches!(error.failure(), Failure::Failed("no")));
    assert_eq!(clock.elapsed(), Duration::from_secs(2));
}

#[tokio::test(start_paused = true)]
async fn a_response_dropped_at_any_point_owes_the_budget_nothing() {
    let _tally = buttress_testkit::tally::suite("X1");
    let budget = Budget::new(BudgetRule::share()).unwrap();
    let full = budget.available();
    let retry = Retry::new("test", RetryPolicy::default()).with_budget(budget.clone());
    let layer = RetryLayer::new(retry, ByResult).idempotent();
    let swept = cancel_sweep(
        async || {
            let made = Arc::new(AtomicU32::new(0));
            let service = tower::service_fn(move |(): ()| {
                let made = made.fetch_add(1, Ordering::Relaxed);
                async move {
                    tokio::task::yield_now().await;
                    if made == 1 { Ok(()) } else { Err("no") }
                }
            });
            layer.layer(service).oneshot(()).await.unwrap();
        },
        async |_| assert_eq!(budget.available(), full),
    )
    .await;
    assert!(swept.points >= 6);
}

#[tokio::test]
async fn responses_are_send_in_a_spawned_task() {
    let layer = RetryLayer::new(retry(), ByResult).idempotent();
    let service = layer.layer(Strict::new([Err("a"), Ok(7)]));
    assert_eq!(tokio::spawn(service.oneshot(1)).await.unwrap().unwrap(), 7);
}

/// Becomes ready on the second poll, and fails to when it was called so often before.
#[derive(Clone)]
struct Moody {
    polls: u32,
    calls: Arc<AtomicU32>,
    breaks_after: u32,
}

impl Moody {
    fn new(breaks_after: u32) -> Self {
        Self {
            polls: 0,
            calls: Arc::default(),
            breaks_after,
        }
    }
}

impl Service<()> for Moody {
    type Response = ();
    type Error = &'static str;
    type Future = Ready<Result<(), &'static str>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        if self.calls.load(Ordering::SeqCst) >= self.breaks_after {
            return Poll::Ready(Err("broken"));
        }
        self.polls += 1;
        if self.polls < 2 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        assert!(
            std::mem::take(&mut self.polls) >= 2,
            "another was polled ready"
        );
        self.calls.fetch_add(1, Ordering::SeqCst);
        ready(Err("failed"))
    }
}

#[tokio::test]
async fn a_service_that_is_not_ready_at_once_is_polled_until_it_is_before_each_attempt() {
    let moody = Moody::new(u32::MAX);
    let layer = RetryLayer::new(retry(), ByResult).idempotent();
    let error = layer.layer(moody.clone()).oneshot(()).await.unwrap_err();
    assert_eq!((error.attempts(), error.stopped()), (3, Stopped::Attempts));
    assert_eq!(moody.calls.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_service_that_fails_to_become_ready_is_not_called_and_its_error_comes_out() {
    for (breaks_after, attempts) in [(0, 0), (1, 1), (2, 2)] {
        let moody = Moody::new(breaks_after);
        let layer = RetryLayer::new(retry(), ByResult).idempotent();
        let error = layer.layer(moody.clone()).oneshot(()).await.unwrap_err();
        assert!(matches!(error.failure(), Failure::Failed("broken")));
        assert_eq!(
            (error.attempts(), error.stopped()),
            (attempts, Stopped::Final)
        );
        assert_eq!(moody.calls.load(Ordering::SeqCst), breaks_after);
    }
}

/// The handle's policy goes along in each call when there is no more to it; else the handle does.
#[tokio::test(start_paused = true)]
async fn a_handle_with_listeners_retries_as_one_without() {
    for heard in [false, true] {
        let mut handle = Retry::new(
            "test",
            RetryPolicy::builder()
                .attempts(4)
                .keep_errors()
                .build()
                .unwrap(),
        );
        if heard {
            handle = handle.with_observer(|_: &buttress_retry_backoff::Event| {});
        }
        let layer = RetryLayer::new(handle, ByResult).idempotent();
        let service = layer.layer(Strict::new(["a", "b", "c", "d"].map(Err)));
        let error = service.oneshot(1).await.unwrap_err();
        assert_eq!((error.attempts(), error.stopped()), (4, Stopped::Attempts));
        assert_eq!(error.earlier().len(), 3, "{heard}");
    }
}

#[tokio::test(start_paused = true)]
async fn within_another_the_layer_multiplies_attempts_and_the_budget_bounds_both() {
    let service = Strict::new(std::iter::repeat_n(Err("no"), 9));
    let answers = Arc::clone(&service.answers);
    let inner = RetryLayer::new(retry(), ByResult).idempotent();
    let error = inner
        .layer(inner.layer(service))
        .oneshot(1)
        .await
        .unwrap_err();
    assert_eq!((error.attempts(), error.stopped()), (3, Stopped::Attempts));
    assert!(answers.lock().unwrap().is_empty());
}
