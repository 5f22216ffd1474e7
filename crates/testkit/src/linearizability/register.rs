//! A value that is read, written, and compared and set.

use std::{fmt, hash::Hash};

use super::Model;

/// A register, one for each key.
#[derive(Clone, Debug)]
pub struct Register<V> {
    initial: V,
}

impl<V> Register<V> {
    /// One that holds `initial` at first.
    pub const fn new(initial: V) -> Self {
        Self { initial }
    }
}

/// What a register is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Access<V> {
    /// What does it hold?
    Read,
    /// Hold this.
    Write(V),
    /// Hold `to`, if it holds `from`.
    CompareAndSet {
        /// What it must hold.
        from: V,
        /// What it holds then.
        to: V,
    },
}

/// What it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Accessed<V> {
    /// To a read.
    Value(V),
    /// To a write.
    Done,
    /// To a compare-and-set: whether it was set.
    Set(bool),
}

impl<V: Clone + Eq + Hash + fmt::Debug> Model for Register<V> {
    type State = V;
    type Call = Access<V>;
    type Return = Accessed<V>;

    fn initial(&self) -> V {
        self.initial.clone()
    }

    fn step(&self, state: &V, call: &Access<V>, returned: Option<&Accessed<V>>) -> Option<V> {
        let (answer, after) = match call {
            Access::Read => (Accessed::Value(state.clone()), state),
            Access::Write(value) => (Accessed::Done, value),
            Access::CompareAndSet { from, to } if from == state => (Accessed::Set(true), to),
            Access::CompareAndSet { .. } => (Accessed::Set(false), state),
        };
        returned
            .is_none_or(|returned| *returned == answer)
            .then(|| after.clone())
    }
}
