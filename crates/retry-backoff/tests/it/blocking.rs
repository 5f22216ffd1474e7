//! Calls that block: the same rules, and the same context.

use std::{cell::Cell, time::Duration};

use buttress_core::{ByResult, CallError, Rejection, RejectionKind};
use buttress_retry_backoff::{Attempt, Backoff, Failure, Retry, RetryPolicy, Stopped};

fn retry() -> Retry {
    let policy = RetryPolicy::builder()
        .attempts(3)
        .backoff(Backoff::none())
        .total_time(Duration::from_secs(60));
    Retry::new("test", policy.build().unwrap())
}

fn open(retry_after: Option<Duration>) -> CallError<u32> {
    let rejection = Rejection::new(RejectionKind::CircuitOpen, "payments");
    match retry_after {
        Some(after) => rejection.with_retry_after(after).into(),
        None => rejection.into(),
    }
}

#[test]
fn the_operation_is_told_its_number_the_last_error_and_the_time_left() {
    let retry = retry();
    let call = retry.blocking().call_with(|attempt: Attempt<'_, u32>| {
        let last = attempt.last().and_then(Failure::error).copied();
        assert_eq!(last, attempt.number().checked_sub(1).filter(|it| *it > 0));
        assert!(attempt.left().unwrap() <= Duration::from_secs(60));
        match attempt.number() {
            3 => Ok(7),
            number => Err(number),
        }
    });
    assert_eq!(call.run().unwrap(), 7);
}

#[test]
fn a_rejection_without_a_time_is_not_tried_again() {
    let made = Cell::new(0);
    let reject = || {
        made.set(made.get() + 1);
        Err::<(), _>(open(None))
    };
    let error = retry().blocking().call_wrapped(reject).run().unwrap_err();
    assert_eq!((made.get(), error.stopped()), (1, Stopped::Rejected));
    // What does not say that it is wrapped is taken as it is.
    let error = retry().call_blocking(reject).run().unwrap_err();
    assert_eq!((made.get(), error.stopped()), (4, Stopped::Attempts));
}

#[test]
fn a_rejection_with_a_time_is_waited_for_and_the_next_attempt_is_told_of_it() {
    let begin = std::cell::OnceCell::new();
    let clock = buttress_core::Clock::tokio();
    let retry = retry();
    let call = retry
        .blocking()
        .call_wrapped_with(|attempt: Attempt<'_, u32>| {
            begin.get_or_init(|| clock.now());
            match (attempt.number(), attempt.last()) {
                (1, None) => Err(open(Some(Duration::from_millis(20)))),
                (2, Some(Failure::Rejected(_))) => Err(CallError::Failed(5)),
                (3, Some(Failure::Failed(5))) => Ok(7),
                other => panic!("{other:?}"),
            }
        });
    assert_eq!(call.run().unwrap(), 7);
    let waited = clock.now().saturating_since(*begin.get().unwrap());
    assert!(waited >= Duration::from_millis(20), "{waited:?}");
}

#[test]
fn what_is_judged_unknown_is_repeated_only_when_marked() {
    for (idempotent, attempts) in [(false, 1), (true, 3)] {
        let retry = retry();
        let call = retry
            .call_blocking(|| Err::<(), _>("gone"))
            .classify(ByResult);
        let call = if idempotent { call.idempotent() } else { call };
        assert_eq!(call.run().unwrap_err().attempts(), attempts);
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_wraps_exist_for_calls_that_are_awaited() {
    use buttress_retry_backoff::RetryExt as _;
    let retry = retry();
    let reject = async || Err::<(), _>(open(None));
    let error = reject.retry(&retry).wrapped().await.unwrap_err();
    assert_eq!((error.attempts(), error.stopped()), (1, Stopped::Rejected));
    let call = retry.call_wrapped_with(|attempt: Attempt<'_, u32>| {
        let number = attempt.number();
        async move {
            match number {
                1 => Err(open(Some(Duration::from_secs(2)))),
                number => Ok(number),
            }
        }
    });
    assert_eq!(call.await.unwrap(), 2);
}
