//! Random sequences of what attempts come to: every way to make a call comes to what a naive model
//! says.

use std::{
    cell::Cell,
    future::{Ready, ready},
    task::{Context, Poll},
    time::Duration,
};

use buttress_core::{CallError, Rejection, RejectionKind, Verdict};
use buttress_retry_backoff::{
    Attempt, Backoff, Dice, Event, Retry, RetryError, RetryPolicy, Stopped, tower::RetryLayer,
};
use buttress_testkit::tier::short_or_long;
use tower::{Layer as _, Service, ServiceExt as _};

/// What an attempt comes to.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    Done,
    NotDone,
    Unknown,
    Final,
    /// Rejected, and to be tried again at once.
    RejectedNow,
    Rejected,
}

const STEPS: [Step; 6] = [
    Step::Done,
    Step::NotDone,
    Step::Unknown,
    Step::Final,
    Step::RejectedNow,
    Step::Rejected,
];

impl Step {
    fn result(self) -> Result<(), CallError<Self>> {
        let rejection = || Rejection::new(RejectionKind::RateLimited, "test");
        match self {
            Self::Done => Ok(()),
            Self::RejectedNow => Err(rejection().with_retry_after(Duration::ZERO).into()),
            Self::Rejected => Err(rejection().into()),
            failed => Err(CallError::Failed(failed)),
        }
    }
}

fn judge(result: Result<&(), &Step>) -> Verdict {
    match result {
        Ok(()) => Verdict::success(),
        Err(Step::NotDone) => Verdict::not_done(),
        Err(Step::Unknown) => Verdict::unknown(),
        Err(_) => Verdict::refused(),
    }
}

/// How a call ended, after so many attempts.
type End = (u32, Option<Stopped>);

/// What the rules say, as one would explain them.
fn naive(script: &[Step], attempts: u32, idempotent: bool) -> End {
    let mut made = 0;
    for step in script {
        made += 1;
        let stopped = match step {
            Step::Done => return (made, None),
            Step::Final => Some(Stopped::Final),
            Step::Rejected => Some(Stopped::Rejected),
            Step::Unknown if !idempotent => Some(Stopped::Unknown),
            _ if made == attempts => Some(Stopped::Attempts),
            _ => None,
        };
        if stopped.is_some() {
            return (made, stopped);
        }
    }
    panic!("the script is too short")
}

/// Plays a script to whoever makes attempts.
struct Player<'a> {
    script: &'a [Step],
    made: Cell<u32>,
}

impl<'a> Player<'a> {
    fn new(script: &'a [Step]) -> Self {
        Self {
            script,
            made: Cell::new(0),
        }
    }

    fn play(&self) -> Result<(), CallError<Step>> {
        let at = self.made.get();
        self.made.set(at + 1);
        self.script[usize::try_from(at).unwrap()].result()
    }

    fn told(&self, attempt: &Attempt<'_, Step>) -> Result<(), CallError<Step>> {
        assert_eq!(attempt.number(), self.made.get() + 1);
        assert_eq!(attempt.last().is_some(), attempt.number() > 1);
        self.play()
    }

    fn end(&self, result: Result<(), RetryError<Step>>) -> End {
        if let Err(error) = &result {
            assert_eq!(error.attempts(), self.made.get());
        }
        (self.made.get(), result.err().map(|error| error.stopped()))
    }
}

impl Service<()> for &Player<'_> {
    type Response = ();
    type Error = CallError<Step>;
    type Future = Ready<Result<(), CallError<Step>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        ready(self.play())
    }
}

/// All the ways, each by its name.
async fn ends(script: &[Step], retry: &Retry, idempotent: bool) -> [(&'static str, End); 7] {
    macro_rules! end {
        ($player:ident, $call:expr, $run:ident) => {{
            let $player = Player::new(script);
            let call = $call.classify(judge);
            let result = if idempotent {
                end!($run call.idempotent())
            } else {
                end!($run call)
            };
            $player.end(result)
        }};
        (awaited $call:expr) => { $call.await };
        (blocking $call:expr) => { $call.run() };
    }
    let blocking = retry.blocking();
    let looped = Player::new(script);
    let mut attempts = retry.attempts();
    let result = loop {
        match looped.play() {
            Ok(()) => {
                let () = attempts.succeeded(());
                break Ok(());
            }
            Err(error) => {
                let judge = |result: Result<&(), &Step>| judge(result);
                if let Err(error) = attempts.failed_wrapped(error, &judge, idempotent).await {
                    break Err(error);
                }
            }
        }
    };
    let layered = async |retry: Retry| {
        let player = Player::new(script);
        let layer = RetryLayer::new(retry, judge);
        let layer = if idempotent {
            layer.idempotent()
        } else {
            layer
        };
        let result = layer.unwrapped().layer(&player).oneshot(()).await;
        player.end(result)
    };
    let heard = retry.clone().with_observer(|_: &Event| {});
    [
        (
            "call",
            end!(it, retry.call_wrapped(async || it.play()), awaited),
        ),
        (
            "call with context",
            end!(
                it,
                retry.call_wrapped_with(|attempt| ready(it.told(&attempt))),
                awaited
            ),
        ),
        (
            "blocking",
            end!(it, blocking.call_wrapped(|| it.play()), blocking),
        ),
        (
            "blocking with context",
            end!(
                it,
                blocking.call_wrapped_with(|attempt| it.told(&attempt)),
                blocking
            ),
        ),
        ("loop", looped.end(result)),
        ("layer", layered(retry.clone()).await),
        ("layer with a listener", layered(heard).await),
    ]
}

#[tokio::test]
async fn every_way_to_call_comes_to_what_the_naive_model_says() {
    let dice = Dice::seeded(20_261_121);
    let upto = |limit: u32| (0..limit).find(|it| dice.roll() * f64::from(limit - it) < 1.0);
    let handles: Vec<_> = (1..=5)
        .map(|attempts| {
            let policy = RetryPolicy::builder()
                .attempts(attempts)
                .backoff(Backoff::none());
            Retry::new("test", policy.build().unwrap())
        })
        .collect();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..short_or_long(100_000, 2_000_000) {
        let attempts = upto(5).unwrap();
        let script: Vec<_> = (0..=attempts)
            .map(|_| STEPS[usize::try_from(upto(6).unwrap()).unwrap()])
            .collect();
        let idempotent = dice.roll() < 0.5;
        let expected = naive(&script, attempts + 1, idempotent);
        let retry = &handles[usize::try_from(attempts).unwrap()];
        for (way, end) in ends(&script, retry, idempotent).await {
            assert_eq!(end, expected, "{way}: {script:?}, idempotent: {idempotent}");
        }
        seen.insert(format!("{expected:?}"));
    }
    // Every end after every number of attempts that can have it was among them: five each, but
    // giving up for their number is the last one's.
    assert_eq!(seen.len(), 25, "{seen:?}");
}

#[tokio::test]
async fn the_model_finds_an_operation_that_is_planted_as_idempotent() {
    let tally = buttress_testkit::tally::suite("RB2");
    let retry = Retry::new("test", RetryPolicy::default());
    let script = [Step::Unknown, Step::Done];
    let expected = naive(&script, 3, false);
    let mut ends = ends(&script, &retry, true).await.into_iter();
    assert!(ends.all(|(_, end)| end != expected));
    tally.caught(1);
}
