//! A saga's definition: its steps, in their order.

mod build;
mod child;
mod error;
mod fork;
mod pause;

use std::{
    any::Any,
    fmt,
    marker::PhantomData,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde::{Serialize, de::DeserializeOwned};

use self::pause::{TIMED_OUT, taken};
pub use self::{child::ChildContext, error::DefinitionError, fork::Fork, pause::Waited};
pub(crate) use self::{
    child::{Child, Given, NO_CHILD},
    pause::Pause,
};
use crate::{
    Step, StepPolicy,
    graph::Graph,
    machine::{IllegalEntry, Progress, Shape},
    run::{AnyStep, Erased, Nothing},
    store::{DefinitionKey, Record},
};

/// The longest name of a saga or a step.
const LONGEST_NAME: usize = 64;

/// A saga's definition: a name, a version, and steps that are done one after the other, or side by
/// side in [branches](SagaBuilder::fork). If one is refused, those before it are undone in the
/// opposite order.
///
/// A saga that runs keeps to the definition it was started with. One whose steps changed needs
/// another version; keep the old one in the runner until its last saga has ended.
///
/// `I` is what it is started with, and `O` what it returns, if it was
/// [built](SagaBuilder::build_returning) to return something.
pub struct Saga<I, O = ()> {
    pub(crate) definition: Arc<Definition>,
    types: PhantomData<fn(I) -> O>,
}

/// A definition that a runner can drive without knowing its types.
pub(crate) struct Definition {
    pub(crate) key: DefinitionKey,
    /// Tells it from every other of this process: references to outputs carry it.
    pub(crate) number: u64,
    pub(crate) shape: Shape,
    pub(crate) steps: Vec<Defined>,
    /// Some of its steps are done side by side.
    pub(crate) branches: bool,
    /// It has a point of no return.
    pub(crate) pivot: bool,
    /// It may wait for signals or children.
    pub(crate) listens: bool,
    /// How many sagas are nested in it, with itself.
    pub(crate) depth: usize,
    /// Which step's output it returns.
    pub(crate) returns: Option<usize>,
    pub(crate) forward_within: Option<Duration>,
    pub(crate) limit: Option<usize>,
    pub(crate) decode: fn(&[u8]) -> serde_json::Result<Input>,
}

/// What a saga was started with, its type forgotten.
pub(crate) type Input = Box<dyn Any + Send + Sync>;

/// A step with its name and policy.
#[derive(Clone)]
pub(crate) struct Defined {
    /// It is none: it sleeps or waits, or is a child saga.
    pub(crate) pause: Option<Pause>,
    pub(crate) name: Arc<str>,
    pub(crate) policy: StepPolicy,
    pub(crate) step: Arc<dyn AnyStep>,
}

impl Defined {
    /// Whether it waits for a signal.
    pub(crate) const fn waits(&self) -> bool {
        matches!(self.pause, Some(Pause::Wait { .. }))
    }

    /// The saga that it is, if it is one.
    pub(crate) const fn child(&self) -> Option<&Child> {
        match &self.pause {
            Some(Pause::Child(child)) => Some(child),
            _ => None,
        }
    }

    /// Whether it is a child that may not be there to be undone.
    pub(crate) fn decides(&self) -> bool {
        self.child().is_some_and(|child| child.definition.pivot)
    }
}

impl<I> Saga<I>
where
    I: Serialize + DeserializeOwned + Send + Sync + 'static,
{
    /// A definition without steps, to be given some and [built](SagaBuilder::build).
    pub fn define(name: &str, version: u32) -> SagaBuilder<I> {
        static DEFINED: AtomicU64 = AtomicU64::new(0);
        SagaBuilder {
            name: name.to_owned(),
            version,
            number: DEFINED.fetch_add(1, Ordering::Relaxed),
            steps: Vec::new(),
            graph: Graph::default(),
            forward_within: None,
            limit: None,
            returns: None,
            input: PhantomData,
        }
    }
}

impl<I, O> Saga<I, O> {
    #[cfg(feature = "testing")]
    pub(crate) const fn of(definition: Arc<Definition>) -> Self {
        Self {
            definition,
            types: PhantomData,
        }
    }

    /// What stores know it by.
    #[must_use]
    pub fn key(&self) -> &DefinitionKey {
        &self.definition.key
    }

    /// The names of its steps and sleeps, in their order.
    pub fn steps(&self) -> impl Iterator<Item = &str> {
        self.definition.steps.iter().map(|step| &*step.name)
    }
}

impl Definition {
    pub(crate) fn names(&self) -> Vec<&str> {
        self.steps.iter().map(|step| &*step.name).collect()
    }

    /// Where a saga of it stands.
    pub(crate) fn fold(&self, record: &Record) -> Result<Progress, IllegalEntry> {
        let journal = record.journal.iter().map(|line| &line.entry);
        Progress::fold(&self.names(), &self.shape.before, journal)
    }

    /// Whether a saga that stands there can still be turned back by somebody: it goes forward, or
    /// needs attention on that way, and nobody has decided that there is no other.
    pub(crate) fn may_turn_back(&self, progress: &Progress) -> bool {
        let mut until_pivot = progress.steps.iter().take(self.shape.forward_from);
        let passed = self.pivot && until_pivot.all(|it| it.output.is_some());
        // Whether a child that is not there has decided nobody will ever tell but who asks for this.
        let gone = progress.parked.as_deref() == Some(NO_CHILD);
        let mut steps = progress.steps.iter().zip(&self.steps);
        let decided = steps
            .any(|(it, step)| step.decides() && it.child.is_some() && it.asleep.is_some() && !gone);
        progress.reason.is_none() && !passed && !decided
    }
}

impl<I, O> Clone for Saga<I, O> {
    fn clone(&self) -> Self {
        Self {
            definition: Arc::clone(&self.definition),
            types: PhantomData,
        }
    }
}

impl<I, O> fmt::Debug for Saga<I, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.definition.fmt(f)
    }
}

