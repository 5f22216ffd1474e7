//! One claimed saga, driven until it rests: it has ended, waits, or is no longer ours.

mod follow;
mod gather;
mod pause;
mod sleep;
mod tell;
mod write;

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use buttress_core::{Clock, Moment, Observers};
use buttress_store::Lease;
use futures_util::FutureExt as _;
use tokio::sync::watch;

pub(crate) use self::gather::Gather;
use self::pause::{stop_before, wait};
use crate::{
    Effect, Entry, Event, EventKind, FailureKind, State, StepError,
    context::Work,
    definition::{Definition, Input},
    machine::{Next, Progress},
    policy::RunnerPolicy,
    store::{Record, Store, Then, Write},
};

/// What is parked because too many workers died on it alone.
pub(crate) const CRASH_LOOP: &str = "CRASH_LOOP";

/// What is parked because its journal cannot have been written by its definition.
pub(crate) const ILLEGAL_JOURNAL: &str = "ILLEGAL_JOURNAL";

/// What is turned back because its way forward took too long.
pub(crate) const DEADLINE: &str = "DEADLINE";

/// How urgently a runner stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stop {
    /// It does not.
    No,
    /// What is under way may end; nothing new begins.
    Soon,
    /// What is under way is dropped.
    Now,
}

/// What drives have in common.
#[derive(Clone)]
pub(crate) struct Engine {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) gather: Arc<Gather>,
    pub(crate) policy: RunnerPolicy,
    pub(crate) clock: Clock,
    pub(crate) observers: Observers<Event>,
    pub(crate) stop: watch::Receiver<Stop>,
}

/// One claimed saga.
pub(crate) struct Drive {
    engine: Engine,
    definition: Arc<Definition>,
    lease: Lease,
    record: Record,
    input: Option<Input>,
    progress: Progress,
    /// When the claim was made, by our clock, and how old the saga was then by the store's.
    claimed: Moment,
    age: Duration,
    /// Told at the first sign that this saga does not kill its worker.
    on_progress: Box<dyn Fn() + Send + Sync>,
}

/// The claim is not ours any more, or nobody can tell: stop.
struct Lost;

/// Where a write left the saga.
enum Wrote {
    /// As it was meant.
    Done,
    /// The journal had gone on before it: by a transaction of the step's own.
    Moved,
}

/// What an attempt came to.
enum Attempted<T> {
    Ended(Result<T, StepError>),
    /// The runner stops, and the attempt was dropped.
    Dropped,
}

impl Drive {
    pub(crate) fn new(
        engine: Engine,
        definition: Arc<Definition>,
        lease: Lease,
        record: Record,
        on_progress: Box<dyn Fn() + Send + Sync>,
    ) -> Self {
        let claimed = engine.clock.now();
        let age = record.now.saturating_since(record.created_at);
        let progress = Progress::new(definition.steps.len());
        Self {
            engine,
            definition,
            lease,
            record,
            input: None,
            progress,
            claimed,
            age,
            on_progress,
        }
    }

    /// Drives it until it rests or is lost.
    ///
    /// Dropping the future stops in the middle; the lease runs out, and what was open is counted as
    /// interrupted by whoever claims it next.
    pub(crate) async fn drive(mut self) {
        let (lease, store, id) = (
            self.lease.clone(),
            Arc::clone(&self.engine.store),
            self.record.id,
        );
        let length = self.engine.policy.lease.length();
        let beat = lease.keep(|fence| {
            let store = Arc::clone(&store);
            async move { store.extend(id, fence, length).await }
        });
        let lost = tokio::select! {
            driven = self.go() => driven.is_err(),
            _ = beat => true,
        };
        if lost {
            self.tell(EventKind::Lost);
        }
    }

    async fn go(&mut self) -> Result<(), Lost> {
        if self.record.lapses >= self.engine.policy.lone_lapses {
            return self.park(CRASH_LOOP).await;
        }
        let Ok(progress) = self.definition.fold(&self.record) else {
            self.tell(EventKind::Illegal);
            return self.park(ILLEGAL_JOURNAL).await;
        };
        self.progress = progress;
        let Ok(input) = (self.definition.decode)(&self.record.input) else {
            return self.park("INPUT").await;
        };
        self.input = Some(input);
        let mut entries = Vec::new();
        if self.progress.is_open() {
            self.note(&mut entries, Entry::Interrupted);
        }
        self.follow(&mut entries);
        let mut write = self.written(entries, Then::Keep, false);
        loop {
            if self.is_stopping() {
                // Nothing new begins: what would is not written, and somebody else begins it.
                stop_before(&mut write, Duration::ZERO);
            } else if let Some(wait) = self.pause_before(&write) {
                stop_before(&mut write, wait);
            }
            if let Some(then) = self.sleeps_on(&write) {
                write.then = then;
            }
            let released = write.then != Then::Keep;
            match self.write(write).await? {
                Wrote::Done if released => return Ok(()),
                Wrote::Done | Wrote::Moved => {}
            }
            if !self.progress.state.is_active() {
                self.tell_rest();
                return Ok(());
            }
            write = match self.progress.next(&self.definition.shape) {
                Next::Run { step, open: true } => self.run(step).await?,
                Next::Undo { step, open: true } => self.undo(step).await?,
                Next::Sleep { step, until } => self.sleep(step, until).await?,
                // What can be followed without an attempt has been followed already, unless the
                // journal had gone on by itself. Nothing runs whose beginning is not written.
                _ => {
                    let mut entries = Vec::new();
                    self.follow(&mut entries);
                    self.written(entries, Then::Keep, true)
                }
            };
        }
    }

