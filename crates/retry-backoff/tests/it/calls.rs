//! What is tried again, with what the operation is told, and what comes out.

use std::{
    error::Error as _,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use buttress_core::{CallError, Fault, Registry, Rejection, RejectionKind, Verdict};
use buttress_retry_backoff::{
    Attempt, Backoff, Event, Failure, Retry, RetryError, RetryExt, RetryPolicy, RetryPolicyBuilder,
    Stopped, TimedOut,
};

use crate::waits::Stopwatch;

fn policy() -> RetryPolicyBuilder {
    RetryPolicy::builder().backoff(Backoff::none())
}

fn retry(builder: RetryPolicyBuilder) -> Retry {
    Retry::new("test", builder.build().unwrap())
}

#[derive(Debug, PartialEq, thiserror::Error)]
#[error("{0}")]
struct Mine(&'static str);

impl From<TimedOut> for Mine {
    fn from(_: TimedOut) -> Self {
        Self("late")
    }
}

/// Fails so many times and then succeeds.
fn failing(times: u32) -> impl FnMut() -> std::future::Ready<Result<u32, Mine>> {
    let mut made = 0;
    move || {
        made += 1;
        std::future::ready(if made > times {
            Ok(made)
        } else {
            Err(Mine("no"))
        })
    }
}

#[tokio::test]
async fn an_error_is_tried_again_until_it_succeeds() {
    let retry = retry(policy());
    assert_eq!(failing(2).retry(&retry).await.unwrap(), 3);
    assert_eq!(retry.call(failing(0)).await.unwrap(), 1);
    assert_eq!(failing(1).retry(retry.clone()).await.unwrap(), 2);
}

#[tokio::test]
async fn the_error_is_the_last_one_with_how_many_and_why() {
    let error = retry(policy().attempts(4))
        .call(failing(9))
        .await
        .unwrap_err();
    assert_eq!((error.attempts(), error.stopped()), (4, Stopped::Attempts));
    assert_eq!(
        error.to_string(),
        "failed after 4 attempts: no attempts are left"
    );
    assert_eq!(error.source().unwrap().to_string(), "no");
    assert_eq!(error.failure().error(), Some(&Mine("no")));
    assert!(error.earlier().is_empty());
    assert_eq!(error.elapsed(), None);
    assert!(matches!(error.into_failure(), Failure::Failed(Mine("no"))));
}

#[tokio::test]
async fn all_errors_are_kept_when_asked_and_the_latest_hundred_at_most() {
    let mut number = 0_u32;
    let error = retry(policy().attempts(250).keep_errors())
        .call(|| {
            number += 1;
            std::future::ready(Err::<(), _>(number))
        })
        .await
        .unwrap_err();
    let earlier: Vec<_> = error
        .earlier()
        .iter()
        .filter_map(Failure::error)
        .copied()
        .collect();
    assert_eq!(earlier, (150..250).collect::<Vec<_>>());
    assert_eq!(error.failure().error(), Some(&250));
}

#[tokio::test]
async fn the_operation_is_told_its_number_the_last_error_and_the_time_left() {
    let seen = Mutex::new(Vec::new());
    let retry = retry(policy().total_time(Duration::from_secs(9)).attempts(3));
    let error = retry
        .call_with(|attempt: Attempt<'_, u32>| {
            let last = attempt.last().and_then(Failure::error).copied();
            seen.lock().unwrap().push((attempt.number(), last));
            assert!(attempt.left().unwrap() <= Duration::from_secs(9));
            let number = attempt.number();
            async move { Err::<(), _>(number * 10) }
        })
        .await
        .unwrap_err();
    assert_eq!(
        *seen.lock().unwrap(),
        [(1, None), (2, Some(10)), (3, Some(20))]
    );
    assert!(error.elapsed().is_some());
}

fn by_word(result: Result<&u32, &Mine>) -> Verdict {
    match result {
        Ok(503) => Verdict::not_done(),
        Ok(404) => Verdict::refused(),
        Ok(_) => Verdict::success(),
        Err(Mine("refused")) => Verdict::refused(),
        Err(Mine("not done")) => Verdict::not_done(),
        Err(_) => Verdict::unknown(),
    }
}

/// How many attempts an outcome takes.
async fn attempts(outcome: Result<u32, &'static str>, idempotent: bool) -> (u32, Option<Stopped>) {
    let made = AtomicU32::new(0);
    let retry = retry(policy().attempts(3));
    let call = retry
        .call(async || {
            made.fetch_add(1, Ordering::Relaxed);
            outcome.map_err(Mine)
        })
        .classify(by_word);
    let result = match idempotent {
        true => call.idempotent().await,
        false => call.await,
    };
    let stopped = result.err().map(|error| error.stopped());
    (made.load(Ordering::Relaxed), stopped)
}

#[tokio::test]
async fn each_class_is_tried_again_as_it_may_be() {
    for (outcome, idempotent, expected) in [
        (Ok(200), false, (1, None)),
        (Ok(404), false, (1, None)),
        (Ok(503), false, (3, None)),
        (Err("refused"), true, (1, Some(Stopped::Final))),
        (Err("not done"), false, (3, Some(Stopped::Attempts))),
        (Err("gone"), false, (1, Some(Stopped::Unknown))),
        (Err("gone"), true, (3, Some(Stopped::Attempts))),
    ] {
        assert_eq!(
            attempts(outcome, idempotent).await,
            expected,
            "{outcome:?} {idempotent}"
        );
    }
}

#[tokio::test]
async fn an_ok_that_was_judged_a_failure_comes_back_as_it_is() {
    let response = retry(policy())
        .call(async || Ok(503))
        .classify(by_word)
        .await;
    assert_eq!(response.unwrap(), 503);
}

#[tokio::test]
async fn when_repeats_what_it_says_and_nothing_else() {
    let retry = retry(policy());
    let only = |error: &Mine| *error == Mine("no");
    assert_eq!(retry.call(failing(2)).when(only).await.unwrap(), 3);
    let error = retry.call(failing(2)).when(|_| false).await.unwrap_err();
    assert_eq!((error.attempts(), error.stopped()), (1, Stopped::Final));
}

fn open(retry_after: Option<Duration>) -> CallError<Mine> {
    let rejection = Rejection::new(RejectionKind::CircuitOpen, "payments");
    match retry_after {
        Some(after) => rejection.with_retry_after(after).into(),
        None => rejection.into(),
    }
}

#[tokio::test]
async fn a_rejection_without_a_time_is_not_tried_again() {
    let error = retry(policy().unlimited_attempts())
        .call_wrapped(async || Err::<(), _>(open(None)))
        .await
        .unwrap_err();
    assert_eq!((error.attempts(), error.stopped()), (1, Stopped::Rejected));
    assert!(matches!(error.into_failure(), Failure::Rejected(_)));
}

#[tokio::test(start_paused = true)]
async fn a_rejection_with_a_time_is_waited_for_and_not_hammered() {
    let begin = Stopwatch::start();
    let made = AtomicU32::new(0);
    let done = retry(policy())
        .call_wrapped(async || {
            made.fetch_add(1, Ordering::Relaxed);
            match begin.elapsed() < Duration::from_secs(5) {
                true => Err(open(Some(Duration::from_secs(5)))),
                false => Ok(()),
            }
        })
        .await;
    assert!(done.is_ok());
    assert_eq!(made.load(Ordering::Relaxed), 2);
    assert!((5..=8).contains(&begin.elapsed().as_secs()));
}

#[tokio::test(start_paused = true)]
async fn a_rejection_beyond_the_deadline_is_given_up_at_once() {
    let begin = Stopwatch::start();
    let error = retry(policy().total_time(Duration::from_secs(3)))
        .call_wrapped(async || Err::<(), _>(open(Some(Duration::from_secs(5)))))
        .await
        .unwrap_err();
    assert_eq!((error.attempts(), error.stopped()), (1, Stopped::Time));
    assert_eq!(begin.elapsed(), Duration::ZERO);
}

#[tokio::test]
async fn a_call_error_comes_out_with_no_other_within() {
    async fn outer(answer: Result<u8, CallError<Mine>>) -> Result<u8, CallError<Mine>> {
        let mut answer = Some(answer);
        let retry = retry(policy().attempts(1));
        let call = retry.call_wrapped(|| std::future::ready(answer.take().unwrap()));
        Ok(call.await?)
    }
    assert_eq!(outer(Ok(1)).await.unwrap(), 1);
    let rejected = outer(Err(open(None))).await.unwrap_err();
    assert!(matches!(rejected, CallError::Rejected(it) if it.name() == "payments"));
    let failed = outer(Err(CallError::Failed(Mine("own"))))
        .await
        .unwrap_err();
    assert!(matches!(failed, CallError::Failed(Mine("own"))));
}

#[tokio::test]
async fn a_fault_leaves_as_the_last_failure_would() {
    let error = retry(policy())
        .call(async || Err::<(), _>(Rejection::new(RejectionKind::RateLimited, "a")))
        .await
        .unwrap_err();
    assert_eq!((error.code(), error.status()), ("RATE_LIMITED", 429));
}

#[tokio::test]
async fn events_tell_the_retries_and_the_end_outside_of_the_callers_way() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let list = Arc::clone(&heard);
    let retry = retry(policy().attempts(3))
        .with_observer(|_: &Event| panic!("an observer"))
        .with_observer(move |event: &Event| list.lock().unwrap().push(event.clone()));
    retry.call(failing(1)).await.unwrap();
    retry.call(failing(3)).await.unwrap_err();
    let heard: Vec<_> = heard.lock().unwrap().iter().map(tell).collect();
    assert_eq!(
        heard,
        [
            "test: 1 failed",
            "test: done in 2",
            "test: 1 failed",
            "test: 2 failed",
            "test: attempts"
        ]
    );
}

