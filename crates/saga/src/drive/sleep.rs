//! How a drive sleeps: by the store's clock, and without the claim unless it is short.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use buttress_store::Micros;

use super::{Drive, Stop};
use crate::{
    Entry,
    machine::Next,
    run::SLEPT,
    store::{Then, Write},
};

/// What is parked because nobody could say how long it should sleep.
const SLEEP: &str = "SLEEP";

/// Behind the deadline of the way forward, and not on it.
const BEHIND: Duration = Duration::from_millis(1);

impl Drive {
    /// The line that says until when it sleeps, from now on.
    pub(super) fn fall_asleep(&self, step: usize) -> Entry {
        let defined = &self.definition.steps[step];
        let asked = defined.sleep.as_ref().map(|length| {
            // It is the user's code.
            catch_unwind(AssertUnwindSafe(|| length(self.input())))
        });
        match asked {
            Some(Ok(length)) => Entry::Sleeping {
                step,
                name: defined.name.to_string(),
                until: (self.now() + length).get(),
            },
            Some(Err(_)) | None => Entry::Parked {
                code: SLEEP.to_owned(),
            },
        }
    }

    /// For how long the claim is given back, if it sleeps too long to keep it.
    pub(super) fn sleeps_on(&self) -> Option<Duration> {
        let Next::Sleep { step, until } = self.progress.next(&self.definition.shape) else {
            return None;
        };
        let wait = self.wakes_after(step, until);
        let long = wait > self.engine.policy.hold || self.is_stopping();
        (long && !wait.is_zero()).then_some(wait)
    }

    /// Sleeps the rest of it, and says what is to be written then.
    pub(super) async fn sleep(&mut self, step: usize, until: i64) -> Write {
        let wait = self.wakes_after(step, until);
        if wait > self.engine.policy.hold {
            return self.written(Vec::new(), Then::Release(wait), false);
        }
        let mut stop = self.engine.stop.clone();
        let stopped = tokio::select! {
            () = tokio::time::sleep(wait) => false,
            _ = stop.wait_for(|stop| *stop > Stop::No) => true,
        };
        let mut entries = Vec::new();
        let rest = self.wakes_after(step, until);
        if stopped && !rest.is_zero() {
            return self.written(entries, Then::Release(rest), false);
        }
        if self.now() >= Micros::new(until) {
            let output = SLEPT.to_owned();
            self.note(&mut entries, Entry::Succeeded { step, output });
        }
        self.follow(&mut entries);
        self.written(entries, Then::Keep, true)
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
