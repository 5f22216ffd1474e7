//! The handle: start sagas, look at them, help those that need it.

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use buttress_store::{AfterCommit, Key, SqlConnection};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::watch;

use crate::{
    By, Entry, RunnerBuilder, Saga, SagaError, SagaId, State,
    definition::is_name,
    machine::Progress,
    store::{Census, Filter, Hand, NewSaga, NewSignal, Record, Sent, Started, Store, Then, Write},
    view::{History, Summary},
};

/// How long an input may be, as JSON, unless another limit is chosen.
const LONGEST_INPUT: usize = 1024 * 1024;

/// How long a signal's payload may be, as JSON, unless another limit is chosen.
const LONGEST_SIGNAL: usize = 64 * 1024;

/// More children than a saga can have steps.
const MOST_CHILDREN: u32 = 10_000;

/// How many signals a saga may have.
const MOST_SIGNALS: u32 = 1000;

/// The handle of all sagas in a store: start them, look at them, help those that need it.
///
/// Cheap to clone; clones and their runners wake each other.
#[derive(Clone)]
pub struct Sagas {
    store: Arc<dyn Store>,
    wake: Arc<watch::Sender<()>>,
    longest_input: usize,
    longest_signal: usize,
}

/// What a saga is started with, beside its input.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct StartOptions {
    id: Option<SagaId>,
    key: Option<Vec<u8>>,
}

impl StartOptions {
    /// Nothing but the input.
    pub fn new() -> Self {
        Self::default()
    }

    /// It is called this. Starting with one id twice is one saga, also after it has ended: what a
    /// caller needs who did not hear the answer.
    pub const fn id(mut self, id: SagaId) -> Self {
        self.id = Some(id);
        self
    }

    /// Its business key, 1 to 255 bytes. Of one name and key one saga runs at a time: starting
    /// while it runs is the saga that runs.
    pub fn key(mut self, key: impl AsRef<[u8]>) -> Self {
        self.key = Some(key.as_ref().to_vec());
        self
    }
}

impl Sagas {
    /// The sagas in this store.
    #[must_use]
    pub fn new(store: impl Store) -> Self {
        Self::shared(Arc::new(store))
    }

    /// The sagas in this store, which others hold as well.
    #[must_use]
    pub fn shared(store: Arc<dyn Store>) -> Self {
        Self {
            store,
            wake: Arc::new(watch::Sender::new(())),
            longest_input: LONGEST_INPUT,
            longest_signal: LONGEST_SIGNAL,
        }
    }

    /// The same, whose inputs may have so many bytes as JSON; 1 MiB otherwise.
    #[must_use]
    pub const fn with_longest_input(mut self, bytes: usize) -> Self {
        self.longest_input = bytes;
        self
    }

    /// The same, whose signals' payloads may have so many bytes as JSON; 64 KiB otherwise.
    #[must_use]
    pub const fn with_longest_signal(mut self, bytes: usize) -> Self {
        self.longest_signal = bytes;
        self
    }

    /// A runner for these sagas, which this handle wakes.
    pub fn runner(&self) -> RunnerBuilder {
        RunnerBuilder::new(
            Arc::clone(&self.store),
            Arc::clone(&self.wake),
            self.longest_input,
        )
    }

    /// Starts a saga in a transaction of its own.
    ///
    /// Dropping the future leaves it started or not.
    ///
    /// # Errors
    ///
    /// [`SagaError`]. After [`SagaError::Store`] of the class unknown start again with the same
    /// id.
    pub async fn start<I: Serialize, O>(
        &self,
        saga: &Saga<I, O>,
        input: &I,
        options: StartOptions,
    ) -> Result<Started, SagaError> {
        let new = self.new_saga(saga, input, options)?;
        let started = self.store.start(&new).await?;
        self.wake.send_replace(());
        Ok(started)
    }

    /// Starts a saga in a transaction of yours, on the database where sagas are kept: it runs if,
    /// and only if, that commits. Fire what is returned then, and it runs at once.
    ///
    /// It has no deadline of ours; after dropping the future roll the transaction back.
    ///
    /// # Errors
    ///
    /// [`SagaError`].
    pub async fn start_in<I: Serialize, O, C: SqlConnection>(
        &self,
        connection: &mut C,
        saga: &Saga<I, O>,
        input: &I,
        options: StartOptions,
    ) -> Result<(Started, AfterCommit), SagaError> {
        let new = self.new_saga(saga, input, options)?;
        let started = self.store.start_in(connection.lend(), &new).await?;
        let wake = Arc::clone(&self.wake);
        Ok((
            started,
            AfterCommit::new(move || {
                wake.send_replace(());
            }),
        ))
    }

