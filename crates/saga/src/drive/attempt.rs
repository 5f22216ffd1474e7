//! Attempts that are under way: at a step, at several steps of a fork, or at an undo.

use std::{
    collections::VecDeque,
    panic::AssertUnwindSafe,
    pin::pin,
    sync::{Arc, Mutex, atomic::AtomicBool},
};

use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use tokio::sync::watch;

use super::{Drive, Stop};
use crate::{
    Effect, Entry, State, StepError,
    context::Work,
    definition::{Defined, Input},
};

/// What is under way of one saga. Dropping it drops all attempts.
#[derive(Default)]
pub(super) struct Under {
    attempts: FuturesUnordered<BoxFuture<'static, Ended>>,
    /// At which steps.
    steps: Vec<usize>,
    /// Those that ended while something else was waited for.
    ended: VecDeque<Ended>,
}

/// An attempt that came to its end.
pub(super) struct Ended {
    pub(super) step: usize,
    pub(super) attempt: u32,
    pub(super) undo: bool,
    /// The output as JSON; `None`: the runner stops, and the attempt was dropped.
    pub(super) result: Option<Result<String, StepError>>,
    /// So many lines were written in a transaction of the step's own, which may have committed.
    pub(super) lines: u64,
}

impl Under {
    /// Waits for something while the attempts go on.
    pub(super) async fn beside<F: Future>(&mut self, other: F) -> F::Output {
        let mut other = pin!(other);
        loop {
            tokio::select! {
                biased;
                output = &mut other => return output,
                Some(ended) = self.attempts.next(), if !self.attempts.is_empty() => {
                    self.ended.push_back(ended);
                }
            }
        }
    }

    /// The next attempt that ends; for ever, if none is under way.
    pub(super) async fn next(&mut self) -> Ended {
        let ended = match self.ended.pop_front() {
            Some(ended) => ended,
            None if self.attempts.is_empty() => std::future::pending().await,
            None => match self.attempts.next().await {
                Some(ended) => ended,
                None => std::future::pending().await,
            },
        };
        self.steps.retain(|step| *step != ended.step);
        ended
    }

    /// Drops all of them.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

impl Drive {
    /// Begins the attempts whose beginning has been written down.
    pub(super) fn launch(&self, under: &mut Under) {
        let undo = self.progress.state == State::Undoing;
        for (step, it) in self.progress.steps.iter().enumerate() {
            let open = if undo { it.undo_open } else { it.open };
            if !open || under.steps.contains(&step) {
                continue;
            }
            let effect = undo.then(|| match &it.output {
                Some(output) => Effect::Done(output.clone()),
                None if it.doubtful => Effect::Unknown,
                None => Effect::None,
            });
            let work = if undo {
                self.work(step, it.undo_attempts, |step, _| Entry::Undone { step })
            } else {
                self.work(step, it.attempts, |step, output| Entry::Succeeded {
                    step,
                    output,
                })
            };
            let defined = self.definition.steps[step].clone();
            let (input, stop) = (self.input(), self.engine.stop.clone());
            under.steps.push(step);
            under
                .attempts
                .push(attempt(defined, input, work, effect, stop).boxed());
        }
    }

    /// What its steps have returned, as JSON, by place.
    pub(super) fn outputs(&self) -> Vec<Option<String>> {
        let steps = self.progress.steps.iter();
        steps.map(|it| it.output.clone()).collect()
    }

    fn work(&self, step: usize, attempt: u32, done: fn(usize, String) -> Entry) -> Work {
        // What a transaction of the step's own writes behind its success.
        let (then, progress) = self.foresee(&done(step, String::new()));
        Work {
            id: self.record.id,
            definition: self.definition.number,
            name: Arc::clone(&self.definition.steps[step].name),
            step,
            attempt,
            outputs: self.outputs(),
            store: Arc::clone(&self.engine.store),
            fence: self.lease.fence(),
            length: Arc::clone(&self.length),
            first: Mutex::new(None),
            reason: self.progress.reason.clone(),
            done,
            then,
            then_state: progress.state,
            wakes: self.wakes(progress.state),
            then_reason: progress.parked.or(progress.reason),
            completed: AtomicBool::new(false),
        }
    }
}

/// Runs the user's code: not longer than its timeout, not beyond a stop, and whatever it does.
async fn attempt(
    defined: Defined,
    input: Arc<Input>,
    work: Work,
    effect: Option<Effect<String>>,
    mut stop: watch::Receiver<Stop>,
) -> Ended {
    let undo = effect.is_some();
    let timeout = match undo {
        true => defined.policy.undo_timeout,
        false => defined.policy.timeout,
    };
    let running = async {
        match effect {
            None => defined.step.run(&input, &work).await,
            Some(effect) => {
                let undone = defined.step.undo(&input, &work, effect).await;
                undone.map(|()| String::new())
            }
        }
    };
    let running = AssertUnwindSafe(running).catch_unwind();
    let result = tokio::select! {
        ended = tokio::time::timeout(timeout, running) => Some(match ended {
            Ok(Ok(result)) => result,
            Ok(Err(_panic)) => Err(StepError::unknown("PANICKED")),
            Err(_elapsed) => Err(StepError::unknown("TIMED_OUT")),
        }),
        _ = stop.wait_for(|stop| *stop == Stop::Now) => None,
    };
    Ended {
        step: work.step,
        attempt: work.attempt,
        undo,
        result,
        lines: work.lines(),
    }
}
