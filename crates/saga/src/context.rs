//! What a step is given: the saga's input, earlier outputs, and a key to be idempotent by.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use buttress_store::{Fence, SqlConnection, StoreError};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    Entry, Output, SagaId, State, StepError,
    store::{Hand, Store, Then, Write},
};

/// What a step is given when it runs.
#[derive(Clone, Copy)]
pub struct Context<'w, I> {
    pub(crate) input: &'w I,
    pub(crate) work: &'w Work,
}

/// What an undo is given: the same as its step, and why it is undone.
#[derive(Clone, Copy)]
pub struct UndoContext<'w, I> {
    pub(crate) input: &'w I,
    pub(crate) work: &'w Work,
}

/// One attempt at a step or its undo.
pub(crate) struct Work {
    pub(crate) id: SagaId,
    pub(crate) definition: u64,
    pub(crate) name: Arc<str>,
    pub(crate) step: usize,
    pub(crate) attempt: u32,
    /// As JSON, by place.
    pub(crate) outputs: Vec<Option<String>>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) fence: Fence,
    pub(crate) length: Arc<Mutex<Length>>,
    /// How many lines were known to be there when it first completed itself.
    pub(crate) first: Mutex<Option<u64>>,
    /// Why the saga was turned back.
    pub(crate) reason: Option<String>,
    /// What the journal says once this attempt has succeeded, with this output.
    pub(crate) done: fn(usize, String) -> Entry,
    /// What it says next, behind that.
    pub(crate) then: Vec<Entry>,
    pub(crate) then_state: State,
    pub(crate) then_reason: Option<String>,
    /// Its parent, if it has ended by then.
    pub(crate) wakes: Option<SagaId>,
    /// It was written down as done in a transaction of the step's own, which may have committed.
    pub(crate) completed: AtomicBool,
}

impl<I> Context<'_, I> {
    /// What the saga was started with.
    #[must_use]
    pub const fn input(&self) -> &I {
        self.input
    }

    /// Which saga it is.
    #[must_use]
    pub const fn saga_id(&self) -> SagaId {
        self.work.id
    }

    /// Which attempt at this step, from 1. A step that was interrupted by its worker's death runs
    /// again as the same attempt.
    #[must_use]
    pub const fn attempt(&self) -> u32 {
        self.work.attempt
    }

    /// The same for every attempt at this step of this saga, and for no other step. Printable
    /// ASCII of at most 101 bytes: hand it to what the step calls.
    #[must_use]
    pub fn idempotency_key(&self) -> String {
        self.work.key()
    }

    /// What an earlier step returned.
    ///
    /// # Errors
    ///
    /// [`OutputError`]; it becomes a refusal where a [`StepError`] is wanted.
    pub fn output<T: DeserializeOwned>(&self, of: Output<T>) -> Result<T, OutputError> {
        self.work.output(of)
    }

    /// Completes this step in a transaction of yours, on the database where the sagas are: your
    /// rows and the end of the step are committed together, so the effect is there exactly once.
    /// Commit, and return the same output.
    ///
    /// Should the commit fail, or its answer be lost, return an error of whatever kind: the
    /// journal is asked what became of it.
    ///
    /// It locks the saga's row until your transaction ends, and its parent's, if that ends a child;
    /// so let it be the last statement. It has no deadline of ours; after dropping the future roll
    /// the transaction back.
    ///
    /// # Errors
    ///
    /// [`CompleteError`]; roll back then, and return it.
    pub async fn complete_in<C: SqlConnection, T: Serialize + Sync>(
        &self,
        connection: &mut C,
        output: &T,
    ) -> Result<(), CompleteError> {
        let output = serde_json::to_string(output).map_err(|_| CompleteError::Output)?;
        self.work.complete_in(connection, output).await
    }
}

impl<I> UndoContext<'_, I> {
    /// What the saga was started with.
    #[must_use]
    pub const fn input(&self) -> &I {
        self.input
    }

    /// Which saga it is.
    #[must_use]
    pub const fn saga_id(&self) -> SagaId {
        self.work.id
    }

    /// Which attempt at this undo, from 1.
    #[must_use]
    pub const fn attempt(&self) -> u32 {
        self.work.attempt
    }

    /// The key by which the step itself was made idempotent: what is to be cancelled.
    #[must_use]
    pub fn idempotency_key(&self) -> String {
        self.work.key()
    }

    /// A key for the undo, where that is a call which wants one of its own.
    #[must_use]
    pub fn undo_key(&self) -> String {
        format!("{}.undo", self.work.key())
    }

    /// Why the saga was turned back: the code of the failure that did it, `DEADLINE`, or
    /// `CANCELLED`.
    #[must_use]
    pub fn reason(&self) -> &str {
        self.work.reason.as_deref().unwrap_or_default()
    }

    /// Writes down that this step is undone in a transaction of yours, on the database where the
    /// sagas are: your rows and the end of the undo are committed together, so it is undone exactly
    /// once. All that is said of [`Context::complete_in`] holds here too.
    ///
    /// # Errors
    ///
    /// [`CompleteError`]; roll back then, and return it.
    pub async fn complete_in<C: SqlConnection>(
        &self,
        connection: &mut C,
    ) -> Result<(), CompleteError> {
        self.work.complete_in(connection, String::new()).await
    }

    /// What an earlier step returned.
    ///
    /// # Errors
    ///
    /// [`OutputError`]; it becomes a refusal where a [`StepError`] is wanted.
    pub fn output<T: DeserializeOwned>(&self, of: Output<T>) -> Result<T, OutputError> {
        self.work.output(of)
    }
}

