//! Waiting, half-open, for a free slot or the verdict: on a thread, and in the layer.

use std::{sync::mpsc, thread, time::Duration};

use buttress_circuit_breaker::{Abandoned, OwnedPermit, State, tower::CircuitBreakerLayer};
use buttress_core::{CallError, Clock};
use buttress_testkit::cancel_sweep::{Point, cancel_sweep};
use tower::{Layer, Service, ServiceExt, service_fn};

use crate::stand::{MS, SECOND, Stand, ten_seconds};

/// One whose only probe is out.
fn full(wait: Duration) -> (Stand, OwnedPermit) {
    let stand = Stand::half_open(ten_seconds().half_open_permits(1).half_open_wait(wait));
    let probe = stand.breaker.try_acquire_owned().unwrap();
    (stand, probe)
}

#[test]
fn a_blocking_call_waits_for_the_verdict() {
    for well in [true, false] {
        let (stand, probe) = full(60 * SECOND);
        let (begins, begun) = mpsc::channel();
        let waits = {
            let breaker = stand.breaker.clone();
            thread::spawn(move || {
                begins.send(()).unwrap();
                breaker.call_blocking(|| Ok::<_, ()>(7))
            })
        };
        // However far it comes: it must neither fail nor be forgotten.
        begun.recv().unwrap();
        (0..1000).for_each(|_| thread::yield_now());
        if well {
            probe.success();
        } else {
            probe.failure();
        }
        match waits.join().unwrap() {
            Ok(7) => assert!(well),
            Err(CallError::Rejected(rejection)) => {
                assert_eq!((well, rejection.retry_after()), (false, Some(10 * SECOND)));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_slot_that_is_given_back_wakes_a_thread_that_waits_for_it() {
    let (stand, probe) = full(60 * SECOND);
    let threads: Vec<_> = (0..3)
        .map(|_| {
            let breaker = stand.breaker.clone();
            thread::spawn(move || breaker.call_blocking(|| Ok::<_, ()>(7)))
        })
        .collect();
    probe.ignore();
    for thread in threads {
        assert_eq!(thread.join().unwrap().unwrap(), 7);
    }
    assert_eq!(stand.state(), State::Closed);
}

#[test]
fn the_wait_of_a_blocking_call_is_bounded_and_by_default_there_is_none() {
    let clock = Clock::tokio();
    for wait in [Duration::ZERO, 50 * MS] {
        let (stand, _probe) = full(wait);
        let before = clock.now();
        let refused = stand.breaker.call_blocking(|| Ok::<_, ()>(7));
        let waited = clock.now().saturating_since(before);
        assert!(matches!(refused, Err(CallError::Rejected(_))));
        assert!(waited >= wait && waited < wait + 10 * SECOND, "{waited:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_of_the_waiting_layer_waits_for_the_verdict_and_another_layer_does_not() {
    let (stand, probe) = full(3 * SECOND);
    let layer = CircuitBreakerLayer::new(&stand.breaker);
    let answers = service_fn(|(): ()| std::future::ready(Ok::<_, ()>(7)));
    let refused = layer.layer(answers).oneshot(()).await.unwrap_err();
    assert!(matches!(refused, CallError::Rejected(_)));
    let waits = tokio::spawn(layer.waiting().layer(answers).oneshot(()));
    tokio::task::yield_now().await;
    assert!(!waits.is_finished());
    probe.success();
    assert_eq!(waits.await.unwrap().unwrap(), 7);
}

#[tokio::test(start_paused = true)]
async fn the_wait_of_the_layer_is_bounded_and_open_or_closed_it_does_not_wait() {
    let (stand, _probe) = full(3 * SECOND);
    let layer = CircuitBreakerLayer::new(&stand.breaker).waiting();
    let mut service = layer.layer(service_fn(|(): ()| std::future::ready(Ok::<_, ()>(7))));
    let clock = Clock::tokio();
    let before = clock.now();
    assert!(service.ready().await.unwrap().call(()).await.is_err());
    assert!((3..4).contains(&clock.now().saturating_since(before).as_secs()));
    let before = clock.now();
    stand.breaker.open_for(SECOND);
    assert!(service.ready().await.unwrap().call(()).await.is_err());
    stand.breaker.close();
    assert_eq!(service.ready().await.unwrap().call(()).await.unwrap(), 7);
    assert_eq!(clock.now(), before);
}

#[tokio::test]
async fn a_call_of_the_waiting_layer_dropped_at_any_poll_leaves_the_slot_free() {
    let stand = Stand::half_open(
        ten_seconds()
            .half_open_permits(1)
            .half_open_wait(60 * SECOND)
            .abandoned(Abandoned::Neutral),
    );
    let layer = CircuitBreakerLayer::new(&stand.breaker).waiting();
    let service = layer.layer(service_fn(async |(): ()| {
        tokio::task::yield_now().await;
        Ok::<_, ()>(7)
    }));
    let probe = std::cell::RefCell::new(None);
    let swept = cancel_sweep(
        async || {
            *probe.borrow_mut() = Some(stand.breaker.try_acquire_owned().unwrap());
            let frees = async {
                tokio::task::yield_now().await;
                probe.borrow_mut().take();
            };
            tokio::join!(service.clone().oneshot(()), frees).0.unwrap()
        },
        async |point| {
            probe.borrow_mut().take();
            if point == Point::Completed && stand.state() == State::Closed {
                stand.breaker.open_for(Duration::ZERO);
            }
            assert!(stand.admits(), "the only slot is free again");
        },
    )
    .await;
    assert!(swept.points >= 3);
}

/// Ready once, and called only by who made it ready.
#[derive(Debug)]
struct Once {
    ready: bool,
}

impl Clone for Once {
    fn clone(&self) -> Self {
        Self { ready: false }
    }
}

impl Service<()> for Once {
    type Response = u8;
    type Error = ();
    type Future = std::future::Ready<Result<u8, ()>>;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Self::Error>> {
        self.ready = true;
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        assert!(std::mem::take(&mut self.ready), "called unready");
        std::future::ready(Ok(7))
    }
}

#[tokio::test]
async fn the_waiting_layer_calls_the_service_that_was_made_ready() {
    let (stand, probe) = full(60 * SECOND);
    let mut service = CircuitBreakerLayer::new(&stand.breaker)
        .waiting()
        .layer(Once { ready: false });
    let first = service.ready().await.unwrap().call(());
    probe.success();
    assert_eq!(first.await.unwrap(), 7);
    assert_eq!(service.ready().await.unwrap().call(()).await.unwrap(), 7);
}