    /// Sends a saga a signal, which the [wait](crate::SagaBuilder::wait) of this name takes: the one
    /// that waits now, or the one that comes later, as long as it is sent before that wait is over.
    /// `key` is the signal's own, 1 to 255 bytes, such as the id of the message that brings it: of
    /// one key a saga has one signal, so sending twice is once; `false` says that it was there
    /// already. At most 1000 signals are kept for a saga, until it is pruned.
    ///
    /// Whether a wait took it, or was over, is in the saga's [`history`](Self::history).
    ///
    /// Dropping the future leaves it sent or not; send it again with the same key.
    ///
    /// # Errors
    ///
    /// [`SagaError::NotFound`]; [`SagaError::WrongState`] when the saga has ended or is being
    /// undone, and so waits no more; [`SagaError::TooManySignals`], [`SagaError::TooLong`],
    /// [`SagaError::Key`], [`SagaError::Store`].
    pub async fn signal<T: Serialize + Sync>(
        &self,
        id: SagaId,
        name: &str,
        key: impl AsRef<[u8]> + Send,
        payload: &T,
    ) -> Result<bool, SagaError> {
        let signal = self.new_signal(id, name, key, payload)?;
        let new = sent(self.store.signal(&signal).await?)?;
        self.wake.send_replace(());
        Ok(new)
    }

    /// The same in a transaction of yours, on the database where sagas are kept: it is sent if, and
    /// only if, that commits. It locks the saga's row until then, so let it be the last statement.
    /// Fire what is returned once it has committed.
    ///
    /// It has no deadline of ours; after dropping the future roll the transaction back.
    ///
    /// # Errors
    ///
    /// As [`signal`](Self::signal).
    pub async fn signal_in<T: Serialize + Sync, C: SqlConnection>(
        &self,
        connection: &mut C,
        id: SagaId,
        name: &str,
        key: impl AsRef<[u8]> + Send,
        payload: &T,
    ) -> Result<(bool, AfterCommit), SagaError> {
        let signal = self.new_signal(id, name, key, payload)?;
        let new = sent(self.store.signal_in(connection.lend(), &signal).await?)?;
        let wake = Arc::clone(&self.wake);
        Ok((
            new,
            AfterCommit::new(move || {
                wake.send_replace(());
            }),
        ))
    }

    /// A saga's summary, without a look at its journal.
    ///
    /// # Errors
    ///
    /// [`SagaError::NotFound`], [`SagaError::Store`].
    pub async fn get(&self, id: SagaId) -> Result<Summary, SagaError> {
        Ok(Summary::of(&self.read(id).await?))
    }

    /// A saga with all that happened to it: its steps, and every line of its journal.
    ///
    /// # Errors
    ///
    /// [`SagaError::NotFound`], [`SagaError::Store`]; [`SagaError::OtherDefinition`] when it was
    /// not started by this one.
    pub async fn history<I, O>(&self, saga: &Saga<I, O>, id: SagaId) -> Result<History, SagaError> {
        let (record, progress) = self.fold(saga, id).await?;
        Ok(History::of(&saga.definition, record, &progress))
    }

    /// The histories of several sagas of one definition, in the order of `ids`, by as few questions
    /// as the store can ask. Those that are not there, and those of other definitions, are left
    /// out.
    ///
    /// # Errors
    ///
    /// [`SagaError::Store`]; [`SagaError::Illegal`], if one journal is.
    pub async fn histories<I, O>(
        &self,
        saga: &Saga<I, O>,
        ids: &[SagaId],
    ) -> Result<Vec<History>, SagaError> {
        let records = self.store.read_all(ids).await?;
        let mut records: HashMap<_, _> = records.into_iter().map(|it| (it.id, it)).collect();
        let mut histories = Vec::with_capacity(records.len());
        for record in ids.iter().filter_map(|id| records.remove(id)) {
            if record.definition == saga.definition.key {
                let progress = saga.definition.fold(&record)?;
                histories.push(History::of(&saga.definition, record, &progress));
            }
        }
        Ok(histories)
    }

