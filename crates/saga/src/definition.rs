//! A saga's definition: its steps, in their order.

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
use sha2::{Digest as _, Sha256};

use crate::{
    PolicyError, Step, StepPolicy,
    machine::{IllegalEntry, Progress, Shape, StepShape},
    run::{AnyStep, Erased, Nothing},
    store::{DefinitionKey, Record},
};

/// The longest name of a saga or a step.
const LONGEST_NAME: usize = 64;

/// A saga's definition: a name, a version, and steps that are done one after the other. If one is
/// refused, those before it are undone in the opposite order.
///
/// A saga that runs keeps to the definition it was started with. One whose steps changed needs
/// another version; keep the old one in the runner until its last saga has ended.
///
/// `I` is what it is started with.
pub struct Saga<I> {
    pub(crate) definition: Arc<Definition>,
    input: PhantomData<fn(I)>,
}

/// A definition that a runner can drive without knowing its types.
pub(crate) struct Definition {
    pub(crate) key: DefinitionKey,
    /// Tells it from every other of this process: references to outputs carry it.
    pub(crate) number: u64,
    pub(crate) shape: Shape,
    pub(crate) steps: Vec<Defined>,
    pub(crate) forward_within: Option<Duration>,
    pub(crate) limit: Option<usize>,
    pub(crate) decode: fn(&[u8]) -> serde_json::Result<Input>,
}

/// What a saga was started with, its type forgotten.
pub(crate) type Input = Box<dyn Any + Send + Sync>;

/// How long a sleep is, by the saga's input.
pub(crate) type Length = Arc<dyn Fn(&Input) -> Duration + Send + Sync>;

/// A step with its name and policy.
#[derive(Clone)]
pub(crate) struct Defined {
    /// It is a sleep of this length.
    pub(crate) sleep: Option<Length>,
    pub(crate) name: Arc<str>,
    pub(crate) policy: StepPolicy,
    pub(crate) step: Arc<dyn AnyStep>,
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
            forward_from: None,
            forward_within: None,
            limit: None,
            input: PhantomData,
        }
    }
}

impl<I> Saga<I> {
    #[cfg(feature = "testing")]
    pub(crate) const fn of(definition: Arc<Definition>) -> Self {
        Self {
            definition,
            input: PhantomData,
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
        Progress::fold(&self.names(), journal)
    }
}

impl<I> Clone for Saga<I> {
    fn clone(&self) -> Self {
        Self {
            definition: Arc::clone(&self.definition),
            input: PhantomData,
        }
    }
}

impl<I> fmt::Debug for Saga<I> {
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
    forward_from: Option<usize>,
    forward_within: Option<Duration>,
    limit: Option<usize>,
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
        let place = self.steps.len();
        self.steps.push(Defined {
            sleep: None,
            name: name.into(),
            policy,
            step: Arc::new(Erased::new(step)),
        });
        Output {
            definition: self.number,
            place,
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
        self.steps.push(Defined {
            sleep: Some(Arc::new(length)),
            name: name.into(),
            policy: StepPolicy::default(),
            step: Arc::new(Nothing),
        });
        self
    }

    /// The step added last is the point of no return: once it is done there is only forward, and
    /// what follows is tried without end while its target is merely down.
    pub fn pivot(&mut self) -> &mut Self {
        self.forward_from = Some(self.steps.len());
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

    /// Checks it.
    ///
    /// # Errors
    ///
    /// [`DefinitionError`], which names what cannot work.
    pub fn build(self) -> Result<Saga<I>, DefinitionError> {
        check_name("the saga", &self.name)?;
        if self.steps.is_empty() {
            return Err(DefinitionError::NoSteps);
        }
        if self.limit == Some(0) {
            return Err(DefinitionError::Concurrency);
        }
        let forward_from = self.forward_from.unwrap_or(self.steps.len());
        let mut hash = Sha256::new();
        hash.update((forward_from as u64).to_be_bytes());
        for (place, step) in self.steps.iter().enumerate() {
            check_name("a step", &step.name)?;
            if self.steps[..place].iter().any(|it| it.name == step.name) {
                return Err(DefinitionError::Twice {
                    name: step.name.to_string(),
                });
            }
            step.policy
                .check()
                .map_err(|source| DefinitionError::Policy {
                    step: step.name.to_string(),
                    source,
                })?;
            hash.update((step.name.len() as u64).to_be_bytes());
            hash.update(step.name.as_bytes());
            if step.sleep.is_some() {
                hash.update(b"\0sleep"); // No name has such bytes.
            }
        }
        let mut shape = [0; 16];
        shape.copy_from_slice(&hash.finalize()[..16]);
        let rules = self.steps.iter().map(|step| StepShape {
            attempts: step.policy.attempts,
            undo_always: step.policy.undo_always,
            sleeps: step.sleep.is_some(),
        });
        let definition = Definition {
            key: DefinitionKey {
                name: self.name,
                version: self.version,
                shape,
            },
            number: self.number,
            shape: Shape {
                forward_from,
                steps: rules.collect(),
            },
            steps: self.steps,
            forward_within: self.forward_within,
            limit: self.limit,
            decode: |input| Ok(Box::new(serde_json::from_slice::<I>(input)?)),
        };
        Ok(Saga {
            definition: Arc::new(definition),
            input: PhantomData,
        })
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

fn check_name(of: &'static str, name: &str) -> Result<(), DefinitionError> {
    let fits = (1..=LONGEST_NAME).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
    if fits {
        Ok(())
    } else {
        Err(DefinitionError::Name { of })
    }
}

/// A definition that cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DefinitionError {
    /// A name is none.
    #[error("the name of {of} must be 1 to 64 of a-z, A-Z, 0-9, '-', '_' and '.'")]
    Name {
        /// Whose.
        of: &'static str,
    },
    /// There is no step.
    #[error("a saga needs a step")]
    NoSteps,
    /// Two steps have one name; the journal tells them apart by it.
    #[error("two steps are called {name}")]
    Twice {
        /// Which.
        name: String,
    },
    /// It may run nowhere.
    #[error("concurrency must be from 1")]
    Concurrency,
    /// A step's policy cannot work.
    #[error("the policy of step {step} cannot work")]
    Policy {
        /// Whose.
        step: String,
        /// Why.
        source: PolicyError,
    },
}
