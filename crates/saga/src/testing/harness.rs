//! A harness for sagas of one's own: every step repeated and failed, every undo repeated and failed,
//! a crash at every write.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use buttress_store::Key;
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::timeout;

use super::point::Point;
use crate::{
    Effect, FailureKind, Saga, SagaId, Sagas, StartOptions, State, StepError,
    context::Work,
    definition::{Child, Defined, Definition, Input, Pause},
    run::AnyStep,
    store::{MemoryStore, NewSignal, Store},
};

/// How long a saga may take to come to rest, in virtual time.
const PATIENCE: Duration = Duration::from_secs(3600);

/// Longer sleeps and waits are shortened to this.
const SLEEP: Duration = Duration::from_secs(1);

/// What is done to a saga.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Trouble {
    /// Nothing.
    None,
    /// This step runs twice under one key, as after a crash behind its effect.
    RepeatStep(String),
    /// This step fails in this way: certainly not done, once; done, and the answer lost, every
    /// time; refused.
    FailStep(String, FailureKind),
    /// The first step is refused, and the undo of the second runs twice.
    RepeatUndo {
        /// Which step is refused.
        refused: String,
        /// Which undo is repeated.
        undo: String,
    },
    /// The first step is refused, and the undo of the second works and says that nobody knows.
    FailUndo {
        /// Which step is refused.
        refused: String,
        /// Which undo fails once.
        undo: String,
    },
    /// The process dies at this operation on the store, before or after it is done.
    Crash {
        /// Which operation, from 0.
        operation: u64,
        /// Before it is done.
        before: bool,
    },
    /// A step is refused, and the process dies at this operation.
    CrashOnTheWayBack {
        /// Which step is refused.
        refused: String,
        /// Which operation, from 0.
        operation: u64,
        /// Before it is done.
        before: bool,
    },
}

/// How a saga ended after its trouble.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Outcome {
    /// What was done to it.
    pub trouble: Trouble,
    /// Which saga it was.
    pub id: SagaId,
    /// Where it stands: completed, undone, or in need of attention.
    pub state: State,
    /// Why it was turned back or parked.
    pub reason: Option<String>,
}

/// The saga never came to rest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the saga did not come to rest within an hour after {trouble:?}")]
#[non_exhaustive]
pub struct HarnessError {
    /// What was done to it.
    pub trouble: Trouble,
}

/// Runs a saga of yours through every [`Trouble`], each time in a world of its own.
///
/// It runs on a clock that jumps, in memory, so an hour of backoff takes a moment. Steps that talk
/// to real servers cannot be run by it: their answers do not come while the clock jumps. Sleeps
/// and waits are shortened to a second. Steps of [children](crate::SagaBuilder::child) suffer as its
/// own do; a trouble names them with their saga, `shipping/label`.
///
/// ```
/// use buttress_saga::{Context, Saga, State, Step, StepError, testing::Harness};
///
/// # struct Nothing;
/// # impl Step for Nothing {
/// #     type Input = u64;
/// #     type Output = ();
/// #     async fn run(&self, _: &Context<'_, u64>) -> Result<(), StepError> { Ok(()) }
/// # }
/// let make = || {
///     let mut saga = Saga::define("mine", 1);
///     saga.step("first", Nothing);
///     (saga.build().expect("it has a step and a name"), 7)
/// };
/// let runs = Harness::new(make).run(|outcome, _world| {
///     assert_ne!(outcome.state, State::NeedsAttention, "{outcome:?}");
/// })?;
/// assert!(runs > 5);
/// # Ok::<(), buttress_saga::testing::HarnessError>(())
/// ```
pub struct Harness<F> {
    make: F,
    signals: Vec<(String, Vec<u8>)>,
}