impl fmt::Debug for Definition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Saga")
            .field("name", &self.key.name)
            .field("version", &self.key.version)
            .field("steps", &self.names())
            .finish_non_exhaustive()
    }
}

/// A saga's definition in the making.
#[must_use = "build it"]
pub struct SagaBuilder<I> {
    name: String,
    version: u32,
    number: u64,
    steps: Vec<Defined>,
    graph: Graph,
    forward_within: Option<Duration>,
    limit: Option<usize>,
    returns: Option<usize>,
    input: PhantomData<fn(I)>,
}

impl<I> SagaBuilder<I>
where
    I: Serialize + DeserializeOwned + Send + Sync + 'static,
{
    /// Adds a step, and gives what later steps read its output by.
    pub fn step<S: Step<Input = I>>(&mut self, name: &str, step: S) -> Output<S::Output> {
        self.step_with(name, step, StepPolicy::default())
    }

    /// The same by a policy of its own.
    pub fn step_with<S: Step<Input = I>>(
        &mut self,
        name: &str,
        step: S,
        policy: StepPolicy,
    ) -> Output<S::Output> {
        self.graph.push();
        self.steps.push(Defined {
            pause: None,
            name: name.into(),
            policy,
            step: Arc::new(Erased::new(step)),
        });
        self.output()
    }

    /// What the step added last returns.
    fn output<T>(&self) -> Output<T> {
        Output {
            definition: self.number,
            place: self.steps.len() - 1,
            value: PhantomData,
        }
    }

    /// Between two steps, or before the first, it sleeps for so long: held by nobody, counted by the
    /// store's clock, through restarts of everybody. It is as exact as a runner's poll. A sleep has
    /// a place in the journal and a name like a step, and nothing to be undone; before the pivot it
    /// ends where [`forward_within`](Self::forward_within) does, and a saga that is cancelled wakes.
    pub fn sleep(&mut self, name: &str, length: Duration) -> &mut Self {
        self.sleep_by(name, move |_| length)
    }

    /// The same for as long as the input says. It is asked once, when the sleep begins; should it
    /// panic, the saga needs attention (`SLEEP`).
    pub fn sleep_by(
        &mut self,
        name: &str,
        length: impl Fn(&I) -> Duration + Send + Sync + 'static,
    ) -> &mut Self {
        // Inputs are of no other type: the definition decodes them.
        let length = move |input: &Input| input.downcast_ref().map(&length).unwrap_or_default();
        self.pause(name, Pause::Sleep(Arc::new(length)))
    }

    /// It waits for a [signal](crate::Sagas::signal) of this name, held by nobody, and goes on with
    /// what was sent, or without it once so much time has passed. A signal that was sent before is
    /// there already. Of several the first is taken, by the time at which it was sent. It is as
    /// exact as a runner's poll, or as the wake-up of a handle in the same process.
    ///
    /// Like a sleep it has a place in the journal, and nothing to be undone. A payload that is no
    /// `T` puts the saga in need of attention (`SIGNAL`); [`force`](crate::Sagas::force) gives
    /// another.
    pub fn wait<T>(&mut self, name: &str, within: Duration) -> Output<Waited<T>>
    where
        T: Serialize + DeserializeOwned + Send + Sync + 'static,
    {
        self.pause(
            name,
            Pause::Wait {
                within: Arc::new(move |_| within),
                takes: |payload| {
                    let payload = taken::<T>(payload)?;
                    Some(format!("{{\"came\":{payload}}}"))
                },
                missed: Some(TIMED_OUT),
            },
        );
        self.output()
    }

    /// The same for a saga that cannot go on without: if no signal comes in time it is turned back
    /// (`NO_SIGNAL`), and behind the pivot it needs attention; there
    /// [`resume`](crate::Sagas::resume) begins the wait anew.
    pub fn wait_or_turn_back<T>(&mut self, name: &str, within: Duration) -> Output<T>
    where
        T: Serialize + DeserializeOwned + Send + Sync + 'static,
    {
        self.pause(
            name,
            Pause::Wait {
                within: Arc::new(move |_| within),
                takes: taken::<T>,
                missed: None,
            },
        );
        self.output()
    }

    fn pause(&mut self, name: &str, pause: Pause) -> &mut Self {
        self.graph.push();
        self.steps.push(Defined {
            pause: Some(pause),
            name: name.into(),
            policy: StepPolicy::default(),
            step: Arc::new(Nothing),
        });
        self
    }

    /// Branches that are done side by side: each is a row of steps, sleeps, waits and further forks
    /// of its own, all begin once what stands before the fork is done, and what is added behind the
    /// fork begins once all of them are. It can read the outputs of all.
    ///
    /// If a step of one branch fails for good, what is under way in the others may end, nothing new
    /// begins, and all that was done is undone, the step added last first.
    ///
    /// ```
    /// # use buttress_saga::{Context, Saga, Step, StepError};
    /// # struct Book;
    /// # impl Step for Book {
    /// #     type Input = u64;
    /// #     type Output = u64;
    /// #     async fn run(&self, _: &Context<'_, u64>) -> Result<u64, StepError> { Ok(7) }
    /// # }
    /// let mut trip = Saga::define("trip", 1);
    /// let (flight, hotel) = trip.fork(|fork| {
    ///     let flight = fork.branch(|branch| branch.step("flight", Book));
    ///     let hotel = fork.branch(|branch| {
    ///         branch.step("ask", Book);
    ///         branch.step("hotel", Book)
    ///     });
    ///     (flight, hotel)
    /// });
    /// trip.step("confirm", Book); // reads flight and hotel
    /// # let _ = (flight, hotel);
    /// # let trip: Saga<u64> = trip.build()?;
    /// # Ok::<(), buttress_saga::DefinitionError>(())
    /// ```
    pub fn fork<R>(&mut self, branches: impl FnOnce(&mut Fork<'_, I>) -> R) -> R {
        let from = self.graph.ends().to_vec();
        let mut fork = Fork {
            saga: self,
            from,
            ends: Vec::new(),
        };
        let result = branches(&mut fork);
        let (from, mut ends) = (fork.from, fork.ends);
        if ends.is_empty() {
            ends = from;
        }
        ends.sort_unstable();
        ends.dedup();
        self.graph.go_on_from(ends);
        result
    }

    /// What is added next begins once these steps are done, and needs no other: any graph can be
    /// made of it. `[]` is the start. They must have been added before, so there are no circles.
    /// What is added behind that goes on from there.
    pub fn after<'n>(&mut self, steps: impl IntoIterator<Item = &'n str>) -> &mut Self {
        let mut ends = Vec::new();
        for name in steps {
            match self.steps.iter().position(|it| &*it.name == name) {
                Some(place) => ends.push(place),
                None => self.graph.misses(name),
            }
        }
        ends.sort_unstable();
        ends.dedup();
        self.graph.go_on_from(ends);
        self
    }

    /// The step added last is the point of no return: once it is done there is only forward, and
    /// what follows is tried without end while its target is merely down. Directly behind a fork it
    /// is the end of all branches. No step may be done beside it: those added before come before
    /// it, and those added later come after it.
    pub fn pivot(&mut self) -> &mut Self {
        self.graph.pivot();
        self
    }

    /// The way to the pivot may take so long, from the start on; then the saga is turned back, once
    /// the attempt under way has ended. Undoing has no such limit.
    pub fn forward_within(&mut self, limit: Duration) -> &mut Self {
        self.forward_within = Some(limit);
        self
    }

    /// How many sagas of it one runner drives at once, beside the runner's own limit.
    pub fn concurrency(&mut self, limit: usize) -> &mut Self {
        self.limit = Some(limit);
        self
    }
}

impl<I> fmt::Debug for SagaBuilder<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SagaBuilder")
            .field("name", &self.name)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// What later steps read a step's output by: [`Context::output`](crate::Context::output).
pub struct Output<T> {
    pub(crate) definition: u64,
    pub(crate) place: usize,
    value: PhantomData<fn() -> T>,
}

impl<T> Copy for Output<T> {}

impl<T> Clone for Output<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> fmt::Debug for Output<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Output").field(&self.place).finish()
    }
}

pub(crate) fn is_name(name: &str) -> bool {
    (1..=LONGEST_NAME).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}