    /// One attempt at a step, and what is to be written after it.
    async fn run(&mut self, step: usize) -> Result<Write, Lost> {
        let attempt = self.progress.steps[step].attempts;
        let work = self.work(step, attempt, |step, output| Entry::Succeeded {
            step,
            output,
        });
        let defined = self.definition.steps[step].clone();
        let attempted = {
            let running = defined.step.run(self.input(), &work);
            self.attempt(running, defined.policy.timeout).await
        };
        let completed = work.completed.into_inner();
        let result = match attempted {
            Attempted::Dropped => return Ok(self.dropped()),
            Attempted::Ended(result) => result,
        };
        if completed && self.look().await? {
            // It was committed with the step's own rows, whatever was returned.
            self.tell_done(step, attempt);
            return Ok(self.written(Vec::new(), Then::Keep, true));
        }
        let result = match result {
            Ok(_) if completed => Err(StepError::unknown("NOT_COMMITTED")),
            result => result,
        };
        let mut entries = Vec::new();
        match result {
            Ok(output) => {
                self.tell_done(step, attempt);
                self.note(&mut entries, Entry::Succeeded { step, output });
                self.follow(&mut entries);
                Ok(self.written(entries, Then::Keep, true))
            }
            Err(error) => {
                self.tell(EventKind::StepFailed {
                    step: defined.name.to_string(),
                    attempt,
                    kind: error.kind(),
                    code: error.code().to_owned(),
                });
                let failed = Entry::Failed {
                    step,
                    attempt,
                    kind: error.kind(),
                    code: error.code().to_owned(),
                };
                self.note(&mut entries, failed);
                let again = matches!(
                    self.next(),
                    Next::Run { step: next, open: false } if next == step
                );
                let wait = again.then(|| wait(&defined.policy.backoff, attempt, &error));
                self.after_failure(entries, wait).await
            }
        }
    }

    /// One attempt at an undo, and what is to be written after it.
    async fn undo(&mut self, step: usize) -> Result<Write, Lost> {
        let it = &self.progress.steps[step];
        let attempt = it.undo_attempts;
        let effect = match &it.output {
            Some(output) => Effect::Done(output.clone()),
            None if it.doubtful => Effect::Unknown,
            None => Effect::None,
        };
        let work = self.work(step, attempt, |step, _| Entry::Undone { step });
        let defined = self.definition.steps[step].clone();
        let attempted = {
            let undoing = defined.step.undo(self.input(), &work, effect);
            self.attempt(undoing, defined.policy.undo_timeout).await
        };
        let completed = work.completed.into_inner();
        let result = match attempted {
            Attempted::Dropped => return Ok(self.dropped()),
            Attempted::Ended(result) => result,
        };
        let undone = EventKind::StepUndone {
            step: defined.name.to_string(),
        };
        if completed && self.look().await? {
            self.tell(undone);
            return Ok(self.written(Vec::new(), Then::Keep, true));
        }
        let result = match result {
            Ok(()) if completed => Err(StepError::unknown("NOT_COMMITTED")),
            result => result,
        };
        let mut entries = Vec::new();
        match result {
            Ok(()) => {
                self.tell(undone);
                self.note(&mut entries, Entry::Undone { step });
                self.follow(&mut entries);
                Ok(self.written(entries, Then::Keep, true))
            }
            Err(error) => {
                self.tell(EventKind::UndoFailed {
                    step: defined.name.to_string(),
                    attempt,
                    kind: error.kind(),
                    code: error.code().to_owned(),
                });
                let failed = Entry::UndoFailed {
                    step,
                    attempt,
                    kind: error.kind(),
                    code: error.code().to_owned(),
                };
                self.note(&mut entries, failed);
                let again = error.kind() != FailureKind::Final;
                let wait = again.then(|| wait(&defined.policy.undo_backoff, attempt, &error));
                self.after_failure(entries, wait).await
            }
        }
    }

