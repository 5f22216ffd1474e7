//! A deadline that is handed on: from attempt to attempt, from layer to layer.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use buttress_core::Clock;
use buttress_retry_backoff::{
    Attempt, Backoff, Deadline, Failure, Retry, RetryPolicy, Stopped,
    tower::{HttpReplay, ReplayBody, RetryLayer},
};
use http::{Request, Response};
use http_body_util::Empty;
use tower::{Layer, ServiceExt};

use crate::waits::Stopwatch;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn retry(name: &'static str, attempts: u32, wait: Duration, total: Option<Duration>) -> Retry {
    let policy = RetryPolicy::builder()
        .attempts(attempts)
        .backoff(Backoff::constant(wait));
    let policy = match total {
        Some(total) => policy.total_time(total),
        None => policy,
    };
    Retry::new(name, policy.build().unwrap())
}

#[tokio::test(start_paused = true)]
async fn an_inner_call_has_what_is_left_of_the_outer_one() {
    let outer = retry("outer", 10, ms(100), Some(ms(1000)));
    let inner = retry("inner", 10, ms(300), None);
    let begin = Stopwatch::start();
    let made = AtomicU32::new(0);
    let error = outer
        .call_with(|attempt: Attempt<'_, ()>| {
            let deadline = attempt.deadline().unwrap();
            let (inner, made) = (&inner, &made);
            async move {
                let call = inner.call(async || {
                    made.fetch_add(1, Ordering::Relaxed);
                    Err::<(), _>(())
                });
                let error = call.until(&deadline).await.unwrap_err();
                assert_eq!(error.stopped(), Stopped::Time);
                Err::<(), _>(())
            }
        })
        .await
        .unwrap_err();
    // Inner attempts at 0, 300, 600 and 900; no wait is begun that would end after 1000. From then
    // on the outer one waits by 100.
    assert_eq!(error.stopped(), Stopped::Time);
    assert_eq!((begin.elapsed(), made.into_inner()), (ms(900), 4));
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_is_over_lets_no_attempt_begin() {
    let retry = retry("test", 3, ms(1), None);
    let deadline = Deadline::after(ms(5));
    assert!(!deadline.is_over());
    tokio::time::sleep(ms(6)).await;
    assert!(deadline.is_over() && deadline.left().is_zero());
    let never = async || -> Result<(), ()> { panic!("begun without time") };
    let error = retry.call(never).until(&deadline).await.unwrap_err();
    assert_eq!((error.attempts(), error.stopped()), (0, Stopped::Time));
    let mut attempts = retry.attempts::<()>().until(&deadline);
    let error = attempts.failed(()).await.unwrap_err();
    assert_eq!(error.stopped(), Stopped::Time);
    let blocked = retry.call_blocking(|| -> Result<(), ()> { panic!("begun without time") });
    assert_eq!(blocked.until(&deadline).run().unwrap_err().attempts(), 0);
}

#[tokio::test]
async fn the_shorter_of_two_deadlines_holds_and_it_is_of_the_handles_clock() {
    let (clock, hand) = Clock::manual();
    let retry = retry("test", 3, ms(0), Some(ms(100))).with_clock(clock.clone());
    let at_edge = Deadline::by(&clock, ms(40));
    let call = retry.call_with(|attempt: Attempt<'_, ()>| {
        let deadline = attempt.deadline().unwrap();
        assert_eq!(deadline.left(), ms(40));
        hand.advance(ms(30));
        assert_eq!(deadline.left(), ms(10));
        async { Ok(()) }
    });
    call.within(ms(60)).until(&at_edge).await.unwrap();
    assert_eq!(format!("{at_edge:?}"), "Deadline { left: 10ms }");
}

type Body = Empty<bytes::Bytes>;

/// Two layers around a service that always answers 503: what each inner request was told.
async fn told(outer: Retry, inner: Retry, edge: Option<Deadline>) -> (Vec<Option<Duration>>, u16) {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let list = Arc::clone(&heard);
    let service = tower::service_fn(move |request: Request<ReplayBody<ReplayBody<Body>>>| {
        let deadline = request.extensions().get::<Deadline>();
        list.lock().unwrap().push(deadline.map(Deadline::left));
        async { Ok::<_, std::io::Error>(Response::builder().status(503).body(()).unwrap()) }
    });
    let mut request = Request::get("/").body(Body::new()).unwrap();
    if let Some(edge) = edge {
        request.extensions_mut().insert(edge);
    }
    let layers = RetryLayer::http(outer).layer(RetryLayer::http(inner).layer(service));
    let response = layers.oneshot(request).await.unwrap();
    let heard = heard.lock().unwrap().clone();
    (heard, response.status().as_u16())
}

#[tokio::test(start_paused = true)]
async fn inner_attempts_see_the_time_that_an_outer_layer_has_left() {
    let begin = Stopwatch::start();
    let outer = retry("outer", 2, ms(100), Some(ms(1000)));
    let inner = retry("inner", 3, ms(200), None);
    let (heard, status) = told(outer, inner, None).await;
    let expected = [1000, 800, 600, 500, 300, 100].map(|left| Some(ms(left)));
    assert_eq!(heard, expected);
    assert_eq!((status, begin.elapsed()), (503, ms(900)));
}

#[tokio::test(start_paused = true)]
async fn a_deadline_set_at_the_edge_bounds_all_layers_whatever_their_policies_say() {
    let begin = Stopwatch::start();
    let outer = retry("outer", 9, ms(100), Some(ms(60_000)));
    let inner = retry("inner", 9, ms(100), None);
    let (heard, status) = told(outer, inner, Some(Deadline::after(ms(350)))).await;
    assert_eq!(heard, [350, 250, 150, 50].map(|left| Some(ms(left))));
    assert_eq!((status, begin.elapsed()), (503, ms(300)));
}

#[tokio::test(start_paused = true)]
async fn without_a_limit_a_request_is_told_none() {
    let quick = || retry("test", 2, ms(0), None);
    let (heard, status) = told(quick(), quick(), None).await;
    assert_eq!((heard, status), (vec![None; 4], 503));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_came_too_late_is_not_sent() {
    let service = tower::service_fn(
        async |_: Request<ReplayBody<Body>>| -> Result<Response<()>, &str> {
            panic!("sent without time")
        },
    );
    let layer = RetryLayer::with_replay(
        retry("test", 3, ms(1), None),
        |_: Result<&Response<()>, &&str>| buttress_core::Verdict::success(),
        HttpReplay::default(),
    );
    let mut request = Request::get("/").body(Body::new()).unwrap();
    request.extensions_mut().insert(Deadline::after(ms(0)));
    let error = layer.layer(service).oneshot(request).await.unwrap_err();
    assert_eq!((error.attempts(), error.stopped()), (0, Stopped::Time));
    assert!(matches!(error.failure(), Failure::Rejected(_)));
}
