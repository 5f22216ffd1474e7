//! A world outside: steps have effects in it by key, and it does what a script says.

use std::{
    collections::{BTreeMap, VecDeque},
    future::pending,
    panic::resume_unwind,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use buttress_core::{Clock, Moment};
use buttress_saga::{Context, Effect, Step, StepError, UndoContext};

/// Time since it was made, by tokio's clock, which tests let jump.
pub(crate) struct Stopwatch {
    clock: Clock,
    start: Moment,
}

impl Stopwatch {
    pub(crate) fn start() -> Self {
        let clock = Clock::tokio();
        let start = clock.now();
        Self { clock, start }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.clock.now().saturating_since(self.start)
    }
}

/// What the world does at one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// It does it, and says so.
    Well,
    /// It does nothing, and may later.
    NotDone,
    /// It does it, and the answer is lost.
    AnswerLost,
    /// Nothing arrives, and nobody hears so.
    RequestLost,
    /// It is not asked: something in front of it keeps the attempt back for so long.
    Kept(Duration),
    /// It refuses for good.
    Refused,
    /// The step panics before anything, without a word from the panic's hook.
    Panic,
    /// It does it, and never answers.
    Hang,
    /// It does it this much later, when nobody waits any more.
    Late(Duration),
}

/// The world, shared by all steps.
#[derive(Clone, Default)]
pub(crate) struct World(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    effects: BTreeMap<String, Mark>,
    scripts: BTreeMap<(u64, &'static str), VecDeque<Act>>,
    undo_scripts: BTreeMap<(u64, &'static str), VecDeque<Act>>,
    log: Vec<(u64, Deed)>,
    /// Its breaker is open, for so long at a time.
    paused: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    Done,
    /// Whatever comes later under this key is refused.
    Cancelled,
}

/// What was asked of the world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    Run(&'static str),
    Undo(&'static str, Effect<String>),
}

impl World {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    pub(crate) fn script(&self, saga: u64, step: &'static str, acts: &[Act]) {
        let acts = acts.iter().copied().collect();
        self.inner().scripts.insert((saga, step), acts);
    }

    pub(crate) fn undo_script(&self, saga: u64, step: &'static str, acts: &[Act]) {
        let acts = acts.iter().copied().collect();
        self.inner().undo_scripts.insert((saga, step), acts);
    }

    pub(crate) fn pause(&self, paused: Option<Duration>) {
        self.inner().paused = paused;
    }

    /// What was asked of it on behalf of a saga, in order.
    pub(crate) fn log(&self, saga: u64) -> Vec<Deed> {
        let inner = self.inner();
        let of_saga = inner.log.iter().filter(|(of, _)| *of == saga);
        of_saga.map(|(_, deed)| deed.clone()).collect()
    }

    /// Whether the effect of a step is there.
    pub(crate) fn has(&self, saga: buttress_saga::SagaId, step: &str) -> bool {
        self.inner().effects.get(&format!("{saga}.{step}")) == Some(&Mark::Done)
    }

    /// How many effects are there.
    pub(crate) fn count(&self) -> usize {
        let inner = self.inner();
        let done = inner.effects.values().filter(|it| **it == Mark::Done);
        done.count()
    }

    /// Forgets everything.
    pub(crate) fn clear(&self) {
        *self.inner() = Inner::default();
    }

    fn apply(&self, key: String) -> Result<(), StepError> {
        match *self.inner().effects.entry(key).or_insert(Mark::Done) {
            Mark::Done => Ok(()),
            Mark::Cancelled => Err(StepError::refused("CANCELLED_BEFORE")),
        }
    }

    fn cancel(&self, key: String) {
        self.inner().effects.insert(key, Mark::Cancelled);
    }

    fn act(&self, saga: u64, step: &'static str) -> Act {
        let mut inner = self.inner();
        inner.log.push((saga, Deed::Run(step)));
        let script = inner.scripts.get_mut(&(saga, step));
        script.and_then(VecDeque::pop_front).unwrap_or(Act::Well)
    }

    fn undo_act(&self, saga: u64, step: &'static str, effect: Effect<String>) -> Act {
        let mut inner = self.inner();
        inner.log.push((saga, Deed::Undo(step, effect)));
        let script = inner.undo_scripts.get_mut(&(saga, step));
        script.and_then(VecDeque::pop_front).unwrap_or(Act::Well)
    }
}

/// A step of sagas that are started with their number.
#[derive(Clone)]
pub(crate) struct Scripted {
    pub(crate) name: &'static str,
    pub(crate) world: World,
}

impl Step for Scripted {
    type Input = u64;
    type Output = String;

    async fn run(&self, context: &Context<'_, u64>) -> Result<String, StepError> {
        let key = context.idempotency_key();
        match self.world.act(*context.input(), self.name) {
            Act::Well => self.world.apply(key)?,
            Act::NotDone => return Err(StepError::not_done("BUSY")),
            Act::Kept(after) => return Err(StepError::postponed("OPEN", after)),
            Act::AnswerLost => {
                self.world.apply(key)?;
                return Err(StepError::unknown("LOST"));
            }
            Act::RequestLost => return Err(StepError::unknown("LOST")),
            Act::Refused => return Err(StepError::refused("REFUSED")),
            Act::Panic => resume_unwind(Box::new("planted")),
            Act::Hang => {
                self.world.apply(key)?;
                pending::<()>().await;
            }
            Act::Late(later) => {
                let world = self.world.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(later).await;
                    // Nobody hears what became of it.
                    let _ = world.apply(key);
                });
                pending::<()>().await;
            }
        }
        Ok(format!("{} of {}", self.name, context.input()))
    }

    async fn undo(
        &self,
        context: &UndoContext<'_, u64>,
        effect: Effect<String>,
    ) -> Result<(), StepError> {
        let key = context.idempotency_key();
        match self.world.undo_act(*context.input(), self.name, effect) {
            Act::Well | Act::Late(_) => self.world.cancel(key),
            Act::NotDone => return Err(StepError::not_done("BUSY")),
            Act::Kept(after) => return Err(StepError::postponed("OPEN", after)),
            Act::AnswerLost => {
                self.world.cancel(key);
                return Err(StepError::unknown("LOST"));
            }
            Act::RequestLost => return Err(StepError::unknown("LOST")),
            Act::Refused => return Err(StepError::refused("REFUSED")),
            Act::Panic => resume_unwind(Box::new("planted")),
            Act::Hang => {
                self.world.cancel(key);
                pending::<()>().await;
            }
        }
        Ok(())
    }

    fn paused_for(&self) -> Option<Duration> {
        self.world.inner().paused
    }
}
