//! How a drive sleeps, and waits for signals: by the store's clock, and without the claim unless it
//! is short.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use buttress_store::Micros;

use super::{Drive, Lost, Stop};
use crate::{
    Entry, FailureKind,
    definition::Pause,
    machine::Next,
    run::SLEPT,
    store::{Signals, Then, Write},
};

/// What is parked because nobody could say how long it should sleep or wait.
const SLEEP: &str = "SLEEP";

/// What is parked because a signal's payload is not of the type that is waited for.
const SIGNAL: &str = "SIGNAL";

/// Why a wait failed to which no signal came.
const NO_SIGNAL: &str = "NO_SIGNAL";

/// Behind the deadline of the way forward, and not on it.
const BEHIND: Duration = Duration::from_millis(1);

impl Drive {
    /// The line that says until when it sleeps or waits, from now on.
    pub(super) fn fall_asleep(&self, step: usize) -> Entry {
        let defined = &self.definition.steps[step];
        let asked = defined.pause.as_ref().map(|pause| {
            // It is the user's code.
            catch_unwind(AssertUnwindSafe(|| (pause.length())(self.input())))
        });
        let name = defined.name.to_string();
        match (asked, &defined.pause) {
            (Some(Ok(length)), Some(pause)) => {
                let until = (self.now() + length).get();
                match pause {
                    Pause::Sleep(_) => Entry::Sleeping { step, name, until },
                    Pause::Wait { .. } => Entry::Waiting { step, name, until },
                }
            }
            _ => Entry::Parked {
                code: SLEEP.to_owned(),
            },
        }
    }

    /// How the claim is given back, if it sleeps or waits too long to keep it.
    pub(super) fn sleeps_on(&self, write: &Write) -> Option<Then> {
        let Next::Sleep { step, until } = self.progress.next(&self.definition.shape) else {
            return None;
        };
        let wait = self.wakes_after(step, until);
        let long = wait > self.engine.policy.hold || self.is_stopping();
        if !long || wait.is_zero() {
            return None;
        }
        match self.definition.steps[step].pause {
            // One that was begun before is to be looked after first.
            Some(Pause::Wait { .. }) => {
                let begun = matches!(write.entries.last(), Some(Entry::Waiting { .. }));
                // Nobody has looked yet: what was sent before makes it due at once.
                let listen = Then::Listen {
                    after: wait,
                    seen: 0,
                };
                (begun || self.is_stopping()).then_some(listen)
            }
            _ => Some(Then::Release(wait)),
        }
    }

    /// Sleeps or waits the rest of it, and says what is to be written then.
    pub(super) async fn sleep(&mut self, step: usize, until: i64) -> Result<Write, Lost> {
        let pause = self.definition.steps[step].pause.clone();
        let waits = matches!(pause, Some(Pause::Wait { .. }));
        let mut wait = self.wakes_after(step, until);
        let mut then = Then::Release(wait);
        if waits {
            let signals = self.look_for_signals(step).await?;
            if let Some(entry) = self.heard(step, until, &signals) {
                return Ok(self.woken(entry));
            }
            wait = self.wakes_after(step, until);
            then = Then::Listen {
                after: wait,
                seen: signals.count,
            };
        }
        if wait > self.engine.policy.hold {
            return Ok(self.written(Vec::new(), then, false));
        }
        let mut stop = self.engine.stop.clone();
        let stopped = tokio::select! {
            () = tokio::time::sleep(wait) => false,
            _ = stop.wait_for(|stop| *stop > Stop::No) => true,
        };
        let rest = self.wakes_after(step, until);
        if stopped && !rest.is_zero() {
            let then = match then {
                Then::Listen { seen, .. } => Then::Listen { after: rest, seen },
                _ => Then::Release(rest),
            };
            return Ok(self.written(Vec::new(), then, false));
        }
        if waits {
            // What came meanwhile came in time.
            let signals = self.look_for_signals(step).await?;
            if let Some(entry) = self.heard(step, until, &signals) {
                return Ok(self.woken(entry));
            }
        } else if self.now() >= Micros::new(until) {
            let output = SLEPT.to_owned();
            return Ok(self.woken(Entry::Succeeded { step, output }));
        }
        let mut entries = Vec::new();
        self.follow(&mut entries);
        Ok(self.written(entries, Then::Keep, true))
    }

    /// Its end, and what follows.
    fn woken(&mut self, entry: Entry) -> Write {
        let mut entries = Vec::new();
        self.note(&mut entries, entry);
        self.follow(&mut entries);
        self.written(entries, Then::Keep, true)
    }

    async fn look_for_signals(&self, step: usize) -> Result<Signals, Lost> {
        let name = &self.definition.steps[step].name;
        loop {
            match self.engine.store.signals(self.record.id, name).await {
                Ok(signals) => return Ok(signals),
                Err(_) => self.pause().await?,
            }
        }
    }

    /// The line that ends a wait, if it has ended: a signal was sent in time, or the time is over
    /// and none was. What is in the journal first is what happened.
    fn heard(&self, step: usize, until: i64, signals: &Signals) -> Option<Entry> {
        let Some(Pause::Wait { takes, missed, .. }) = &self.definition.steps[step].pause else {
            return None;
        };
        let in_time = |at: Micros| at <= Micros::new(until);
        if let Some(signal) = signals.first.as_ref().filter(|it| in_time(it.at)) {
            return Some(match takes(&signal.payload) {
                Some(output) => Entry::Succeeded { step, output },
                None => Entry::Parked {
                    code: SIGNAL.to_owned(),
                },
            });
        }
        // Whether this look was late enough: the store's clock is not before what we take it for.
        if self.now() < Micros::new(until) {
            return None;
        }
        Some(match missed {
            Some(output) => Entry::Succeeded {
                step,
                output: (*output).to_owned(),
            },
            None => Entry::Failed {
                step,
                attempt: 0,
                kind: FailureKind::Final,
                code: NO_SIGNAL.to_owned(),
            },
        })
    }

    /// How long until it wakes: at its time, or when the way forward has taken too long.
    fn wakes_after(&self, step: usize, until: i64) -> Duration {
        let wait = Micros::new(until).saturating_since(self.now());
        match self.definition.forward_within {
            Some(limit) if step < self.definition.shape.forward_from => {
                let left = limit.saturating_sub(self.age());
                wait.min(left.saturating_add(BEHIND))
            }
            _ => wait,
        }
    }

    /// How old the saga is.
    pub(super) fn age(&self) -> Duration {
        let passed = self.engine.clock.now().saturating_since(self.claimed);
        self.age.saturating_add(passed)
    }

    /// What the store's clock shows, by ours since the claim. It was read before the claim's answer
    /// came, so this is early, never late.
    fn now(&self) -> Micros {
        self.record.created_at + self.age()
    }
}
