//! A piece of work that one claims and completes.

use std::{fmt, hash::Hash, marker::PhantomData};

use super::Model;

/// A claim, one for each key, held under a token `T` that the claimant brings. Every call answers
/// whether it took effect.
///
/// It has no clock. A lease that may run out is a call of its own, [`ClaimCall::Lapse`], recorded
/// with unknown outcome when it may first run out: from then on it may happen at any time.
#[derive(Clone, Debug)]
pub struct Claim<T> {
    token: PhantomData<T>,
}

impl<T> Default for Claim<T> {
    fn default() -> Self {
        Self { token: PhantomData }
    }
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClaimCall<T> {
    /// Let me have it, under this token.
    Claim(T),
    /// It is done, by the holder of this token.
    Complete(T),
    /// I give it back.
    Release(T),
    /// The lease of this token runs out.
    Lapse(T),
}

/// Whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ClaimState<T> {
    /// Nobody's.
    Free,
    /// The holder's of this token.
    Held(T),
    /// It is done, for ever.
    Completed,
}

impl<T: Clone + Eq + Hash + fmt::Debug> Model for Claim<T> {
    type State = ClaimState<T>;
    type Call = ClaimCall<T>;
    type Return = bool;

    fn initial(&self) -> ClaimState<T> {
        ClaimState::Free
    }

    fn step(
        &self,
        state: &ClaimState<T>,
        call: &ClaimCall<T>,
        returned: Option<&bool>,
    ) -> Option<ClaimState<T>> {
        let after = match (call, state) {
            (ClaimCall::Claim(token), ClaimState::Free) => Some(ClaimState::Held(token.clone())),
            (ClaimCall::Complete(token), ClaimState::Held(holder)) if token == holder => {
                Some(ClaimState::Completed)
            }
            (ClaimCall::Release(token) | ClaimCall::Lapse(token), ClaimState::Held(holder))
                if token == holder =>
            {
                Some(ClaimState::Free)
            }
            _ => None,
        };
        returned
            .is_none_or(|took_effect| *took_effect == after.is_some())
            .then(|| after.unwrap_or_else(|| state.clone()))
    }
}
