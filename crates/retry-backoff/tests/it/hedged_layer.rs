//! The layer that hedges: who gets a hedge, which instance is called, what is left behind.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI32, AtomicU32, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use buttress_core::{ByResult, CallError, Rejection, RejectionKind};
use buttress_retry_backoff::{
    Failure, Retry, RetryPolicy, Stopped,
    hedge::{Hedge, HedgeDelay},
    tower::{HedgeLayer, ReplayBody, RetryLayer},
};
use buttress_testkit::cancel_sweep::cancel_sweep;
use futures_util::future::BoxFuture;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use tower::{Layer, Service, ServiceExt};

use crate::waits::Stopwatch;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn hedge(most: u32) -> Hedge {
    Hedge::new("test", HedgeDelay::After(ms(50)), most).unwrap()
}

/// The n-th request takes so long, and fails when it takes no time. Panics when it is called
/// without having been polled ready.
#[derive(Default)]
struct Slow {
    takes: Arc<[u64]>,
    made: Arc<AtomicU32>,
    alive: Arc<AtomicI32>,
    ready: bool,
}

impl Clone for Slow {
    fn clone(&self) -> Self {
        Self {
            takes: Arc::clone(&self.takes),
            made: Arc::clone(&self.made),
            alive: Arc::clone(&self.alive),
            ready: false,
        }
    }
}

impl Slow {
    fn new(takes: &[u64]) -> Self {
        Self {
            takes: takes.into(),
            ..Self::default()
        }
    }

    fn made(&self) -> u32 {
        self.made.load(Ordering::SeqCst)
    }
}

