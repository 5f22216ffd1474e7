//! What judges a store, and a saga: a suite that every store passes, and a harness that repeats,
//! fails and kills each step of a saga.

mod conformance;
mod harness;
mod point;

pub use self::{
    conformance::conformance,
    harness::{Harness, HarnessError, Outcome, Trouble},
};
