//! How a drive writes to the journal, and learns what became of it.

use std::time::Duration;

use super::{Drive, Lost, Wrote};
use crate::store::{Record, Then, Write};

/// How soon a store that failed is asked again.
const AGAIN: Duration = Duration::from_millis(50);

impl Drive {
    /// Writes until it is known whether it was written. Writing twice writes once: the journal must
    /// have the expected length.
    pub(super) async fn write(&mut self, write: Write) -> Result<Wrote, Lost> {
        if write.entries.is_empty() && write.then == Then::Keep {
            return Ok(Wrote::Done);
        }
        let (id, fence) = (self.record.id, self.lease.fence());
        let mut unsure = false;
        loop {
            match self.engine.gather.append(id, fence, &write).await {
                Ok(true) => {
                    self.record.entries += write.entries.len() as u64;
                    if write.progress {
                        (self.on_progress)();
                    }
                    self.tell_turn(&write.entries);
                    return Ok(Wrote::Done);
                }
                Ok(false) => return self.reread(&write, unsure).await,
                Err(_) => {
                    unsure = true;
                    self.pause().await?;
                }
            }
        }
    }

    /// The store refused a write: it was there already, or the step wrote by itself, or another
    /// has the saga.
    pub(super) async fn reread(&mut self, write: &Write, unsure: bool) -> Result<Wrote, Lost> {
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
    pub(super) async fn look(&mut self) -> Result<bool, Lost> {
        let record = self.read().await?;
        if record.epoch != self.lease.fence().epoch() {
            return Err(Lost);
        }
        if record.entries == self.record.entries {
            return Ok(false);
        }
        if record.entries < self.record.entries {
            // The store has forgotten what it said was written. Whoever claims it next begins with
            // what is there.
            return Err(Lost);
        }
        (self.on_progress)();
        self.adopt(&record)?;
        Ok(true)
    }

    pub(super) fn adopt(&mut self, record: &Record) -> Result<(), Lost> {
        self.progress = self.definition.fold(record).map_err(|_| Lost)?;
        self.record.entries = record.entries;
        Ok(())
    }

    pub(super) async fn read(&self) -> Result<Record, Lost> {
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
}
