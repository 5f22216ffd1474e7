//! How a drive calls children, waits for them, and has them turn back.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use buttress_store::{Key, Micros};

use super::{Drive, Lost};
use crate::{
    Entry, EventKind, FailureKind, SagaId, State,
    definition::{Child, Given, NO_CHILD},
    store::{Hand, NewSaga, Record, Then, Write},
};

/// What is parked because nobody could say what a child is to be started with, or because what it
/// returned is not of the type that is wanted.
const CHILD: &str = "CHILD";

/// Why a step failed whose child had not ended in time.
const CHILD_TIMED_OUT: &str = "CHILD_TIMED_OUT";

/// Why an undo failed: the child is completed, and had passed its pivot.
const PAST_PIVOT: &str = "PAST_PIVOT";

/// Who waits for a child is woken by its end. Should that have been a runner that knew nothing of
/// children, it looks by itself.
pub(super) const LOOK: Duration = Duration::from_secs(900);

/// The child of a step when somebody looked, and when that was at the latest.
pub(super) struct Looked {
    child: Option<Record>,
    at: Micros,
}

impl Drive {
    /// The line that starts a child. The child goes into the same commit.
    pub(super) fn call(&mut self, step: usize, child: &Child) -> Entry {
        let it = &self.progress.steps[step];
        let (attempt, called) = (it.attempts + 1, it.child);
        let name = &self.definition.steps[step].name;
        let id = self.record.id.child(self.record.created_at, name, attempt);
        // One that was waited for in vain is there already, and is not started again: its row is
        // locked before its parent's.
        if called != Some(id) {
            let Some(new) = self.new_child(step, id, child) else {
                return Entry::Parked {
                    code: CHILD.to_owned(),
                };
            };
            self.starts.push(new);
        }
        Entry::Calling {
            step,
            name: self.definition.steps[step].name.to_string(),
            attempt,
            child: id,
            until: child.within.map(|within| (self.now() + within).get()),
        }
    }

    fn new_child(&self, step: usize, id: SagaId, child: &Child) -> Option<NewSaga> {
        let name = &self.definition.steps[step].name;
        let outputs: Vec<_> = self.outputs();
        let given = Given {
            id: self.record.id,
            definition: self.definition.number,
            outputs: &outputs,
        };
        // It is the user's code.
        let input = || (child.input)(&self.input(), &given);
        let input = catch_unwind(AssertUnwindSafe(input)).ok()?.ok()?;
        if input.len() > self.engine.longest_input {
            return None;
        }
        Some(NewSaga {
            id,
            definition: child.definition.key.clone(),
            business_key: Key::new(format!("{}.{name}", self.record.id)).ok(),
            input,
            parent: Some(self.record.id),
        })
    }

    /// Looks at the child of a step, and has it turn back if it is to. Says how many signals were
    /// sent before.
    pub(super) async fn look_at_child(&mut self, step: usize) -> Result<u64, Lost> {
        // In this order: what happens to the child from now on counts as not seen.
        let count = self.look_for_signals(step).await?.count;
        let at = self.now();
        let mut child = self.read_child(step).await?;
        while let Some(found) = &child
            && self.is_to_be_called_back(step, found)
            && !self.call_back(step, found).await?
        {
            child = self.read_child(step).await?;
        }
        self.looked[step] = Some(Looked { child, at });
        Ok(count)
    }

    /// The child, if it is ours.
    async fn read_child(&self, step: usize) -> Result<Option<Record>, Lost> {
        let Some(id) = self.progress.steps[step].child else {
            return Ok(None);
        };
        loop {
            match self.engine.store.read(id).await {
                Ok(found) => return Ok(found.filter(|it| it.parent == Some(self.record.id))),
                Err(_) => self.pause().await?,
            }
        }
    }

