//! How a drive writes to the journal, and learns what became of it.

use std::{
    sync::{MutexGuard, PoisonError},
    time::Duration,
};

use super::{Drive, Lost};
use crate::{
    Entry, SagaId, State,
    context::Length,
    store::{Record, Then, Write},
};

/// How soon a store that failed is asked again.
const AGAIN: Duration = Duration::from_millis(50);

/// Where a write left the saga.
enum Wrote {
    /// As it was meant.
    Done,
    /// The journal had gone on before it: by a transaction of the step's own.
    Moved,
}

/// What comes after a write.
pub(super) enum After {
    /// The claim was given back.
    Released,
    /// It goes on, and waits no longer than so.
    Goes(Option<Duration>),
}

impl Drive {
    /// Writes down what happened, with all that follows from it. What happened is not written if the
    /// journal has gone on to where it cannot have.
    pub(super) async fn commit(
        &mut self,
        happened: Option<Entry>,
        progress: bool,
    ) -> Result<After, Lost> {
        loop {
            let mut entries = Vec::new();
            self.starts.clear();
            if let Some(happened) = &happened {
                self.note(&mut entries, happened.clone());
            }
            let plan = self.follow(&mut entries);
            let write = Write {
                expected: self.record.entries,
                entries,
                state: self.progress.state,
                reason: self.reason(),
                then: self.then(plan),
                progress,
                starts: std::mem::take(&mut self.starts),
                wakes: self.wakes(self.progress.state),
            };
            match self.write(&write).await? {
                Wrote::Done if write.then == Then::Keep => return Ok(After::Goes(plan.wait)),
                Wrote::Done => return Ok(After::Released),
                Wrote::Moved => {}
            }
        }
    }

    /// Writes until it is known whether it was written. Writing twice writes once: the journal must
    /// have the expected length.
    async fn write(&mut self, write: &Write) -> Result<Wrote, Lost> {
        if write.entries.is_empty() && write.then == Then::Keep {
            return Ok(Wrote::Done);
        }
        let lines = write.entries.len() as u64;
        self.length().maybe += lines;
        let wrote = self.write_out(write).await;
        let known = self.record.entries;
        let mut length = self.length();
        length.known = known;
        length.maybe -= lines;
        drop(length);
        wrote
    }

    async fn write_out(&mut self, write: &Write) -> Result<Wrote, Lost> {
        let (id, fence) = (self.record.id, self.lease.fence());
        let mut unsure = false;
        loop {
            match self.engine.gather.append(id, fence, write).await {
                Ok(true) => {
                    self.record.entries += write.entries.len() as u64;
                    if write.progress {
                        (self.on_progress)();
                    }
                    self.tell_written(&write.entries);
                    if write.reaches_others() {
                        self.engine.wake.send_replace(());
                    }
                    return Ok(Wrote::Done);
                }
                Ok(false) => return self.reread(write, unsure).await,
                Err(_) => {
                    unsure = true;
                    self.pause().await?;
                }
            }
        }
    }

    /// Who waits for it, if it has ended in this state.
    pub(super) const fn wakes(&self, state: State) -> Option<SagaId> {
        match state.has_ended() {
            true => self.record.parent,
            false => None,
        }
    }

    /// What is known of how long the journal is.
    pub(super) fn length(&self) -> MutexGuard<'_, Length> {
        self.length.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The store refused a write: it was there already, or the step wrote by itself, or another
    /// has the saga.
    async fn reread(&mut self, write: &Write, unsure: bool) -> Result<Wrote, Lost> {
        let record = self.read().await?;
        let epoch = self.lease.fence().epoch();
        if record.epoch != epoch {
            return Err(Lost);
        }
        let expected = usize::try_from(write.expected).map_err(|_| Lost)?;
        let behind = record.journal.get(expected..).ok_or(Lost)?;
        let same = behind.len() == write.entries.len()
            && behind
                .iter()
                .zip(&write.entries)
                .all(|(line, entry)| line.entry == *entry && line.epoch == epoch);
        if unsure && same {
            self.record.entries = record.entries;
            return Ok(Wrote::Done);
        }
        if !record.held || behind.is_empty() {
            return Err(Lost);
        }
        self.adopt(&record)?;
        Ok(Wrote::Moved)
    }

    /// Whether the journal has gone on by a transaction of the step's own. Then this goes on from
    /// there.
    pub(super) async fn look(&mut self) -> Result<(), Lost> {
        let record = self.read().await?;
        if record.epoch != self.lease.fence().epoch() {
            return Err(Lost);
        }
        if record.entries == self.record.entries {
            return Ok(());
        }
        if record.entries < self.record.entries {
            // The store has forgotten what it said was written. Whoever claims it next begins with
            // what is there.
            return Err(Lost);
        }
        (self.on_progress)();
        self.adopt(&record)
    }

    fn adopt(&mut self, record: &Record) -> Result<(), Lost> {
        self.progress = self.definition.fold(record).map_err(|_| Lost)?;
        self.record.entries = record.entries;
        self.length().known = record.entries;
        Ok(())
    }

    async fn read(&self) -> Result<Record, Lost> {
        loop {
            match self.engine.store.read(self.record.id).await {
                Ok(Some(record)) => return Ok(record),
                Ok(None) => return Err(Lost),
                Err(_) => self.pause().await?,
            }
        }
    }

    /// Waits a moment for a store that failed, while the claim is ours.
    pub(super) async fn pause(&self) -> Result<(), Lost> {
        if !self.lease.is_held() {
            return Err(Lost);
        }
        tokio::time::sleep(AGAIN).await;
        Ok(())
    }

    /// Parks it, without a look at the rules.
    pub(super) async fn park(&mut self, code: &str) -> Result<(), Lost> {
        let write = Write {
            expected: self.record.entries,
            entries: vec![Entry::Parked {
                code: code.to_owned(),
            }],
            state: State::NeedsAttention,
            reason: Some(code.to_owned()),
            then: Then::Keep,
            progress: true,
            starts: Vec::new(),
            wakes: None,
        };
        self.write(&write).await?;
        self.tell_parked(code);
        Ok(())
    }
}
