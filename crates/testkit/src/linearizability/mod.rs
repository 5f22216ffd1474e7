//! Whether what several clients saw could have come from one object that does one thing at a time.
//!
//! A [`Recorder`] writes down when each call began, when it returned and what; [`check`] looks, key
//! by key, for an order of the calls that a [`Model`] could have produced and in which nobody
//! returned before another one began and yet came after him. An outcome that the client never
//! learned is allowed: such a call may have happened at any time after it began, or never.
//!
//! It proves something about the history that it was given, and nothing about others: a history
//! without concurrency is linearizable more often than not. Calls that span several keys are not
//! for it.
//!
//! ```
//! use buttress_testkit::linearizability::{Access, Accessed, Recorder, Register, check};
//!
//! let recorder = Recorder::new();
//! recorder.call("x", Access::Write(1)).returned(Accessed::Done);
//! let lost = recorder.call("x", Access::Write(2)); // its connection was cut
//! recorder.call("x", Access::Read).returned(Accessed::Value(2)); // so it was done after all
//! drop(lost);
//! assert_eq!(check(&Register::new(0), &recorder), Ok(3));
//! ```

mod claim;
mod history;
mod register;
mod search;

use std::{fmt, hash::Hash};

pub use self::{
    claim::{Claim, ClaimCall, ClaimState},
    history::{Pending, Recorder},
    register::{Access, Accessed, Register},
    search::{NotLinearizable, check},
};

/// An object that does one thing at a time: what is right, as a program.
pub trait Model {
    /// What it holds.
    type State: Clone + Eq + Hash;
    /// What it is asked.
    type Call: Clone + fmt::Debug;
    /// What it answers.
    type Return: Clone + fmt::Debug;

    /// What it holds at first.
    fn initial(&self) -> Self::State;

    /// What it holds after `call`, when that returned `returned`; `None` when it cannot have
    /// returned this in `state`. Where nobody knows what it returned, `returned` is `None`, and it
    /// may have been anything: the state after the call has happened is wanted.
    fn step(
        &self,
        state: &Self::State,
        call: &Self::Call,
        returned: Option<&Self::Return>,
    ) -> Option<Self::State>;
}
