//! The layer, called by hand.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use buttress_circuit_breaker::{Abandoned, CircuitBreaker, State, tower::CircuitBreakerLayer};
use buttress_core::{CallError, Verdict};
use buttress_testkit::cancel_sweep::{Point, cancel_sweep};
use tower::{Layer, Service, ServiceExt, service_fn};

use crate::stand::{Stand, ten_seconds};

#[tokio::test]
async fn a_layer_that_is_applied_twice_has_one_state() {
    let stand = Stand::new(ten_seconds().count_window(2));
    let layer = CircuitBreakerLayer::new(&stand.breaker);
    let calls = Arc::new(AtomicU32::new(0));
    for round in 0..3 {
        let count = Arc::clone(&calls);
        let service = layer.layer(service_fn(move |(): ()| {
            count.fetch_add(1, Relaxed);
            std::future::ready(Err::<(), _>("no"))
        }));
        let error = service.oneshot(()).await.unwrap_err();
        assert_eq!(matches!(error, CallError::Rejected(_)), round == 2);
    }
    assert_eq!(
        calls.load(Relaxed),
        2,
        "the inner service never saw the rejected one"
    );
}

#[tokio::test]
async fn an_ok_response_can_be_a_failure() {
    let stand = Stand::new(ten_seconds().count_window(2));
    let layer =
        CircuitBreakerLayer::new(&stand.breaker).by(|result: Result<&u16, &String>| match result {
            Ok(status) if *status >= 500 => Verdict::unknown(),
            Ok(_) => Verdict::success(),
            Err(_) => Verdict::unknown(),
        });
    let service = layer.layer(service_fn(|status: u16| {
        std::future::ready(Ok::<_, String>(status))
    }));
    for status in [503, 503] {
        assert_eq!(service.clone().oneshot(status).await.unwrap(), status);
    }
    assert_eq!(stand.state(), State::Open);
}

#[tokio::test]
async fn a_response_future_dropped_at_any_poll_gives_its_slot_back() {
    let stand = Stand::half_open(
        ten_seconds()
            .half_open_permits(1)
            .abandoned(Abandoned::Neutral),
    );
    let layer = CircuitBreakerLayer::new(&stand.breaker);
    let service = layer.layer(service_fn(async |(): ()| {
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        Ok::<_, ()>(7)
    }));
    let swept = cancel_sweep(
        async || service.clone().oneshot(()).await.unwrap(),
        async |point| {
            if point == Point::Completed {
                stand.breaker.open_for(std::time::Duration::ZERO);
            }
            assert!(stand.admits());
        },
    )
    .await;
    assert!(swept.points >= 4);
}

/// Ready only when asked so often; a call without readiness would be seen.
#[derive(Clone)]
struct Slow {
    polls: u32,
}

impl Service<()> for Slow {
    type Response = ();
    type Error = &'static str;
    type Future = std::future::Ready<Result<(), &'static str>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        if self.polls == 0 {
            return Poll::Ready(Err("broken"));
        }
        self.polls -= 1;
        context.waker().wake_by_ref();
        Poll::Pending
    }

    fn call(&mut self, (): ()) -> Self::Future {
        panic!("called unready")
    }
}

#[tokio::test]
async fn readiness_is_the_inner_services_own_and_takes_no_permit() {
    let stand = Stand::half_open(ten_seconds().half_open_permits(1));
    let mut service = CircuitBreakerLayer::new(&stand.breaker).layer(Slow { polls: 3 });
    let error = service.ready().await.map(|_| ()).unwrap_err();
    assert!(matches!(error, CallError::Failed("broken")));
    assert!(stand.admits());
}

#[tokio::test]
async fn a_panic_in_call_itself_is_a_failure_and_goes_on() {
    let stand = Stand::new(ten_seconds().count_window(4));
    let layer = CircuitBreakerLayer::new(&stand.breaker);
    let service = layer.layer(service_fn(|(): ()| -> std::future::Ready<Result<(), ()>> {
        panic!("in call")
    }));
    assert!(
        tokio::spawn(service.oneshot(()))
            .await
            .unwrap_err()
            .is_panic()
    );
    assert_eq!(stand.breaker.counts().failed, 1);
    let _: CircuitBreaker = stand.breaker.clone();
}