/// Counts how many are alive.
struct Alive(Arc<AtomicI32>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl<R> Service<R> for Slow {
    type Response = u32;
    type Error = &'static str;
    type Future = BoxFuture<'static, Result<u32, &'static str>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: R) -> Self::Future {
        assert!(
            std::mem::take(&mut self.ready),
            "called without being ready"
        );
        let number = self.made.fetch_add(1, Ordering::SeqCst);
        let takes = self.takes[usize::try_from(number).unwrap() % self.takes.len()];
        self.alive.fetch_add(1, Ordering::SeqCst);
        let alive = Alive(Arc::clone(&self.alive));
        Box::pin(async move {
            let _alive = alive;
            if takes == 0 {
                return Err("failed");
            }
            tokio::time::sleep(ms(takes)).await;
            Ok(number)
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_first_attempt_is_overtaken_by_the_one_beside_it() {
    let slow = Slow::new(&[10_000, 20]);
    let layer = HedgeLayer::new(hedge(1), ByResult).idempotent();
    let clock = Stopwatch::start();
    assert_eq!(layer.layer(slow.clone()).oneshot(()).await.unwrap(), 1);
    assert_eq!((clock.elapsed(), slow.made()), (ms(70), 2));
    assert_eq!(slow.alive.load(Ordering::SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn what_may_not_be_sent_twice_is_sent_once_however_slow() {
    let slow = Slow::new(&[400]);
    let layer = HedgeLayer::new(hedge(3), ByResult);
    assert_eq!(layer.layer(slow.clone()).oneshot(()).await.unwrap(), 0);
    assert_eq!(slow.made(), 1);
    let failing = Slow::new(&[0]);
    let error = layer.layer(failing.clone()).oneshot(()).await.unwrap_err();
    assert_eq!(error.stopped(), Stopped::Unrepeatable);
    assert!(matches!(error.failure(), Failure::Failed("failed")));
    assert_eq!(failing.made(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_same_service_is_used_again_and_each_call_is_hedged() {
    let slow = Slow::new(&[10_000, 1]);
    let mut service = HedgeLayer::new(hedge(1), ByResult)
        .idempotent()
        .layer(slow.clone());
    for round in 1..=3 {
        let ready = ServiceExt::<()>::ready(&mut service).await.unwrap();
        assert!(ready.call(()).await.is_ok());
        assert_eq!(slow.made(), 2 * round);
    }
}

#[tokio::test(start_paused = true)]
async fn over_http_a_get_is_hedged_and_a_post_only_with_a_key() {
    for (method, key, made) in [
        (Method::GET, false, 2),
        (Method::POST, false, 1),
        (Method::POST, true, 2),
    ] {
        let sent = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&sent);
        let service = tower::service_fn(move |request: Request<ReplayBody<Full<bytes::Bytes>>>| {
            let number = count.fetch_add(1, Ordering::SeqCst);
            async move {
                // Whoever is first has read the body to its end, and the other has it too.
                let body = request.into_body().collect().await.unwrap().to_bytes();
                assert_eq!(body, "order");
                tokio::time::sleep(ms(if number == 0 { 300 } else { 1 })).await;
                Ok::<_, std::io::Error>(Response::new(number))
            }
        });
        let mut request = Request::builder().method(method.clone());
        if key {
            request = request.header("idempotency-key", "a");
        }
        let request = request.body(Full::from("order")).unwrap();
        let layer = HedgeLayer::http(hedge(1));
        let response = layer.layer(service).oneshot(request).await.unwrap();
        assert_eq!(sent.load(Ordering::SeqCst), made, "{method} {key}");
        assert_eq!(*response.body(), made - 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_still_being_sent_has_no_hedge() {
    let sent = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&sent);
    let service = tower::service_fn(move |request: Request<ReplayBody<Full<bytes::Bytes>>>| {
        count.fetch_add(1, Ordering::SeqCst);
        async move {
            tokio::time::sleep(ms(300)).await;
            drop(request);
            Ok::<_, std::io::Error>(Response::new(()))
        }
    });
    let request = Request::put("/").body(Full::from("order")).unwrap();
    let layer = HedgeLayer::http(hedge(2));
    layer.layer(service).oneshot(request).await.unwrap();
    assert_eq!(sent.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_rejection_inside_leads_to_no_hedge() {
    let made = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&made);
    let service = tower::service_fn(move |()| {
        count.fetch_add(1, Ordering::SeqCst);
        let rejection = Rejection::new(RejectionKind::CircuitOpen, "search");
        async { Err::<(), CallError<&str>>(rejection.into()) }
    });
    let layer = HedgeLayer::new(hedge(3), ByResult).idempotent().unwrapped();
    let error = layer.layer(service).oneshot(()).await.unwrap_err();
    assert_eq!(
        (made.load(Ordering::SeqCst), error.stopped()),
        (1, Stopped::Rejected)
    );
}

#[tokio::test(start_paused = true)]
async fn a_retry_around_a_hedge_around_a_breaker_understands_the_rejection_and_nests_nothing() {
    let made = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&made);
    let service = tower::service_fn(move |()| {
        let error = match count.fetch_add(1, Ordering::SeqCst) {
            0 | 1 => CallError::Failed("mine"),
            _ => Rejection::new(RejectionKind::CircuitOpen, "search").into(),
        };
        async { Err::<(), _>(error) }
    });
    let hedged = HedgeLayer::new(hedge(1), ByResult).idempotent().unwrapped();
    let retry = Retry::new("test", RetryPolicy::default());
    let retried = RetryLayer::new(retry, ByResult).idempotent().unwrapped();
    let service = retried.layer(hedged.layer(service));
    let error = service.oneshot(()).await.unwrap_err();
    // Two by the hedge, one by the second attempt, and the open breaker is not asked again.
    assert_eq!(made.load(Ordering::SeqCst), 3);
    assert_eq!((error.attempts(), error.stopped()), (2, Stopped::Rejected));
    assert!(matches!(error.into_failure(), Failure::<&str>::Rejected(_)));
}

/// RB8.
#[tokio::test(start_paused = true)]
async fn rb8_a_response_dropped_at_any_point_leaves_no_attempt_behind() {
    let _tally = buttress_testkit::tally::suite("RB8 X1");
    let slow = Slow::new(&[400, 300, 200]);
    let layer = HedgeLayer::new(hedge(2), ByResult).idempotent();
    let swept = cancel_sweep(
        async || layer.layer(slow.clone()).oneshot(()).await.unwrap(),
        async |_| assert_eq!(slow.alive.load(Ordering::SeqCst), 0),
    )
    .await;
    assert!(swept.points >= 6, "{}", swept.points);
}

#[test]
fn responses_are_send() {
    fn send(_: impl Send) {}
    let layer = HedgeLayer::new(hedge(1), ByResult).idempotent();
    send(layer.layer(Slow::new(&[1])).oneshot(()));
}