    /// Summaries, the latest first.
    ///
    /// # Errors
    ///
    /// [`SagaError::Store`].
    pub async fn list(&self, filter: &Filter) -> Result<Vec<Summary>, SagaError> {
        let records = self.store.list(filter).await?;
        Ok(records.iter().map(Summary::of).collect())
    }

    /// The children that a saga has called, the latest first: what it waits for, or has waited for.
    ///
    /// # Errors
    ///
    /// [`SagaError::Store`].
    pub async fn children(&self, id: SagaId) -> Result<Vec<Summary>, SagaError> {
        let filter = Filter {
            name: None,
            state: None,
            business_key: None,
            parent: Some(id),
            before: None,
            limit: MOST_CHILDREN,
        };
        self.list(&filter).await
    }

    /// What a saga [returned](crate::SagaBuilder::build_returning); `None` until it is completed.
    ///
    /// # Errors
    ///
    /// [`SagaError::NotFound`], [`SagaError::Store`], [`SagaError::OtherDefinition`];
    /// [`SagaError::Output`] when what it returned is no `O`.
    pub async fn returned<I, O: DeserializeOwned>(
        &self,
        saga: &Saga<I, O>,
        id: SagaId,
    ) -> Result<Option<O>, SagaError> {
        let (record, _) = self.fold(saga, id).await?;
        if record.state != State::Completed {
            return Ok(None);
        }
        let output = saga.definition.returned(&record).unwrap_or_default();
        let output = serde_json::from_str(&output).map_err(SagaError::Output)?;
        Ok(Some(output))
    }

    /// How many sagas of each definition are in each state, and for how long the oldest is overdue.
    /// A definition that nobody's runner has shows here as overdue.
    ///
    /// # Errors
    ///
    /// [`SagaError::Store`].
    pub async fn census(&self) -> Result<Vec<Census>, SagaError> {
        Ok(self.store.census().await?)
    }

    /// Sends a saga that needs attention on: what was refused for good is tried again.
    ///
    /// # Errors
    ///
    /// [`SagaError::WrongState`] when it does not need attention; [`SagaError::Moved`].
    pub async fn resume<I, O>(
        &self,
        saga: &Saga<I, O>,
        id: SagaId,
        by: By,
    ) -> Result<(), SagaError> {
        self.intervene(saga, id, |_| Ok(Entry::Resumed { by }))
            .await
    }

    /// Declares a step done that a saga in need of attention cannot get past, with what it is taken
    /// to have returned, and sends it on.
    ///
    /// # Errors
    ///
    /// As [`resume`](Self::resume); [`SagaError::NoSuchStep`].
    pub async fn force<I, O, T: Serialize>(
        &self,
        saga: &Saga<I, O>,
        id: SagaId,
        step: &str,
        output: &T,
        by: By,
    ) -> Result<(), SagaError> {
        let output = serde_json::to_string(output).map_err(SagaError::Input)?;
        self.intervene(saga, id, |steps| {
            let step = place(steps, step)?;
            let output = Some(output);
            Ok(Entry::Forced { step, output, by })
        })
        .await
    }

    /// Declares a step undone that a saga in need of attention cannot undo, and sends it on.
    ///
    /// # Errors
    ///
    /// As [`resume`](Self::resume); [`SagaError::NoSuchStep`].
    pub async fn skip_undo<I, O>(
        &self,
        saga: &Saga<I, O>,
        id: SagaId,
        step: &str,
        by: By,
    ) -> Result<(), SagaError> {
        self.intervene(saga, id, |steps| {
            let step = place(steps, step)?;
            let output = None;
            Ok(Entry::Forced { step, output, by })
        })
        .await
    }

    /// Turns a saga back that has not passed its pivot: what was done is undone. Whoever drives it
    /// loses it; a step that is under way counts as unknown.
    ///
    /// # Errors
    ///
    /// [`SagaError::WrongState`] when it is past its pivot, also if it needs attention there, when it
    /// has ended or is turned back already, or when a child is under way that is its pivot, and has
    /// one itself: then cancel the child; [`SagaError::Moved`].
    pub async fn cancel<I, O>(
        &self,
        saga: &Saga<I, O>,
        id: SagaId,
        by: By,
    ) -> Result<(), SagaError> {
        let (record, progress) = self.fold(saga, id).await?;
        if !saga.definition.may_turn_back(&progress) {
            let state = record.state;
            return Err(SagaError::WrongState { state });
        }
        self.write(record, progress, Entry::Cancelled { by }).await
    }