fn tell(event: &Event) -> String {
    match event {
        Event::Retrying { name, attempt, .. } => format!("{name}: {attempt} failed"),
        Event::Succeeded { name, attempts, .. } => format!("{name}: done in {attempts}"),
        Event::GaveUp { name, stopped, .. } => format!("{name}: {}", stopped.as_str()),
        other => format!("{other:?}"),
    }
}

#[tokio::test]
async fn a_loop_of_ones_own_retries_an_operation_on_mut_self() {
    struct Connection(u32);
    impl Connection {
        async fn send(&mut self) -> Result<u32, Mine> {
            tokio::task::yield_now().await;
            self.0 += 1;
            if self.0 < 3 {
                Err(Mine("no"))
            } else {
                Ok(self.0)
            }
        }
    }
    async fn run(connection: &mut Connection, retry: &Retry) -> Result<u32, RetryError<Mine>> {
        let mut attempts = retry.attempts();
        loop {
            assert_eq!(attempts.current().number(), connection.0 + 1);
            match connection.send().await {
                Ok(sent) => return Ok(attempts.succeeded(sent)),
                Err(error) => attempts.failed(error).await?,
            }
        }
    }
    assert_eq!(run(&mut Connection(0), &retry(policy())).await.unwrap(), 3);
    let error = run(&mut Connection(0), &retry(policy().attempts(2)))
        .await
        .unwrap_err();
    assert_eq!((error.attempts(), error.stopped()), (2, Stopped::Attempts));
}