impl<F, I, O> Harness<F>
where
    F: Fn() -> (Saga<I, O>, I),
    I: Serialize + DeserializeOwned + Send + Sync + 'static,
{
    /// A harness for the sagas that this makes, each with the input it is started with. What their
    /// steps change should be new each time, too.
    pub const fn new(make: F) -> Self {
        Self {
            make,
            signals: Vec::new(),
        }
    }

    /// Each saga is sent this signal once it is started; otherwise nothing comes to its waits.
    ///
    /// # Panics
    ///
    /// When the payload cannot be written as JSON.
    #[must_use]
    pub fn signal(mut self, name: &str, payload: &impl Serialize) -> Self {
        let payload = serde_json::to_vec(payload).expect("the payload can be written as JSON");
        self.signals.push((name.to_owned(), payload));
        self
    }

    /// Runs them all, and lets `check` judge how each ended; it is given the saga, whose steps it
    /// made. Returns how many there were.
    ///
    /// # Errors
    ///
    /// [`HarnessError`], when one never comes to rest.
    ///
    /// # Panics
    ///
    /// When `check` does; when no runtime is to be had.
    pub fn run(self, mut check: impl FnMut(&Outcome, &I)) -> Result<usize, HarnessError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime without I/O needs nothing of the system");
        let (saga, _) = (self.make)();
        let names = saga.definition.all_steps("");
        let mut runs = 0;
        let mut one = |trouble: Trouble| {
            let (saga, input) = (self.make)();
            let (outcome, operations) =
                runtime.block_on(suffer(&saga, &input, trouble, &self.signals))?;
            check(&outcome, &input);
            runs += 1;
            Ok(operations)
        };
        let operations = one(Trouble::None)?;
        crashes(operations, |operation, before| {
            one(Trouble::Crash { operation, before })
        })?;
        for (place, name) in names.iter().enumerate() {
            one(Trouble::RepeatStep(name.clone()))?;
            for kind in [FailureKind::NotDone, FailureKind::Unknown] {
                one(Trouble::FailStep(name.clone(), kind))?;
            }
            let refused = name.clone();
            let operations = one(Trouble::FailStep(refused.clone(), FailureKind::Final))?;
            crashes(operations, |operation, before| {
                one(Trouble::CrashOnTheWayBack {
                    refused: refused.clone(),
                    operation,
                    before,
                })
            })?;
            for undo in &names[..place] {
                let (refused, undo) = (name.clone(), undo.clone());
                one(Trouble::RepeatUndo {
                    refused: refused.clone(),
                    undo: undo.clone(),
                })?;
                one(Trouble::FailUndo { refused, undo })?;
            }
        }
        Ok(runs)
    }
}

impl<F> fmt::Debug for Harness<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Harness").finish_non_exhaustive()
    }
}

fn crashes(
    operations: u64,
    mut one: impl FnMut(u64, bool) -> Result<u64, HarnessError>,
) -> Result<(), HarnessError> {
    for operation in 0..operations {
        one(operation, true)?;
        one(operation, false)?;
    }
    Ok(())
}

/// One saga with one trouble, until it rests. Says on how many operations that was.
async fn suffer<I, O>(
    saga: &Saga<I, O>,
    input: &I,
    trouble: Trouble,
    signals: &[(String, Vec<u8>)],
) -> Result<(Outcome, u64), HarnessError>
where
    I: Serialize + DeserializeOwned + Send + Sync + 'static,
{
    let troubled: Saga<I, O> = Saga::of(Arc::new(saga.definition.troubled("", &trouble)));
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let dies = match trouble {
        Trouble::Crash { operation, before }
        | Trouble::CrashOnTheWayBack {
            operation, before, ..
        } => Some((operation, before)),
        _ => None,
    };
    let point = Arc::new(Point::new(Arc::clone(&store), dies));
    let sagas = Sagas::shared(Arc::clone(&store));
    let stuck = || HarnessError {
        trouble: trouble.clone(),
    };
    let started = sagas.start(&troubled, input, StartOptions::new()).await;
    let id = started.map_err(|_| stuck())?.id();
    for (name, payload) in signals {
        let signal = NewSignal {
            saga: id,
            key: Key::new(name).map_err(|_| stuck())?,
            name: name.clone(),
            payload: payload.clone(),
            most: u32::MAX,
        };
        store.signal(&signal).await.map_err(|_| stuck())?;
    }
    let rest = async {
        loop {
            match sagas.get(id).await {
                Ok(saga) if saga.state.is_active() => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                other => return other,
            }
        }
    };
    tokio::pin!(rest);
    let first = Sagas::shared(Arc::clone(&point) as Arc<dyn Store>);
    let with_children = |sagas: &Sagas| sagas.runner().saga(&troubled).with_children().build();
    let first = with_children(&first).map_err(|_| stuck())?;
    let rested = tokio::select! {
        rested = timeout(PATIENCE, &mut rest) => Some(rested),
        // Its future is dropped: nothing of it goes on.
        () = point.died.notified() => None,
        () = first.run_until(std::future::pending()) => None,
    };
    let rested = match rested {
        Some(rested) => rested,
        None => {
            let second = with_children(&sagas).map_err(|_| stuck())?;
            tokio::select! {
                rested = timeout(PATIENCE, &mut rest) => rested,
                () = second.run_until(std::future::pending()) => return Err(stuck()),
            }
        }
    };
    let saga = rested.map_err(|_| stuck())?.map_err(|_| stuck())?;
    let outcome = Outcome {
        trouble,
        id,
        state: saga.state,
        reason: saga.reason,
    };
    Ok((outcome, point.operations()))
}

