//! Steps that are sagas themselves.

use std::{fmt, sync::Arc, time::Duration};

use serde::{Serialize, de::DeserializeOwned};

use super::{Definition, Input, Output, Saga, SagaBuilder, pause::Pause};
use crate::{OutputError, SagaId, context::read_output, run::SLEPT};

/// How deep sagas may be nested: a saga, its child, its child's child, and so on.
pub(super) const DEEPEST: usize = 8;

/// What is parked, or cannot be undone, because its child is not there.
pub(crate) const NO_CHILD: &str = "NO_CHILD";

/// The child of a step, its types forgotten.
#[derive(Clone)]
pub(crate) struct Child {
    pub(crate) definition: Arc<Definition>,
    /// For how long it is waited for.
    pub(crate) within: Option<Duration>,
    /// Makes its input, as JSON.
    pub(crate) input: MakeInput,
    /// Whether an output is of the type that is wanted.
    pub(crate) fits: fn(&str) -> bool,
}

/// Makes a child's input of where its parent stands.
pub(crate) type MakeInput =
    Arc<dyn Fn(&Input, &Given<'_>) -> Result<Vec<u8>, OutputError> + Send + Sync>;

/// Where a saga stands that calls a child.
#[derive(Clone, Copy)]
pub(crate) struct Given<'w> {
    pub(crate) id: SagaId,
    pub(crate) definition: u64,
    /// As JSON, by place.
    pub(crate) outputs: &'w [Option<String>],
}

/// What a child's input is made of: its parent's input, and the outputs of the steps before it.
#[derive(Clone, Copy)]
pub struct ChildContext<'w, I> {
    input: &'w I,
    given: Given<'w>,
}

impl<I> ChildContext<'_, I> {
    /// What the parent was started with.
    #[must_use]
    pub const fn input(&self) -> &I {
        self.input
    }

    /// Which saga the parent is.
    #[must_use]
    pub const fn saga_id(&self) -> SagaId {
        self.given.id
    }

    /// What an earlier step returned.
    ///
    /// # Errors
    ///
    /// [`OutputError`]. Returned from the closure, it puts the parent in need of attention
    /// (`CHILD`).
    pub fn output<T: DeserializeOwned>(&self, of: Output<T>) -> Result<T, OutputError> {
        read_output(self.given.definition, self.given.outputs, of)
    }
}

impl<I> fmt::Debug for ChildContext<'_, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChildContext")
            .field("saga_id", &self.given.id)
            .finish_non_exhaustive()
    }
}

impl<I> SagaBuilder<I>
where
    I: Serialize + DeserializeOwned + Send + Sync + 'static,
{
    /// Adds a step that is a saga itself, a child. It is started by the commit that begins the step,
    /// with the input that `input` makes, and waited for, held by nobody, until it has ended.
    /// Completed, its [output](SagaBuilder::build_returning) is this step's. If it is undone, for
    /// whatever reason, the step is refused with the code of that reason.
    ///
    /// If this saga is turned back, so is the child: one that is under way goes no further, one that
    /// was completed is undone, its last step first, and this saga waits for it. A child that needs
    /// attention is waited for until it was helped.
    ///
    /// A child with a pivot cannot always be undone. It must be this saga's pivot, or come behind
    /// it; as the pivot it decides for both, so neither [`forward_within`](Self::forward_within) nor
    /// [`cancel`](crate::Sagas::cancel) turns this saga back while such a child is under way.
    ///
    /// The child is driven by whatever runner has its definition, in this process or another. It is
    /// found by [`children`](crate::Sagas::children); its business key is what the step's idempotency
    /// key would be. Hand on in its input what it is to be traced by.
    ///
    /// An error or a panic of `input`, and an output that is no `O`, put this saga in need of
    /// attention (`CHILD`).
    pub fn child<C, O>(
        &mut self,
        name: &str,
        saga: &Saga<C, O>,
        input: impl Fn(&ChildContext<'_, I>) -> Result<C, OutputError> + Send + Sync + 'static,
    ) -> Output<O>
    where
        C: Serialize,
        O: DeserializeOwned,
    {
        self.call(name, saga, None, input)
    }

    /// The same for a child that must have ended within this time, by the store's clock, counted
    /// from its start. If it has not, this saga is turned back (`CHILD_TIMED_OUT`), and the child
    /// with it; behind the pivot this saga needs attention, and [`resume`](crate::Sagas::resume)
    /// waits anew for the same child.
    pub fn child_within<C, O>(
        &mut self,
        name: &str,
        saga: &Saga<C, O>,
        within: Duration,
        input: impl Fn(&ChildContext<'_, I>) -> Result<C, OutputError> + Send + Sync + 'static,
    ) -> Output<O>
    where
        C: Serialize,
        O: DeserializeOwned,
    {
        self.call(name, saga, Some(within), input)
    }

    fn call<C, O>(
        &mut self,
        name: &str,
        saga: &Saga<C, O>,
        within: Option<Duration>,
        input: impl Fn(&ChildContext<'_, I>) -> Result<C, OutputError> + Send + Sync + 'static,
    ) -> Output<O>
    where
        C: Serialize,
        O: DeserializeOwned,
    {
        let make = move |of: &Input, given: &Given<'_>| {
            // Inputs are of no other type: the definition decodes them.
            let of = of.downcast_ref().ok_or(OutputError::Unreadable)?;
            let made = input(&ChildContext {
                input: of,
                given: *given,
            })?;
            serde_json::to_vec(&made).map_err(|_| OutputError::Unreadable)
        };
        self.pause(
            name,
            Pause::Child(Child {
                definition: Arc::clone(&saga.definition),
                within,
                input: Arc::new(make),
                fits: |output| serde_json::from_str::<O>(output).is_ok(),
            }),
        );
        self.output()
    }
}

impl Definition {
    /// What a saga of it returned, by its journal. It may be of an earlier definition than this: the
    /// step is known by its name then.
    pub(crate) fn returned(&self, record: &crate::store::Record) -> Option<String> {
        use crate::Entry;
        let Some(place) = self.returns else {
            return Some(SLEPT.to_owned());
        };
        let wanted = &*self.steps.get(place)?.name;
        let mut at = (record.definition == self.key).then_some(place);
        let mut returned = None;
        for line in &record.journal {
            match &line.entry {
                Entry::Started { step, name, .. }
                | Entry::Sleeping { step, name, .. }
                | Entry::Waiting { step, name, .. }
                | Entry::Calling { step, name, .. }
                    if name == wanted =>
                {
                    at = Some(*step);
                }
                Entry::Succeeded { step, output }
                | Entry::Forced {
                    step,
                    output: Some(output),
                    ..
                } if at == Some(*step) => returned = Some(output.clone()),
                _ => {}
            }
        }
        returned
    }
}
