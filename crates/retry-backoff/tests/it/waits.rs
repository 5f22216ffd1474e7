//! Runs a call that always fails, in paused time, and tells for how long it waited.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use buttress_core::{Clock, Moment, Verdict};
use buttress_retry_backoff::{Dice, Event, Retry, RetryPolicy, Stopped};

/// The waits of a call, and why it ended.
#[derive(Debug)]
pub(crate) struct Waits {
    pub(crate) waits: Vec<Duration>,
    pub(crate) stopped: Stopped,
    pub(crate) elapsed: Duration,
}

/// Needs paused time.
pub(crate) async fn waits(policy: RetryPolicy, dice: Dice, verdict: Verdict) -> Waits {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let list = Arc::clone(&heard);
    let retry = Retry::new("test", policy)
        .with_dice(dice)
        .with_observer(move |event: &Event| {
            if let Event::Retrying { wait, .. } = event {
                list.lock().unwrap().push(*wait);
            }
        });
    let begin = Stopwatch::start();
    let error = retry
        .call(async || Err::<(), _>("no"))
        .classify(move |result: Result<&(), &&str>| match result {
            Ok(()) => Verdict::success(),
            Err(_) => verdict,
        })
        .await
        .unwrap_err();
    let waits = heard.lock().unwrap().clone();
    Waits {
        waits,
        stopped: error.stopped(),
        elapsed: begin.elapsed(),
    }
}

/// Measures virtual time.
pub(crate) struct Stopwatch {
    clock: Clock,
    begin: Moment,
}

impl Stopwatch {
    pub(crate) fn start() -> Self {
        let clock = Clock::tokio();
        let begin = clock.now();
        Self { clock, begin }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.clock.now().saturating_since(self.begin)
    }
}