    /// Removes up to `limit` sagas that ended longer than `age` ago, and says how many. Call it from
    /// time to time, from as many processes as you like.
    ///
    /// # Errors
    ///
    /// [`SagaError::Store`].
    pub async fn prune(&self, age: Duration, limit: u32) -> Result<u64, SagaError> {
        Ok(self.store.prune(age, limit).await?)
    }

    fn new_saga<I: Serialize, O>(
        &self,
        saga: &Saga<I, O>,
        input: &I,
        options: StartOptions,
    ) -> Result<NewSaga, SagaError> {
        let input = json(input, self.longest_input)?;
        Ok(NewSaga {
            id: options.id.unwrap_or_else(SagaId::random),
            definition: saga.definition.key.clone(),
            business_key: options.key.map(Key::new).transpose()?,
            input,
            parent: None,
        })
    }

    fn new_signal<T: Serialize>(
        &self,
        saga: SagaId,
        name: &str,
        key: impl AsRef<[u8]>,
        payload: &T,
    ) -> Result<NewSignal, SagaError> {
        if !is_name(name) {
            // No wait is called that.
            return Err(SagaError::NoSuchStep);
        }
        Ok(NewSignal {
            saga,
            key: Key::new(key)?,
            name: name.to_owned(),
            payload: json(payload, self.longest_signal)?,
            most: MOST_SIGNALS,
        })
    }

    async fn read(&self, id: SagaId) -> Result<Record, SagaError> {
        self.store.read(id).await?.ok_or(SagaError::NotFound)
    }

    async fn fold<I, O>(
        &self,
        saga: &Saga<I, O>,
        id: SagaId,
    ) -> Result<(Record, Progress), SagaError> {
        let record = self.read(id).await?;
        if record.definition != saga.definition.key {
            return Err(SagaError::OtherDefinition);
        }
        let progress = saga.definition.fold(&record)?;
        Ok((record, progress))
    }

    async fn intervene<I, O>(
        &self,
        saga: &Saga<I, O>,
        id: SagaId,
        entry: impl FnOnce(&[&str]) -> Result<Entry, SagaError>,
    ) -> Result<(), SagaError> {
        let (record, progress) = self.fold(saga, id).await?;
        if record.state != State::NeedsAttention {
            let state = record.state;
            return Err(SagaError::WrongState { state });
        }
        let entry = entry(&saga.definition.names())?;
        self.write(record, progress, entry).await
    }

    async fn write(
        &self,
        record: Record,
        mut progress: Progress,
        entry: Entry,
    ) -> Result<(), SagaError> {
        let state = record.state;
        if progress.apply(&entry).is_none() {
            return Err(match entry {
                Entry::Forced { .. } => SagaError::NoSuchStep,
                _ => SagaError::WrongState { state },
            });
        }
        let write = Write {
            expected: record.entries,
            entries: vec![entry],
            state: progress.state,
            reason: progress.reason,
            then: Then::Release(Duration::ZERO),
            progress: true,
            starts: Vec::new(),
            wakes: None,
        };
        if !self.store.append(record.id, Hand::Operator, &write).await? {
            return Err(SagaError::Moved);
        }
        self.wake.send_replace(());
        Ok(())
    }
}

/// As JSON, if that is not too long.
fn json(value: &impl Serialize, longest: usize) -> Result<Vec<u8>, SagaError> {
    let json = serde_json::to_vec(value).map_err(SagaError::Input)?;
    if json.len() > longest {
        return Err(SagaError::TooLong {
            length: json.len(),
            longest,
        });
    }
    Ok(json)
}

/// Whether a signal is new, if it was kept.
const fn sent(sent: Sent) -> Result<bool, SagaError> {
    match sent {
        Sent::New => Ok(true),
        Sent::Known => Ok(false),
        Sent::Nobody => Err(SagaError::NotFound),
        Sent::Over(state) => Err(SagaError::WrongState { state }),
        Sent::Full => Err(SagaError::TooManySignals { most: MOST_SIGNALS }),
    }
}

fn place(steps: &[&str], step: &str) -> Result<usize, SagaError> {
    let place = steps.iter().position(|it| *it == step);
    place.ok_or(SagaError::NoSuchStep)
}

impl fmt::Debug for Sagas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sagas").finish_non_exhaustive()
    }
}