    /// Waits for the next attempt with the claim in hand, if that is not long; or gives it back.
    async fn after_failure(
        &mut self,
        mut entries: Vec<Entry>,
        wait: Option<Duration>,
    ) -> Result<Write, Lost> {
        match wait {
            Some(wait) if wait > self.engine.policy.hold => {
                Ok(self.written(entries, Then::Release(wait), true))
            }
            Some(wait) if !wait.is_zero() => {
                // The failure is written before the wait: a crash in it is no attempt.
                let write = self.written(entries, Then::Keep, true);
                self.write(write).await?;
                let mut stop = self.engine.stop.clone();
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    _ = stop.wait_for(|stop| *stop > Stop::No) => {}
                }
                let mut entries = Vec::new();
                self.follow(&mut entries);
                Ok(self.written(entries, Then::Keep, true))
            }
            _ => {
                self.follow(&mut entries);
                Ok(self.written(entries, Then::Keep, true))
            }
        }
    }

    /// Runs the user's code: not longer than `timeout`, not beyond a stop, and whatever it does.
    async fn attempt<T>(
        &self,
        attempt: impl Future<Output = Result<T, StepError>>,
        timeout: Duration,
    ) -> Attempted<T> {
        let mut stop = self.engine.stop.clone();
        let attempt = AssertUnwindSafe(attempt).catch_unwind();
        tokio::select! {
            ended = tokio::time::timeout(timeout, attempt) => Attempted::Ended(match ended {
                Ok(Ok(result)) => result,
                Ok(Err(_panic)) => Err(StepError::unknown("PANICKED")),
                Err(_elapsed) => Err(StepError::unknown("TIMED_OUT")),
            }),
            _ = stop.wait_for(|stop| *stop == Stop::Now) => Attempted::Dropped,
        }
    }

    fn work(&self, step: usize, attempt: u32, done: fn(usize, String) -> Entry) -> Work {
        // What a transaction of the step's own writes behind its success.
        let (mut then, mut progress) = (Vec::new(), self.progress.clone());
        if progress.apply(&done(step, String::new())).is_some() {
            self.follow_in(&mut progress, &mut then);
        }
        // A sleep begins when the step has ended, which is not now.
        if matches!(
            then.last(),
            Some(Entry::Sleeping { .. } | Entry::Waiting { .. })
        ) {
            then.pop();
        }
        Work {
            id: self.record.id,
            definition: self.definition.number,
            name: Arc::clone(&self.definition.steps[step].name),
            step,
            attempt,
            outputs: self
                .progress
                .steps
                .iter()
                .map(|it| it.output.clone())
                .collect(),
            store: Arc::clone(&self.engine.store),
            fence: self.lease.fence(),
            entries: self.record.entries,
            reason: self.progress.reason.clone(),
            done,
            then,
            then_state: progress.state,
            completed: AtomicBool::new(false),
        }
    }

    /// Takes note of an entry that is about to be written.
    fn note(&mut self, entries: &mut Vec<Entry>, entry: Entry) {
        // What is noted here answers to what the rules have just asked for.
        if self.progress.apply(&entry).is_some() {
            entries.push(entry);
        }
    }

    /// The runner stops and the attempt was dropped: nobody's verdict.
    fn dropped(&mut self) -> Write {
        let mut entries = Vec::new();
        self.note(&mut entries, Entry::Interrupted);
        self.written(entries, Then::Release(Duration::ZERO), false)
    }

    fn is_stopping(&self) -> bool {
        *self.engine.stop.borrow() > Stop::No
    }

    fn written(&self, entries: Vec<Entry>, then: Then, progress: bool) -> Write {
        Write {
            expected: self.record.entries,
            entries,
            state: self.progress.state,
            reason: self.reason(),
            then,
            progress,
        }
    }

    fn reason(&self) -> Option<String> {
        let parked = self.progress.parked.clone();
        parked.or_else(|| self.progress.reason.clone())
    }

    async fn park(&mut self, code: &str) -> Result<(), Lost> {
        let write = Write {
            expected: self.record.entries,
            entries: vec![Entry::Parked {
                code: code.to_owned(),
            }],
            state: State::NeedsAttention,
            reason: Some(code.to_owned()),
            then: Then::Keep,
            progress: true,
        };
        self.write(write).await?;
        self.tell(EventKind::Rested {
            state: State::NeedsAttention,
            reason: Some(code.to_owned()),
        });
        Ok(())
    }

    /// # Panics
    ///
    /// Never: it is decoded before the first step.
    fn input(&self) -> &Input {
        self.input
            .as_ref()
            .expect("it is decoded before the first step")
    }
}
