//! What happened, for those who listen.

use std::{borrow::Cow, sync::Arc};

use buttress_core::Outcome;

use crate::{Cause, Counts, State};

/// Something that happened to a breaker. Told to observers after it has happened, outside of all
/// locks. Two threads' events may be told in another order than they happened: the generation
/// grows with each change of state.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event {
    /// The breaker's name.
    pub name: Cow<'static, str>,
    /// Its key, when it is one of `CircuitBreakers`. It is data: as long and as odd as the keys
    /// that callers use. Do not make a metric's label of it.
    pub key: Option<Arc<str>>,
    /// The generation in which it happened.
    pub generation: u64,
    /// What happened.
    pub kind: EventKind,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventKind {
    /// The state changed.
    #[non_exhaustive]
    Moved {
        /// Before.
        from: State,
        /// Now.
        to: State,
        /// Why.
        cause: Cause,
    },
    /// A call was rejected. In shadow it was let through all the same.
    #[non_exhaustive]
    Rejected {
        /// The state that rejected it.
        state: State,
        /// It was let through.
        shadow: bool,
    },
    /// A call came back and was counted.
    #[non_exhaustive]
    Settled {
        /// What the classifier said.
        outcome: Outcome,
        /// It took longer than the policy's slow threshold.
        slow: bool,
    },
    /// A permit was dropped without a verdict.
    Abandoned,
    /// A call came back after the state had changed, so it decided nothing.
    Late,
    /// A threshold was reached where the breaker may not open: metrics only. Told once for each
    /// threshold until the state changes.
    #[non_exhaustive]
    Exceeded {
        /// Which.
        cause: Cause,
        /// By what.
        counts: Counts,
    },
}
