//! What is sent to a saga from outside, as stores keep it.

use buttress_store::{Key, Micros};

use crate::{SagaId, State};

/// A signal that is to be kept for a saga.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "stores of others read it")]
pub struct NewSignal {
    /// To which saga.
    pub saga: SagaId,
    /// What it is known by: of one key a saga has one signal.
    pub key: Key,
    /// What it is called: the name of the wait that takes it.
    pub name: String,
    /// As JSON.
    pub payload: Vec<u8>,
    /// How many a saga may have.
    pub most: u32,
}

/// What became of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "stores of others make it")]
pub enum Sent {
    /// It is kept, and the saga is due if it listens.
    New,
    /// One of this key was there before, and nothing was done.
    Known,
    /// There is no such saga.
    Nobody,
    /// The saga has ended or is being undone: it will never look.
    Over(State),
    /// The saga has as many signals as it may.
    Full,
}

/// What was sent to a saga.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "stores of others make it")]
pub struct Signals {
    /// Grows with each signal to the saga, of whatever name: what [`Then::Listen`] is given.
    ///
    /// [`Then::Listen`]: crate::store::Then::Listen
    pub count: u64,
    /// The first of the name that was asked for.
    pub first: Option<Signal>,
}

/// A signal that was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "stores of others make it")]
pub struct Signal {
    /// When it was sent, by the store's clock.
    pub at: Micros,
    /// As JSON.
    pub payload: Vec<u8>,
}
