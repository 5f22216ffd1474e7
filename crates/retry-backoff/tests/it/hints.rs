//! Cases of other systems about a server that says when to come back, each by its id.

use std::time::{Duration, SystemTime};

use buttress_core::{RetryAfter, Verdict};
use buttress_retry_backoff::{Backoff, Dice, RetryAfterRule, RetryPolicy, Stopped};

use crate::waits::waits;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

const DAY: Duration = secs(86_400);

async fn one_wait(
    rule: RetryAfterRule,
    own: Duration,
    asked: Option<Duration>,
    u: f64,
) -> Duration {
    let policy = RetryPolicy::builder()
        .attempts(2)
        .backoff(Backoff::constant(own))
        .retry_after(rule)
        .longest_wait(2 * DAY)
        .build()
        .unwrap();
    let verdict = match asked {
        Some(asked) => Verdict::not_done().with_retry_after(asked),
        None => Verdict::not_done(),
    };
    let told = waits(policy, Dice::told([u]), verdict).await;
    assert_eq!(told.stopped, Stopped::Attempts);
    told.waits[0]
}

#[tokio::test(start_paused = true)]
async fn e7_6_at_least_what_was_asked_and_at_most_half_more() {
    for (random, expected) in [(22, 522), (9999, 749)] {
        let u = f64::from(random % 250) / 250.0;
        let wait = one_wait(RetryAfterRule::AtLeast, ms(1), Some(ms(500)), u).await;
        assert_eq!(wait, ms(expected));
    }
}

/// 1994-11-06 08:49:37 UTC.
fn then() -> SystemTime {
    SystemTime::UNIX_EPOCH + secs(784_111_777)
}

#[tokio::test(start_paused = true)]
async fn f1_f2_f16_f17_what_the_header_says_is_waited_for_exactly() {
    for (value, now, expected) in [
        ("10", then(), secs(10)),
        ("120", then(), secs(120)),
        ("Mon, 07 Nov 1994 08:49:37 GMT", then(), DAY),
        ("Sun, 06 Nov 1994 08:49:37 GMT", then() - secs(7), secs(7)),
        ("Sunday, 06-Nov-94 08:49:37 GMT", then() - secs(7), secs(7)),
        ("Sun Nov  6 08:49:37 1994", then() - secs(7), secs(7)),
        (
            "Fri, 31 Dec 1999 23:59:59 GMT",
            SystemTime::UNIX_EPOCH + secs(946_684_790),
            secs(9),
        ),
    ] {
        let asked = RetryAfter::parse(value, now).map(RetryAfter::as_duration);
        let wait = one_wait(RetryAfterRule::Exact, ms(1), asked, 0.7).await;
        assert_eq!(wait, expected, "{value}");
    }
}

/// Theirs is zero; ours is the least that the field can say.
#[test]
fn f3_a_date_in_the_past_is_a_second() {
    let past = RetryAfter::parse("Sun, 06 Nov 1994 08:49:37 GMT", then() + secs(5));
    assert_eq!(past.map(RetryAfter::as_secs), Some(1));
}

#[tokio::test(start_paused = true)]
async fn f4_without_the_header_the_backoff_holds() {
    let wait = one_wait(RetryAfterRule::Exact, ms(250), None, 0.7).await;
    assert_eq!(wait, ms(250));
}

#[tokio::test(start_paused = true)]
async fn f5_to_f9_aws_clamps_to_five_seconds_over_its_own() {
    let rule = RetryAfterRule::Clamp { above: secs(5) };
    for (asked, expected) in [
        (Some(1500), 1500),
        (Some(0), 50),
        (Some(10_000), 5050),
        (None, 50),
        (Some(3000), 3000),
        (Some(10), 50),
    ] {
        let wait = one_wait(rule, ms(50), asked.map(ms), 0.7).await;
        assert_eq!(wait, ms(expected), "{asked:?}");
    }
}

/// Theirs waits for its own longest wait; ours gives up at once, as F13 would have it, and says so.
#[tokio::test(start_paused = true)]
async fn f10_and_f13_who_asks_for_too_long_is_not_waited_for() {
    let policy = RetryPolicy::builder()
        .longest_wait(secs(20))
        .build()
        .unwrap();
    let verdict = Verdict::not_done().with_retry_after(secs(30));
    let told = waits(policy, Dice::random(), verdict).await;
    assert_eq!(told.stopped, Stopped::RetryAfter);
    assert_eq!(told.elapsed, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn f13_a_wait_that_is_accepted_is_drawn_up_to_half_more() {
    for (u, expected) in [(0.0, 300), (1.0, 450)] {
        let wait = one_wait(RetryAfterRule::AtLeast, ms(1), Some(ms(300)), u).await;
        assert_eq!(wait, ms(expected));
    }
}

#[tokio::test(start_paused = true)]
async fn f14_a_pushback_is_exact() {
    let wait = one_wait(RetryAfterRule::Exact, secs(9), Some(ms(500)), 0.9).await;
    assert_eq!(wait, ms(500));
}

#[test]
fn f18_what_is_no_number_of_seconds_is_no_header() {
    for value in ["+5", "-5", "1.5", "", "5 s", "5s"] {
        assert_eq!(RetryAfter::parse(value, then()), None, "{value:?}");
    }
}
