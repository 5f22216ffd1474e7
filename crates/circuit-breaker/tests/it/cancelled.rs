//! A call that is dropped, at every point at which it can be.

use buttress_circuit_breaker::{Abandoned, State};
use buttress_testkit::cancel_sweep::{Point, cancel_sweep};

use crate::stand::{SECOND, Stand, ten_seconds};

async fn waits_thrice() -> Result<u8, ()> {
    for _ in 0..3 {
        tokio::task::yield_now().await;
    }
    Ok(7)
}

#[tokio::test]
async fn cb3_a_probe_dropped_at_any_poll_gives_its_slot_back() {
    let _tally = buttress_testkit::tally::suite("CB3 X1");
    let stand = Stand::half_open(
        ten_seconds()
            .half_open_permits(1)
            .abandoned(Abandoned::Neutral),
    );
    let swept = cancel_sweep(
        async || stand.breaker.call(waits_thrice()).await.unwrap(),
        async |point| {
            if point == Point::Completed {
                assert_eq!(stand.state(), State::Closed);
                stand.breaker.open_for(std::time::Duration::ZERO);
                assert!(stand.admits());
            }
            assert_eq!(stand.state(), State::HalfOpen);
            assert!(stand.admits(), "the only slot is free again");
        },
    )
    .await;
    assert_eq!((swept.points, swept.output), (6, 7));
}

#[tokio::test]
async fn a_call_dropped_while_it_waits_for_a_slot_leaves_nothing_behind() {
    let _tally = buttress_testkit::tally::suite("CB3 X1");
    let stand = Stand::half_open(
        ten_seconds()
            .half_open_permits(1)
            .half_open_wait(60 * SECOND)
            .abandoned(Abandoned::Neutral),
    );
    let probe = std::cell::RefCell::new(None);
    let swept = cancel_sweep(
        async || {
            *probe.borrow_mut() = Some(stand.breaker.try_acquire_owned().unwrap());
            let frees = async {
                tokio::task::yield_now().await;
                probe.borrow_mut().take();
            };
            tokio::join!(stand.breaker.call(waits_thrice()), frees)
                .0
                .unwrap()
        },
        async |point| {
            probe.borrow_mut().take();
            if point == Point::Completed && stand.state() == State::Closed {
                stand.breaker.open_for(std::time::Duration::ZERO);
            }
            assert!(stand.admits(), "the only slot is free again");
        },
    )
    .await;
    assert!(swept.points > 0);
}

#[test]
fn a_dropped_call_counts_as_the_policy_says() {
    for (abandoned, dropped, calls, failed, state) in [
        (Abandoned::Neutral, "DDDD", 0, 0, State::Closed),
        (Abandoned::Failure, "DDD", 3, 3, State::Closed),
        (Abandoned::Failure, "DDDD", 4, 4, State::Open),
        (Abandoned::FailureWhenMost, "SDSDS", 5, 0, State::Closed),
        (Abandoned::FailureWhenMost, "DDD", 3, 0, State::Closed),
        (Abandoned::FailureWhenMost, "DDDD", 4, 0, State::Open),
    ] {
        let stand = Stand::new(
            ten_seconds()
                .count_window(8)
                .minimum_calls(4)
                .abandoned(abandoned),
        );
        assert_eq!(stand.calls(dropped), state, "{abandoned:?} {dropped}");
        if state == State::Closed {
            let counts = stand.breaker.counts();
            assert_eq!(
                (counts.calls, counts.failed),
                (calls, failed),
                "{abandoned:?} {dropped}"
            );
        }
    }
}

#[test]
fn a_future_that_is_dropped_before_its_first_poll_asks_for_nothing() {
    let stand = Stand::half_open(ten_seconds().half_open_permits(1));
    drop(stand.breaker.call(waits_thrice()));
    assert!(stand.admits());
    assert_eq!(stand.breaker.counts().abandoned, 0);
}

#[test]
fn cb3_a_round_whose_probes_were_mostly_dropped_has_failed() {
    let tally = buttress_testkit::tally::suite("CB3");
    let stand = Stand::half_open(ten_seconds().half_open_permits(4));
    assert_eq!(stand.calls("DDD"), State::HalfOpen, "not all are spent yet");
    assert_eq!(stand.calls("S"), State::Open);
    let stand = Stand::half_open(ten_seconds().half_open_permits(4));
    assert_eq!(stand.calls("DDSSS"), State::Closed, "half is not most");
    tally.drops(6);
}

#[test]
fn cb3_a_probe_that_hangs_ends_with_the_rounds_limit_and_comes_too_late() {
    let tally = buttress_testkit::tally::suite("CB3");
    let stand = Stand::half_open(
        ten_seconds()
            .half_open_permits(1)
            .half_open_limit(Some(5 * SECOND)),
    );
    let hangs = stand.breaker.try_acquire_owned().unwrap();
    assert!(!stand.admits());
    stand.hand.advance(5 * SECOND);
    assert!(!stand.admits());
    assert_eq!(stand.state(), State::Open);
    stand.hand.advance(10 * SECOND);
    assert!(stand.admits());
    hangs.success();
    assert_eq!(stand.state(), State::HalfOpen);
    assert_eq!(stand.breaker.late_results(), 1);
    assert_eq!(
        stand.calls("S"),
        State::Closed,
        "and it closes after healing"
    );
    tally.faults(1);
}
