//! Work in phases: what each came to is stored with its writes, and after a crash the next one who
//! comes goes on from there.

use std::{borrow::Cow, sync::Arc, time::Duration};

use buttress_core::Fault;
use buttress_store::{LeaseLost, SqlConnection, StoreError};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    EventKind, Guard,
    guard::insist,
    progress::{Checkpoint, PhaseChanged, Wrong, is_name},
    tracker::Finishing,
};

/// A phase could not be passed, or not be told. What it did is not recorded as done: in a
/// transaction, roll it back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PhaseError {
    /// The work was begun by a program with other phases.
    #[error("the work was begun by a program with other phases")]
    Changed(#[from] PhaseChanged),
    /// The phase was passed before this run, which did not ask for it by `passed`. Its effect is
    /// there already.
    #[error("this phase was passed before, and would be done again")]
    Passed,
    /// A phase cannot be called so.
    #[error("a phase's name has 1 to 64 visible ASCII characters")]
    Name,
    /// What came of the phase cannot be written as JSON.
    #[error("what came of the phase cannot be written")]
    Unwritable,
    /// What is stored of the phase is of another type, or not ours.
    #[error("what came of the phase cannot be read as this type")]
    Unreadable,
    /// All phases together are larger than the policy lets them be. Keep a reference to what is
    /// large, and the thing itself in a table of yours.
    #[error("phases of {length} bytes, of at most {longest}")]
    TooLarge {
        /// Their length.
        length: usize,
        /// What the policy allows.
        longest: usize,
    },
    /// The claim had gone to another, or the store has passed another phase than this guard knows
    /// of: one whose commit was not answered, say. Drop the guard; who comes next is told.
    #[error("the claim on the key is lost, or its phases are others than this guard's")]
    Lost(#[source] LeaseLost),
    /// The store did not answer. Whether it was recorded is what the error's class says.
    #[error("the phase could not be recorded")]
    Store(#[from] StoreError),
}

/// What was passed is a value on its way; reading and writing it is one place.
impl Guard {
    /// What came of the phase of this name, if it was passed before a crash: skip it then. `None`:
    /// do it, and say so by [`phase_in`](Self::phase_in) or [`phase`](Self::phase).
    ///
    /// Ask for each phase, in the same order in every run; each name once. A program that asks in
    /// another order than the one that began the work is told so and does nothing wrong.
    ///
    /// ```
    /// # use buttress_idempotency::{Begin, Fingerprint, Idempotency, Key, Scope, store::MemoryStore};
    /// # async fn reserve() -> u64 { 7 }
    /// # async fn charge(_: u64, _: String) -> String { "ch_1".into() }
    /// # async fn order(mut guard: buttress_idempotency::Guard) -> Result<(), Box<dyn std::error::Error>> {
    /// let seat: u64 = match guard.passed("reserved")? {
    ///     Some(seat) => seat, // before a crash
    ///     None => {
    ///         let seat = reserve().await;
    ///         guard.phase("reserved", &seat).await?;
    ///         seat
    ///     }
    /// };
    /// if guard.passed::<String>("charged")?.is_none() {
    ///     let charge = charge(seat, guard.derived_key("charge")).await;
    ///     guard.phase("charged", &charge).await?;
    /// }
    /// guard.complete(format!("seat {seat}")).await?;
    /// # Ok(()) }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let idempotency = Idempotency::new(MemoryStore::new());
    /// # let key = Scope::of(["t"]).key(&Key::new("k")?);
    /// # let Begin::New(guard) = idempotency.begin(&key, &Fingerprint::none()).await? else { panic!() };
    /// # order(guard).await
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`PhaseError`], when the phase that was passed there has another name, or its output
    /// another type. Nothing was done.
    pub fn passed<T: DeserializeOwned>(&mut self, name: &str) -> Result<Option<T>, PhaseError> {
        named(name)?;
        let output = self.progress.passed(name)?;
        if self.progress.has_gone_on() {
            self.confirm();
        }
        let Some(output) = output else {
            return Ok(None);
        };
        // What serde says of it may have a value in it.
        let output = serde_json::from_slice(&output).map_err(|_| PhaseError::Unreadable)?;
        Ok(Some(output))
    }

    /// The phase is done, and this came of it: written in your transaction, which holds all that
    /// the phase did. Both are committed, or neither. Do it last, and commit at once: who comes
    /// with the key meanwhile may have to wait, and so may the heartbeat.
    ///
    /// When the transaction is rolled back, do the phase again, under the same name. When its
    /// commit is not answered, drop the guard: who comes next knows.
    ///
    /// All outputs together are bounded by the policy's `longest_progress`; each phase writes all
    /// of them anew.
    ///
    /// Dropping the future leaves the connection in the middle of a statement: roll back.
    ///
    /// # Errors
    ///
    /// [`PhaseError`]: roll back.
    pub async fn phase_in<C: SqlConnection, T: Serialize + Sync>(
        &mut self,
        connection: &mut C,
        name: &str,
        output: &T,
    ) -> Result<(), PhaseError> {
        let checkpoint = self.next(name, output)?;
        if let Some(held) = &self.held {
            let fence = held.lease.fence();
            let store = &self.inner.store;
            let stored = store.checkpoint_in(connection.lend(), &self.key, fence, &checkpoint);
            let stored = stored.await;
            self.is_ours(stored.inspect_err(|_| self.inner.failed("checkpoint_in"))?)?;
        }
        self.progress.stored(checkpoint);
        self.passing = true;
        Ok(())
    }

    /// The phase is done, and this came of it. For what was done at somebody else's, under a
    /// [derived key](Self::derived_key): a crash between the deed and this repeats the deed.
    ///
    /// When the store does not answer it is tried again, for the policy's patience.
    ///
    /// Dropping the future does not stop it, once it was polled.
    ///
    /// # Errors
    ///
    /// [`PhaseError`]: it is not recorded, or nobody knows.
    pub async fn phase<T: Serialize + Sync>(
        &mut self,
        name: &str,
        output: &T,
    ) -> Result<(), PhaseError> {
        let checkpoint = self.next(name, output)?;
        if let Some(held) = &self.held {
            let fence = held.lease.fence();
            let (inner, key) = (Arc::clone(&self.inner), self.key.clone());
            let (tracker, step) = (inner.tracker.clone(), checkpoint.clone());
            let store = async move {
                let ask = || inner.store.checkpoint(&key, fence, &step);
                insist(&inner, "checkpoint", ask).await
            };
            self.is_ours(Finishing::new(&tracker, store, |_| None).await?)?;
        }
        self.progress.stored(checkpoint);
        self.passing = true;
        self.confirm();
        Ok(())
    }

    fn next<T: Serialize>(&mut self, name: &str, output: &T) -> Result<Checkpoint, PhaseError> {
        named(name)?;
        let output = serde_json::to_vec(output).map_err(|_| PhaseError::Unwritable)?;
        let checkpoint = self.progress.next(name, &output)?;
        let (length, longest) = (checkpoint.after.len(), self.inner.policy.longest_progress());
        if length > longest {
            return Err(PhaseError::TooLarge { length, longest });
        }
        match self.progress.stands_on_last(&checkpoint) {
            true => self.confirm(),
            // It is done again, for its transaction was rolled back.
            false => self.passing = false,
        }
        Ok(checkpoint)
    }

    fn is_ours(&self, stored: bool) -> Result<(), PhaseError> {
        if stored {
            return Ok(());
        }
        self.inner.tell(EventKind::Refused);
        Err(PhaseError::Lost(LeaseLost::Taken))
    }
}

fn named(name: &str) -> Result<(), PhaseError> {
    match is_name(name) {
        true => Ok(()),
        false => Err(PhaseError::Name),
    }
}

impl From<Wrong> for PhaseError {
    fn from(wrong: Wrong) -> Self {
        match wrong {
            Wrong::Changed(changed) => Self::Changed(changed),
            Wrong::Passed => Self::Passed,
            Wrong::Unreadable => Self::Unreadable,
        }
    }
}

impl Fault for PhaseError {
    fn code(&self) -> &'static str {
        match self {
            Self::Lost(_) => "IDEMPOTENCY_KEY_IN_USE",
            Self::Store(error) => Fault::code(error),
            _ => "INTERNAL",
        }
    }

    fn status(&self) -> u16 {
        match self {
            Self::Lost(_) => 409,
            Self::Store(error) => error.status(),
            _ => 500,
        }
    }

    fn public_message(&self) -> Cow<'_, str> {
        match self {
            Self::Lost(_) => "A request with this idempotency key is being processed.".into(),
            Self::Store(error) => error.public_message(),
            _ => "Something went wrong on our side.".into(),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Lost(_) => Some(Duration::from_secs(1)),
            Self::Store(error) => Fault::retry_after(error),
            _ => None,
        }
    }
}
