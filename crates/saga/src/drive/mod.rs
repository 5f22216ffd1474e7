//! One claimed saga, driven until it rests: it has ended, waits, or is no longer ours.

mod attempt;
mod child;
mod follow;
mod gather;
mod pause;
mod sleep;
mod tell;
mod write;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use buttress_core::{Clock, Moment, Observers};
use buttress_store::Lease;
use tokio::sync::watch;

pub(crate) use self::gather::Gather;
use self::{
    attempt::{Ended, Under},
    child::Looked,
    pause::wait,
    sleep::Heard,
    write::After,
};
use crate::{
    Entry, Event, EventKind, StepError,
    context::Length,
    definition::{Definition, Input},
    machine::Progress,
    policy::RunnerPolicy,
    store::{NewSaga, Record, Store},
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
    /// Wakes the runners of this process: a child is due, or a parent.
    pub(crate) wake: Arc<watch::Sender<()>>,
    /// How long a child's input may be.
    pub(crate) longest_input: usize,
}

/// One claimed saga.
pub(crate) struct Drive {
    engine: Engine,
    definition: Arc<Definition>,
    lease: Lease,
    record: Record,
    input: Option<Arc<Input>>,
    progress: Progress,
    /// Before when each step is not tried again, and whether that is because it would be in vain.
    rests: Vec<Option<(Moment, bool)>>,
    /// What was sent to each wait, and how many signals were sent to the saga, at the last look.
    heard: Vec<Option<Heard>>,
    seen: u64,
    /// The child of each step at the last look, and those that the next write starts.
    looked: Vec<Option<Looked>>,
    starts: Vec<NewSaga>,
    length: Arc<Mutex<Length>>,
    /// When the claim was made, by our clock, and how old the saga was then by the store's.
    claimed: Moment,
    age: Duration,
    /// Told at the first sign that this saga does not kill its worker.
    on_progress: Box<dyn Fn() + Send + Sync>,
}

/// The claim is not ours any more, or nobody can tell: stop.
struct Lost;

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
        let progress = Progress::new(&definition.shape.before);
        Self {
            rests: vec![None; definition.steps.len()],
            heard: definition.steps.iter().map(|_| None).collect(),
            looked: definition.steps.iter().map(|_| None).collect(),
            starts: Vec::new(),
            seen: 0,
            length: Arc::new(Mutex::new(Length {
                known: record.entries,
                maybe: 0,
            })),
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
        self.input = Some(Arc::new(input));
        let mut under = Under::default();
        let mut happened = self.progress.is_open().then_some(Entry::Interrupted);
        let mut progress = false;
        loop {
            under.beside(self.listen()).await?;
            let commit = self.commit(happened.take(), progress);
            let wait = match under.beside(commit).await? {
                After::Released => return Ok(()),
                After::Goes(wait) => wait,
            };
            if !self.progress.state.is_active() {
                if self.record.parent.is_some() {
                    self.engine.wake.send_replace(());
                }
                self.tell_rest();
                return Ok(());
            }
            if wait.is_none() && !self.progress.is_open() {
                // The rules propose only what can follow, so this cannot be. It must not be held.
                return Err(Lost);
            }
            self.launch(&mut under);
            let mut stop = self.engine.stop.clone();
            let stopping = *stop.borrow_and_update() > Stop::No;
            progress = true;
            let ended = tokio::select! {
                ended = under.next() => Some(ended),
                () = tokio::time::sleep(wait.unwrap_or_default()), if wait.is_some() => None,
                // What waits is given back.
                _ = stop.wait_for(|stop| *stop > Stop::No), if !stopping && wait.is_some() => None,
            };
            if let Some(ended) = ended {
                if ended.result.is_none() {
                    // The runner stops and the attempts are dropped: nobody's verdict.
                    under.clear();
                    progress = false;
                    happened = Some(Entry::Interrupted);
                } else {
                    happened = under.beside(self.ended(ended)).await?;
                }
            }
        }
    }

    /// The line that says what an attempt came to, unless it is written already.
    async fn ended(&mut self, ended: Ended) -> Result<Option<Entry>, Lost> {
        let Ended {
            step,
            attempt,
            undo,
            result,
            lines,
        } = ended;
        let completed = lines > 0;
        if completed {
            // It was committed with the step's own rows, whatever was returned; or it was not.
            self.look().await?;
            self.length().maybe -= lines;
            let it = &self.progress.steps[step];
            if (undo && it.undone) || (!undo && it.output.is_some()) {
                self.tell_ended(step, attempt, undo);
                return Ok(None);
            }
        }
        let result = match result {
            Some(Ok(_)) if completed => Err(StepError::unknown("NOT_COMMITTED")),
            Some(result) => result,
            None => return Ok(None),
        };
        let error = match result {
            Ok(output) => {
                self.tell_ended(step, attempt, undo);
                return Ok(Some(match undo {
                    true => Entry::Undone { step },
                    false => Entry::Succeeded { step, output },
                }));
            }
            Err(error) => error,
        };
        self.tell_failed(step, attempt, undo, &error);
        let policy = &self.definition.steps[step].policy;
        let (kind, code) = (error.kind(), error.code().to_owned());
        let backoff = if undo {
            &policy.undo_backoff
        } else {
            &policy.backoff
        };
        let wait = wait(backoff, attempt, &error);
        let until = self.rest_after(step, kind, wait);
        Ok(Some(if undo {
            Entry::UndoFailed {
                step,
                attempt,
                kind,
                code,
            }
        } else {
            Entry::Failed {
                step,
                attempt,
                kind,
                code,
                until,
            }
        }))
    }

    fn is_stopping(&self) -> bool {
        *self.engine.stop.borrow() > Stop::No
    }

    fn reason(&self) -> Option<String> {
        let parked = self.progress.parked.clone();
        parked.or_else(|| self.progress.reason.clone())
    }

    /// # Panics
    ///
    /// Never: it is decoded before the first step.
    fn input(&self) -> Arc<Input> {
        let input = self.input.as_ref();
        Arc::clone(input.expect("it is decoded before the first step"))
    }
}