impl Definition {
    /// The names of all that is done by it and its children, in an order in which it can be.
    fn all_steps(&self, of: &str) -> Vec<String> {
        let mut names = Vec::new();
        for step in &self.steps {
            match (&step.pause, step.child()) {
                (None, _) => names.push(format!("{of}{}", step.name)),
                (_, Some(child)) => {
                    let child = &child.definition;
                    names.extend(child.all_steps(&format!("{}/", child.key.name)));
                }
                _ => {}
            }
        }
        names
    }

    /// The same with steps that suffer.
    fn troubled(&self, of: &str, trouble: &Trouble) -> Self {
        let steps = self.steps.iter().map(|defined| {
            let name = &format!("{of}{}", defined.name);
            let mut acts = Acts::default();
            match trouble {
                Trouble::RepeatStep(step) if step == name => acts.repeat = true,
                Trouble::FailStep(step, kind) if step == name => acts.fail = Some(*kind),
                Trouble::RepeatUndo { refused, undo } => {
                    acts.refuse_if(refused == name);
                    acts.repeat_undo = undo == name;
                }
                Trouble::FailUndo { refused, undo } => {
                    acts.refuse_if(refused == name);
                    acts.fail_undo = undo == name;
                }
                Trouble::CrashOnTheWayBack { refused, .. } => acts.refuse_if(refused == name),
                _ => {}
            }
            let shortened = defined.pause.clone().map(|pause| match pause {
                Pause::Child(child) => {
                    let of = format!("{}/", child.definition.key.name);
                    let definition = Arc::new(child.definition.troubled(&of, trouble));
                    Pause::Child(Child {
                        definition,
                        ..child
                    })
                }
                pause => pause
                    .with_length(|length| Arc::new(move |input: &Input| length(input).min(SLEEP))),
            });
            Defined {
                pause: shortened,
                step: Arc::new(Troubled {
                    inner: Arc::clone(&defined.step),
                    acts,
                }),
                ..defined.clone()
            }
        });
        Self {
            key: self.key.clone(),
            number: self.number,
            shape: self.shape.clone(),
            steps: steps.collect(),
            branches: self.branches,
            pivot: self.pivot,
            listens: self.listens,
            depth: self.depth,
            returns: self.returns,
            forward_within: self.forward_within,
            limit: self.limit,
            decode: self.decode,
        }
    }
}

#[derive(Default)]
struct Acts {
    repeat: bool,
    fail: Option<FailureKind>,
    repeat_undo: bool,
    fail_undo: bool,
}

impl Acts {
    fn refuse_if(&mut self, refused: bool) {
        if refused {
            self.fail = Some(FailureKind::Final);
        }
    }
}

struct Troubled {
    inner: Arc<dyn AnyStep>,
    acts: Acts,
}

#[async_trait]
impl AnyStep for Troubled {
    async fn run(&self, input: &Input, work: &Work) -> Result<String, StepError> {
        match self.acts.fail {
            Some(FailureKind::NotDone) if work.attempt == 1 => {
                return Err(StepError::not_done("PLANTED"));
            }
            Some(FailureKind::Unknown) => {
                self.inner.run(input, work).await?;
                return Err(StepError::unknown("PLANTED"));
            }
            Some(FailureKind::Final) => return Err(StepError::refused("PLANTED")),
            _ => {}
        }
        let output = self.inner.run(input, work).await?;
        if self.acts.repeat {
            return self.inner.run(input, work).await;
        }
        Ok(output)
    }

    async fn undo(
        &self,
        input: &Input,
        work: &Work,
        effect: Effect<String>,
    ) -> Result<(), StepError> {
        self.inner.undo(input, work, effect.clone()).await?;
        if self.acts.repeat_undo {
            self.inner.undo(input, work, effect).await?;
        } else if self.acts.fail_undo && work.attempt == 1 {
            return Err(StepError::unknown("PLANTED"));
        }
        Ok(())
    }

    fn paused_for(&self) -> Option<Duration> {
        self.inner.paused_for()
    }
}
