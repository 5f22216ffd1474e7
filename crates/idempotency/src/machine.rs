//! The rule: what becomes of a key that somebody comes with.

use std::time::Duration;

use buttress_store::{Fence, Micros};
use bytes::Bytes;

use crate::{
    Fingerprint,
    store::{Answer, Request},
};

/// What is known of a key.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Record {
    /// Who has it, or had it last.
    pub fence: Fence,
    /// What was asked for.
    pub fingerprint: Fingerprint,
    /// How far it is.
    pub state: State,
    /// From then on it is as if there were no record, and the reaper may take it.
    pub expires_at: Micros,
    /// The phases that were passed, as the guard wrote them; empty when there are none, or when it
    /// is done.
    pub progress: Bytes,
}

/// How far the work under a key is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum State {
    /// Somebody works on it, as far as is known.
    #[non_exhaustive]
    Running {
        /// From then on the next one who comes may have it.
        lease_until: Micros,
    },
    /// Somebody worked on it and does not know whether it had its effect.
    #[non_exhaustive]
    Unknown {
        /// From then on the next one who comes may have it.
        lease_until: Micros,
    },
    /// It is done, and this came of it.
    Done(Bytes),
}

/// What is to be done for somebody who comes with a key.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Decision {
    /// Write that it is his, under this fence. Of epoch one: nothing of an earlier record stays.
    /// Above one: what was passed and what was kept of the request stay.
    Claim(Fence),
    /// Write nothing, and say this.
    Say(Answer),
}

impl Record {
    /// A record as it is stored.
    #[must_use]
    pub const fn new(
        fence: Fence,
        fingerprint: Fingerprint,
        state: State,
        expires_at: Micros,
    ) -> Self {
        Self {
            fence,
            fingerprint,
            state,
            expires_at,
            progress: Bytes::new(),
        }
    }

    /// The same, which has passed these phases.
    #[must_use]
    pub fn with_progress(mut self, progress: Bytes) -> Self {
        self.progress = progress;
        self
    }
}

impl State {
    /// Running until then.
    #[must_use]
    pub const fn running(lease_until: Micros) -> Self {
        Self::Running { lease_until }
    }

    /// Unknown, and left alone until then.
    #[must_use]
    pub const fn unknown(lease_until: Micros) -> Self {
        Self::Unknown { lease_until }
    }
}

/// Decides, when it is `now`. A different request is told so before anything else, whatever the
/// state: he must not wait for an answer that he will not get.
///
/// Who asks twice under one token (his first answer was lost) is told the same twice.
#[must_use]
pub fn decide(record: Option<&Record>, request: &Request<'_>, now: Micros) -> Decision {
    let claim = |epoch| Decision::Claim(Fence::new(epoch, request.token));
    let Some(record) = record.filter(|record| record.expires_at > now) else {
        return claim(1);
    };
    if !record.fingerprint.fits(&request.fingerprint) {
        return Decision::Say(Answer::Mismatch);
    }
    let (lease_until, unknown) = match &record.state {
        State::Done(outcome) => return Decision::Say(Answer::Done(outcome.clone())),
        State::Running { lease_until } => (*lease_until, false),
        State::Unknown { lease_until } => (*lease_until, true),
    };
    if *record.fence.token() == request.token {
        return Decision::Say(Answer::claimed(record.fence, record.progress.clone()));
    }
    match lease_until.saturating_since(now) {
        Duration::ZERO => claim(record.fence.epoch().saturating_add(1)),
        remaining => Decision::Say(Answer::in_flight(remaining, unknown)),
    }
}

/// Whether `fence` is still the record's: then what its holder says is taken.
#[must_use]
pub fn holds(record: Option<&Record>, fence: Fence) -> bool {
    record.is_some_and(|record| record.fence == fence)
}