/// What a step of this definition returned.
pub(crate) fn read_output<T: DeserializeOwned>(
    definition: u64,
    outputs: &[Option<String>],
    of: Output<T>,
) -> Result<T, OutputError> {
    if of.definition != definition {
        return Err(OutputError::Foreign);
    }
    let output = outputs.get(of.place).and_then(Option::as_ref);
    let output = output.ok_or(OutputError::NotDone)?;
    serde_json::from_str(output).map_err(|_| OutputError::Unreadable)
}

impl Work {
    fn key(&self) -> String {
        format!("{}.{}", self.id, self.name)
    }

    fn output<T: DeserializeOwned>(&self, of: Output<T>) -> Result<T, OutputError> {
        read_output(self.definition, &self.outputs, of)
    }

    async fn complete_in<C: SqlConnection>(
        &self,
        connection: &mut C,
        output: String,
    ) -> Result<(), CompleteError> {
        let done = (self.done)(self.step, output);
        let entries: Vec<_> = [done].into_iter().chain(self.then.clone()).collect();
        let (mut expected, again) = self.expected(entries.len() as u64);
        // From here on it may have happened, whatever is returned.
        self.completed.store(true, Ordering::Relaxed);
        loop {
            let write = Write {
                expected,
                entries: entries.clone(),
                state: self.then_state,
                reason: self.then_reason.clone(),
                then: Then::Keep,
                progress: true,
                starts: Vec::new(),
                wakes: self.wakes,
            };
            let by = Hand::Holder(self.fence);
            match self
                .store
                .append_in(connection.lend(), self.id, by, &write)
                .await
            {
                Ok(true) => return Ok(()),
                // Others of the saga's steps have written meanwhile. It is longer than was thought,
                // so the next length is none that is still to come: a statement that arrives late,
                // when this attempt has failed, finds it no more.
                Ok(false) if !again && self.may_be_longer(expected, entries.len() as u64) => {
                    expected += 1;
                }
                Ok(false) => return Err(CompleteError::Lost),
                Err(error) => return Err(CompleteError::Store(error)),
            }
        }
    }

    /// How long the journal is at least, and whether this attempt has completed itself before: then
    /// it must be as long as it was, for the lines may be there.
    fn expected(&self, lines: u64) -> (u64, bool) {
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(first) = *first {
            return (first, true);
        }
        let mut length = self.length();
        length.maybe += lines;
        *first = Some(length.known);
        (length.known, false)
    }

    /// Whether lines of others may stand behind so many.
    fn may_be_longer(&self, than: u64, own: u64) -> bool {
        let length = *self.length();
        than < (length.known + length.maybe).saturating_sub(own)
    }

    fn length(&self) -> MutexGuard<'_, Length> {
        self.length.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many lines it may have written, once it has ended.
    pub(crate) fn lines(&self) -> u64 {
        match self.completed.load(Ordering::Relaxed) {
            true => 1 + self.then.len() as u64,
            false => 0,
        }
    }
}

/// What those who share a claim know of how long the journal is: its drive, and its steps that
/// complete themselves.
#[derive(Clone, Copy)]
pub(crate) struct Length {
    /// So many lines are there.
    pub(crate) known: u64,
    /// So many more may be, or may come at any moment.
    pub(crate) maybe: u64,
}

impl<I> fmt::Debug for Context<'_, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.work.describe("Context", f)
    }
}

impl<I> fmt::Debug for UndoContext<'_, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.work.describe("UndoContext", f)
    }
}

impl Work {
    fn describe(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(name)
            .field("saga", &self.id)
            .field("step", &self.name)
            .field("attempt", &self.attempt)
            .finish_non_exhaustive()
    }
}

/// An earlier step's output is not to be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OutputError {
    /// The reference was made by another definition.
    #[error("the output belongs to another saga's definition")]
    Foreign,
    /// The step has not been done: it stands behind this one.
    #[error("the step has not been done yet")]
    NotDone,
    /// What was stored is not of this type: the type has changed since.
    #[error("the output that was stored is not of this type")]
    Unreadable,
}

/// Trying again would not help.
impl From<OutputError> for StepError {
    fn from(error: OutputError) -> Self {
        Self::refused("OUTPUT").because(error)
    }
}

/// A step was not completed in its own transaction, which must be rolled back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompleteError {
    /// Somebody else has the saga now. Nothing of this attempt may count.
    #[error("the saga is another worker's by now")]
    Lost,
    /// The output is no JSON.
    #[error("the output cannot be written as JSON")]
    Output,
    /// The store did not do it.
    #[error("the store did not complete the step")]
    Store(#[source] StoreError),
}

/// The transaction is rolled back, so it was not done.
impl From<CompleteError> for StepError {
    fn from(error: CompleteError) -> Self {
        match error {
            CompleteError::Output => Self::refused("OUTPUT").because(error),
            error => Self::not_done("COMPLETE").because(error),
        }
    }
}
