//! How a drive sleeps, and waits for signals: by the store's clock.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use buttress_store::Micros;

use super::{Drive, Lost};
use crate::{
    Entry, FailureKind, State, definition::Pause, machine::Next, run::SLEPT, store::Signals,
};

/// What is parked because nobody could say how long it should sleep or wait.
const SLEEP: &str = "SLEEP";

/// What is parked because a signal's payload is not of the type that is waited for.
const SIGNAL: &str = "SIGNAL";

/// Why a wait failed to which no signal came.
const NO_SIGNAL: &str = "NO_SIGNAL";

/// Behind the deadline of the way forward, and not on it.
const BEHIND: Duration = Duration::from_millis(1);

/// What was sent to a wait when somebody looked, and when that was at the latest.
pub(super) struct Heard {
    signals: Signals,
    at: Micros,
}

impl Drive {
    /// The line that says until when it sleeps or waits, from now on.
    pub(super) fn fall_asleep(&mut self, step: usize) -> Entry {
        let definition = Arc::clone(&self.definition);
        let defined = &definition.steps[step];
        if let Some(child) = defined.child() {
            return self.call(step, child);
        }
        let asked = defined.pause.as_ref().and_then(|pause| {
            // It is the user's code.
            let asked = pause.length()?;
            let length = || asked(&self.input());
            Some(catch_unwind(AssertUnwindSafe(length)).map(|length| (pause, length)))
        });
        let Some(Ok((pause, length))) = asked else {
            let code = SLEEP.to_owned();
            return Entry::Parked { code };
        };
        let (name, until) = (defined.name.to_string(), (self.now() + length).get());
        match pause {
            Pause::Wait { .. } => Entry::Waiting { step, name, until },
            Pause::Sleep(_) | Pause::Child(_) => Entry::Sleeping { step, name, until },
        }
    }

    /// Looks for the signals of all waits that have begun, and at all children that are waited for.
    pub(super) async fn listen(&mut self) -> Result<(), Lost> {
        let mut least = None;
        if !self.definition.listens {
            return Ok(());
        }
        for next in self.progress.all(&self.definition.shape) {
            let (Next::Sleep { step, .. } | Next::CallBack { step, called: true }) = next else {
                continue;
            };
            let count = if self.progress.steps[step].child.is_some() {
                self.look_at_child(step).await?
            } else if self.definition.steps[step].waits() {
                let at = self.now();
                let signals = self.look_for_signals(step).await?;
                let count = signals.count;
                self.heard[step] = Some(Heard { signals, at });
                count
            } else {
                continue;
            };
            least = Some(least.map_or(count, |it: u64| it.min(count)));
        }
        if let Some(least) = least {
            self.seen = least;
        }
        Ok(())
    }

    /// Whether somebody has looked what was sent to this wait.
    pub(super) fn is_heard(&self, step: usize) -> bool {
        self.heard[step].is_some()
    }

    pub(super) async fn look_for_signals(&self, step: usize) -> Result<Signals, Lost> {
        let name = &self.definition.steps[step].name;
        loop {
            match self.engine.store.signals(self.record.id, name).await {
                Ok(signals) => return Ok(signals),
                Err(_) => self.pause().await?,
            }
        }
    }

    /// The line that ends a sleep or a wait, if it has ended.
    pub(super) fn woken(&self, step: usize, until: i64) -> Option<Entry> {
        let until = Micros::new(until);
        let Some(Pause::Wait { takes, missed, .. }) = &self.definition.steps[step].pause else {
            let output = SLEPT.to_owned();
            return (self.now() >= until).then_some(Entry::Succeeded { step, output });
        };
        // A signal was sent in time, or the time is over and none was. What is in the journal
        // first is what happened. Whoever looks once the time is over sees all that was sent
        // before it was.
        let Heard { signals, at } = self.heard[step].as_ref()?;
        if let Some(signal) = signals.first.as_ref().filter(|it| it.at < until) {
            return Some(match takes(&signal.payload) {
                Some(output) => Entry::Succeeded { step, output },
                None => Entry::Parked {
                    code: SIGNAL.to_owned(),
                },
            });
        }
        // Whether that look was late enough: the store's clock is not before what we take it for.
        if *at < until {
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
                until: None,
            },
        })
    }

    /// How long until it wakes: at its time, or when the way forward has taken too long.
    pub(super) fn wakes_after(&self, step: usize, until: i64) -> Duration {
        let wait = Micros::new(until).saturating_since(self.now());
        match self.definition.steps[step].decides() {
            true => wait,
            false => self.before_deadline(step, wait),
        }
    }

    /// So long, or until the way forward to this step has taken too long.
    pub(super) fn before_deadline(&self, step: usize, wait: Duration) -> Duration {
        let has_deadline =
            self.progress.state == State::Running && step < self.definition.shape.forward_from;
        match self.definition.forward_within {
            Some(limit) if has_deadline => {
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
    pub(super) fn now(&self) -> Micros {
        self.record.created_at + self.age()
    }
}