#[tokio::test]
async fn the_loop_judges_classes_rejections_and_timeouts_like_the_call() {
    let not_done = |_: Result<&(), &Mine>| Verdict::not_done();
    let unknown = |_: Result<&(), &Mine>| Verdict::unknown();
    let retry = retry(policy());
    let begin = || retry.attempts::<Mine>();
    assert!(begin().failed_as(Mine("a"), &not_done, false).await.is_ok());
    assert!(begin().failed_as(Mine("a"), &unknown, true).await.is_ok());
    for stopped in [
        begin().failed_as(Mine("a"), &unknown, false).await,
        begin().timed_out(Duration::from_secs(1), false).await,
    ] {
        assert_eq!(stopped.unwrap_err().stopped(), Stopped::Unknown);
    }
    assert!(
        begin()
            .timed_out(Duration::from_secs(1), true)
            .await
            .is_ok()
    );
    let rejected = begin().failed_wrapped(open(None), &not_done, true).await;
    assert_eq!(rejected.unwrap_err().stopped(), Stopped::Rejected);
}

#[tokio::test]
async fn closures_over_shared_self_are_send_in_a_spawned_task() {
    struct Client {
        retry: Retry,
        calls: AtomicU32,
    }
    impl Client {
        async fn fetch(&self) -> Result<u32, Mine> {
            tokio::task::yield_now().await;
            match self.calls.fetch_add(1, Ordering::Relaxed) {
                0 => Err(Mine("no")),
                made => Ok(made),
            }
        }
        async fn get(&self) -> Result<u32, RetryError<Mine>> {
            (|| self.fetch()).retry(&self.retry).await
        }
    }
    let client = Arc::new(Client {
        retry: retry(policy()),
        calls: AtomicU32::new(0),
    });
    let task = Arc::clone(&client);
    let got = tokio::spawn(async move {
        let one = task.get().await?;
        let again = task.retry.call_with(|_| task.fetch()).idempotent().await?;
        let mut attempts = task.retry.attempts();
        let third = loop {
            match task.fetch().await {
                Ok(got) => break attempts.succeeded(got),
                Err(error) => attempts.failed(error).await?,
            }
        };
        Ok::<_, RetryError<Mine>>((one, again, third))
    });
    assert_eq!(got.await.unwrap().unwrap(), (1, 2, 3));
}

#[test]
fn handles_are_listed_while_they_live() {
    let registry = Registry::new();
    let retry = retry(policy());
    retry.register(&registry);
    let entries: Vec<_> = registry
        .entries()
        .iter()
        .map(|it| it.name().to_owned())
        .collect();
    assert_eq!(entries, ["test"]);
    drop(retry);
    assert!(registry.entries().is_empty());
}