    /// Whether a child goes forward, or is completed, and is not to. One with a pivot may be past
    /// it: it is waited for.
    fn is_to_be_called_back(&self, step: usize, child: &Record) -> bool {
        let turned = |entry: &Entry| {
            matches!(
                entry,
                Entry::TurnedBack { .. } | Entry::Cancelled { .. } | Entry::CalledBack { .. }
            )
        };
        self.progress.steps[step].called_back
            && !self.definition.steps[step].decides()
            && !child.journal.iter().any(|line| turned(&line.entry))
    }

    /// Turns a child back. Whoever drives it loses it. That it is to be undone stands in our own
    /// journal and is never taken back, so whoever comes late with this does no harm. `false`: it
    /// went on meanwhile.
    async fn call_back(&self, step: usize, child: &Record) -> Result<bool, Lost> {
        let code = self.progress.reason.clone().unwrap_or_default();
        let write = Write {
            expected: child.entries,
            entries: vec![Entry::CalledBack { code: code.clone() }],
            state: State::Undoing,
            reason: Some(code),
            then: Then::Release(Duration::ZERO),
            progress: true,
            starts: Vec::new(),
            wakes: None,
        };
        loop {
            if !self.lease.is_held() {
                return Err(Lost);
            }
            let written = self.engine.store.append(child.id, Hand::Operator, &write);
            match written.await {
                Ok(true) => break,
                Ok(false) => return Ok(false),
                Err(_) => self.pause().await?,
            }
        }
        let name = self.definition.steps[step].name.to_string();
        self.tell(EventKind::ChildCalledBack {
            step: name,
            child: child.id,
        });
        self.engine.wake.send_replace(());
        Ok(true)
    }

    /// The line that ends the wait for a child, if that is over.
    pub(super) fn returned(&self, step: usize, until: i64) -> Option<Entry> {
        let Looked { child, at } = self.looked[step].as_ref()?;
        let called = self.definition.steps[step].child()?;
        let it = &self.progress.steps[step];
        let until = Micros::new(until);
        let parked = |code: &str| Entry::Parked {
            code: code.to_owned(),
        };
        let failed = |kind, code: &str| Entry::Failed {
            step,
            attempt: it.attempts,
            kind,
            code: code.to_owned(),
            until: None,
        };
        let Some(child) = child else {
            return Some(parked(NO_CHILD));
        };
        let in_time = child.ended_at.is_some_and(|ended| ended < until);
        match child.state {
            State::Undone => {
                let code = child.reason.as_deref().unwrap_or_default();
                Some(failed(FailureKind::Final, code))
            }
            State::Completed if in_time => {
                let output = called.definition.returned(child);
                Some(match output.filter(|output| (called.fits)(output)) {
                    Some(output) => Entry::Succeeded { step, output },
                    None => parked(CHILD),
                })
            }
            // Whoever looks once the time is over sees all that had ended before it was.
            _ if *at >= until => Some(failed(FailureKind::Unknown, CHILD_TIMED_OUT)),
            _ => None,
        }
    }

    /// The line that ends the wait for a child that was called back, if that is over.
    pub(super) fn came_back(&self, step: usize) -> Option<Entry> {
        let Looked { child, .. } = self.looked[step].as_ref()?;
        let it = &self.progress.steps[step];
        let failed = |code: &str| Entry::UndoFailed {
            step,
            attempt: it.undo_attempts,
            kind: FailureKind::Final,
            code: code.to_owned(),
        };
        match child.as_ref().map(|child| child.state) {
            Some(State::Undone) => Some(Entry::Undone { step }),
            Some(State::Completed) if self.definition.steps[step].decides() => {
                Some(failed(PAST_PIVOT))
            }
            Some(_) => None,
            None => Some(failed(NO_CHILD)),
        }
    }

    /// Whether a child of this step is started by the lines that are about to be written.
    pub(super) fn is_new_child(&self, step: usize) -> bool {
        let child = self.progress.steps[step].child;
        self.starts.iter().any(|new| Some(new.id) == child)
    }
}
