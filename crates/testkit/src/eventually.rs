//! Waiting for what comes, instead of sleeping and hoping.

use std::{fmt, time::Duration};

use tokio::time::{Instant, sleep, timeout};

/// The shortest and the longest pause between two looks.
const PAUSES: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(50)];

/// Looks again and again until `look` returns `Some`, and returns what is in it. For events that
/// nobody announces: a row that another process writes, a server that is back.
///
/// Where the event can be announced, in the test's own process, it should be: tokio's `watch`,
/// `Notify` and `Barrier` do that. The pauses grow from 1 ms to 50 ms. One look may take as long as it likes within the deadline.
/// It proves that it came, not when: what must come *fast* is measured by the test.
///
/// # Panics
///
/// When it has not come by then: with `claim`, and when `look` did not return.
pub async fn eventually<T>(
    claim: &str,
    deadline: Duration,
    mut look: impl AsyncFnMut() -> Option<T>,
) -> T {
    eventually_as(claim, deadline, async || look().await.ok_or("nothing")).await
}

/// As [`eventually`], for a `look` that says, as its error, what it saw instead.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use std::{cell::Cell, time::Duration};
/// use buttress_testkit::eventually::eventually_as;
///
/// let rows = Cell::new(0);
/// eventually_as("all rows are there", Duration::from_secs(10), async || {
///     rows.set(rows.get() + 1); // somebody writes
///     if rows.get() == 3 { Ok(()) } else { Err(format!("{} rows", rows.get())) }
/// })
/// .await;
/// # }
/// ```
///
/// # Panics
///
/// When it has not come by then: with `claim`, and with what was seen last.
pub async fn eventually_as<T, S: fmt::Display>(
    claim: &str,
    deadline: Duration,
    mut look: impl AsyncFnMut() -> Result<T, S>,
) -> T {
    let start = Instant::now();
    let mut looks = 0_u32;
    let mut last = None;
    let [mut pause, longest] = PAUSES;
    loop {
        let left = deadline.saturating_sub(start.elapsed());
        match timeout(left, look()).await {
            Ok(Ok(seen)) => return seen,
            Ok(Err(seen)) => last = Some(seen),
            Err(_) => {
                let last = told(last);
                panic!(
                    "it never came: {claim} (look {} did not return within {deadline:?}; \
                     last seen: {last})",
                    looks + 1
                );
            }
        }
        looks += 1;
        let left = deadline.saturating_sub(start.elapsed());
        if left.is_zero() {
            let last = told(last);
            panic!("it never came: {claim} ({looks} looks in {deadline:?}; last seen: {last})");
        }
        sleep(pause.min(left)).await;
        pause = (pause * 2).min(longest);
    }
}

fn told<S: fmt::Display>(seen: Option<S>) -> String {
    seen.map_or_else(|| "nothing".to_owned(), |seen| seen.to_string())
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, future::pending, panic::AssertUnwindSafe};

    use futures_util::FutureExt as _;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    async fn failure(waiting: impl Future) -> String {
        let Err(panic) = AssertUnwindSafe(waiting).catch_unwind().await else {
            panic!("it came")
        };
        *panic.downcast().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_is_returned_as_soon_as_it_is_seen() {
        let looks = Cell::new(0);
        let start = Instant::now();
        let seen = eventually("the third look", SECOND, async || {
            looks.set(looks.get() + 1);
            (looks.get() == 3).then_some("it")
        })
        .await;
        assert_eq!((seen, looks.get()), ("it", 3));
        assert!(start.elapsed() < Duration::from_millis(10));
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_come_fails_with_what_was_seen_last() {
        let rows = Cell::new(0);
        let waiting = eventually_as::<(), _>("all rows", SECOND, async || {
            rows.set(rows.get() + 1);
            Err(format!("row {}", rows.get()))
        });
        let text = failure(waiting).await;
        assert!(text.starts_with("it never came: all rows ("), "{text}");
        let end = format!("{0} looks in 1s; last seen: row {0})", rows.get());
        assert!(text.ends_with(&end), "{text}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_that_hangs_fails_as_well() {
        let waiting = eventually::<()>("an answer", SECOND, async || pending().await);
        assert_eq!(
            failure(waiting).await,
            "it never came: an answer (look 1 did not return within 1s; last seen: nothing)"
        );
    }
}
